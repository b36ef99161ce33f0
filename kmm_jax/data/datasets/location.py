"""Where a data set lies: the folder given, or the one that KMM_DATA_DIR names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kmm_jax.errors import DataError

VARIABLE = "KMM_DATA_DIR"


def data_folder(folder: Path | None) -> Path | None:
    """``folder``, or the one named by ``KMM_DATA_DIR``, or None where neither is given.

    Raises:
        DataError: it does not exist.
    """
    if folder is None:
        named = os.environ.get(VARIABLE)
        if not named:
            return None
        folder, origin = Path(named), f"{VARIABLE} names it"
    else:
        origin = "it was given as the folder"
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder ({origin})")
    return folder


def candidates(folder: Path, below: Sequence[str]) -> list[Path]:
    """``folder`` and those of its sub-folders ``below`` that exist."""
    return [folder, *(folder / name for name in below if (folder / name).is_dir())]


def not_found(name: str, folder: Path | None, layouts: Sequence[str]) -> DataError:
    """The error that says what was looked for, and where."""
    where = f"in {folder}" if folder else f"given: no folder, and {VARIABLE} is not set"
    looked_for = "".join(f"\n  {layout}" for layout in layouts)
    return DataError(
        f"nothing of the data set {name} {where}; looked for, there and one folder below:"
        f"{looked_for}\nSet {VARIABLE} to the folder that holds one of these."
    )
