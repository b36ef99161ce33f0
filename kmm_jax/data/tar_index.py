"""Where each row of a shard stands: built once, kept beside the shard, checked on every opening."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmm_jax.data.storage import file_system, is_url, open_stream, stamp
from kmm_jax.data.tar_headers import members
from kmm_jax.errors import DataError
from kmm_jax.files import atomic_write

_VERSION = 1
# What stands for a row's picture; the last is of `data/latents.py`.
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".latents")
_MISSING = (-1, 0)


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """The rows of one shard.

    ``images`` and ``records`` are (N, 2) int64 of byte offset and size; offset -1 where the member
    is missing. ``key_bytes`` holds the keys one after another, ``key_ends`` (N,) where each ends.
    """

    key_bytes: bytes
    key_ends: np.ndarray
    images: np.ndarray
    records: np.ndarray

    def __len__(self) -> int:
        return len(self.key_ends)

    def key(self, row: int) -> str:
        """The member name of ``row`` without its suffix."""
        start = self.key_ends[row - 1] if row else 0
        return self.key_bytes[start : self.key_ends[row]].decode("utf-8", "surrogateescape")


def open_index(shard: str) -> TarIndex:
    """The index of ``shard``: the stored one if it is whole and fits, else a new one, then stored.

    It is stored beside the shard, or in the user's cache folder where that cannot be written, or
    only kept in memory where neither can.

    Raises:
        DataError: the shard is missing, empty, truncated or no tar.
    """
    seen = stamp(shard)
    places = [f"{shard}.index", str(_cache_place(shard))]
    for place in places:
        index = _load(place, seen)
        if index is not None:
            return index
    index = build_index(shard)
    content = _dump(index, seen)
    for place in places:
        try:
            _store(place, content)
            break
        except (OSError, NotImplementedError):
            # A read-only folder, a full disk, a read-only URL: the index is a convenience.
            continue
    return index


def build_index(shard: str) -> TarIndex:
    """The index of ``shard``, from one pass over its headers.

    A row is an image and a JSON member of the same name but for the suffix; they need not be
    neighbours. A member without its partner is a row with one side missing; a name that occurs
    twice is two rows. Other suffixes, and hidden files (``._x.jpg`` of macOS), are left out.

    Raises:
        DataError: see :func:`open_index`; also a tar with no image and no JSON in it.
    """
    keys: list[str] = []
    sides: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    newest: dict[str, int] = {}
    total, _ = stamp(shard)
    with open_stream(shard) as file:
        for member in members(file, shard, total):
            key, side = key_and_side(member.name)
            if side is None:
                continue
            row = newest.get(key)
            if row is None or sides[side][row] != _MISSING:
                row = newest[key] = len(keys)
                keys.append(key)
                for both in sides:
                    both.append(_MISSING)
            sides[side][row] = (member.offset, member.size)
    if not keys:
        raise DataError(
            f"{shard}: empty shard: no <image_hash>.jpg and <image_hash>.json in it "
            f"({total:,} bytes)"
        )
    encoded = [key.encode("utf-8", "surrogateescape") for key in keys]
    return TarIndex(
        key_bytes=b"".join(encoded),
        key_ends=np.cumsum([len(key) for key in encoded], dtype=np.int64),
        images=np.array(sides[0], np.int64),
        records=np.array(sides[1], np.int64),
    )


def forget(shard: str) -> None:
    """Remove the stored index of a local shard, which names its rows, from wherever it may be."""
    for place in (Path(f"{shard}.index"), _cache_place(shard)):
        place.unlink(missing_ok=True)


def key_and_side(name: str) -> tuple[str, int | None]:
    """A member's row, by its name without the suffix, and 0 for its image, 1 for its record."""
    folder, _, base = name.removeprefix("./").rpartition("/")
    stem, dot, suffix = base.rpartition(".")
    suffix = dot + suffix.lower()
    key = f"{folder}/{stem}" if folder else stem
    if base.startswith(".") or not stem:
        return key, None
    if suffix in _IMAGE_SUFFIXES:
        return key, 0
    return key, 1 if suffix == ".json" else None


def _cache_place(shard: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = shard if is_url(shard) else str(Path(shard).absolute())
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return Path(root) / "kmm_jax" / "shard-index" / f"{digest}.index"


def _dump(index: TarIndex, seen: tuple[int, int]) -> bytes:
    content = io.BytesIO()
    np.savez(
        content,
        shard=np.array([_VERSION, *seen], np.int64),
        key_bytes=np.frombuffer(index.key_bytes, np.uint8),
        key_ends=index.key_ends,
        images=index.images,
        records=index.records,
    )
    return content.getvalue()


def _load(place: str, seen: tuple[int, int]) -> TarIndex | None:
    """The index stored at ``place``, or None: not there, of another shard state, or corrupt."""
    try:
        with np.load(io.BytesIO(_fetch(place)), allow_pickle=False) as stored:
            if stored["shard"].tolist() != [_VERSION, *seen]:
                return None
            index = TarIndex(
                key_bytes=stored["key_bytes"].tobytes(),
                key_ends=stored["key_ends"],
                images=stored["images"],
                records=stored["records"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return index if all(_consistent(index, seen[0])) else None


def _consistent(index: TarIndex, total: int) -> Iterator[bool]:
    rows = len(index)
    yield rows > 0 and index.key_ends[-1] == len(index.key_bytes)
    for side in (index.images, index.records):
        yield side.shape == (rows, 2) and bool((side.sum(axis=1) <= total).all())


def _fetch(place: str) -> bytes:
    if is_url(place):
        system, inner = file_system(place)
        return bytes(system.cat_file(inner))
    return Path(place).read_bytes()


def _store(place: str, content: bytes) -> None:
    if is_url(place):
        system, inner = file_system(place)
        system.pipe_file(inner, content)
        return
    with atomic_write(place) as file:
        file.write(content)
