"""Temporary files that killed writers left: they may hold what is to be removed."""

from __future__ import annotations

from pathlib import Path


def sweep(folder: Path, pattern: str = "*") -> None:
    """Remove what :func:`~kmm_jax.files.atomic_write` left of files of such names in a folder."""
    for left in folder.glob(f".{pattern}.{'[0-9a-f]' * 8}.tmp"):
        if left.is_file():
            left.unlink(missing_ok=True)
