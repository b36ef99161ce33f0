"""An evaluation set, read once: the vectors of its images, with their texts and labels."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kmm_jax.data.config import DataConfig
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.questions import Question, questions
from kmm_jax.data.schema import TEXT_FIELDS, texts
from kmm_jax.data.sources import Source, open_source
from kmm_jax.errors import ConfigError, DataError, nearest
from kmm_jax.evaluation.encoders import Encoder, Functions, finite, from_functions
from kmm_jax.text.normalize import normalize
from kmm_jax.text.styles import Style

# Evaluation takes its own texts and not those of the batches; this is the least a config may say.
_NO_TEXT_LENGTH = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRow:
    """What is kept of a row besides its image's vector.

    Attributes:
        key: the row's image hash.
        texts: distinct normalised texts by field.
        labels: what the record's ``labels`` say, such as ``{"type": "shirt"}``.
        questions: about the image, with their answers.
    """

    key: str
    texts: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, str]
    questions: tuple[Question, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Rows side by side with what was computed from their images.

    Attributes:
        name: of the source.
        rows: the good rows in the source's order; bad ones are left out and counted.
        vectors_NE: unit vectors of their images, float32; (N, 0) if only captions were asked for.
        captions: by style, one generated caption a row.
    """

    name: str
    rows: tuple[EvaluationRow, ...]
    vectors_NE: np.ndarray
    captions: Mapping[Style | None, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    bad_rows: int = 0

    def labels(self, key: str) -> list[str | None]:
        """Every row's label ``key``; None where it has none.

        Raises:
            DataError: no row has it.
        """
        found = [row.labels.get(key) for row in self.rows]
        if not any(label is not None for label in found):
            known = {name for row in self.rows for name in row.labels}
            raise DataError(
                f"{self.name}: no record has a label {key!r}"
                + (nearest(key, known) if known else '; records carry no "labels" at all')
            )
        return found

    def texts(self, field: str) -> list[tuple[str, ...]]:
        """Every row's texts in ``field``; empty where it has none.

        Raises:
            ConfigError: no such field.
            DataError: no row has a text there.
        """
        if field not in TEXT_FIELDS:
            raise ConfigError(f"no text field {field!r}{nearest(field, TEXT_FIELDS)}")
        found = [row.texts.get(field, ()) for row in self.rows]
        if not any(found):
            counts = collections.Counter(name for row in self.rows for name in row.texts)
            has = ", ".join(f"{name} ({count} rows)" for name, count in counts.most_common())
            raise DataError(f"{self.name}: no record has a text in {field!r}; there are: {has}")
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """Which set an evaluator reads while a model trains, and how.

    Attributes:
        source: what :func:`kmm_jax.data.sources.open_source` takes.
        limit: read only so many of its first rows.
        tokenizer: the tokenizer's folder.
        image_size, text_length: as in the training data.
        batch_size: of every call of the model, the last one filled up.
    """

    source: str
    tokenizer: str
    image_size: int
    text_length: int
    limit: int | None = None
    batch_size: int = 64


def check_data(data: EvaluationData, wanted: Callable[[EvaluationSet], Any]) -> None:
    """Refuse a set that cannot be read or has not what is ``wanted``, before a model is trained.

    Reads records until one has it, and no images.

    Args:
        wanted: raises DataError if none of the set's rows will do.

    Raises:
        DataError, ConfigError: as reading and ``wanted`` raise them.
    """
    from kmm_jax.text.tokenizer import Tokenizer

    Tokenizer.load(data.tokenizer)
    opened = open_source(data.source)
    rows: list[EvaluationRow] = []
    for number in range(min(data.limit or len(opened), len(opened))):
        # Bad rows are counted when the set is read whole.
        with contextlib.suppress(DataError):
            rows.append(_row(opened.read(number).record))
            wanted(_without_vectors(opened.name, rows[-1:]))
            return
    wanted(_without_vectors(opened.name, rows))


def _without_vectors(name: str, rows: Sequence[EvaluationRow]) -> EvaluationSet:
    return EvaluationSet(
        name=name, rows=tuple(rows), vectors_NE=np.zeros((len(rows), 0), np.float32)
    )


def encoder_for(data: EvaluationData, functions: Functions, params: Any) -> Encoder:
    """The encoder over the training loop's functions, as an evaluator's data says."""
    from kmm_jax.text.tokenizer import Tokenizer

    return from_functions(
        functions,
        params,
        Tokenizer.load(data.tokenizer),
        text_length=data.text_length,
        batch_size=data.batch_size,
    )


def encode(
    data: EvaluationData,
    functions: Functions,
    params: Any,
    *,
    caption_styles: Sequence[Style | None] = (),
    vectors: bool = True,
) -> tuple[Encoder, EvaluationSet]:
    """The encoder over the training loop's functions, and the set read through it."""
    encoder = encoder_for(data, functions, params)
    rows = read_set(
        data.source,
        encoder,
        image_size=data.image_size,
        batch_size=data.batch_size,
        limit=data.limit,
        caption_styles=caption_styles,
        vectors=vectors,
    )
    return encoder, rows


def read_set(
    source: str | os.PathLike[str] | Source,
    encoder: Encoder,
    *,
    image_size: int,
    batch_size: int,
    limit: int | None = None,
    caption_styles: Sequence[Style | None] = (),
    vectors: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationSet:
    """Read the first ``limit`` rows of ``source`` once, embedding and captioning as they pass.

    Every batch has ``batch_size`` rows, so nothing recompiles, and no image outlives its batch.

    Args:
        source: an open one, or what :func:`kmm_jax.data.sources.open_source` takes.
        image_size: side of the central square crop, pixels.
        caption_styles: caption in these styles, if the encoder captions.
        vectors: leave False to caption alone.
        progress: called with rows read so far and rows in all.

    Raises:
        DataError: nothing readable there, or more than 1 % of the rows are bad.
        ConfigError: a limit or a batch size below 1.
    """
    for name, number in (("limit", limit), ("batch_size", batch_size)):
        if number is not None and number < 1:
            raise ConfigError(f"{name} must be at least 1, found {number}")
    opened = source if isinstance(source, Source) else open_source(source)
    total = len(opened) if limit is None else min(limit, len(opened))
    config = DataConfig(sources=(), image_size=image_size, text_length=_NO_TEXT_LENGTH)
    parts: list[np.ndarray] = []
    rows: list[EvaluationRow] = []
    captions: dict[Style | None, list[str]] = {}
    if encoder.caption is not None:
        captions = {style: [] for style in caption_styles}
    pending: list[tuple[Any, int]] = []  # the last batch, which the device may still work on
    for batch in evaluation_batches(opened, config, batch_size, limit=limit):
        count = int(batch["valid"].sum())
        if vectors:
            pending.append((encoder.image(batch["image"]), count))
            if len(pending) > 1:
                parts.append(_finished(*pending.pop(0)))
        for style, found in captions.items():
            assert encoder.caption is not None
            found += encoder.caption(batch["image"], style)[:count]
        rows += [_row(_record(opened, int(row))) for row in batch["row"][:count]]
        if progress is not None:
            progress(int(batch["row"][count - 1]) + 1, total)
    parts += [_finished(*one) for one in pending]
    return EvaluationSet(
        name=opened.name,
        rows=tuple(rows),
        vectors_NE=np.concatenate(parts) if parts else np.zeros((len(rows), 0), np.float32),
        captions={style: tuple(found) for style, found in captions.items()},
        bad_rows=total - len(rows),
    )


def _finished(vectors_BE: Any, count: int) -> np.ndarray:
    return finite(vectors_BE, "image")[:count]


def _record(source: Source, number: int) -> Mapping[str, Any]:
    """The record of a row, where possible without its image."""
    record = getattr(source, "record", None)
    return source.read(number).record if record is None else record(number)


def _row(record: Mapping[str, Any]) -> EvaluationRow:
    by_field: dict[str, dict[str, None]] = {}
    for field, text, _ in texts(record):
        by_field.setdefault(field, {})[normalize(text)] = None
    labels = record.get("labels")
    return EvaluationRow(
        key=str(record["image_hash"]),
        texts={field: tuple(found) for field, found in by_field.items()},
        labels={str(name): str(label) for name, label in labels.items() if label is not None}
        if isinstance(labels, dict)
        else {},
        questions=tuple(questions(record)),
    )
