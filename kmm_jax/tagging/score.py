"""How well pictures are tagged: by label, and over labels, with intervals.

N rows, C labels, R resamples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from kmm_jax.evaluation.bootstrap import resampled_intervals
from kmm_jax.evaluation.calibration import expected_calibration_error
from kmm_jax.evaluation.confusion import confusion
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.tagging.labels import LabelSet
from kmm_jax.tagging.rows import LabelledVectors
from kmm_jax.tagging.tagger import Tagger

_THIRDS = 3


def f1(
    true_NC: np.ndarray, given_NC: np.ndarray, *, times_N: np.ndarray | None = None
) -> np.ndarray:
    """The F1 of each label (C,); 0 of one that is neither true nor given anywhere.

    Args:
        true_NC, given_NC: bool.
        times_N: how often each row counts; once by default.
    """
    return f1_of_sums(sums(true_NC, given_NC), times_N)[0]


def f1_of_sums(sums_N3C: np.ndarray, times_N: np.ndarray | None = None) -> np.ndarray:
    """F1 (R, C) of what ``sums`` gives, for rows drawn ``times`` (R, N) or (N,)."""
    times_RN = np.ones((1, len(sums_N3C))) if times_N is None else np.atleast_2d(times_N)
    both, given, true = np.moveaxis(np.tensordot(times_RN, sums_N3C, axes=(1, 0)), 1, 0)
    found: np.ndarray = 2 * both / np.maximum(given + true, 1e-12)
    return found


def sums(true_NC: np.ndarray, given_NC: np.ndarray) -> np.ndarray:
    """Per row and label whether it is both true and given, given, true: (N, 3, C) float64."""
    true_NC, given_NC = np.asarray(true_NC, bool), np.asarray(given_NC, bool)
    return np.stack([true_NC & given_NC, given_NC, true_NC], axis=1).astype(np.float64)


def rarest_third(counts_C: np.ndarray, among: Sequence[int] | None = None) -> np.ndarray:
    """The numbers of the rarest third of labels, rounded down, one at least.

    Args:
        counts_C: training rows of each; of equal ones the first is rarer.
        among: these labels alone.
    """
    labels = np.arange(len(counts_C)) if among is None else np.asarray(among)
    order = labels[np.argsort(np.asarray(counts_C)[labels], kind="stable")]
    return np.sort(order[: max(len(order) // _THIRDS, 1)])


def macro_f1(
    true_NC: np.ndarray, given_NC: np.ndarray, labels: Sequence[int] | np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """The mean F1 of some labels, as a function of how often each row was drawn (R, N) to (R,)."""
    sums_N3C = sums(true_NC, given_NC)[:, :, np.asarray(labels)]
    return lambda times_RN: f1_of_sums(sums_N3C, times_RN).mean(axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """A table, and for each group which label is taken for which.

    Attributes:
        matrices: counts by group key, row the true label, column the likeliest one; of rows with
            one true label.
    """

    table: Table
    matrices: dict[str, np.ndarray]


def score_tagger(tagger: Tagger, rows: LabelledVectors) -> Scored:
    """Accuracy, F1 of every label and over labels, calibration error, by group."""
    probability_NC = tagger.probabilities(rows.vectors_ND)
    given_NC = tagger.answers(probability_NC)
    scores: list[Score] = []
    matrices: dict[str, np.ndarray] = {}
    for group, columns in zip(tagger.labels.groups, tagger.labels.columns(), strict=True):
        known_N = rows.known_NC[:, columns].any(axis=1)
        if not known_N.any():
            continue
        found, matrix = _of_group(
            group.key,
            [label.key for label in group.labels],
            rows.true_NC[known_N][:, columns],
            given_NC[known_N][:, columns],
            probability_NC[known_N][:, columns],
            tagger.rows[columns],
        )
        scores += found
        matrices[group.key] = matrix
    return Scored(
        table=Table(
            task="tags",
            title="Tags",
            protocol=_protocol(tagger, rows),
            scores=tuple(scores),
            facts={"images": len(rows), "labels": len(tagger.labels)},
        ),
        matrices=matrices,
    )


def _of_group(
    key: str,
    names: list[str],
    true_NC: np.ndarray,
    given_NC: np.ndarray,
    probability_NC: np.ndarray,
    counts_C: np.ndarray,
) -> tuple[list[Score], np.ndarray]:
    likeliest_N = probability_NC.argmax(axis=1)
    top_N = true_NC[np.arange(len(true_NC)), likeliest_N]
    exact_N = (true_NC == given_NC).all(axis=1)
    scores = [
        *_with_interval(f"{key}/accuracy", lambda times: times @ top_N / times.sum(1), len(top_N)),
        *_with_interval(f"{key}/exact", lambda times: times @ exact_N / times.sum(1), len(top_N)),
    ]
    occurring = np.flatnonzero(true_NC.any(axis=0))
    parts = {"macro_f1": occurring}
    if counts_C.any():
        parts["rarest_third/macro_f1"] = rarest_third(counts_C, occurring.tolist())
    for name, labels in parts.items():
        score = macro_f1(true_NC, given_NC, labels)
        scores += _with_interval(f"{key}/{name}", score, len(true_NC))
    scores.append(
        Score(
            name=f"{key}/calibration_error",
            value=expected_calibration_error(probability_NC.ravel(), true_NC.ravel()),
        )
    )
    both_C = (true_NC & given_NC).sum(axis=0)
    f1_C = f1(true_NC, given_NC)
    for place in occurring:
        name = f"{key}/{names[place]}"
        given, true = int(given_NC[:, place].sum()), int(true_NC[:, place].sum())
        scores += [
            Score(name=f"{name}/precision", value=float(both_C[place] / given) if given else 0.0),
            Score(name=f"{name}/recall", value=float(both_C[place] / true)),
            Score(name=f"{name}/f1", value=float(f1_C[place])),
            Score(name=f"{name}/images", value=true, share=False),
        ]
    one_N = true_NC.sum(axis=1) == 1
    matrix = confusion(true_NC[one_N].argmax(axis=1), likeliest_N[one_N], len(names))
    return scores, matrix


def _with_interval(name: str, score: Callable[[np.ndarray], np.ndarray], count: int) -> list[Score]:
    low, high = resampled_intervals(score, count)
    value = float(score(np.ones((1, count)))[0])
    return [
        Score(name=name, value=value),
        Score(name=f"{name}/low", value=low),
        Score(name=f"{name}/high", value=high),
    ]


def _protocol(tagger: Tagger, rows: LabelledVectors) -> str:
    unseen = [
        label.ko
        for label, count in zip(tagger.labels.labels, tagger.rows, strict=True)
        if tagger.rows.any() and not count
    ]
    return (
        f"{len(rows):,} images of {rows.name} that state a label; tags by a {tagger.kind} head. "
        "accuracy: the likeliest label of the group is true. exact: what is given is what is true, "
        "no more and no less. macro_f1: the mean over labels that occur; rarest_third: of those "
        "with the fewest training rows. low and high: 95 % bootstrap over images."
        + (f" Never seen in training, and so never given: {', '.join(unseen)}." if unseen else "")
    )


def label_names(labels: LabelSet, key: str) -> list[str]:
    """Korean names of a group's labels, for the picture of what is taken for what."""
    return [label.ko for group in labels.groups if group.key == key for label in group.labels]
