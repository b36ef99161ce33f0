"""Writes rows as WebDataset shards: ``train-000.tar`` of ``<image_hash>.jpg`` and ``.json``."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from kmm_jax.data.schema import validate_record
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.files import atomic_write


def write_shard(
    path: Path, rows: Iterable[tuple[Mapping[str, Any], bytes]], *, suffix: str = ".jpg"
) -> int:
    """Write one shard whole, or not at all; the same rows give the same bytes.

    Args:
        suffix: of the members that stand beside the records.

    Returns:
        How many rows there were.

    Raises:
        DataError: a record breaks the schema, or an ``image_hash`` cannot be a file name or comes
            twice.
    """
    with _Shard(path, suffix=suffix) as shard:
        for record, image_bytes in rows:
            shard.add(*_checked(record), image_bytes)
    return shard.rows


class _Shard:
    """One tar being written; it takes its name when the block ends without an exception."""

    def __init__(self, path: Path, *, suffix: str = ".jpg") -> None:
        self.path = path
        self._suffix = suffix
        self.rows = 0
        self._hashes: set[str] = set()
        self._open = contextlib.ExitStack()

    def __enter__(self) -> _Shard:
        file = self._open.enter_context(atomic_write(self.path))
        # GNU format: long names in any language, and no field that depends on the machine.
        tar = tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)
        self._tar = self._open.enter_context(tar)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, key: str, text: str, image_bytes: bytes) -> None:
        if key in self._hashes:
            raise DataError(f"two rows with image_hash {key!r} in one shard")
        self._add(f"{key}{self._suffix}", image_bytes)
        self._add(f"{key}.json", text.encode())
        self._hashes.add(key)
        self.rows += 1

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        self._tar.addfile(member, io.BytesIO(data))


def _checked(record: Mapping[str, Any]) -> tuple[str, str]:
    """The record's key and its JSON."""
    valid = validate_record(dict(record))
    key = valid["image_hash"]
    if key.startswith(".") or re.search(r"[/\\\0]", key):
        raise DataError(f"image_hash cannot be a file name: {key!r}")
    try:
        return key, json.dumps(valid, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"the record of {key!r} is not JSON: {error}") from error


class ShardWriter:
    """Writes a set of shards into ``folder``: ``<prefix>-000.tar``, ``<prefix>-001.tar``, ...

    A context manager. Each shard takes its name once it is whole; the same rows give the same
    bytes. The set replaces an older one of the same prefix: when the last shard is closed, shards
    of this prefix with higher numbers, left by a longer run before, are deleted. After an exception
    the shard in hand is dropped and nothing is deleted.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, prefix: str = "train", shard_rows: int = 1000
    ) -> None:
        if shard_rows < 1:
            raise ConfigError(f"shard_rows must be at least 1, found {shard_rows}")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", prefix):
            raise ConfigError(f"prefix must be letters, digits, '_', '-' and '.', found {prefix!r}")
        self.folder = Path(folder)
        self.prefix = prefix
        self.shard_rows = shard_rows
        self.shards: list[Path] = []
        self.rows = 0
        self._open = contextlib.ExitStack()
        self._shard: _Shard | None = None

    def write(self, record: Mapping[str, Any], image_bytes: bytes) -> None:
        """Add a row: its record and its image as encoded bytes.

        Raises:
            DataError: the record breaks the schema, or its ``image_hash`` cannot be a file name or
                is already in the shard in hand.
        """
        key, text = _checked(record)  # before a full shard is closed for it
        if self._shard is not None and self._shard.rows == self.shard_rows:
            self._close_shard()
        if self._shard is None:
            path = self.folder / f"{self.prefix}-{len(self.shards):03d}.tar"
            self._shard = self._open.enter_context(_Shard(path))
            self.shards.append(path)
        self._shard.add(key, text, image_bytes)
        self.rows += 1

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._open.__exit__(kind, error, trace)
            return
        self._close_shard()
        if self.shards:
            self._delete_leftovers()

    def _close_shard(self) -> None:
        self._open.close()
        self._shard = None

    def _delete_leftovers(self) -> None:
        for path in self.folder.glob(f"{self.prefix}-*.tar"):
            number = path.name[len(self.prefix) + 1 : -len(".tar")]
            if number.isdigit() and int(number) >= len(self.shards):
                path.with_name(f"{path.name}.index").unlink(missing_ok=True)
                path.unlink()
