"""Zero-shot classification: the class whose sentences lie nearest to the image.

The protocol of CLIP (arXiv 2103.00020, section 3.1.4): a class's sentences are embedded, their unit
vectors averaged, and the average made a unit vector again.

N images, C classes, E dimensions.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.evaluation.classes import Classes, named_classes
from kmm_jax.evaluation.confusion import confusion
from kmm_jax.evaluation.dataset import EvaluationData, EvaluationSet, check_data, encode
from kmm_jax.evaluation.encoders import Encoder, Functions, style_name
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.text.styles import Style
from kmm_jax.text.templates import Language

Candidates = Literal["all", "present"]

# With no more classes than this, a guess is right among five every time.
_FIVE = 5
_BLOCK_VALUES = 16 * 1024 * 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotScores:
    """What one style's class vectors answer.

    Attributes:
        top1: share of images whose nearest class is the true one.
        top5: share with the true class among the five nearest; None for five classes or fewer.
        macro: mean over the classes that occur of the share answered rightly.
        matrix_CC: counts, row the true class, column the answered one.
        rank_N: for each image, how many classes come before its true one.
    """

    top1: float
    top5: float | None
    macro: float
    matrix_CC: np.ndarray
    rank_N: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotResult:
    """A table, the classes chosen among, and the scores by style behind it."""

    table: Table
    classes: Classes
    styles: Mapping[Style | None, ZeroShotScores]


def class_vectors(
    embed: Callable[[Sequence[str]], np.ndarray], prompts: Sequence[Sequence[str]]
) -> np.ndarray:
    """Unit vectors (C, E) of classes: the renormalised mean over each class's sentences.

    Args:
        embed: texts to unit vectors (N, E); called once with all sentences.
        prompts: at least one sentence for each class.
    """
    vectors_PE = np.asarray(embed([text for texts in prompts for text in texts]), np.float32)
    starts_C = np.cumsum([0, *(len(texts) for texts in prompts[:-1])])
    sums_CE = np.add.reduceat(vectors_PE, starts_C, axis=0)
    # Sentences that cancel out leave a zero vector, at cosine 0 from everything, and no NaN.
    return sums_CE / np.maximum(np.linalg.norm(sums_CE, axis=1, keepdims=True), 1e-12)


def score_vectors(
    image_NE: np.ndarray, class_CE: np.ndarray, truth_N: np.ndarray
) -> ZeroShotScores:
    """Classify images by their nearest class vector; ``truth_N`` are class numbers.

    Of classes equally near, the first in the set's order is the answer.
    """
    classes = len(class_CE)
    rank_N = np.empty(len(image_NE), np.int64)
    answer_N = np.empty(len(image_NE), np.int64)
    rows = max(_BLOCK_VALUES // classes, 1)
    for start in range(0, len(image_NE), rows):
        block = slice(start, start + rows)
        score_BC = image_NE[block] @ class_CE.T
        truth_B = truth_N[block]
        true_B1 = np.take_along_axis(score_BC, truth_B[:, None], axis=1)
        equal_BC = (score_BC == true_B1) & (np.arange(classes) < truth_B[:, None])
        rank_N[block] = (score_BC > true_B1).sum(axis=1) + equal_BC.sum(axis=1)
        answer_N[block] = score_BC.argmax(axis=1)
    matrix_CC = confusion(truth_N, answer_N, classes)
    occurring_C = matrix_CC.sum(axis=1)
    recall_C = np.diag(matrix_CC)[occurring_C > 0] / occurring_C[occurring_C > 0]
    return ZeroShotScores(
        top1=float((rank_N == 0).mean()),
        top5=float((rank_N < _FIVE).mean()) if classes > _FIVE else None,
        macro=float(recall_C.mean()),
        matrix_CC=matrix_CC,
        rank_N=rank_N,
    )


def truths(rows: EvaluationSet, classes: Classes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Which rows carry one of the classes as ``label``, and their class numbers; both int64.

    Raises:
        DataError: no row does; says which labels there are.
    """
    numbers = {key: number for number, key in enumerate(classes.keys)}
    found = rows.labels(label)
    which = [row for row, key in enumerate(found) if key in numbers]
    if not which:
        seen = sorted({str(key) for key in found if key is not None})[:8]
        raise DataError(
            f"{rows.name}: no label {label!r} is one of the {len(classes)} classes of "
            f"{classes.name}; labels are {', '.join(seen)}, classes {', '.join(classes.keys[:8])}"
        )
    return np.asarray(which), np.asarray([numbers[str(found[row])] for row in which])


def zero_shot(
    encoder: Encoder,
    rows: EvaluationSet,
    classes: Classes,
    *,
    label: str,
    styles: Sequence[Style | None],
    candidates: Candidates = "all",
) -> ZeroShotResult:
    """Classify a set's images by the classes' sentences, once in each style.

    Rows without such a label, or with one that is no class, are left out; the protocol counts them.

    Args:
        candidates: all the classes, or only those that some row carries.

    Raises:
        DataError: no row carries one of the classes.
    """
    which, truth_N = truths(rows, classes, label)
    if candidates == "present":
        present, truth_N = np.unique(truth_N, return_inverse=True)
        classes = classes.restricted_to({classes.keys[number] for number in present})
    image_NE = rows.vectors_NE[which]
    prompts = classes.prompts()
    found: dict[Style | None, ZeroShotScores] = {}
    for style in styles:
        class_CE = class_vectors(functools.partial(_embed, encoder, style), prompts)
        found[style] = score_vectors(image_NE, class_CE, truth_N)
    table = _table(rows, classes, label, truth_N, found)
    return ZeroShotResult(table=table, classes=classes, styles=found)


def _embed(encoder: Encoder, style: Style | None, texts: Sequence[str]) -> np.ndarray:
    return encoder.text(texts, style)


def _table(
    rows: EvaluationSet,
    classes: Classes,
    label: str,
    truth_N: np.ndarray,
    found: dict[Style | None, ZeroShotScores],
) -> Table:
    counts_C = np.bincount(truth_N, minlength=len(classes))
    left_out = len(rows.rows) - len(truth_N)
    protocol = (
        f"{len(truth_N):,} images of {rows.name}"
        + (f" ({left_out:,} without such a label left out)" if left_out else "")
        + f"; {len(classes)} classes ({classes.name}), {int((counts_C > 0).sum())} of which occur; "
        f"{len(classes.templates)} sentences a class, averaged and renormalised; by cosine. "
        "macro: mean over the classes that occur. majority: always answering the most frequent "
        "class."
    )
    one, five = 1 / len(classes), min(_FIVE / len(classes), 1.0)
    scores: list[Score] = []
    for style, result in found.items():
        name = style_name(style)
        scores.append(Score(name=f"{name}/top1", value=result.top1, chance=one))
        if result.top5 is not None:
            scores.append(Score(name=f"{name}/top5", value=result.top5, chance=five))
        scores.append(Score(name=f"{name}/macro", value=result.macro, chance=one))
    majority = float(counts_C.max() / len(truth_N))
    scores.append(Score(name="majority", value=majority, chance=one))
    return Table(
        task="zero_shot",
        title=f"Zero-shot classification: {label}",
        protocol=protocol,
        scores=tuple(scores),
        facts={"images": len(truth_N), "classes": len(classes)},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeroShotEvaluator:
    """Korean zero-shot classification while a model trains.

    Yields ``<name>/<style>/top1`` and so on (:func:`zero_shot`), chance and counts included.

    Attributes:
        every: a duration (``"20%"``, ``"1000 steps"``).
        data: the evaluation set, and what the model takes.
        classes: spelled out, or a name for :func:`~kmm_jax.evaluation.classes.named_classes`.
        label: which of the record's ``labels`` names the class.
        candidates: choose among all classes, or only those that occur in the set.
        styles: each is reported; ``(None,)`` for a model trained without style tokens.
    """

    name: str = "zero_shot"
    every: str = "20%"
    data: EvaluationData
    classes: str | Classes
    label: str
    lang: Language = "ko"
    candidates: Candidates = "all"
    styles: tuple[Style | None, ...] = ("query",)

    def check(self) -> None:
        """Refuse an unknown class set, or data of which no row carries one of its classes."""
        classes = self._classes()
        check_data(self.data, lambda rows: truths(rows, classes, self.label))

    def _classes(self) -> Classes:
        if isinstance(self.classes, str):
            return named_classes(self.classes, self.lang)
        return self.classes

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, classify, and yield (name, value)."""
        classes = self._classes()
        encoder, rows = encode(self.data, functions, params)
        result = zero_shot(
            encoder,
            rows,
            classes,
            label=self.label,
            styles=self.styles,
            candidates=self.candidates,
        )
        for name, value in result.table.metrics():
            yield f"{self.name}/{name}", value
