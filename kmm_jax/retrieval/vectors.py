"""Vectors as search needs them: float32, finite, of length 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmm_jax.errors import DataError


def unit_rows(values: Any, what: str) -> np.ndarray:
    """``values`` (N, D), any real dtype, as float32 rows of length 1.

    Args:
        what: names the rows in errors, such as ``"query"``.

    Raises:
        DataError: not a matrix of numbers, or a row that is zero, NaN or infinite.
    """
    rows_ND = np.asarray(values)
    if rows_ND.ndim != 2 or rows_ND.shape[1] == 0:
        raise DataError(f"{what} vectors must have shape (rows, dimension), found {rows_ND.shape}")
    try:
        rows_ND = rows_ND.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} vectors must be numbers, found {rows_ND.dtype}") from error
    # In float64, so that very small and very large rows neither vanish nor overflow.
    norms_N = np.sqrt(np.einsum("nd,nd->n", rows_ND, rows_ND, dtype=np.float64))
    good_N = np.isfinite(norms_N) & (norms_N > 0)
    if not good_N.all():
        first = int(np.flatnonzero(~good_N)[0])
        kind = "all zeros" if norms_N[first] == 0 else "NaN or infinite"
        raise DataError(
            f"{what} vector {first} is {kind} (so are {int((~good_N).sum())} of {len(rows_ND)}); "
            "such a vector has no direction to compare: leave it out or mend the model"
        )
    return (rows_ND / norms_N[:, None]).astype(np.float32)
