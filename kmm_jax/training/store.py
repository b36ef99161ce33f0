"""Whole files at the URL of any fsspec file system, with patience where it fails for a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmm_jax.data.retries import patiently
from kmm_jax.data.storage import file_system

# They know no folders; asked for one, some would make the bucket that is missing.
_WITHOUT_FOLDERS = {"gs", "gcs", "s3", "s3a", "az", "abfs", "abfss", "oci", "oss"}


def listing(url: str) -> list[tuple[str, bool]]:
    """(name, whether it is a folder) of all in ``url``, by name; nothing if it is not there.

    Raises:
        DataError: the store refuses.
        ConnectionError: it stays out of reach.
    """
    system, inner = file_system(url)

    def ask() -> list[dict[str, Any]]:
        system.invalidate_cache()  # another process or host may have written
        try:
            return list(system.ls(inner, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    folder = inner.strip("/")
    # Some stores list a folder's own marker among what is in it.
    rows = [row for row in patiently(url, ask) if row["name"].strip("/") != folder]
    return sorted((_last(row["name"]), row["type"] == "directory") for row in rows)


def exists(url: str) -> bool:
    """Whether there is such a file or folder now; raises as ``listing``."""
    system, inner = file_system(url)

    def ask() -> bool:
        system.invalidate_cache()
        return bool(system.exists(inner))

    return patiently(url, ask)


def get(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file from ``start`` to before ``end``.

    Raises:
        DataError: there is no such file, or the store refuses.
        ConnectionError: it stays out of reach.
    """
    system, inner = file_system(url)
    return bytes(patiently(url, lambda: system.cat_file(inner, start=start, end=end)))


def put(url: str, content: bytes) -> None:
    """Write a file; object stores show it once it is whole.

    Raises:
        DataError: the store refuses.
        ConnectionError: it stays out of reach.
    """
    system, inner = file_system(url)

    def write() -> None:
        try:
            system.pipe_file(inner, content)
        except FileNotFoundError:
            if _protocols(system) & _WITHOUT_FOLDERS:
                raise
            system.makedirs(inner.rpartition("/")[0], exist_ok=True)
            system.pipe_file(inner, content)

    patiently(url, write, doing="written")


def remove(url: str) -> None:
    """Remove a file or a whole folder; none there is well. Raises as ``put``."""
    system, inner = file_system(url)

    def delete() -> None:
        system.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            system.rm(inner, recursive=True)

    patiently(url, delete, doing="written")


def fetch(url: str, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
    """Copy the files directly in ``url`` whose names are ``wanted`` and its tokenizer; their names.

    These are what a run is continued from and what a model is loaded from; a run's folder may hold
    much else. Raises as ``get``.
    """
    found = listing(url)
    names = [name for name, is_folder in found if not is_folder and wanted(name)]
    if ("tokenizer", True) in found:
        inner = listing(f"{url}/tokenizer")
        names += [f"tokenizer/{name}" for name, is_folder in inner if not is_folder]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(get(f"{url}/{name}"))
    return names


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _protocols(system: Any) -> set[str]:
    protocol = system.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)
