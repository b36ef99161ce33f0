"""What to train on: the sources and their weights, sizes, texts, augmentation."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.latents import shape_of as latents_shape
from kmm_jax.data.schema import QUESTIONS, TEXT_FIELDS
from kmm_jax.data.statements import KNOWN, STATEMENTS
from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.errors import ConfigError, nearest

# [BOS] [STYLE] one token [EOS]
_SHORTEST_TEXT = 4
_MOST_THREADS = 32

SIZES = 6
"""Numbers about a picture in ``time_ids``."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source (:func:`~kmm_jax.data.sources.open_source`) and its weight in the mixture."""

    url: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(
                f"the weight of {self.url} must be above 0, found {self.weight}; "
                "leave the source out to not use it"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What batches are made of; with a step, it determines a batch completely.

    ``image_size`` is the side in pixels, ``text_length`` the number of tokens with the special
    ones. A row's text is drawn from the ``fields`` it has, by their weights, then within the field
    (queries by their counts). ``styled`` puts the field's style token in front (Prompt-CoCa, slide
    3.2); without it, plain CoCa. The field ``questions`` draws a question with its answer instead
    of a text; a batch then has ``target`` beside ``text``. The field ``statements`` draws an
    attribute of a thing in the picture as a sentence, with the name of a category it falls under,
    but for the share ``alone`` of pictures (``data/statements.py``); a batch then has
    ``category``, ``asked``, ``statement`` and ``known``. ``max_bad_share`` is the share of
    unusable rows that stops a run. ``threads`` decode; None means one per processor available, 32
    at most.

    ``views`` are further random views of the same picture, each by an augmentation of its own, for
    tasks that compare pictures with themselves; a training batch then has ``views`` beside
    ``image``. They are drawn after an example's text and image, which so stay the same (to the
    pixel, unless a view's small crops make a JPEG be decoded larger).

    Sources ``latents:FOLDER`` give what ``kmm latents`` made of pictures, for training generators:
    of ``augment`` only ``flip`` then counts, where the mirrored pictures were encoded as well.

    ``sizes`` adds ``time_ids`` to training batches: height and width of the picture, top and left
    of the crop in the picture as it was resized, height and width of the result, in pixels (SDXL,
    arXiv 2307.01952, section 2.2).
    """

    sources: tuple[SourceConfig, ...]
    image_size: int
    text_length: int
    fields: tuple[tuple[str, float], ...] = (
        ("title", 1.0),
        ("caption", 1.0),
        ("product_name", 1.0),
        ("query", 1.0),
    )
    styled: bool = True
    alone: float = 0.25
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    views: tuple[AugmentConfig, ...] = ()
    sizes: bool = False
    seed: int = 0
    max_bad_share: float = 0.01
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ConfigError(f"data.image_size must be at least 1, found {self.image_size}")
        if self.text_length < _SHORTEST_TEXT:
            raise ConfigError(
                f"data.text_length must be at least {_SHORTEST_TEXT} ([BOS] [STYLE] text [EOS]), "
                f"found {self.text_length}"
            )
        if not self.fields:
            raise ConfigError("data.fields is empty; name at least one, such as ('title', 1.0)")
        for name, weight in self.fields:
            known = (*TEXT_FIELDS, QUESTIONS, STATEMENTS)
            if name not in known:
                raise ConfigError(f"data.fields: no field {name!r}" + nearest(name, known))
            if not weight > 0:
                raise ConfigError(f"data.fields: the weight of {name!r} must be above 0: {weight}")
        if len(dict(self.fields)) < len(self.fields):
            raise ConfigError(f"data.fields names a field twice: {self.fields}")
        if {QUESTIONS, STATEMENTS} <= dict(self.fields).keys():
            raise ConfigError(
                f"data.fields has both {QUESTIONS} and {STATEMENTS}, which no task learns together"
            )
        if not 0 <= self.alone <= 1:
            raise ConfigError(f"data.alone is a share of pictures, 0 to 1, found {self.alone}")
        if not (
            isinstance(self.views, tuple)
            and all(isinstance(one, AugmentConfig) for one in self.views)
        ):
            raise ConfigError(
                "data.views must be a tuple of augmentations, one for each further view of a "
                f"picture, found {self.views!r}"
            )
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"data.seed must be in [0, 2^32), found {self.seed}")
        if not 0 <= self.max_bad_share <= 1:
            raise ConfigError(f"data.max_bad_share must be in [0, 1], found {self.max_bad_share}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"data.threads must be at least 1, found {self.threads}")


def has_questions(config: DataConfig) -> bool:
    """Whether examples may be questions with their answers."""
    return any(name == QUESTIONS for name, _ in config.fields)


def has_statements(config: DataConfig) -> bool:
    """Whether examples may be statements about a thing in the picture."""
    return any(name == STATEMENTS for name, _ in config.fields)


def thread_count(config: DataConfig) -> int:
    """How many threads decode."""
    return available_threads() if config.threads is None else config.threads


def available_threads() -> int:
    """One for each processor that may be used, 32 at most."""
    available = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(available, _MOST_THREADS)


def batch_shapes(
    config: DataConfig | TextPairs, rows: int
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array of a training batch."""
    if isinstance(config, TextPairs):
        return config.batch_shapes(rows)
    pixels = (config.image_size, config.image_size, 3)
    latents = latents_shape([source.url for source in config.sources])
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        **(
            {"latents": ((rows, *latents), "float32")}
            if latents
            else {"image": ((rows, *pixels), "uint8")}
        ),
        "text": ((rows, config.text_length), "int32"),
        "valid": ((rows,), "bool"),
    }
    if has_questions(config):
        shapes["target"] = ((rows, config.text_length), "bool")
    if has_statements(config):
        shapes["category"] = ((rows, config.text_length), "int32")
        shapes["asked"] = ((rows,), "bool")
        shapes["statement"] = ((rows,), "int32")
        shapes["known"] = ((rows, KNOWN), "int32")
    if config.sizes:
        shapes["time_ids"] = ((rows, SIZES), "float32")
    if config.views:
        shapes["views"] = ((rows, len(config.views), *pixels), "uint8")
    return shapes
