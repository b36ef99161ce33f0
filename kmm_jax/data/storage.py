"""Bytes of files at random, on a local disk or behind any fsspec URL."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from kmm_jax.data.retries import patiently
from kmm_jax.errors import DataError

# Open files kept per reader: several readers stay below the usual limit of 1,024 descriptors.
_OPEN_FILES = 128

# Under these names file systems tell that a file has changed; in this order, in any case.
_MARKS = ("etag", "last-modified", "lastmodified", "mtime")


def is_url(path: str) -> bool:
    """Whether ``path`` names a file system other than the local disk (``gs://...``)."""
    return "://" in path


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of ``url`` and the path within it.

    Raises:
        DataError: no such protocol, or its package is not installed.
    """
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        extra = {"gs": "gcs", "gcs": "gcs", "s3": "s3"}.get(url.partition("://")[0])
        how = f"; install it with: pip install 'kmm-jax[{extra}]'" if extra else ""
        raise DataError(f"{url}: cannot be opened: {error}{how}") from error


def stamp(path: str) -> tuple[int, int]:
    """(size in bytes, a number that changes with the content: the time of change or a hash).

    Raises:
        DataError: there is no such file, or its file system refuses it or tells no size.
        ConnectionError: a store across the network stays out of reach.
    """
    if is_url(path):
        system, inner = file_system(path)
        told = patiently(path, lambda: system.info(inner))
        # `ukey` is only a hash of the URL over HTTP: it stays when the file changes.
        mark = mark_of(told) or patiently(path, lambda: system.ukey(inner))
        if told.get("size") is None:
            raise DataError(f"{path}: the server does not tell its size, which reading needs")
        digest = hashlib.sha256(str(mark).encode()).digest()
        return int(told["size"]), int.from_bytes(digest[:8], "big") >> 1
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path}: no such file") from error
    return status.st_size, status.st_mtime_ns


def is_folder(path: str) -> bool:
    """Whether ``path`` is a folder, on the disk or behind a URL."""
    if not is_url(path):
        return Path(path).expanduser().is_dir()
    system, inner = file_system(path)
    return bool(patiently(path, lambda: system.isdir(inner)))


def mark_of(info: Mapping[str, Any]) -> str | None:
    """What a file system tells of a file's change: a tag or a time; None where it tells none."""
    lower = {str(name).lower(): value for name, value in info.items()}
    return next((str(lower[name]) for name in _MARKS if lower.get(name)), None)


@contextlib.contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """Open ``path`` for reading forward, with read-ahead."""
    if is_url(path):
        system, inner = file_system(path)
        with system.open(inner, "rb", block_size=8 << 20, cache_type="readahead") as file:
            yield cast("BinaryIO", file)
    else:
        # Headers are far apart: a large buffer would read the images between them.
        with Path(path).open("rb", buffering=2048) as file:
            yield file


class _Descriptor:
    """An open file that closes when the last thread lets go of it."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        # Bound as a default: at interpreter exit the module `os` may be gone already.
        if hasattr(self, "number"):
            close(self.number)


class RandomReader:
    """Reads spans of many files, from any thread; the most recently used ones stay open."""

    def __init__(self) -> None:
        self._open: collections.OrderedDict[str, _Descriptor] = collections.OrderedDict()
        self._systems: dict[str, tuple[Any, str]] = {}
        self._lock = threading.Lock()

    def read(self, path: str, offset: int, size: int) -> bytes:
        """``size`` bytes of ``path`` from ``offset``.

        Raises:
            DataError: the file ends before that, is gone, or cannot be read.
        ConnectionError: a store across the network stays out of reach.
        """
        data = (
            self._read_url(path, offset, size)
            if is_url(path)
            else self._read_local(path, offset, size)
        )
        if len(data) != size:
            raise DataError(
                f"{path}: {size:,} bytes wanted at byte {offset:,}, {len(data):,} found; "
                "the file changed since it was indexed"
            )
        return data

    def _read_local(self, path: str, offset: int, size: int) -> bytes:
        descriptor = self._descriptor(path)
        data = os.pread(descriptor.number, size, offset)
        if len(data) == size or not data:
            return data
        # One call may return less than asked for (signals, network disks).
        parts = [data]
        while data and sum(map(len, parts)) < size:
            read = sum(map(len, parts))
            data = os.pread(descriptor.number, size - read, offset + read)
            parts.append(data)
        return b"".join(parts)

    def _descriptor(self, path: str) -> _Descriptor:
        with self._lock:
            descriptor = self._open.get(path)
            if descriptor is None:
                try:
                    descriptor = self._open[path] = _Descriptor(path)
                except FileNotFoundError as error:
                    raise DataError(f"{path}: no such file (it was there before)") from error
                if len(self._open) > _OPEN_FILES:
                    self._open.popitem(last=False)
            self._open.move_to_end(path)
            return descriptor

    def _read_url(self, path: str, offset: int, size: int) -> bytes:
        with self._lock:
            if path not in self._systems:
                self._systems[path] = file_system(path)
            system, inner = self._systems[path]
        end = offset + size
        return bytes(patiently(path, lambda: system.cat_file(inner, start=offset, end=end)))
