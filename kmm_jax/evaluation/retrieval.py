"""Image-text retrieval both ways over an evaluation set.

Distinct texts are queries and gallery once each, however many images share them; images with the
same hash are one. M images, T distinct texts, E dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kmm_jax.evaluation.dataset import EvaluationData, EvaluationSet, check_data, encode
from kmm_jax.evaluation.encoders import Encoder, Functions, style_name
from kmm_jax.evaluation.recall import Recalls, recalls
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.text.styles import Style

KS = (1, 5, 10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Which distinct text belongs to which distinct image.

    Attributes:
        image_rows: for each image, its first row in the set.
        texts: the distinct texts, in the order they first occur.
        texts_of_image, images_of_text: numbers of the other side's positives; never empty.
    """

    image_rows: np.ndarray
    texts: tuple[str, ...]
    texts_of_image: tuple[np.ndarray, ...]
    images_of_text: tuple[np.ndarray, ...]


def pair(keys: Sequence[str], texts: Sequence[Sequence[str]]) -> Pairs:
    """Pair rows' images with their texts; rows without a text are left out.

    Args:
        keys: each row's image hash; rows with the same hash are one image with all their texts.
        texts: each row's texts, normalised.
    """
    image_rows: dict[str, int] = {}
    images: dict[str, int] = {}
    numbers: dict[str, int] = {}
    links: dict[tuple[int, int], None] = {}
    for row, (key, of_row) in enumerate(zip(keys, texts, strict=True)):
        for text in of_row:
            image_rows.setdefault(key, row)
            image = images.setdefault(key, len(images))
            links[image, numbers.setdefault(text, len(numbers))] = None
    texts_of_image: list[list[int]] = [[] for _ in images]
    images_of_text: list[list[int]] = [[] for _ in numbers]
    for image, text_number in links:
        texts_of_image[image].append(text_number)
        images_of_text[text_number].append(image)
    return Pairs(
        image_rows=np.asarray(list(image_rows.values()), np.int64),
        texts=tuple(numbers),
        texts_of_image=tuple(np.asarray(found) for found in texts_of_image),
        images_of_text=tuple(np.asarray(found) for found in images_of_text),
    )


def score_pairs(image_ME: np.ndarray, text_TE: np.ndarray, pairs: Pairs) -> dict[str, Recalls]:
    """Recalls of ``text_to_image`` and ``image_to_text`` from unit vectors of both sides."""
    return {
        "text_to_image": recalls(text_TE, image_ME, pairs.images_of_text, ks=KS),
        "image_to_text": recalls(image_ME, text_TE, pairs.texts_of_image, ks=KS),
    }


def retrieval(
    encoder: Encoder, rows: EvaluationSet, *, field: str, style: Style | None
) -> tuple[Table, dict[str, Recalls]]:
    """Search the set's images with its texts, and its texts with its images.

    Args:
        field: the record's field whose texts are used, all of a row's.
        style: the style token in front of every text; None for none.

    Raises:
        ConfigError: no such field.
        DataError: no row has a text in it.
    """
    pairs = pair([row.key for row in rows.rows], rows.texts(field))
    text_TE = encoder.text(pairs.texts, style)
    found = score_pairs(rows.vectors_NE[pairs.image_rows], text_TE, pairs)
    shared = sum(len(images) > 1 for images in pairs.images_of_text)
    protocol = (
        f"{len(pairs.image_rows):,} images and {len(pairs.texts):,} distinct {field} texts of "
        f"{rows.name} in the style {style_name(style)}, {shared:,} of them shared by several "
        f"images; every text searches all images, every image all texts, by cosine; any positive "
        "among the first k counts, ties count against. chance: a gallery in random order, exactly."
    )
    scores = [
        Score(name=f"{way}/r{k}", value=result.at[k], chance=result.chance[k])
        for way, result in found.items()
        for k in KS
    ]
    facts = {
        f"{way}/{name}": number
        for way, result in found.items()
        for name, number in (("queries", result.queries), ("gallery", result.gallery))
    }
    table = Table(
        task="retrieval",
        title=f"Image-text retrieval: {field}",
        protocol=protocol,
        scores=tuple(scores),
        facts=facts,
    )
    return table, found


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalEvaluator:
    """Image-text retrieval while a model trains.

    Yields ``<name>/text_to_image/r5`` and so on (:func:`retrieval`), chance and counts included.

    Attributes:
        every: a duration (``"20%"``, ``"1000 steps"``).
        data: the evaluation set, and what the model takes.
        field, style: which texts, in which style; None for a model trained without style tokens.
    """

    name: str = "retrieval"
    every: str = "20%"
    data: EvaluationData
    field: str = "query"
    style: Style | None = "query"

    def check(self) -> None:
        """Refuse a field that there is not, or that no row of the data has."""
        check_data(self.data, lambda rows: rows.texts(self.field))

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, search both ways, and yield (name, value)."""
        encoder, rows = encode(self.data, functions, params)
        table, _ = retrieval(encoder, rows, field=self.field, style=self.style)
        for name, value in table.metrics():
            yield f"{self.name}/{name}", value
