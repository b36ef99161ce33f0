"""Classifiers learned from the labels of one set and tested on another: rows, scores and table.

N training rows, M test rows, C classes, E dimensions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.evaluation.dataset import EvaluationSet
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.evaluation.zero_shot import score_vectors


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledRows:
    """Vectors to learn from and to test on, with their labels.

    Attributes:
        train_NE, test_ME: unit vectors, float32.
        train_labels, test_labels: a label for each.
        said: what they are and which rows were left out, to begin a protocol with.
    """

    train_NE: np.ndarray
    train_labels: tuple[str, ...]
    test_ME: np.ndarray
    test_labels: tuple[str, ...]
    said: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbered:
    """Labels as class numbers; a test row whose label no training row has cannot be answered.

    Attributes:
        keys: the labels of the training rows, sorted; a class's number is its place here.
        train_N: every training row's class.
        which_T: the test rows that have one of these classes.
        test_T: their classes.
        left_out: the test rows without.
    """

    keys: tuple[str, ...]
    train_N: np.ndarray
    which_T: np.ndarray
    test_T: np.ndarray
    left_out: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classified:
    """What a learned classifier answers on the test rows.

    Attributes:
        table: accuracy with its chance and protocol.
        keys: the classes, as the training rows are labelled.
        matrix_CC: counts, row the true class, column the answered one.
        rank_T: for each test row that can be answered, how many classes come before its true one.
    """

    table: Table
    keys: tuple[str, ...]
    matrix_CC: np.ndarray
    rank_T: np.ndarray


def labelled_rows(train: EvaluationSet, test: EvaluationSet, label: str) -> LabelledRows:
    """The rows of both sets that carry ``label``.

    Training rows whose image is among the test rows are left out: a classifier that may look its
    answers up measures nothing.

    Raises:
        DataError: no row of one of the sets has the label, or none is left to learn from.
    """
    train_labels, test_labels = train.labels(label), test.labels(label)
    tested = {row.key for row in test.rows}
    labelled = [number for number, found in enumerate(train_labels) if found is not None]
    learned = [number for number in labelled if train.rows[number].key not in tested]
    shown = [number for number, found in enumerate(test_labels) if found is not None]
    shared = len(labelled) - len(learned)
    if not learned:
        raise DataError(
            f"all {shared:,} labelled images of {train.name} are among the test images of "
            f"{test.name}; learn from other rows, such as the training shards"
        )
    left_out = [
        f"{count:,} {why}"
        for count, why in (
            (len(train_labels) - len(labelled), "training rows without the label"),
            (shared, "training rows whose image is tested on"),
            (len(test_labels) - len(shown), "test rows without the label"),
        )
        if count
    ]
    return LabelledRows(
        train_NE=train.vectors_NE[learned],
        train_labels=tuple(str(train_labels[number]) for number in learned),
        test_ME=test.vectors_NE[shown],
        test_labels=tuple(str(test_labels[number]) for number in shown),
        said=f"learned from {train.name}, tested on {test.name}"
        + (f" ({', '.join(left_out)} left out)" if left_out else ""),
    )


def numbered(train_labels: Sequence[str], test_labels: Sequence[str]) -> Numbered:
    """Class numbers of both sides' labels.

    Raises:
        DataError: fewer than two classes to tell apart, or no test row of any of them.
    """
    keys, train_N = np.unique(np.asarray(train_labels, dtype=str), return_inverse=True)
    if len(keys) < 2:
        raise DataError(
            f"a classifier needs training rows of at least two classes; found {len(keys)}: "
            f"{', '.join(keys) or 'no row at all'}"
        )
    classes = {str(key): number for number, key in enumerate(keys)}
    numbers = [classes.get(str(label), -1) for label in test_labels]
    all_M = np.asarray(numbers, np.int64)
    which_T = np.flatnonzero(all_M >= 0)
    if not len(which_T):
        seen = sorted({str(label) for label in test_labels})[:8]
        raise DataError(
            "no test row has a class of the training rows: "
            f"training {', '.join(keys[:8])}; test {', '.join(seen) or 'no row at all'}"
        )
    return Numbered(
        keys=tuple(str(key) for key in keys),
        train_N=train_N.astype(np.int64),
        which_T=which_T,
        test_T=all_M[which_T],
        left_out=len(all_M) - len(which_T),
    )


def classified(
    score_TC: np.ndarray,
    numbers: Numbered,
    *,
    task: str,
    title: str,
    protocol: str,
    said: str = "",
    top5: bool = True,
    facts: Mapping[str, int | float] | None = None,
) -> Classified:
    """The table of a classifier that gave each test row a score for each class.

    Of classes with the same score, the first in ``numbers.keys`` is the answer.

    Args:
        protocol: how the scores came about, a sentence without its full stop.
        said: where the rows come from.
        top5: leave False where no order of five classes is meant.
        facts: more of them for the table.
    """
    classes = len(numbers.keys)
    # A class's vector is its own column: the nearest of them is the class with the highest score.
    found = score_vectors(score_TC, np.eye(classes, dtype=score_TC.dtype), numbers.test_T)
    train_C = np.bincount(numbers.train_N, minlength=classes)
    majority = float((numbers.test_T == train_C.argmax()).mean())
    one = 1 / classes
    scores = [Score(name="top1", value=found.top1, chance=one)]
    if top5 and found.top5 is not None:
        scores.append(Score(name="top5", value=found.top5, chance=5 / classes))
    scores.append(Score(name="macro", value=found.macro, chance=one))
    scores.append(Score(name="majority", value=majority, chance=one))
    occurring = int((found.matrix_CC.sum(axis=1) > 0).sum())
    unseen = f" ({numbers.left_out:,} of classes never learned left out)"
    sentence = (
        f"{len(numbers.train_N):,} training and {len(numbers.test_T):,} test images"
        + (unseen if numbers.left_out else "")
        + (f", {said}" if said else "")
        + f"; {classes} classes, {occurring} of which occur in the test; {protocol}. macro: mean "
        "over the classes that occur. majority: always answering the training rows' most frequent "
        "class."
    )
    return Classified(
        table=Table(
            task=task,
            title=title,
            protocol=sentence,
            scores=tuple(scores),
            facts={
                "train_images": len(numbers.train_N),
                "images": len(numbers.test_T),
                "classes": classes,
                **(facts or {}),
            },
        ),
        keys=numbers.keys,
        matrix_CC=found.matrix_CC,
        rank_T=found.rank_N,
    )
