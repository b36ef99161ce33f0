"""Clustered vectors, as those of a trained model are, and Korean ids."""

import numpy as np
import pytest


def clustered(rows: int, dim: int = 16, clusters: int = 50, seed: int = 0) -> np.ndarray:
    """Rows (N, D) around random centres, of different lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    values = centres[rng.integers(0, clusters, rows)] + 0.4 * rng.normal(size=(rows, dim))
    return values.astype(np.float32)


def names(rows: int) -> list[str]:
    return [f"상품-{row:06d}" for row in range(rows)]


def nearest_by_numpy(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Rows (Q, k) by cosine, in float64."""
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = queries.astype(np.float64) / np.linalg.norm(queries, axis=1, keepdims=True)
    return np.argsort(-asked @ unit.T, axis=1, kind="stable")[:, :k]


@pytest.fixture
def needs_scann() -> None:
    from kmm_jax.retrieval import scann_engine

    if reason := scann_engine.unavailable():
        pytest.skip(reason)
