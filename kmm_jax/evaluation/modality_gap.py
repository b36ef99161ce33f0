"""The modality gap: how far a model's images lie from its texts, beside what it finds.

A gap alone says nothing. A model that maps everything to one point has none, and in the small-scale
study behind this library one whose retrieval was at chance had the smallest of all (.09). So
every measure here is reported beside the recall of the same pairs. Linear separability says little
as well: it was near 1 for every model of that study that worked.

N pairs, T distinct texts, E dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.evaluation.dataset import EvaluationData, EvaluationSet, check_data, encode
from kmm_jax.evaluation.encoders import Encoder, Functions, style_name
from kmm_jax.evaluation.recall import Recalls
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.evaluation.retrieval import Pairs, pair, score_pairs
from kmm_jax.text.styles import Style

_KS = (1, 5)

# Of the mean of the features' variances: enough to solve with more dimensions than rows, too little
# to turn the classifier.
_RIDGE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityGap:
    """Where the images of N pairs lie, seen from their texts.

    Attributes:
        distance: between the centroids of images and texts, 0 to 2 (Liang et al., arXiv
            2203.02053).
        pair_cosine: mean over the true pairs.
        random_cosine: mean over every image with every text that is not its own, exactly.
        separability: share of held-out vectors that a linear classifier tells to be an image or a
            text, in two folds; .5 where they cannot be told apart.
        pairs: how many there are.
    """

    distance: float
    pair_cosine: float
    random_cosine: float
    separability: float
    pairs: int


def modality_gap(
    image_NE: np.ndarray, text_NE: np.ndarray, text_N: np.ndarray | None = None
) -> ModalityGap:
    """Measure N true pairs of unit vectors.

    Args:
        text_N: which text each row has, where several share one: they are no random pairs of each
            other, and stay in the same fold of the classifier. By default each has its own.

    Raises:
        ValueError: the sides differ in shape, or in length from ``text_N``.
        DataError: fewer than two different texts, of which there is no random pair.
    """
    if image_NE.shape != text_NE.shape or image_NE.ndim != 2:
        raise ValueError(f"N pairs of vectors, got {image_NE.shape} and {text_NE.shape}")
    image_NE, text_NE = (np.asarray(side, np.float64) for side in (image_NE, text_NE))
    group_N = np.arange(len(image_NE)) if text_N is None else np.asarray(text_N)
    if len(group_N) != len(image_NE):
        raise ValueError(f"{len(image_NE)} pairs, but {len(group_N)} numbers of texts")
    _, group_N = np.unique(group_N, return_inverse=True)
    if not len(group_N) or group_N.max() == 0:
        raise DataError(
            f"the modality gap needs pairs with at least two different texts, got {len(image_NE)} "
            "pairs with fewer"
        )
    return ModalityGap(
        distance=float(np.linalg.norm(image_NE.mean(axis=0) - text_NE.mean(axis=0))),
        pair_cosine=float(np.einsum("ne,ne->n", image_NE, text_NE).mean()),
        random_cosine=_random_cosine(image_NE, text_NE, group_N),
        separability=separability(image_NE, text_NE, group_N),
        pairs=len(image_NE),
    )


def _random_cosine(image_NE: np.ndarray, text_NE: np.ndarray, group_N: np.ndarray) -> float:
    """From sums alone: the sum over all pairs is the product of both sides' sums."""
    groups = int(group_N.max()) + 1
    image_TE, text_TE = np.zeros((2, groups, image_NE.shape[1]))
    np.add.at(image_TE, group_N, image_NE)
    np.add.at(text_TE, group_N, text_NE)
    counts_T = np.bincount(group_N)
    others = image_TE.sum(axis=0) @ text_TE.sum(axis=0) - np.einsum("te,te->", image_TE, text_TE)
    return float(others / (len(group_N) ** 2 - (counts_T**2).sum()))


def separability(
    image_NE: np.ndarray, text_NE: np.ndarray, group_N: np.ndarray, *, seed: int = 0
) -> float:
    """Share of held-out vectors that a ridge regression onto ±1 puts on their modality's side.

    Least squares for two classes of one size is Fisher's discriminant, in closed form: it runs
    during training, where scikit-learn may be absent and an iterative fit would take its time. Both
    vectors of a pair and all pairs of a text are in one of the two folds. A vector on the boundary
    counts half.

    Args:
        group_N: numbers from 0 without a gap, at least two; rows with the same stay together.
        seed: of the folds.
    """
    order_T = np.random.default_rng(seed).permutation(int(group_N.max()) + 1)
    fold_N = (order_T % 2 == 0)[group_N]
    right = 0.0
    for held_N in (fold_N, ~fold_N):
        centre_E, weight_E = _discriminant(image_NE[~held_N], text_NE[~held_N])
        for side_NE, sign in ((image_NE, 1), (text_NE, -1)):
            score_N = sign * ((side_NE[held_N] - centre_E) @ weight_E)
            right += float((score_N > 0).sum() + 0.5 * (score_N == 0).sum())
    return right / (2 * len(image_NE))


def _discriminant(image_NE: np.ndarray, text_NE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the boundary lies, and the direction that images lie in from there."""
    centre_E = (image_NE.mean(axis=0) + text_NE.mean(axis=0)) / 2
    centred_RE = np.concatenate([image_NE, text_NE]) - centre_E
    covariance_EE = centred_RE.T @ centred_RE / len(centred_RE)
    # Vectors that are all one point have no variance for the ridge to be relative to.
    ridge = max(_RIDGE * np.trace(covariance_EE) / len(covariance_EE), 1e-12)
    covariance_EE[np.diag_indices_from(covariance_EE)] += ridge
    toward_E = (image_NE.mean(axis=0) - text_NE.mean(axis=0)) / 2
    return centre_E, np.linalg.solve(covariance_EE, toward_E)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstPairs:
    """Every image of a set with the first of its texts, as vectors.

    Attributes:
        pairs: which text belongs to which image; ``pairs.image_rows`` are the images' rows.
        image_NE: unit vectors of the images.
        text_TE: unit vectors of the distinct texts.
        text_N: each image's text.
    """

    pairs: Pairs
    image_NE: np.ndarray
    text_TE: np.ndarray
    text_N: np.ndarray

    @property
    def text_NE(self) -> np.ndarray:
        """The texts' vectors side by side with ``image_NE``."""
        return self.text_TE[self.text_N]

    def gap(self) -> ModalityGap:
        """See :func:`modality_gap`."""
        return modality_gap(self.image_NE, self.text_NE, self.text_N)

    def recalls(self) -> dict[str, Recalls]:
        """See :func:`~kmm_jax.evaluation.retrieval.score_pairs`."""
        return score_pairs(self.image_NE, self.text_TE, self.pairs)


def first_pairs(
    encoder: Encoder, rows: EvaluationSet, *, field: str, style: Style | None
) -> FirstPairs:
    """Pair a set's images with the first text of each; rows without a text are left out.

    Images with the same hash are one, with the first text of its first row.

    Raises:
        ConfigError: no such field.
        DataError: no row has a text in it.
    """
    pairs = pair([row.key for row in rows.rows], [texts[:1] for texts in rows.texts(field)])
    return FirstPairs(
        pairs=pairs,
        image_NE=rows.vectors_NE[pairs.image_rows],
        text_TE=encoder.text(pairs.texts, style),
        text_N=np.asarray([texts[0] for texts in pairs.texts_of_image]),
    )


def gap_table(
    encoder: Encoder, rows: EvaluationSet, *, field: str, style: Style | None
) -> tuple[Table, ModalityGap]:
    """The gap between a set's images and the first text of each, beside the recall of these pairs.

    Raises:
        ConfigError: no such field.
        DataError: no row has a text in it, or all have the same.
    """
    pairs = first_pairs(encoder, rows, field=field, style=style)
    gap, found = pairs.gap(), pairs.recalls()
    scores = [
        Score(name="distance", value=gap.distance, share=False),
        Score(name="pair_cosine", value=gap.pair_cosine, share=False),
        Score(name="random_cosine", value=gap.random_cosine, share=False),
        Score(name="separability", value=gap.separability, chance=0.5),
    ]
    scores += [
        Score(name=f"{way}/r{k}", value=result.at[k], chance=result.chance[k])
        for way, result in found.items()
        for k in _KS
    ]
    table = Table(
        task="modality_gap",
        title=f"Modality gap: {field}",
        protocol=(
            f"{gap.pairs:,} images of {rows.name}, each with its first {field} text in the style "
            f"{style_name(style)} ({len(pairs.text_TE):,} distinct ones). distance: between the "
            "centroids of images and texts. pair_cosine: mean of the true pairs; random_cosine: of "
            "all images with all other texts. separability: held-out accuracy of a linear "
            "classifier of image or text. r1, r5: retrieval among the same pairs, any positive "
            "counts; without it a gap means nothing."
        ),
        scores=tuple(scores),
        facts={"pairs": gap.pairs, "texts": len(pairs.text_TE)},
    )
    return table, gap


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalityGapEvaluator:
    """The modality gap while a model trains, always beside retrieval of the same pairs.

    Yields ``<name>/distance``, ``<name>/text_to_image/r5`` and so on (:func:`gap_table`), chance
    and counts included.

    Attributes:
        every: a duration (``"20%"``, ``"1000 steps"``).
        data: the evaluation set, and what the model takes.
        field, style: which texts, in which style; None for a model trained without style tokens.
            Of a row with several the first is taken.
    """

    name: str = "modality_gap"
    every: str = "20%"
    data: EvaluationData
    field: str = "query"
    style: Style | None = "query"

    def check(self) -> None:
        """Refuse a field that there is not, or of which the rows have not two different texts."""
        seen: set[str] = set()

        def two_texts(rows: EvaluationSet) -> None:
            seen.update(texts[0] for texts in rows.texts(self.field) if texts)
            if len(seen) < 2:
                raise DataError(
                    f"{rows.name}: the modality gap needs rows with at least two different "
                    f"{self.field} texts, found {len(seen)}"
                )

        check_data(self.data, two_texts)

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, measure, and yield (name, value)."""
        encoder, rows = encode(self.data, functions, params)
        table, _ = gap_table(encoder, rows, field=self.field, style=self.style)
        for name, value in table.metrics():
            yield f"{self.name}/{name}", value
