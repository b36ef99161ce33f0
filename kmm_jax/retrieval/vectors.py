"""Vectors as search needs them: finite, of length 1, float32 or kept as bfloat16."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.retrieval.settings import VectorType

# A unit vector rounded to bfloat16 (8 bits of mantissa) is of length 1 to within this.
_ROUNDING = 2.0**-8


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
    if len(rows_ND) == 1:  # a query, which someone waits for
        row_D = rows_ND[0].astype(np.float64)
        norm = math.sqrt(row_D @ row_D)
        if 0 < norm < math.inf:
            return (row_D / norm).astype(np.float32)[None]
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


def stored_rows(values: Any, what: str, dtype: VectorType) -> np.ndarray:
    """``values`` (N, D) as they are kept: rows of length 1, little-endian, of ``dtype``.

    Rows that are bfloat16 and as near to length 1 as bfloat16 allows are kept bit for bit, so that
    writing them again and again moves nothing.

    Raises:
        DataError: as `unit_rows`.
    """
    unit_ND = unit_rows(values, what)
    if dtype == "float32":
        return unit_ND.astype("<f4", copy=False)
    bfloat16 = bfloat16_type()
    rounded_ND = unit_ND.astype(bfloat16)
    given_ND = np.asarray(values)
    if given_ND.dtype == bfloat16:
        wide_ND = given_ND.astype(np.float32)
        length_N = np.sqrt(np.einsum("nd,nd->n", wide_ND, wide_ND))
        kept_N = np.abs(length_N - 1) <= _ROUNDING
        rounded_ND[kept_N] = given_ND[kept_N]
    return rounded_ND


def bfloat16_type() -> np.dtype[Any]:
    """NumPy's bfloat16, which JAX brings along."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


class UnitRows:
    """Vectors as they were given, sliced as float32 rows of length 1.

    Attributes:
        shape: (N, D).
    """

    ndim = 2

    def __init__(self, vectors: Any) -> None:
        self._vectors = vectors
        self.shape: tuple[int, int] = tuple(np.shape(vectors))

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: slice) -> np.ndarray:
        return unit_rows(self._vectors[where], "index")
