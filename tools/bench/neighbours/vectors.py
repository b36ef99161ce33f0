"""The vectors that are searched, the queries, and their true nearest; kept in a folder.

Letters: N rows, D dimensions, Q queries, K nearest.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, write_json
from kmm_jax.retrieval.vectors import unit_rows

K = 10
# Half of them choose settings, as the tuner takes them; as many others are timed.
QUERIES = 2_000
_CLUSTER_ROWS = 1_000
_BLOCK = 65_536
_SETS = ("rows", "choosing", "asking")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vectors:
    """Unit vectors of float32 in a folder, mapped.

    Attributes:
        about: how they were made.
        rows: (N, D), that are searched.
        choosing, asking: queries (Q, D) that settings are chosen by, and that are timed.
        choosing_true, asking_true: their nearest (Q, K), by exact search.
    """

    folder: Path
    about: dict[str, Any]
    rows: np.ndarray
    choosing: np.ndarray
    asking: np.ndarray
    choosing_true: np.ndarray
    asking_true: np.ndarray


def id_of(row: int) -> str:
    """As long as an image's hash."""
    return f"{row:020x}"


class Mixture:
    """Clusters of a thousand vectors each that run into each other, as those of a model do.

    Centres and what is around them are Gaussian, with variances that fall as 1/i along the i-th of
    random directions, other ones for each (of 256 dimensions that makes an effective 23), and
    alike in sum.
    """

    def __init__(self, rows: int, dim: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        spread_D = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        turns = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(2)]
        self._apart, self._around = (spread_D[:, None] * turn.astype(np.float32) for turn in turns)
        count = max(1, rows // _CLUSTER_ROWS)
        self._centres = rng.standard_normal((count, dim), np.float32) @ self._apart

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Unit vectors (count, D)."""
        centres = self._centres[rng.integers(0, len(self._centres), count)]
        own = rng.standard_normal(centres.shape, np.float32)
        return unit_rows(centres + own @ self._around, "clustered")


def make_clustered(folder: Path, rows: int, dim: int, seed: int, queries: int = QUERIES) -> Vectors:
    """Rows and queries of one `Mixture`, or those that are in the folder already."""
    about = {
        "name": f"{rows:,} x {dim} clustered",
        "generator": "tools.bench.neighbours.vectors.Mixture",
        "seed": seed,
        "rows": rows,
        "dim": dim,
        "queries": queries,
    }

    def make(building: Path) -> None:
        mixture, rng = Mixture(rows, dim, seed), np.random.default_rng((seed, 1))
        for name, count in zip(_SETS, (rows, queries, queries), strict=True):
            shape = (count, dim)
            file = np.lib.format.open_memmap(building / f"{name}.npy", "w+", np.float32, shape)
            for start in range(0, count, _BLOCK):
                stop = min(start + _BLOCK, count)
                file[start:stop] = mixture.draw(stop - start, rng)

    return _kept(folder, about, make)


def make_of_embeddings(folder: Path, embeddings: Path, seed: int = 0) -> Vectors:
    """Those of an export, some of them taken out to be queries.

    Raises:
        DataError: no export is there.
        UserError: too few vectors.
    """
    from kmm_jax.retrieval.store import load_embeddings, read_manifest

    manifest = read_manifest(embeddings)
    each = min(QUERIES, manifest["rows"] // 20)
    if each < 50:
        raise UserError(f"{embeddings} holds {manifest['rows']:,} vectors, too few to be searched")
    about = {
        "name": f"{manifest['rows'] - 2 * each:,} x {manifest['dim']} embeddings",
        "source": Path(str(manifest["metadata"].get("source") or "")).name or None,
        "model_hash": manifest["model_hash"],
        "kind": manifest["kind"],
        "export": manifest["seal"],
        "seed": seed,
        "rows": manifest["rows"] - 2 * each,
        "dim": manifest["dim"],
        "queries": each,
    }

    def make(building: Path) -> None:
        vectors = unit_rows(load_embeddings(embeddings).vectors, "embedding")
        order = np.random.default_rng(seed).permutation(len(vectors))
        parts = np.split(order, [len(order) - 2 * each, len(order) - each])
        for name, part in zip(_SETS, parts, strict=True):
            np.save(building / f"{name}.npy", vectors[np.sort(part)])

    return _kept(folder, about, make)


def opened(folder: Path) -> Vectors:
    """What `make_clustered` or `make_of_embeddings` left in a folder."""
    arrays = {
        path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
        for path in sorted(folder.glob("*.npy"))
    }
    return Vectors(
        folder=folder, about=json.loads((folder / "about.json").read_text("utf-8")), **arrays
    )


def _kept(folder: Path, about: dict[str, Any], make: Callable[[Path], None]) -> Vectors:
    if (folder / "about.json").is_file():
        found = opened(folder)
        if found.about != about:
            raise UserError(f"{folder} holds other vectors ({found.about}); name another --work")
        return found
    with atomic_directory(folder) as building:
        make(building)
        rows = np.load(building / "rows.npy", mmap_mode="r")
        for name in _SETS[1:]:
            np.save(building / f"{name}_true.npy", nearest(rows, np.load(building / f"{name}.npy")))
        write_json(building / "about.json", about)
    return opened(folder)


def nearest(rows_ND: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    """Rows (Q, K) of the nearest: every product is computed."""
    from kmm_jax.retrieval.exact import ExactSearcher

    return ExactSearcher(rows_ND, kept_bytes=0, at_once=len(queries_QD)).search(queries_QD, K)[0]
