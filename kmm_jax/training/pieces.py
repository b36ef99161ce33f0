"""Arrays cut into pieces: every process keeps its own, and any reads those that it needs.

A piece is what one device holds of an array; where several hold the same, one of them is chosen.
Pieces lie one after another in files, and an index says where each one is.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kmm_jax.errors import DataError

Bounds = tuple[tuple[int, int], ...]
"""From and to, for each dimension."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """Where a part of an array lies.

    Attributes:
        bounds: which part.
        file, offset, size: where its bytes are, in C order.
        crc: their CRC-32.
    """

    bounds: Bounds
    file: str
    offset: int
    size: int
    crc: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An array of the index; ``pieces`` of all processes cover it once."""

    shape: tuple[int, ...]
    dtype: str
    pieces: tuple[Piece, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A part of an array on its way to a file, copied from the device."""

    name: str
    bounds: Bounds
    values: np.ndarray


def named(tree: Any) -> dict[str, Any]:
    """The leaves of nested parameters or optimizer state by path, ``params/vision/norm/scale``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def own_blocks(arrays: Mapping[str, jax.Array]) -> list[Block]:
    """This process's share of the arrays, copied, so that they may be donated."""
    own = [
        (name, bounds, shard)
        for number, (name, array) in enumerate(arrays.items())
        for bounds, shard in _owned(array, number)
    ]
    for _, _, shard in own:
        shard.copy_to_host_async()
    return [
        Block(name=name, bounds=bounds, values=np.array(shard, order="C", copy=True))
        for name, bounds, shard in own
    ]


def packed(blocks: list[Block], size: int) -> list[list[Block]]:
    """The blocks in order, none of them and no pack above ``size`` bytes."""
    packs: list[list[Block]] = []
    room = 0
    for block in (part for whole in blocks for part in _cut(whole, size)):
        if not packs or block.values.nbytes > room:
            packs.append([])
            room = size
        packs[-1].append(block)
        room -= block.values.nbytes
    return packs


def _cut(block: Block, size: int) -> Iterator[Block]:
    """The block in parts of at most ``size`` bytes, along its first dimensions."""
    values = block.values
    if values.nbytes <= size:
        yield block
        return
    axis = next(axis for axis, length in enumerate(values.shape) if length > 1)
    length, first = values.shape[axis], block.bounds[axis][0]
    step = max(size * length // values.nbytes, 1)
    for start in range(0, length, step):
        to = min(start + step, length)
        bounds = (*block.bounds[:axis], (first + start, first + to), *block.bounds[axis + 1 :])
        part = values[(*[slice(None)] * axis, slice(start, to))]
        yield from _cut(Block(name=block.name, bounds=bounds, values=part), size)


def written(blocks: list[Block], file: str) -> tuple[bytes, list[tuple[str, Piece]]]:
    """The content of a file and what the index says of it, by name of the array."""
    parts, pieces, offset = [], [], 0
    for block in blocks:
        content = block.values.tobytes()
        size, crc = len(content), zlib.crc32(content)
        piece = Piece(bounds=block.bounds, file=file, offset=offset, size=size, crc=crc)
        pieces.append((block.name, piece))
        parts.append(content)
        offset += size
    return b"".join(parts), pieces


def assemble(
    name: str, entry: Entry, wanted: jax.ShapeDtypeStruct, read: Callable[[Piece], bytes]
) -> dict[Bounds, np.ndarray]:
    """What this process's devices hold of an array under ``wanted.sharding``, by part.

    Raises:
        DataError: the array has another shape or type, or its pieces are damaged.
    """
    if entry.shape != wanted.shape or jnp.dtype(entry.dtype) != wanted.dtype:
        raise DataError(
            f"{name} is {entry.dtype}{list(entry.shape)}, and "
            f"{wanted.dtype}{list(wanted.shape)} is wanted"
        )
    assert wanted.sharding is not None
    indices = wanted.sharding.addressable_devices_indices_map(entry.shape).values()
    parts = {_bounds(index, entry.shape) for index in indices}
    arrays = {part: np.empty([to - start for start, to in part], wanted.dtype) for part in parts}
    missing = {part: array.size for part, array in arrays.items()}
    for piece in entry.pieces:
        overlaps = {part: _overlap(piece.bounds, part) for part in parts}
        if not any(overlap is not None for overlap in overlaps.values()):
            continue
        content = read(piece)
        if len(content) != piece.size or zlib.crc32(content) != piece.crc:
            raise DataError(f"{name}: damaged in {piece.file} at byte {piece.offset:,}")
        values = np.frombuffer(content, wanted.dtype).reshape(
            [to - start for start, to in piece.bounds]
        )
        for part, overlap in overlaps.items():
            if overlap is not None:
                arrays[part][_within(overlap, part)] = values[_within(overlap, piece.bounds)]
                missing[part] -= math.prod(to - start for start, to in overlap)
    if any(missing.values()):
        raise DataError(f"{name}: pieces of it are missing")
    return arrays


def placed(wanted: jax.ShapeDtypeStruct, parts: Mapping[Bounds, np.ndarray]) -> jax.Array:
    """The array of the ``parts`` that ``assemble`` gives, on its devices."""
    return jax.make_array_from_callback(
        wanted.shape, wanted.sharding, lambda index: parts[_bounds(index, wanted.shape)]
    )


def _owned(array: jax.Array, number: int) -> Iterator[tuple[Bounds, Any]]:
    """The parts that this process keeps; all processes choose alike, each of them in turn."""
    holders: dict[Bounds, list[jax.Device]] = {}
    for device, index in array.sharding.devices_indices_map(array.shape).items():
        holders.setdefault(_bounds(index, array.shape), []).append(device)
    here = {shard.device: shard.data for shard in array.addressable_shards}
    for place, (bounds, devices) in enumerate(holders.items()):
        device = devices[(number + place) % len(devices)]
        if device in here:
            yield bounds, here[device]


def _bounds(index: Any, shape: tuple[int, ...]) -> Bounds:
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def _overlap(one: Bounds, other: Bounds) -> Bounds | None:
    common = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return common if all(start < to for start, to in common) else None


def _within(part: Bounds, whole: Bounds) -> tuple[slice, ...]:
    return tuple(
        slice(start - first, to - first)
        for (start, to), (first, _) in zip(part, whole, strict=True)
    )
