"""Attributes of a picture, with a category or alone, each with a probability (slide 3.1).

Q queries, A attributes, E embedding.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm_jax.data.statements import TEMPLATES, Attribute, Described
from kmm_jax.errors import DataError, UserError
from kmm_jax.files import read_described, write_json
from kmm_jax.inference.platt import Platt
from kmm_jax.text.normalize import normalize

if TYPE_CHECKING:
    from kmm_jax.inference.model import ImageLike, Model

FORMAT = "kmm_jax attributes 1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Which attributes there are, and what the scores of each key are worth.

    Attributes:
        attributes: by key and value.
        categories: names of categories, and under each the keys that things of it have.
        calibration: by key, the probability of a score; keys without one have none.
        model: the hash of the parameters that it was calibrated for; empty where it was not.
    """

    attributes: tuple[Attribute, ...]
    categories: Mapping[str, tuple[str, ...]]
    calibration: Mapping[str, Platt] = dataclasses.field(default_factory=dict)
    model: str = ""

    def keys(self) -> tuple[str, ...]:
        """All keys, each once."""
        return tuple(dict.fromkeys(one.key for one in self.attributes))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all."""
        values: dict[str, list[str]] = collections.defaultdict(list)
        for one in self.attributes:
            values[one.key].append(one.value)
        write_json(
            path,
            {
                "format": FORMAT,
                "attributes": dict(values),
                "categories": {name: list(keys) for name, keys in self.categories.items()},
                "calibration": {
                    key: [found.slope, found.offset] for key, found in self.calibration.items()
                },
                "model": self.model,
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """The inverse of ``save``.

        Raises:
            UserError: no such file.
            DataError: it is something else, or damaged.
        """
        path = Path(path)
        about = read_described(
            path, FORMAT, missing=f"{path} is not there", advice="; make one by kmm attributes fit"
        )
        try:
            return cls(
                attributes=tuple(
                    Attribute(key=str(key), value=str(value))
                    for key, values in about["attributes"].items()
                    for value in values
                ),
                categories={
                    str(name): tuple(map(str, keys)) for name, keys in about["categories"].items()
                },
                calibration={
                    str(key): Platt(slope=float(slope), offset=float(offset))
                    for key, (slope, offset) in about["calibration"].items()
                },
                model=str(about["model"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is damaged: {error!r}; make it anew") from error


def vocabulary_of(rows: Iterable[Described], *, least: int = 1) -> Vocabulary:
    """The attributes and categories that rows have, those of at least ``least`` things.

    Raises:
        DataError: there are none.
    """
    counts: collections.Counter[Attribute] = collections.Counter()
    under: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for row in rows:
        for item in row.items:
            counts.update(item.attributes)
            for level in item.levels:
                under[level].update({one.key for one in item.attributes})
    attributes = sorted(
        (one for one, count in counts.items() if count >= least), key=lambda x: (x.key, x.value)
    )
    if not attributes:
        raise DataError(
            f"no attribute is told of {least} things or more; records need items, or category and "
            "attributes (kmm data shards shop --attributes)"
        )
    keys = {one.key for one in attributes}
    categories = {
        name: tuple(key for key, _ in found.most_common() if key in keys)
        for name, found in sorted(under.items())
    }
    return Vocabulary(attributes=tuple(attributes), categories=categories)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """An attribute of a picture, the cosine that speaks for it, and its probability if known."""

    attribute: Attribute
    score: float
    probability: float | None


class AttributeSearch:
    """A model with the attributes that it is asked for; texts are embedded once.

    Raises:
        UserError: the vocabulary was calibrated for another model.
    """

    def __init__(self, model: Model, vocabulary: Vocabulary) -> None:
        if vocabulary.model not in ("", model.hash):
            raise UserError(
                f"the vocabulary was calibrated for the parameters {vocabulary.model}, and "
                f"{model.path} has {model.hash}; calibrate it anew by kmm attributes fit"
            )
        self.model, self.vocabulary = model, vocabulary
        self.text_AE = text_vectors(model, vocabulary.attributes)

    def scores(
        self, images: Sequence[ImageLike], categories: Sequence[str], *, batch_size: int = 64
    ) -> np.ndarray:
        """Cosines (Q, A) of pictures with categories (empty: alone) and attributes."""
        query_QE = self.model.embed_query(images, categories, batch_size=batch_size)
        return query_QE @ self.text_AE.T

    def probabilities(self, score_QA: np.ndarray) -> np.ndarray:
        """Of scores; NaN where a key was not calibrated."""
        found_QA = np.full(score_QA.shape, np.nan)
        for place, one in enumerate(self.vocabulary.attributes):
            if (known := self.vocabulary.calibration.get(one.key)) is not None:
                found_QA[:, place] = known.probability(score_QA[:, place])
        return found_QA

    def find(self, image: ImageLike, category: str = "", *, top: int = 5) -> list[Found]:
        """The likeliest attributes of a picture, best first: by probability, else by cosine.

        Raises:
            UserError: ``top`` is below 1.
        """
        if top < 1:
            raise UserError(f"top must be at least 1, got {top}")
        score_QA = self.scores([image], [normalize(category)])
        score_A, probability_A = score_QA[0], self.probabilities(score_QA)[0]
        known = not np.isnan(probability_A).any()
        order = np.argsort(-(probability_A if known else score_A), kind="stable")[:top]
        return [
            Found(
                attribute=self.vocabulary.attributes[place],
                score=float(score_A[place]),
                probability=float(probability_A[place]) if known else None,
            )
            for place in order.tolist()
        ]


def text_vectors(model: Model, attributes: Sequence[Attribute]) -> np.ndarray:
    """Unit vectors (A, E) of attributes: the mean over all wordings of each."""
    texts = [one.sentence(template) for one in attributes for template in TEMPLATES]
    vector_AE = model.embed_text(texts, "shopping").reshape(len(attributes), len(TEMPLATES), -1)
    mean_AE = vector_AE.mean(axis=1)
    found: np.ndarray = mean_AE / np.linalg.norm(mean_AE, axis=1, keepdims=True)
    return found


def as_json(found: Sequence[Found]) -> list[dict[str, Any]]:
    """Plain values, for programs."""
    return [
        {
            "key": one.attribute.key,
            "value": one.attribute.value,
            "score": one.score,
            "probability": one.probability,
        }
        for one in found
    ]
