"""The floor below which nothing is shown, found from labels: a selective classifier's threshold.

The lowest similarity at which the share of bad ones among what is shown stays within a bound, so
that as much as possible is shown. A share among few labels is uncertain, and the lowest of many
floors that look good looks better than it is; ``sure`` asks for a floor that holds with that
probability for new items, in the manner of selection with guaranteed risk (Geifman and El-Yaniv,
NIPS 2017, arXiv 1705.08500): ten depths are tried, each with its share of the error (a union bound
in the place of the paper's binary search), by the exact limit of Clopper and Pearson (1934).

N labelled items.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from kmm_jax.errors import ConfigError, DataError

_DEPTHS = 10
_LIMIT = 0.95  # of the limit that is told beside a share


@dataclasses.dataclass(frozen=True, kw_only=True)
class Floor:
    """A floor and what it left of the labelled items.

    Attributes:
        value: what has at least this similarity is shown; infinite where no floor will do.
        shown, bad: items at or above it, and the bad ones of them.
        labelled: items in all.
    """

    value: float
    shown: int
    bad: int
    labelled: int

    @property
    def bad_share(self) -> float:
        """Of what is shown; 0 where nothing is."""
        return self.bad / self.shown if self.shown else 0.0

    @property
    def limit(self) -> float:
        """What the share of bad ones is below with 95 % certainty, were this the only floor tried.

        One-sided, of Clopper and Pearson; 1 where nothing is shown.
        """
        return _upper(self.bad, self.shown, 1 - _LIMIT)


def calibrate(
    similarity_N: np.ndarray, bad_N: np.ndarray, *, most_bad: float, sure: float | None = None
) -> Floor:
    """The lowest floor with at most a share ``most_bad`` of bad ones among what is shown.

    Args:
        similarity_N: of each labelled item.
        bad_N: whether it should not have been shown.
        most_bad: the bound, from 0 up to but not including 1.
        sure: None takes the share among the labels as it is; else the probability, such as 0.95,
            with which new items keep to the bound. That needs many labels: at least 104 good
            ones without a bad one for ``most_bad=0.05, sure=0.95``.

    Raises:
        ConfigError: a bound or a probability that is none.
        DataError: no items, arrays that do not fit each other, or a similarity that is no number.
    """
    if not 0 <= most_bad < 1:
        raise ConfigError(f"most_bad is a share from 0 to below 1; found {most_bad}")
    if sure is not None and not 0 < sure < 1:
        raise ConfigError(f"sure is a probability between 0 and 1; found {sure}")
    similarity_N = np.asarray(similarity_N, np.float64)
    bad_N = np.asarray(bad_N, bool)
    if similarity_N.ndim != 1 or similarity_N.shape != bad_N.shape or not len(bad_N):
        raise DataError(
            f"expected a similarity and a label of each item, found {similarity_N.shape} and "
            f"{bad_N.shape}"
        )
    if not np.isfinite(similarity_N).all():
        raise DataError("a similarity is no finite number")
    count = len(bad_N)
    order_N = np.argsort(-similarity_N, kind="stable")
    sorted_N = similarity_N[order_N]
    bad_above_N = np.cumsum(bad_N[order_N])
    # What is equally similar is shown or not as one: a floor lies at the last of equals.
    depths = np.flatnonzero(np.append(sorted_N[1:] < sorted_N[:-1], True))
    if sure is not None:
        wanted = np.ceil(np.arange(1, _DEPTHS + 1) / _DEPTHS * count).astype(int) - 1
        depths = np.unique(depths[np.searchsorted(depths, wanted)])
    for depth in depths[::-1]:
        shown, bad = int(depth) + 1, int(bad_above_N[depth])
        share = bad / shown if sure is None else _upper(bad, shown, (1 - sure) / _DEPTHS)
        if share <= most_bad:
            return Floor(value=float(sorted_N[depth]), shown=shown, bad=bad, labelled=count)
    return Floor(value=math.inf, shown=0, bad=0, labelled=count)


def _upper(hits: int, count: int, tail: float) -> float:
    from scipy.stats import beta

    return 1.0 if hits >= count else float(beta.ppf(1 - tail, hits + 1, count - hits))
