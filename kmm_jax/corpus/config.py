"""A corpus to build, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kmm_jax.corpus.scoring.custom import Custom
from kmm_jax.corpus.scoring.ocr import Ocr
from kmm_jax.corpus.scoring.protocol import Score
from kmm_jax.corpus.scoring.safety import Safety
from kmm_jax.corpus.scoring.similarity import Similarity
from kmm_jax.corpus.scoring.watermark import Watermark
from kmm_jax.corpus.text.rules import TextRules
from kmm_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Described:
    """What the data card says of a source; nothing that is built depends on it.

    Attributes:
        licence: under which it may be used, in the user's words.
        about: what it is, and where it is from.
    """

    licence: str | None = None
    about: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(Described):
    """Pictures: in Parquet tables, in tars or as loose files, with JSON beside them or without.

    Attributes:
        url: path or URL of the files, with ``*`` or ``{000..999}``: ``.parquet``, ``.tar`` (as
            img2dataset and the shards here have them), pictures (``photos/**/*.jpg``); or a folder
            of any of these.
        key: column (field of the JSON) by which the other tables name the picture. Where it is None
            or says nothing, the picture's name in the tar or below the folder. The suffix of a
            picture (``.jpg``) is no part of a key, here and there.
        image: column of the encoded bytes, in a Parquet table.
        image_url: column of where it came from.
        title, caption, product_name, category, attributes, source: as in ``Products``.
    """

    url: str
    key: str | None = "key"
    image: str = "image"
    title: str | None = None
    caption: str | tuple[str, ...] | None = None
    product_name: str | None = None
    category: str | tuple[str, ...] | None = None
    attributes: Mapping[str, str] | str | None = None
    source: str | None = None
    image_url: str | None = None

    def __post_init__(self) -> None:
        _check_attributes(self.attributes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Products(Described):
    """Tables that say more of pictures by their keys: products with their attributes, captions.

    Several rows may be about one picture. Its captions are added up; its product is that of the
    first row that has one, and what comes with the picture itself goes before all.

    Attributes:
        url: path or URL, with ``*`` or ``{000..999}``: Parquet, TSV or CSV, gzipped or not.
        key: column that names the picture, by key or by file.
        title, caption, product_name, category: columns of texts; several for more captions or for a
            category in steps. A title counts like one of a document.
        attributes: columns by what the attribute is called, ``{"색상": "baseColour"}``; or one
            column with an object of them.
        source: column of where the row comes from.
    """

    url: str
    key: str = "key"
    title: str | None = None
    caption: str | tuple[str, ...] | None = None
    product_name: str | None = None
    category: str | tuple[str, ...] | None = None
    attributes: Mapping[str, str] | str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        _check_attributes(self.attributes)


def _check_attributes(attributes: Mapping[str, str] | str | None) -> None:
    named = attributes if isinstance(attributes, Mapping) else {}
    # A config as JSON says by these names what its objects are.
    if taken := {"type", "partition"}.intersection(named):
        raise ConfigError(f"an attribute cannot be called {min(taken)!r}; name it otherwise: 종류")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Documents(Described):
    """Texts of documents that show pictures: a row for each pair, in Parquet, TSV or CSV."""

    url: str
    key: str = "key"
    title: str = "title"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clicks(Described):
    """Queries after which a picture was clicked, in such tables; without ``count``, one a row."""

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
        bits: perceptual hashes (64 bits) of near duplicates differ in no more; None keeps them
            all. Up to 3 none is missed: they agree in one of four bands.
        shade, colour: by which tiny pictures of both may differ, of 255 (``images.alike``).
            Different products of one shape differ by more, copies made smaller or compressed anew
            by less (docs/results/duplicates.md).
        keep: the one with most pixels, or the one read first.
    """

    bits: int | None = 3
    shade: int = 10
    colour: int = 3
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
        ocr, watermark: scores that need nothing but this library; None leaves them out.
        safety, similarity: scores by a dual encoder; left out while they name no model.
        custom: scores of the user's own.
        score_all: score also what an earlier score rejects, so that every distribution is whole;
            without, the dear scores (OCR, the last) see only what the others let pass.
        queries: most queries kept of one picture, those clicked most.
        captions: most captions kept of one picture, those met first.
        shard_rows: rows of a shard; the last one has what is left.
        prefix: of the shards' names.
        tasks: files worked on at a time, on this machine or in a whole cluster; None takes one for
            each processor.
    """

    name: str
    images: tuple[Images, ...]
    documents: tuple[Documents, ...] = ()
    clicks: tuple[Clicks, ...] = ()
    products: tuple[Products, ...] = ()
    image_rules: ImageRules = dataclasses.field(default_factory=ImageRules)
    text_rules: TextRules = dataclasses.field(default_factory=TextRules)
    duplicates: DuplicateRules = dataclasses.field(default_factory=DuplicateRules)
    ocr: Ocr | None = None
    watermark: Watermark | None = None
    safety: Safety = dataclasses.field(default_factory=Safety)
    similarity: Similarity = dataclasses.field(default_factory=Similarity)
    custom: tuple[Custom, ...] = ()
    score_all: bool = True
    queries: int = 20
    captions: int = 20
    shard_rows: int = 1000
    prefix: str = "train"
    tasks: int | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise ConfigError("images is empty: a corpus needs pictures")
        for field in ("queries", "captions", "shard_rows"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1, got {getattr(self, field)}")
        if "/" in self.prefix or not self.prefix:
            raise ConfigError(f"prefix is the beginning of file names, got {self.prefix!r}")
        if self.tasks is not None and self.tasks < 1:
            raise ConfigError(f"tasks must be at least 1 (or none), got {self.tasks}")
        names = [score.name for score in self.scores]
        columns = [column for score in self.scores for column in score.columns()]
        for kind, all_of in (("scores", names), ("columns of scores", columns)):
            if twice := {name for name in all_of if all_of.count(name) > 1}:
                raise ConfigError(f"two {kind} of the same name: {', '.join(sorted(twice))}")

        from kmm_jax.corpus.join import JOINED

        if taken := {*JOINED.names, "reason"}.intersection(columns):
            raise ConfigError(
                f"a score cannot fill the column {min(taken)!r}, which rows have already; name its "
                "field otherwise"
            )

    @property
    def scores(self) -> tuple[Score, ...]:
        """Those in use, in the order in which a picture is scored and judged: the dearest last."""
        by_encoder = (s for s in (self.safety, self.similarity) if s.model is not None)
        first, last = ([] if s is None else [s] for s in (self.watermark, self.ocr))
        return (*first, *by_encoder, *self.custom, *last)
