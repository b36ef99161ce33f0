"""A panel of an embedding map: one model's images, texts and both together over one source.

N images, each with its first text, E dimensions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kmm_jax.data.config import DataConfig
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.sources import open_source
from kmm_jax.evaluation.dataset import read_set
from kmm_jax.evaluation.embedding_map import Panel
from kmm_jax.evaluation.encoders import finite, from_model
from kmm_jax.evaluation.modality_gap import first_pairs
from kmm_jax.models import registry
from kmm_jax.text.styles import Style

if TYPE_CHECKING:
    from kmm_jax.inference.model import Model

# Families whose models read an image and a text in one pass, by ``Model.embed_pair``.
_JOINT = ("oner",)
# The batches carry no texts; this is the least a config may say.
_NO_TEXT_LENGTH = 4


def panel_of(
    model: Model,
    source: str | os.PathLike[str],
    *,
    title: str,
    field: str,
    style: Style | None,
    label: str | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Panel:
    """Embed the first ``limit`` rows of ``source``: images, texts and both together.

    The panel's measures are the modality gap and the recall at 5 of the very vectors it shows.

    Args:
        field, style: which texts; the first of each row is taken. The style of a model without
            style tokens does not matter.
        label: which of the record's ``labels`` colours the points.
        progress: called with rows read so far and rows in all.

    Raises:
        DataError: nothing readable, no text in the field, no such label, or fewer than two texts.
        ConfigError: no such field, or a limit or a batch size below 1.
    """
    if not model.styled:
        style = None
    encoder = from_model(model, batch_size=batch_size)
    rows = read_set(
        source,
        encoder,
        image_size=model.image_size,
        batch_size=batch_size,
        limit=limit,
        progress=progress,
    )
    labels = rows.labels(label) if label is not None else []
    pairs = first_pairs(encoder, rows, field=field, style=style)
    gap, recalls = pairs.gap(), pairs.recalls()
    image_rows = pairs.pairs.image_rows.tolist()
    embed_pair = getattr(model, "embed_pair", None)
    if embed_pair is not None and registry.family(model.config) in _JOINT:
        texts: list[str | None] = [None] * len(rows.rows)
        for row, number in zip(image_rows, pairs.text_N, strict=True):
            texts[row] = pairs.pairs.texts[number]
        both_NE = joint_vectors(
            embed_pair,
            source,
            texts,
            style=style,
            image_size=model.image_size,
            limit=limit,
            batch_size=batch_size,
        )
    else:
        both_NE = mean_vectors(pairs.image_NE, pairs.text_NE)
    return Panel(
        title=title,
        groups={"image": pairs.image_NE, "text": pairs.text_NE, "image+text": both_NE},
        keys=tuple(rows.rows[row].key for row in image_rows),
        labels=tuple(labels[row] for row in image_rows) if labels else (),
        measures={
            "distance": gap.distance,
            "pair_cosine": gap.pair_cosine,
            "text_to_image/r5": recalls["text_to_image"].at[5],
            "image_to_text/r5": recalls["image_to_text"].at[5],
        },
    )


def mean_vectors(image_NE: np.ndarray, text_NE: np.ndarray) -> np.ndarray:
    """Unit vectors halfway between images and texts, of a model that reads one at a time."""
    sum_NE = image_NE + text_NE
    return sum_NE / np.maximum(np.linalg.norm(sum_NE, axis=1, keepdims=True), 1e-12)


def joint_vectors(
    embed_pair: Callable[[list[np.ndarray], list[str], Style | None], np.ndarray],
    source: str | os.PathLike[str],
    texts: Sequence[str | None],
    *,
    style: Style | None,
    image_size: int,
    limit: int | None,
    batch_size: int,
) -> np.ndarray:
    """Unit vectors of images read together with their texts, in the source's order.

    Args:
        embed_pair: uint8 images (S, S, 3), as many texts and a style to unit vectors.
        texts: one for each good row among the first ``limit`` of ``source``; None leaves it out.
    """
    config = DataConfig(sources=(), image_size=image_size, text_length=_NO_TEXT_LENGTH)
    parts: list[np.ndarray] = []
    first = 0
    for batch in evaluation_batches(open_source(source), config, batch_size, limit=limit):
        count = int(batch["valid"].sum())
        of_batch = texts[first : first + count]
        first += count
        wanted = [row for row, text in enumerate(of_batch) if text is not None]
        if wanted:
            images = [batch["image"][row] for row in wanted]
            words = [str(of_batch[row]) for row in wanted]
            parts.append(finite(embed_pair(images, words, style), "image+text"))
    return np.concatenate(parts)
