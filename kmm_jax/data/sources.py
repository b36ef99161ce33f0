"""Where rows come from, at random: shards here, folders and TFDS in their own files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import parse_qsl

import numpy as np

from kmm_jax.data.bad_rows import BadRowError
from kmm_jax.data.patterns import Pattern, expand, one_set
from kmm_jax.data.schema import parse_record
from kmm_jax.data.storage import RandomReader, stamp
from kmm_jax.data.tar_index import TarIndex, open_index
from kmm_jax.errors import ConfigError, DataError, nearest

# Image and JSON of a row are neighbours, as a rule; what lies between them is read along.
_SMALL_GAP = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image with its texts: the encoded image and the validated record."""

    key: str
    image: bytes
    record: dict[str, Any]


@runtime_checkable
class Source(Protocol):
    """Rows by number, readable from any thread.

    ``read`` raises :class:`~kmm_jax.errors.DataError` for a row that cannot be used.
    """

    name: str

    def __len__(self) -> int:
        """How many rows there are, bad ones included."""
        ...

    def read(self, i: int) -> Row:
        """Row ``i``, from 0."""
        ...


class ShardSource:
    """The rows of WebDataset shards, in the order of the shards and of the members in them.

    ``pattern`` is a shard, a folder, a glob, a brace range ``train-{000..012}.tar``, a URL of any
    of these, or a list of them. A folder with several sets (train and test) is refused: name one.

    Raises:
        DataError: nothing there, or a shard that is empty, truncated or no tar.
    """

    def __init__(self, pattern: Pattern) -> None:
        shards = one_set(expand(pattern), pattern)
        self.name = (
            os.fspath(pattern)
            if isinstance(pattern, str | os.PathLike)
            else ",".join(os.fspath(one) for one in pattern)
        )
        self.shards = tuple(shards)
        self._indexes: list[TarIndex] = [open_index(shard) for shard in shards]
        self._ends = np.cumsum([len(index) for index in self._indexes])
        self._reader = RandomReader()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def mark(self) -> str:
        """Changes when one of the shards does."""
        stamps = [[shard, *stamp(shard)] for shard in self.shards]
        return hashlib.blake2b(json.dumps(stamps).encode(), digest_size=16).hexdigest()

    def record(self, i: int) -> dict[str, Any]:
        """The record of row ``i`` without its image, of which no byte is read."""
        shard, key, _, (at, size) = self._place(i)
        if at < 0:
            raise BadRowError("pair", f"{shard}: {key}.jpg has no {key}.json", key=key)
        return _parsed(shard, key, self._reader.read(shard, at, size))

    def read(self, i: int) -> Row:
        """Row ``i``; a missing member or a bad record raises DataError."""
        shard, key, (image_at, image_size), (record_at, record_size) = self._place(i)
        if image_at < 0 or record_at < 0:
            has, lacks = (".json", ".jpg") if image_at < 0 else (".jpg", ".json")
            raise BadRowError("pair", f"{shard}: {key}{has} has no {key}{lacks}", key=key)
        start = min(image_at, record_at)
        end = max(image_at + image_size, record_at + record_size)
        if end - start <= image_size + record_size + _SMALL_GAP:
            span = self._reader.read(shard, start, end - start)
            image = span[image_at - start : image_at - start + image_size]
            raw = span[record_at - start : record_at - start + record_size]
        else:
            image = self._reader.read(shard, image_at, image_size)
            raw = self._reader.read(shard, record_at, record_size)
        return Row(key=key, image=image, record=_parsed(shard, key, raw))

    def _place(self, i: int) -> tuple[str, str, tuple[int, int], tuple[int, int]]:
        """Shard, key, and where image and record are: (offset, bytes), the offset -1 if nowhere."""
        if not 0 <= i < len(self):
            raise IndexError(f"row {i} of {len(self)}")
        number = int(np.searchsorted(self._ends, i, side="right"))
        shard, index = self.shards[number], self._indexes[number]
        row = i - (int(self._ends[number - 1]) if number else 0)
        key = index.key(row)
        image, record = (
            (int(places[row][0]), int(places[row][1])) for places in (index.images, index.records)
        )
        return shard, key, image, record


def _parsed(shard: str, key: str, raw: bytes) -> dict[str, Any]:
    try:
        return parse_record(raw)
    except DataError as error:
        raise BadRowError("record", f"{shard}: {key}.json: {error}", key=key) from error


def open_source(url: str | os.PathLike[str]) -> Source:
    """The source that ``url`` names.

    - ``path`` or ``shards:path``: shards, see :class:`ShardSource`;
    - ``folder+tsv:IMAGES,TABLE?field=column&...``: a folder (or tar) of images and a TSV of texts,
      see :class:`~kmm_jax.data.folder_source.FolderSource`; without ``,TABLE``: ``IMAGES.tsv``;
    - ``selection:FOLDER``: some rows of another source, see
      :class:`~kmm_jax.data.selection.SelectionSource`;
    - ``latents:FOLDER?deviation=1``: what ``kmm latents`` wrote, see
      :class:`~kmm_jax.data.latents.LatentSource`;
    - ``tfds:name/split?field=feature&data_dir=...``: TensorFlow Datasets, see
      :class:`~kmm_jax.data.tfds_source.TFDSSource`.

    Raises:
        DataError: nothing readable there.
        ConfigError: the URL is not of these forms.
    """
    url = os.fspath(url)
    scheme, colon, rest = url.partition(":")
    path, _, query = rest.partition("?")
    if colon and scheme == "shards":
        return ShardSource(rest)
    if colon and scheme == "selection":
        from kmm_jax.data.selection import SelectionSource

        return SelectionSource(rest)
    if colon and scheme == "latents":
        from kmm_jax.data.latents import LatentSource

        return LatentSource(path, **_numbers(url, query, ("deviation",)))
    if colon and scheme == "folder+tsv":
        from kmm_jax.data.folder_source import FolderSource

        images, comma, table = path.partition(",")
        beside = Path(images).with_suffix(".tsv") if images.endswith(".tar") else f"{images}.tsv"
        return FolderSource(images, table if comma else beside, columns=_options(url, query))
    if colon and scheme == "tfds":
        from kmm_jax.data.tfds_source import TFDSSource

        name, slash, split = path.rpartition("/")
        if not slash or not name or not split:
            raise ConfigError(f"{url}: expected tfds:name/split, such as tfds:cifar10/train")
        options = _options(url, query)
        data_dir = options.pop("data_dir", None)
        return TFDSSource(name, split, data_dir=data_dir, features=options)
    return ShardSource(url)


def _numbers(url: str, query: str, names: Sequence[str]) -> dict[str, float]:
    """Options that are numbers, of these names alone."""
    found = {}
    for name, value in _options(url, query).items():
        if name not in names:
            raise ConfigError(f"{url}: no option {name!r}{nearest(name, names)}")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ConfigError(f"{url}: {name} must be a number, found {value!r}") from error
    return found


def _options(url: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, strict_parsing=True) if query else []
    except ValueError as error:
        raise ConfigError(f"{url}: expected ?field=column&field=column: {error}") from error
    return dict(pairs)
