"""Sizes and SHA-256 of files, written down beside them and checked before they are used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm_jax.errors import DataError


def describe(path: Path) -> dict[str, Any]:
    """``{"bytes": size, "sha256": hex digest}`` of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def check(path: Path, expected: Any) -> None:
    """Compare a file with what :func:`describe` said of it; the size first, as it is quick.

    Raises:
        DataError: the file is missing, of another size or of other content.
    """
    if not isinstance(expected, dict) or not {"bytes", "sha256"} <= expected.keys():
        raise DataError(f"{path}: its size and checksum were not written down")
    if not path.is_file():
        raise DataError(f"{path} is missing")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise DataError(
            f"{path} is damaged: {size:,} bytes, {expected['bytes']:,} when it was written"
        )
    if describe(path)["sha256"] != expected["sha256"]:
        raise DataError(f"{path} is damaged: its checksum is not the one written down")


def sealed(description: Mapping[str, Any]) -> dict[str, Any]:
    """``description`` with a checksum of itself, for a JSON file that describes others."""
    return {**description, "seal": _seal(description)}


def check_seal(path: Path, description: Mapping[str, Any]) -> None:
    """Check what :func:`sealed` added.

    Raises:
        DataError: the description read from ``path`` is not what was written.
    """
    rest = {name: value for name, value in description.items() if name != "seal"}
    if description.get("seal") != _seal(rest):
        raise DataError(f"{path} is damaged or was edited: its seal does not fit its content")


def _seal(description: Mapping[str, Any]) -> str:
    canonical = json.dumps(description, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
