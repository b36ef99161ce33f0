"""Rows of a source as vectors with the labels that their records state.

N rows, D dimensions, C labels.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kmm_jax.data.config import DataConfig
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.sources import Source
from kmm_jax.errors import DataError, UserError
from kmm_jax.tagging.labels import LabelSet
from kmm_jax.tagging.truth import Reader, Stated

_NO_TEXT_LENGTH = 4
_SHOWN = 6

Embed = Callable[[Sequence[Any]], np.ndarray]
"""Pictures, uint8 (S, S, 3) each, to unit vectors (N, D)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledVectors:
    """Rows with labels; those whose records state none are left out.

    Attributes:
        name: where they come from.
        vectors_ND: float32.
        true_NC: bool, which labels are true.
        known_NC: bool, whether anything is said of a label's group.
        unknown: words that stand for no label, the commonest first, by group.
    """

    name: str
    vectors_ND: np.ndarray
    true_NC: np.ndarray
    known_NC: np.ndarray
    unknown: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vectors_ND)

    def at(self, rows: np.ndarray) -> LabelledVectors:
        """Some of them."""
        return dataclasses.replace(
            self,
            vectors_ND=self.vectors_ND[rows],
            true_NC=self.true_NC[rows],
            known_NC=self.known_NC[rows],
        )


def read_labelled(
    source: Source,
    embed: Embed,
    labels: LabelSet,
    *,
    image_size: int,
    batch_size: int,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabelledVectors:
    """Embed the first ``limit`` rows of a source that state a label.

    Raises:
        UserError: ``limit`` below 1.
        DataError: no row states one; says what was found instead.
    """
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, got {limit}")
    reader = Reader(labels)
    config = DataConfig(sources=(), image_size=image_size, text_length=_NO_TEXT_LENGTH)
    total = len(source) if limit is None else min(limit, len(source))

    def stating() -> Iterator[tuple[np.ndarray, Stated]]:
        for batch in evaluation_batches(source, config, batch_size, limit=limit):
            count = int(batch["valid"].sum())
            for row, image in zip(batch["row"][:count], batch["image"], strict=False):
                found = reader.read(source.read(int(row)).record)
                if found.known_C.any():
                    yield image, found
            if progress is not None:
                progress(int(batch["row"][count - 1]) + 1, total)

    parts: list[np.ndarray] = []
    stated: list[Stated] = []
    rows = stating()
    while part := list(itertools.islice(rows, batch_size)):
        parts.append(np.asarray(embed([image for image, _ in part]), np.float32))
        stated += [found for _, found in part]
    unknown = {key: dict(words.most_common()) for key, words in reader.unknown.items()}
    if not parts:
        raise DataError(f"no row of {source.name} states a label{_instead(labels, unknown)}")
    return LabelledVectors(
        name=source.name,
        vectors_ND=np.concatenate(parts),
        true_NC=np.stack([found.true_C for found in stated]),
        known_NC=np.stack([found.known_C for found in stated]),
        unknown=unknown,
    )


def _instead(labels: LabelSet, unknown: Mapping[str, Mapping[str, int]]) -> str:
    found = [word for words in unknown.values() for word in words]
    if found:
        return (
            f"; what they state is none of the label set: {', '.join(found[:_SHOWN])}. Add such "
            "words to the set"
        )
    fields = ", ".join(field for group in labels.groups for field in group.fields)
    return (
        f": none of {fields} stands in their records' labels, attributes, items or boxes; name "
        "your own in the label set's fields"
    )
