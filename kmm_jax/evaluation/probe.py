"""A linear probe: logistic regression on frozen image vectors, as CLIP's paper measures them.

The protocol of CLIP (arXiv 2103.00020, appendix A.3): multinomial logistic regression by L-BFGS
with at most 1,000 iterations; the strength of its L2 penalty is the one of a grid from 1e-6 to 1e6
that does best on a held-out part of the training rows, and the last fit sees all of them. Two
things differ: the grid is fixed, a strength a decade, where CLIP halves its steps around the peak;
and the vectors are those that the model is searched with, after its projection, where CLIP takes
what comes before it.

N training rows, H of them held out, M test rows, T of them that can be answered, C classes, E
dimensions.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kmm_jax.errors import DataError, require
from kmm_jax.evaluation.labelled import Classified, classified, numbered

STRENGTHS: tuple[float, ...] = tuple(10.0**power for power in range(6, -7, -1))
"""Of the L2 penalty, the strongest first."""

_ITERATIONS = 1000


def linear_probe(
    train_NE: np.ndarray,
    train_labels: Sequence[str],
    test_ME: np.ndarray,
    test_labels: Sequence[str],
    *,
    label: str = "label",
    said: str = "",
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    seed: int = 0,
) -> Classified:
    """Learn the labels of the training vectors, answer those of the test vectors.

    Args:
        train_NE, test_ME: vectors of the frozen model.
        label: names them in the title.
        said: where the rows come from, for the protocol.
        strengths: of the penalty ``strength / 2 |W|^2`` beside the summed cross-entropy, the
            strongest first; of equally good ones the strongest is taken.
        held_out: the share of each class's training rows that the strength is chosen on, at least
            one row of a class that has two.
        seed: of the choice of these rows.

    Raises:
        UserError: scikit-learn is not installed.
        DataError: fewer than two classes, no test row of them, or no class with two training rows.
    """
    require("sklearn", extra="analysis")
    numbers = numbered(train_labels, test_labels)
    # In single precision L-BFGS stops early where the penalty is weak.
    train_NE = np.asarray(train_NE, np.float64)
    held_N = _held_out(numbers.train_N, held_out, seed)
    strength, accuracy = _best_strength(train_NE, numbers.train_N, held_N, strengths)
    model, whole = _fit(_regression(strength), train_NE, numbers.train_N)
    return classified(
        _scores(model, np.asarray(test_ME, np.float64)[numbers.which_T]),
        numbers,
        task="linear_probe",
        title=f"Linear probe: {label}",
        said=said,
        protocol=(
            "logistic regression on the model's unit vectors, L-BFGS "
            + ("to convergence" if whole else f"cut off at {_ITERATIONS:,} iterations")
            + f"; L2 strength {strength:g}, the best of {len(strengths)} from {min(strengths):g} "
            f"to {max(strengths):g} on {int(held_N.sum()):,} held-out training images "
            f"({accuracy:.1%} right), then fitted to all training images"
        ),
        facts={"l2_strength": strength, "held_out_images": int(held_N.sum())},
    )


def _held_out(train_N: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows (N, bool) are held out: of every class some, and never all."""
    if not 0 < share < 1:
        raise ValueError(f"held_out must lie between 0 and 1, got {share}")
    rng = np.random.default_rng(seed)
    held_N = np.zeros(len(train_N), bool)
    for number in range(int(train_N.max()) + 1):
        rows = rng.permutation(np.flatnonzero(train_N == number))
        held_N[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    if not held_N.any():
        raise DataError(
            "every class has a single training row, and none can be held out to choose the "
            "strength of the penalty on; give more training rows (--train-limit)"
        )
    return held_N


def _best_strength(
    train_NE: np.ndarray, train_N: np.ndarray, held_N: np.ndarray, strengths: Sequence[float]
) -> tuple[float, float]:
    """The strength that answers most held-out rows rightly, and the share of them."""
    fit_NE, fit_N = train_NE[~held_N], train_N[~held_N]
    held_HE, held_H = train_NE[held_N], train_N[held_N]
    best, highest = strengths[0], -1.0
    # From strong to weak each fit begins at the one before, which lies near.
    model = _regression(strengths[0], warm_start=True)
    for strength in strengths:
        model.set_params(C=1 / strength)
        model, _ = _fit(model, fit_NE, fit_N)
        right = float((model.predict(held_HE) == held_H).mean())
        if right > highest:
            best, highest = strength, right
    return best, highest


def _regression(strength: float, *, warm_start: bool = False) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1 / strength, max_iter=_ITERATIONS, warm_start=warm_start)


def _fit(model: Any, fit_NE: np.ndarray, fit_N: np.ndarray) -> tuple[Any, bool]:
    """The fitted model, and whether it converged."""
    with _not_converging_is_no_warning():
        model.fit(fit_NE, fit_N)
    return model, bool(np.max(model.n_iter_) < _ITERATIONS)


@contextlib.contextmanager
def _not_converging_is_no_warning() -> Iterator[None]:
    """The table says it; in the search for a strength it does not matter."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _scores(model: Any, test_TE: np.ndarray) -> np.ndarray:
    """A score for each class (T, C); of two classes scikit-learn gives the second one's alone."""
    scores = model.decision_function(test_TE)
    return np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
