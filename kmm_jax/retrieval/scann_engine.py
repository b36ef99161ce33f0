"""ScaNN without TensorFlow: whether it runs here, training, saving, searching.

Letters: Q queries, N vectors, D dimensions, K best.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import math
import operator
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.settings import IndexSettings

_NEEDED_FLAGS = ("avx2", "fma")
_PARALLEL_QUERIES = 64
_K = 10
_DATASETS = ("dataset.npy", "bfloat16_dataset.npy")
_ASSETS = "scann_assets.pbtxt"
_CHATTER = re.compile(r"[IW]\d{4} |WARNING: All log messages before absl")


def unavailable(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Why ScaNN cannot be used in this process, in a few words; None if it can.

    The processor is asked before ScaNN is imported: on one without AVX2 and FMA its first
    instruction ends the process (SIGILL), which nothing could catch.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        missing = _missing_flags(cpuinfo)
        if missing:
            return missing
    try:
        _scann()
    except ModuleNotFoundError as error:
        if error.name == "scann":
            return "scann is not installed"
        return f"scann could not be imported ({error})"
    except Exception as error:
        # A wheel for another system or library version fails in many ways.
        return f"scann could not be imported ({_line(error)})"
    return None


def version() -> str:
    """The installed ScaNN's version."""
    import importlib.metadata

    return importlib.metadata.version("scann")


class ScannSearcher:
    """A ScaNN searcher over unit vectors.

    Args:
        vectors_ND: with settings that rescore from mapped vectors, those; read at a few places for
            each query.
    """

    def __init__(
        self,
        searcher: Any,
        settings: IndexSettings,
        rows: int,
        vectors_ND: np.ndarray | None = None,
    ) -> None:
        self._searcher = searcher
        self._settings = settings
        self._rows = rows
        self._vectors = vectors_ND

    @property
    def settings(self) -> IndexSettings:
        """It searches with these."""
        return self._settings

    @property
    def rows(self) -> int:
        """How many vectors it searches."""
        return self._rows

    @property
    def approximate(self) -> bool:
        """Whether hashes stand for vectors."""
        return self._settings.layout != "brute_force"

    def searching(self, settings: IndexSettings) -> ScannSearcher:
        """The same, searched with other leaves and numbers rescored; what was learnt is shared."""
        return ScannSearcher(self._searcher, settings, self._rows, self._vectors)

    def search(self, queries_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 (Q, k) and scores float32 (Q, k), best first, ties to the lower row.

        Where the leaves searched hold fewer than ``k`` vectors, the row is -1.
        """
        rows, scores, _ = self.search_telling(queries_QD, k)
        return rows, scores

    def search_telling(self, queries_QD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """As `search`, and whether each row has ``k`` vectors."""
        if not len(queries_QD):
            return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32), True
        queries_QD = np.ascontiguousarray(queries_QD, np.float32)
        rows, scores = self._by_scann(queries_QD, *self._asked(k))
        if _falling(scores) and not self._rescoring:
            return rows, scores, True  # the best first, no ties, none missing: as nearly always
        if (lacking := np.isnan(scores)).any():
            # ScaNN fills up with row 0 and NaN.
            rows[lacking], scores[lacking] = -1, -np.inf
        if self._rescoring:
            assert self._vectors is not None
            rows, scores = rescored(self._vectors, queries_QD, rows)
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
        return rows, scores, not (rows < 0).any()

    def _by_scann(
        self, queries_QD: np.ndarray, k: int, hashed: int | None, leaves: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (Q, k) and scores, of which some are NaN where too few are found."""
        count = len(queries_QD)
        if count == 1:
            # The same in less time than a batch of one.
            rows, scores = self._searcher.search(
                queries_QD[0],
                k,
                -1 if hashed is None else hashed,
                -1 if leaves is None else leaves,
            )
            rows, scores = rows.astype(np.int64)[None], scores[None]
            missing = k - rows.shape[1]
            if missing:
                rows = np.pad(rows, ((0, 0), (0, missing)))
                scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=np.nan)
            return rows, scores
        parallel = count >= _PARALLEL_QUERIES
        search = self._searcher.search_batched
        search = self._searcher.search_batched_parallel if parallel else search
        rows, scores = search(queries_QD, k, hashed, leaves)
        return rows.astype(np.int64), scores

    @property
    def _rescoring(self) -> bool:
        """Whether the best by hash are scored again here, and not by ScaNN."""
        return self._settings.reorder is not None and self._settings.rescore == "mapped"

    def _asked(self, k: int) -> tuple[int, int | None, int | None]:
        """What ScaNN is asked for: how many, of how many by hash, of how many leaves."""
        settings = self._settings
        if settings.reorder is None:
            return k, None, None
        # Beyond 10, which it is chosen for, four more for each more that is wanted.
        hashed = min(max(settings.reorder, k, 4 * (k - _K)), self._rows)
        leaves = None
        if settings.leaves is not None and settings.leaves_to_search is not None:
            # Enough leaves for k results even where they are smaller than the mean.
            enough = math.ceil(2 * k * settings.leaves / self._rows)
            leaves = min(max(settings.leaves_to_search, enough), settings.leaves)
        return (hashed, None, leaves) if self._rescoring else (k, hashed, leaves)

    def save(self, folder: Path, vectors: Path) -> None:
        """Write what was learnt into ``folder``; the vectors stay in their own file, ``vectors``.

        All paths in the files are relative, so that the folder that holds both can be moved.

        Raises:
            OSError: they could not be written; ENOSPC where the disk is full.
            DataError: they could not be read back.
        """
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._searcher.serialize(str(folder), relative_path=True)
        except RuntimeError as error:
            # ScaNN does not say why it could not write.
            full = shutil.disk_usage(folder).free < vectors.stat().st_size
            number = errno.ENOSPC if full else errno.EIO
            raise OSError(number, f"ScaNN could not write: {_line(error)}", str(folder)) from error
        # ScaNN writes the vectors a second time; its list of files is pointed at ours instead.
        assets = (folder / _ASSETS).read_text("utf-8")
        relative = Path(os.path.relpath(vectors, folder)).as_posix()
        for name in _DATASETS:
            (folder / name).unlink(missing_ok=True)
            assets = assets.replace(f'"{name}"', f'"{relative}"')
        (folder / _ASSETS).write_text(assets, "utf-8")
        # Read back: what a failed write cut short must not be sealed with a checksum.
        load(folder, self._settings, self._rows)


def _falling(scores_QK: np.ndarray) -> bool:
    """Whether each row's scores fall all the way; NaN does not."""
    if scores_QK.shape[1] < 2:
        return not np.isnan(scores_QK).any()
    if len(scores_QK) == 1:
        falling = scores_QK[0].tolist()
        return all(map(operator.gt, falling, falling[1:]))
    return bool((scores_QK[:, :-1] > scores_QK[:, 1:]).all())


def rescored(
    vectors_ND: np.ndarray, queries_QD: np.ndarray, rows_QR: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (Q, R), sorted, -1 where there are too few, and their scores float32 (Q, R).

    Args:
        vectors_ND: memory-mapped, float32 or bfloat16; products are computed in float32.
    """
    rows_QR = np.sort(rows_QR, axis=1)  # the disk is read forwards
    scores_QR = np.full(rows_QR.shape, -np.inf, np.float32)
    for query, (query_D, rows_R) in enumerate(zip(queries_QD, rows_QR, strict=True)):
        first = int(np.searchsorted(rows_R, 0))
        vectors_RD = vectors_ND[rows_R[first:]].astype(np.float32)
        scores_QR[query, first:] = vectors_RD @ query_D
    return rows_QR, scores_QR


def train(vectors_ND: np.ndarray, settings: IndexSettings) -> ScannSearcher:
    """Learn partition and hashes from unit vectors, with settings chosen by ``for_rows``.

    The same vectors and settings give the same files, byte for byte.

    Raises:
        UserError: ScaNN cannot work with these.
    """
    builder = (
        _scann()
        .builder(np.ascontiguousarray(vectors_ND, np.float32), 10, "dot_product")
        .set_n_training_threads(_threads())
    )
    if settings.layout == "tree":
        builder = builder.tree(
            num_leaves=settings.leaves,
            num_leaves_to_search=settings.leaves_to_search,
            training_sample_size=settings.training_rows,
            min_partition_size=_least_in_leaf(len(vectors_ND), settings),
            # A random start would make every build another one.
            random_init=False,
            soar_lambda=settings.soar_lambda,
        )
    if settings.layout == "brute_force":
        builder = builder.score_brute_force()
    else:
        builder = builder.score_ah(
            settings.dims_per_block,
            anisotropic_quantization_threshold=settings.anisotropic_threshold,
            training_sample_size=settings.training_rows,
        )
        if settings.rescore == "memory":
            kind = _reorder_types()[settings.dtype.upper()]
            builder = builder.reorder(settings.reorder, quantize=kind)
    with _native_log() as log:
        try:
            searcher = builder.build()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"ScaNN could not build the index: {_line(error)}; settings: {settings}. "
                "Leave them out to have them chosen by size, or use the engine 'exact'." + log()
            ) from error
    return ScannSearcher(searcher, settings, len(vectors_ND), vectors_ND)


def _least_in_leaf(rows: int, settings: IndexSettings) -> int:
    """Vectors of the sample, at least, that a leaf is learnt from.

    ScaNN's own 50 is all that the sample has for each of 2,000 leaves: small groups are then
    forced together, and neighbours lie in twenty times as many leaves.
    """
    sample = min(rows, settings.training_rows)
    return max(1, min(50, sample // (10 * (settings.leaves or 1))))


def load(
    folder: Path, settings: IndexSettings, rows: int, vectors_ND: np.ndarray | None = None
) -> ScannSearcher:
    """A saved searcher; ``vectors_ND`` as `ScannSearcher` has them.

    Raises:
        DataError: this ScaNN cannot read the files.
    """
    with _native_log() as log:
        try:
            searcher = _scann().load_searcher(str(folder), assets_backcompat_shim=False)
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"{folder}: scann {version()} cannot read it: {_line(error)}" + log()
            ) from error
    return ScannSearcher(searcher, settings, rows, vectors_ND)


def _reorder_types() -> Any:
    _scann()
    return importlib.import_module("scann.scann_ops.py.scann_builder").ReorderType


@functools.cache
def _scann() -> ModuleType:
    # ScaNN imports TensorFlow if it is there, which takes seconds and must match its version; only
    # its TensorFlow operators, not used here, need that.
    hide = "tensorflow" not in sys.modules
    if hide:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("scann.scann_ops.py.scann_ops_pybind")
    finally:
        if hide:
            del sys.modules["tensorflow"]


def _missing_flags(cpuinfo: Path) -> str | None:
    try:
        text = cpuinfo.read_text("utf-8", errors="replace")
    except OSError:
        return f"{cpuinfo} could not be read, which says whether this processor can run scann"
    flags = {
        flag
        for line in text.splitlines()
        if line.partition(":")[0].strip() == "flags"
        for flag in line.partition(":")[2].split()
    }
    missing = [flag.upper() for flag in _NEEDED_FLAGS if flag not in flags]
    return (
        f"this processor has no {' and no '.join(missing)}, which scann needs" if missing else None
    )


def _threads() -> int:
    return max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, 1)


@contextlib.contextmanager
def _native_log() -> Iterator[Any]:
    """Hold back what C++ writes to stderr; afterwards pass on all but its chatter.

    Yields a function for the end of an error message: what was written so far.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)

        def written() -> str:
            text = os.pread(held.fileno(), 1 << 20, 0).decode("utf-8", "replace")
            kept = [line for line in text.splitlines() if not _CHATTER.match(line)]
            return "".join(f"\n{line}" for line in kept)

        os.dup2(held.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        if rest := written():
            os.write(2, f"{rest[1:]}\n".encode())


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
