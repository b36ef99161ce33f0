"""A corpus to build, as one value."""

from __future__ import annotations

import dataclasses

from kmm_jax.corpus.text.rules import TextRules
from kmm_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """Pictures with their bytes: Parquet tables, or tars of pictures with JSON beside them.

    Attributes:
        url: path or URL of the files, with ``*`` or ``{000..999}``; ``.parquet`` or ``.tar`` (as
            img2dataset and the shards here have them).
        key: column (field of the JSON) by which documents and clicks name the picture; the name of
            the member where it is None and the file a tar.
        image: column of the encoded bytes, in a Parquet table.
        title: column of a text that comes with the picture (a caption, a product's name).
        image_url: column of where it came from.
    """

    url: str
    key: str | None = "key"
    image: str = "image"
    title: str | None = None
    image_url: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Documents:
    """Texts of documents that show pictures: Parquet tables with a row for each pair."""

    url: str
    key: str = "key"
    title: str = "title"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clicks:
    """Queries after which a picture was clicked: Parquet tables; without ``count``, one a row."""

    url: str
    key: str = "key"
    query: str = "query"
    count: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageRules:
    """What a picture must be (slide 2.2).

    Attributes:
        least_side: pixels of the shorter side.
        most_aspect: the longer side over the shorter.
        most_white: share of white pixels that is too much.
        white: value from which all of red, green and blue count as white.
    """

    least_side: int = 200
    most_aspect: float = 3.0
    most_white: float = 0.9
    white: int = 250


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuplicateRules:
    """Which pictures are the same, and which of them stays.

    Attributes:
        bits: perceptual hashes (64 bits) that differ in no more are near duplicates; None keeps
            them all. Up to 3 none is missed: they agree in one of four bands.
        keep: the one with most pixels, or the one read first.
    """

    bits: int | None = 3
    keep: str = "largest"

    def __post_init__(self) -> None:
        if self.bits is not None and not 0 <= self.bits <= 16:
            raise ConfigError(f"duplicates.bits must be 0 to 16 (or none), got {self.bits}")
        if self.keep not in ("largest", "first"):
            raise ConfigError(f"duplicates.keep is largest or first, got {self.keep!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """What a corpus is built from, by which rules, into what.

    Attributes:
        name: said in messages and kept in the manifest.
        queries: most queries kept of one picture, those clicked most.
        shard_rows: rows of a shard; the last one has what is left.
        prefix: of the shards' names.
        tasks: files worked on at a time on one machine; None takes one for each processor.
    """

    name: str
    images: tuple[Images, ...]
    documents: tuple[Documents, ...] = ()
    clicks: tuple[Clicks, ...] = ()
    image_rules: ImageRules = dataclasses.field(default_factory=ImageRules)
    text_rules: TextRules = dataclasses.field(default_factory=TextRules)
    duplicates: DuplicateRules = dataclasses.field(default_factory=DuplicateRules)
    queries: int = 20
    shard_rows: int = 1000
    prefix: str = "train"
    tasks: int | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise ConfigError("images is empty: a corpus needs pictures")
        for field in ("queries", "shard_rows"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1, got {getattr(self, field)}")
