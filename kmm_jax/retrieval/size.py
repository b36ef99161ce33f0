"""Bytes of an index, counted before it is built: on disk, in memory, and while it is built.

Counted are the arrays that ScaNN and this library write and hold; the constants beside them are of
the files themselves (``tests/retrieval/test_size.py`` holds both against a built index).
"""

from __future__ import annotations

import dataclasses

from kmm_jax.retrieval.settings import IndexSettings, for_rows

# A compressed id as against its letters (hexadecimal digits carry half a byte each).
_ID_COMPRESSED = 0.6
_CODE_CENTRES = 16  # of a block of the hash: 4 bits
_NPY_HEADER = 128
_LEAF_HEADER = 19  # of a centroid in ScaNN's file, beside its numbers, which are 8 bytes each there
PROCESS = 700 * 2**20  # Python, JAX and ScaNN themselves
_SAMPLES = 4  # copies of the sample that is learnt from, in float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Bytes by what they are for.

    Attributes:
        vectors: float32 or bfloat16.
        hashes: asymmetric hashes of all vectors; with a tree twice, as SOAR puts each vector into a
            second leaf.
        leaves: which leaves each vector is in.
        centroids: of the leaves, and what a block of a hash stands for.
        ids: in the index.
        columns: what filters look at, the ids again among them.
    """

    vectors: int
    hashes: int
    leaves: int
    centroids: int
    ids: int
    columns: int

    @property
    def total(self) -> int:
        """Of all."""
        return sum(dataclasses.astuple(self))

    def times(self, count: int) -> Parts:
        """Of ``count`` such segments."""
        return Parts(**{name: count * value for name, value in dataclasses.asdict(self).items()})


def on_disk(
    rows: int, dim: int, settings: IndexSettings, *, id_bytes: int = 20, column_bytes: float = 0
) -> Parts:
    """Of a segment of ``rows`` vectors, built by ScaNN.

    Args:
        id_bytes: of an id, in UTF-8, before compression.
        column_bytes: of a row of the columns, as compressed Parquet.
    """
    chosen = for_rows(settings, rows)
    blocks, copies, leaves = _shape(dim, chosen)
    compressed = round(rows * _ID_COMPRESSED * id_bytes)
    return Parts(
        vectors=rows * dim * _width(chosen) + _NPY_HEADER,
        hashes=copies * (rows * blocks + _NPY_HEADER),  # a byte a block in the file
        leaves=4 * rows * copies + _NPY_HEADER if leaves else 0,
        centroids=leaves * (8 * dim + _LEAF_HEADER) + (_CODE_CENTRES * dim * 7 if blocks else 0),
        ids=compressed,
        columns=round(rows * column_bytes) + compressed,
    )


def in_memory(
    rows: int, dim: int, settings: IndexSettings, *, id_bytes: int = 20, column_bytes: float = 0
) -> Parts:
    """Of a segment of ``rows`` vectors while it is searched, without what the kernel caches.

    Hashes are at most so many: ScaNN gives no second leaf to vectors that their first one fits.

    Args:
        id_bytes, column_bytes: of a row, as Arrow holds them.
    """
    chosen = for_rows(settings, rows)
    blocks, copies, leaves = _shape(dim, chosen)
    if chosen.layout == "brute_force":
        held = 4 * rows * dim  # ScaNN compares in float32
    else:
        held = rows * dim * _width(chosen) if chosen.rescore == "memory" else 0
    return Parts(
        vectors=held,
        hashes=copies * rows * -(-blocks // 2),  # 4 bits a block
        leaves=4 * rows * copies if leaves else 0,
        centroids=4 * leaves * dim + 4 * _CODE_CENTRES * dim,
        ids=rows * (id_bytes + 8 + 16),  # 16 bytes for finding a row by its id
        columns=round(rows * (column_bytes + id_bytes + 4)),
    )


def while_built(rows: int, dim: int, settings: IndexSettings, *, id_bytes: int = 20) -> int:
    """Bytes that a process needs, at most, to build a segment of ``rows`` vectors."""
    sampled = min(rows, settings.training_rows)
    return PROCESS + rows * _a_row(dim, settings, id_bytes) + _SAMPLES * 4 * dim * sampled


def rows_built_within(memory: int, dim: int, settings: IndexSettings, *, id_bytes: int = 20) -> int:
    """How many rows a segment may have that is built in ``memory`` bytes, at least 1."""
    left, each = memory - PROCESS, _a_row(dim, settings, id_bytes)
    sample = _SAMPLES * 4 * dim
    few = left // (each + sample)
    if few <= settings.training_rows:
        return max(1, few)
    return max(1, (left - sample * settings.training_rows) // each)


def _a_row(dim: int, settings: IndexSettings, id_bytes: int) -> int:
    """Bytes for each row of a segment while it is built."""
    blocks, copies, _ = _shape(dim, dataclasses.replace(settings, layout="tree", leaves=1))
    # The mapped file, which ScaNN copies to float32; of bfloat16 a copy in float32 between them,
    # and what ScaNN rescores with.
    vectors = 8 * dim if settings.dtype == "float32" else (2 + 4 + 4 + 2) * dim
    # Texts of Python, in a list, in a set while they are compared, and in two Arrow columns.
    ids = 49 + id_bytes + 8 + 64 + 2 * (id_bytes + 8)
    return vectors + 2 * copies * blocks + 8 * copies + ids


def _shape(dim: int, chosen: IndexSettings) -> tuple[int, int, int]:
    """Blocks of a hash, how many hashes a row has, and leaves."""
    if chosen.layout == "brute_force":
        return 0, 0, 0
    blocks = -(-dim // chosen.dims_per_block)
    return blocks, 2 if chosen.layout == "tree" else 1, chosen.leaves or 0


def _width(settings: IndexSettings) -> int:
    return 4 if settings.dtype == "float32" else 2
