"""Unit vectors of pictures: from embeddings on disk, a part at a time, or from a model."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from kmm_jax.corpus.noise.stream import Row, digest
from kmm_jax.data.augment import resize_centre
from kmm_jax.data.images import decode
from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import checksums, removal, store
from kmm_jax.retrieval.embedding import Embedder
from kmm_jax.retrieval.vectors import unit_rows

_PARTS_HELD = 8


class Vectors(Protocol):
    """Where the vectors of pictures come from."""

    needs_images: bool
    dim: int

    def of(self, rows: Sequence[Row]) -> tuple[list[int], np.ndarray]:
        """The numbers of the rows that have a vector, and their unit vectors (n, D)."""
        ...


class StoredVectors:
    """Vectors of an export, found by ``image_hash``.

    Memory: 16 bytes a row, and a few parts; rows in the order of the export read each part once.

    Raises:
        DataError: no whole export, or a damaged part.
        UserError: the export is of texts.
    """

    needs_images = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manifest = store.read_manifest(folder)
        if self._manifest["kind"] != "image":
            raise UserError(f"{folder} holds embeddings of texts; those of pictures are needed")
        self.dim = self._manifest["dim"]
        self.model_hash = self._manifest["model_hash"]
        digests = []
        for part in self._manifest["parts"]:
            checksums.check(folder / part["file"], part)
            ids = removal.ids_of_part(folder / part["file"])
            # A member may lie in a folder of its tar; its name is the hash.
            digests.append([digest(each.rpartition("/")[2]) for each in ids])
        self._ends = np.cumsum([len(some) for some in digests])
        all_of_them = np.array([each for some in digests for each in some], np.uint64)
        self._order = np.argsort(all_of_them, kind="stable")
        self._sorted = all_of_them[self._order]
        self._part = functools.lru_cache(maxsize=_PARTS_HELD)(self._read)

    def of(self, rows: Sequence[Row]) -> tuple[list[int], np.ndarray]:
        """See :class:`Vectors`."""
        wanted = np.array([digest(row.image_hash) for row in rows], np.uint64)
        places = np.searchsorted(self._sorted, wanted)
        there = places < len(self._sorted)
        there[there] = self._sorted[places[there]] == wanted[there]
        numbers = np.flatnonzero(there)
        vectors_ND = np.empty((len(numbers), self.dim), np.float32)
        for at, number in enumerate(numbers):
            row = self._order[places[number]]
            part = int(np.searchsorted(self._ends, row, side="right"))
            first = int(self._ends[part - 1]) if part else 0
            vectors_ND[at] = self._part(part)[row - first]
        return numbers.tolist(), _unit(vectors_ND)

    def _read(self, number: int) -> np.ndarray:
        path = self._folder / self._manifest["parts"][number]["file"]
        return store.matrix(store.read_part(path, self.dim), self.dim)


class ModelVectors:
    """Vectors that a model computes of the pictures; a picture that cannot be decoded has none."""

    needs_images = True

    def __init__(self, model: Embedder, batch_size: int = 64) -> None:
        self._model = model
        self._batch_size = batch_size
        self.dim = model.embedding
        self.model_hash = model.hash

    def of(self, rows: Sequence[Row]) -> tuple[list[int], np.ndarray]:
        """See :class:`Vectors`."""
        size = self._model.image_size
        numbers, pixels = [], []
        for number, row in enumerate(rows):
            try:
                pixels.append(resize_centre(decode(row.image or b"", size), size))
            except DataError:
                continue
            numbers.append(number)
        if not pixels:
            return [], np.zeros((0, self.dim), np.float32)
        return numbers, _unit(self._model.embed_image(pixels, batch_size=self._batch_size))


def _unit(vectors_ND: np.ndarray) -> np.ndarray:
    return unit_rows(vectors_ND, "picture") if len(vectors_ND) else vectors_ND
