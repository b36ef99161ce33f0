"""Bootstrap intervals: how far a score would wander on other items of the same kind.

The percentile bootstrap (Efron, 1979): items are drawn anew with replacement, the score is worked
out each time, and the interval holds the middle ``confidence`` of what came out. It says nothing of
another training seed.

N items, G groups of items that are drawn together, M scores of the same items, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95


def mean_intervals(
    values_NM: np.ndarray,
    *,
    groups_N: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> np.ndarray:
    """Intervals (M, 2), low and high, of the mean over items of each column.

    All columns are resampled alike, so that top 1 and top 5 of one draw belong to the same images.

    Args:
        values_NM: a score of each item, such as 1 where it was answered rightly.
        groups_N: items with the same number are drawn together (captions of one image are not
            independent); by default each alone.

    Raises:
        ValueError: no item, or not one group for each.
    """
    values_NM = np.asarray(values_NM, np.float64)
    if values_NM.ndim != 2 or not len(values_NM):
        raise ValueError(f"expected at least one item in two dimensions, got {values_NM.shape}")
    if groups_N is None:
        sums_GM, counts_G = values_NM, np.ones(len(values_NM))
    else:
        if len(groups_N) != len(values_NM):
            raise ValueError(f"{len(values_NM)} items, but {len(groups_N)} groups")
        _, numbers_N = np.unique(groups_N, return_inverse=True)
        counts_G = np.bincount(numbers_N).astype(np.float64)
        sums_GM = np.zeros((len(counts_G), values_NM.shape[1]))
        np.add.at(sums_GM, numbers_N, values_NM)
    groups = len(counts_G)
    means_RM = np.empty((resamples, values_NM.shape[1]))
    for number, drawn_G in enumerate(_draws(groups, resamples, seed)):
        weight_G = np.bincount(drawn_G, minlength=groups).astype(np.float64)
        means_RM[number] = weight_G @ sums_GM / (weight_G @ counts_G)
    return _middle(means_RM, confidence)


def share_intervals(
    hits_NM: np.ndarray, *, groups_N: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Intervals (M, 2) of the share of hits in each column, as ``mean_intervals``.

    Resampled one by one, the hits of a column are a binomial number, which is drawn as such.
    Where all items are hits or none is, resampling sees no spread and would claim certainty; there
    it is the exact one of Clopper and Pearson (1934), over groups.
    """
    from scipy.stats import beta

    hits_NM = np.asarray(hits_NM, bool)
    if groups_N is None and len(hits_NM):
        numbers_RM = np.random.default_rng(seed).binomial(
            len(hits_NM), hits_NM.mean(axis=0), size=(RESAMPLES, hits_NM.shape[1])
        )
        found_M2 = _middle(numbers_RM / len(hits_NM), CONFIDENCE)
    else:
        found_M2 = mean_intervals(hits_NM, groups_N=groups_N, seed=seed)
    count = len(hits_NM) if groups_N is None else len(np.unique(groups_N))
    tail = (1 - CONFIDENCE) / 2
    for column, share in enumerate(hits_NM.mean(axis=0)):
        if share == 0:
            found_M2[column] = 0.0, beta.ppf(1 - tail, 1, count)
        elif share == 1:
            found_M2[column] = beta.ppf(tail, count, 1), 1.0
    return found_M2


def intervals(
    statistic: Callable[[np.ndarray], float],
    count: int,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of any statistic of a set of items, such as a rank correlation.

    Args:
        statistic: takes the numbers of the drawn items, (N,) with repetitions.
        count: items there are.

    Raises:
        ValueError: no item.
    """
    if count < 1:
        raise ValueError("expected at least one item")
    found_R1 = np.asarray([[statistic(drawn)] for drawn in _draws(count, resamples, seed)])
    # A resample may have no variance at all, and a correlation then is none.
    found_R1 = found_R1[np.isfinite(found_R1[:, 0])]
    if not len(found_R1):
        return float("nan"), float("nan")
    low, high = _middle(found_R1, confidence)[0]
    return float(low), float(high)


def resampled_intervals(
    score: Callable[[np.ndarray], np.ndarray], count: int, *, seed: int = 0
) -> tuple[float, float]:
    """The interval of a score that is worked out from how often each item was drawn.

    Args:
        score: counts (R, N), float64, to the score of each resample (R,).
        count: items there are.
    """
    if count < 1:
        raise ValueError("expected at least one item")
    found_R = np.empty(RESAMPLES)
    for number, drawn in enumerate(_draws(count, RESAMPLES, seed)):
        times_1N = np.bincount(drawn, minlength=count).astype(np.float64)[None]
        found_R[number] = score(times_1N)[0]
    low, high = _middle(found_R[:, None], CONFIDENCE)[0]
    return float(low), float(high)


def _draws(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    if resamples < 1:
        raise ValueError(f"expected at least one resample, got {resamples}")
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield rng.integers(count, size=count)


def _middle(found_RM: np.ndarray, confidence: float) -> np.ndarray:
    tail = 50 * (1 - confidence)
    return np.percentile(found_RM, [tail, 100 - tail], axis=0).T
