"""How fast this library builds and searches: processor time, measured on a small index.

Processor time and not the clock's, so that what else a machine does changes little. What grows in
another way is kept apart, so that it can be extrapolated to larger indexes.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.retrieval import scann_engine
from kmm_jax.retrieval.settings import IndexSettings, for_rows

_KEPT = "rates.json"
_K = 10
_RESCORED = 200
KMEANS_ITERATIONS = 12  # ScaNN's, over the sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of one core, and where they were measured.

    Attributes:
        distance: building, for each number of a vector that is compared with a leaf's centroid.
        learnt: building, for each number of a vector of the sample: what hashes stand for.
        number: building, for each number of a vector: lengths, hashes, files, checksums, recall.
        scanned: searching, for each block of a hash that is looked at.
        query: searching, for each query in a segment, beside the former: rescoring, Python.
        mapped: searching, for each number of a vector that is rescored from the mapped file, which
            the kernel has cached.
        checksum: opening, for each byte that is read and checked.
        rows, dim: of the index that was measured.
        processor: that it was measured on.
        versions: of ScaNN and Python.
        date: of the measurement.
    """

    distance: float
    learnt: float
    number: float
    scanned: float
    query: float
    mapped: float
    checksum: float
    rows: int
    dim: int
    processor: str
    versions: dict[str, str]
    date: str


def kept_rates() -> Rates:
    """Those that come with the library; ``python -m tools.index_plan`` measured them."""
    text = resources.files("kmm_jax.retrieval").joinpath(_KEPT).read_text("utf-8")
    return Rates(**json.loads(text))


def distances(rows: int, dim: int, settings: IndexSettings) -> int:
    """How many numbers are compared with a centroid's to build a segment: learning, assigning."""
    chosen = for_rows(settings, rows)
    if chosen.leaves is None:
        return 0
    sample = min(rows, chosen.training_rows)
    return dim * chosen.leaves * (KMEANS_ITERATIONS * sample + rows)


def scanned(rows: int, dim: int, settings: IndexSettings) -> int:
    """How many blocks of hashes a query looks at in a segment."""
    chosen = for_rows(settings, rows)
    if chosen.layout == "brute_force":
        return rows * dim
    blocks = -(-dim // chosen.dims_per_block)
    if chosen.leaves is None or chosen.leaves_to_search is None:
        return rows * blocks
    # Each vector is in two leaves (SOAR).
    return 2 * rows * blocks * chosen.leaves_to_search // chosen.leaves


def measure_rates(folder: Path, *, rows: int = 20_000, dim: int = 256) -> Rates:
    """Build and search small indexes of random clusters in ``folder``, for a minute or two.

    Raises:
        UserError: ScaNN does not run here.
    """
    from kmm_jax.retrieval import checksums
    from kmm_jax.retrieval.index import Index
    from kmm_jax.retrieval.index_build import write_index
    from kmm_jax.retrieval.index_files import VECTORS, map_vectors, read_at_random
    from kmm_jax.retrieval.scann_engine import rescored

    if reason := scann_engine.unavailable():
        raise UserError(f"rates are those of ScaNN, and {reason}")
    vectors_ND, ids = _clusters(rows, dim), [f"{row:020x}" for row in range(rows)]

    def build(name: str, leaves: int, count: int, sample: int) -> tuple[float, IndexSettings]:
        settings = IndexSettings(engine="scann", layout="tree", leaves=leaves, training_rows=sample)
        seconds = _processor_seconds(
            lambda: write_index(
                folder / name,
                ids[:count],
                vectors_ND[:count],
                model_hash="rates",
                settings=settings,
                metadata={},
            )
        )
        return seconds, settings

    build("warm", 10, min(rows, 8_192), rows)  # imports and compiled programs, of the same shapes
    few, few_settings = build("few", 64, rows, rows)
    many, many_settings = build("many", 1_024, rows, rows)
    short, short_settings = build("short", 64, rows, rows // 4)
    work = [distances(rows, dim, each) for each in (few_settings, many_settings, short_settings)]
    distance = max((many - few) / (work[1] - work[0]), 1e-14)
    of_sample = few - short - distance * (work[0] - work[2])
    learnt = max(of_sample / ((rows - rows // 4) * dim), 1e-12)
    number = max((few - distance * work[0]) / (rows * dim) - learnt, 1e-12)
    index = Index.load(folder / "few", engine="scann")
    queries_QD = vectors_ND[:: max(1, rows // 256)][:256]

    def search(leaves_to_search: int) -> tuple[float, int]:
        settings = dataclasses.replace(
            for_rows(few_settings, rows), leaves_to_search=leaves_to_search
        )
        searcher = scann_engine.load(index.folder / "scann", settings, rows)
        searcher.search(queries_QD, _K)
        times = [
            _processor_seconds(lambda: [searcher.search(each[None], _K) for each in queries_QD])
            for _ in range(3)
        ]
        return min(times) / len(queries_QD), scanned(rows, dim, settings)

    narrow, wide = search(2), search(64)
    block = max((wide[0] - narrow[0]) / (wide[1] - narrow[1]), 1e-14)
    places_QR = np.random.default_rng(1).integers(0, rows, (len(queries_QD), _RESCORED))
    vectors = read_at_random(map_vectors(index.folder / VECTORS))
    mapped = _processor_seconds(lambda: rescored(vectors, queries_QD, places_QR)) / (
        places_QR.size * dim
    )
    file = index.folder / VECTORS
    checksum = _processor_seconds(lambda: checksums.describe(file)) / file.stat().st_size
    return Rates(
        distance=distance,
        learnt=learnt,
        number=number,
        scanned=block,
        query=max(narrow[0] - block * narrow[1], 1e-6),
        mapped=mapped,
        checksum=checksum,
        rows=rows,
        dim=dim,
        processor=_processor(),
        versions={"scann": scann_engine.version(), "python": platform.python_version()},
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )


def _processor_seconds(work: Callable[[], Any]) -> float:
    """Of all threads of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def _clusters(rows: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((256, dim), np.float32)
    own = rng.standard_normal((rows, dim), np.float32)
    return np.asarray(centres[rng.integers(0, 256, rows)] + 0.5 * own)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
