"""The kernel distance between two sets of pictures, by features of any network (arXiv 1801.01401).

N pictures, D features.
"""

from __future__ import annotations

import numpy as np


def kernel_distance(one_ND: np.ndarray, other_MD: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3.

    0 for draws of one distribution, on average: it can be slightly negative. Unlike the Frechet
    distance it needs no more pictures than features.

    Raises:
        ValueError: fewer than two rows on a side, or other features.
    """
    if min(len(one_ND), len(other_MD)) < 2 or one_ND.shape[1] != other_MD.shape[1]:
        raise ValueError(
            f"a kernel distance needs two sets of at least two rows over the same features, got "
            f"{one_ND.shape} and {other_MD.shape}"
        )
    one_ND, other_MD = one_ND.astype(np.float64), other_MD.astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        count = len(x)
        return float((values.sum() - np.trace(values)) / (count * (count - 1)))

    return within(one_ND) + within(other_MD) - 2.0 * float(kernel(one_ND, other_MD).mean())
