"""The files of an index, and what makes them fit to be used."""

from __future__ import annotations

import collections
import glob
import json
import mmap
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.files import refuse_other
from kmm_jax.retrieval import checksums
from kmm_jax.retrieval.ids import Ids
from kmm_jax.retrieval.settings import IndexSettings, VectorType
from kmm_jax.retrieval.vectors import bfloat16_type, stored_rows

INDEX = "index.json"
FORMAT = "kmm_jax index 1"
VECTORS, IDS, SCANN = "vectors.npy", "ids.parquet", "scann"
_BLOCK_NUMBERS = 1 << 23  # 32 MiB in float32


def refuse_something_else(folder: Path) -> None:
    """Guard what a build would replace: only an index or an empty folder is.

    Raises:
        UserError: ``folder`` exists and is something else.
    """
    refuse_other(folder, lambda old: (old / INDEX).is_file(), "index")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders that killed builds of this index left beside it."""
    eight = "[0-9a-f]" * 8
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.{eight}.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)


def checked_ids(ids: Sequence[str], rows: int) -> list[str]:
    """The ids as a list: one for each row, all different.

    Raises:
        DataError: they are not.
    """
    ids = list(ids)
    if len(ids) != rows:
        raise DataError(f"{len(ids)} ids for {rows} vectors; each vector needs one id")
    if not ids:
        raise DataError("an index needs at least one vector")
    for row, each in enumerate(ids):
        if not isinstance(each, str) or not each:
            raise DataError(f"id {row} is {each!r}; ids are texts that are not empty")
    if len(set(ids)) < len(ids):
        twice = [each for each, count in collections.Counter(ids).items() if count > 1]
        raise DataError(
            f"{len(twice)} ids stand more than once, the first is {twice[0]!r}; every id must "
            "name one vector: remove the duplicates"
        )
    return ids


def write_vectors(path: Path, vectors: Any, dtype: VectorType = "float32") -> np.ndarray:
    """Write unit vectors block by block, so that memory stays bounded; return them, mapped.

    NumPy's format has no bfloat16: its bits are written as int16, as ScaNN reads and writes them.
    """
    if np.ndim(vectors) != 2 or not np.shape(vectors)[1]:
        raise DataError(f"vectors must have shape (rows, dimension), found {np.shape(vectors)}")
    # Plain writes: on a full disk they raise, where writing to a mapped file ends the process.
    with path.open("wb") as file:
        shape = tuple(np.shape(vectors))
        descr = "<f4" if dtype == "float32" else "<i2"
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        step = max(1, _BLOCK_NUMBERS // shape[1])
        for start in range(0, len(vectors), step):
            rows = vectors[start : start + step]
            block = stored_rows(rows, f"index (from row {start} on)", dtype)
            file.write(block.view(descr).data)
    return map_vectors(path)


def map_vectors(path: Path) -> np.ndarray:
    """The vectors (N, D), float32 or bfloat16, memory-mapped.

    Raises:
        DataError: the file cannot be read as such.
    """
    try:
        vectors_ND = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is damaged: {error}; build the index again") from error
    if vectors_ND.ndim != 2 or vectors_ND.dtype not in (np.float32, np.int16):
        raise DataError(f"{path}: expected rows of float32 or bfloat16, found {vectors_ND.dtype}")
    return vectors_ND.view(bfloat16_type()) if vectors_ND.dtype == np.int16 else vectors_ND


def read_at_random(vectors_ND: np.ndarray) -> np.ndarray:
    """Mapped vectors once more, read a few rows at a time: a row costs its own page of the disk.

    The kernel reads ahead of whoever goes through a file, which single rows have no use for.
    """
    path = getattr(vectors_ND, "filename", None)
    if path is None or not hasattr(mmap, "MADV_RANDOM"):
        return vectors_ND
    again_ND = map_vectors(Path(path))
    again_ND._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
    return again_ND


def write_ids(path: Path, ids: list[str]) -> None:
    """Write the ids, in order, as the column ``id`` of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": pa.array(ids, pa.string())})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_page_checksum=True)


def read_ids(path: Path) -> Ids:
    """The ids that :func:`write_ids` wrote.

    Raises:
        DataError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        column = pq.ParquetFile(path, page_checksum_verification=True).read(["id"]).column("id")
        return Ids(column)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(f"{path} is damaged: {error}; build the index again") from error


def read_description(folder: Path) -> dict[str, Any]:
    """The index's ``index.json``, as it was written.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    path = folder / INDEX
    if not path.is_file():
        aside = folder.with_name(f".{folder.name}.old")
        hint = (
            f"; the index that was there is at {aside}, a build was stopped while replacing it: "
            "rename it back or build again"
            if (aside / INDEX).is_file() and not folder.exists()
            else "; build one with kmm index build"
        )
        raise DataError(f"{folder} is no index: no {INDEX} there" + hint)
    try:
        description = json.loads(path.read_text("utf-8"))
        if description["format"] != FORMAT:
            raise DataError(
                f"{path}: the format is {description['format']!r}, this version reads {FORMAT!r}; "
                "build the index again"
            )
        checksums.check_seal(path, description)
        IndexSettings(**description["settings"])
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise DataError(f"{path} is damaged ({error}); build the index again") from error
    return description
