"""Pictures out of tars: what stays is copied byte for byte, headers too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

from kmm_jax.corpus.purge.leftovers import sweep
from kmm_jax.data.tar_headers import Member, members
from kmm_jax.data.tar_index import forget, key_and_side
from kmm_jax.files import atomic_write
from kmm_jax.retrieval.purging import Found, Leaving, Note

_BLOCK = 512
_RECORD = 20 * _BLOCK  # tars end at a multiple of it, as tarfile and GNU tar write them
_AT_ONCE = 1 << 20
_RECORD_SIDE = 1


@dataclass(kw_only=True)
class _Row:
    """Members of one name."""

    key: str
    image_hash: str | None = None
    sides: set[int] = field(default_factory=set)
    members: list[Member] = field(default_factory=list)


class TarSet:
    """Tars that no manifest describes."""

    kind = "tars"

    def __init__(self, path: Path, shards: list[Path]) -> None:
        self.path = path
        self._shards = shards

    def mend(self) -> None:
        """Remove what killed writers of these tars left beside them."""
        for folder in {shard.parent for shard in self._shards}:
            sweep(folder, "*.tar")

    def look(self, hashes: frozenset[str]) -> Found:
        """Rows whose record names one of the hashes, or that are named by it."""
        return look_at(self._shards, hashes, read_records=True)

    def remove(self, found: Found, hashes: frozenset[str], note: Note) -> None:
        """Write the tars again; one that nothing is left of is removed."""
        for leaving in found.leaving:
            remove_from(leaving.path, hashes, read_records=True)


def look_at(shards: list[Path], hashes: frozenset[str], *, read_records: bool) -> Found:
    """Find the rows in tars.

    Args:
        read_records: whether a row may have another name than its ``image_hash``.

    Raises:
        DataError: a tar that is missing, truncated or none.
    """
    rows = 0
    leaving = []
    for shard in shards:
        with shard.open("rb", buffering=2048) as file:
            here, gone = _split(file, shard, hashes, read_records=read_records)
        rows += here
        if gone:
            leaving.append(
                Leaving(
                    path=shard,
                    rows=here,
                    removed=sum(bool(row.sides) for row in gone),
                    hashes=tuple(dict.fromkeys(row.image_hash or "" for row in gone)),
                )
            )
    removed = sum(one.removed for one in leaving)
    return Found(rows=rows, removed=removed, files=len(shards), leaving=tuple(leaving))


def remove_from(shard: Path, hashes: frozenset[str], *, read_records: bool) -> None:
    """Write a tar again without the rows; a tar without any row is removed.

    What ``write_shard`` wrote becomes what it would have written of the rows that stay.
    """
    # The index names the rows as well; while the tar is written none is better than an old one.
    forget(str(shard))
    with shard.open("rb", buffering=2048) as file:
        rows, gone = _split(file, shard, hashes, read_records=read_records)
        if rows == sum(bool(row.sides) for row in gone):
            shard.unlink()
            return
        cuts = sorted((one.start, _end(one)) for row in gone for one in row.members)
        with atomic_write(shard) as out:
            size, at = 0, 0
            for start, end in [*cuts, (_last(file, shard), 0)]:
                size += _copy(file, out, at, start)
                at = end
            padded = -(-(size + 2 * _BLOCK) // _RECORD) * _RECORD
            out.write(bytes(padded - size))


def _split(
    file: BinaryIO, shard: Path, hashes: frozenset[str], *, read_records: bool
) -> tuple[int, list[_Row]]:
    """How many rows there are, and those that leave."""
    rows = list(_rows(file, shard, read_records=read_records))
    gone: dict[str, _Row] = {}
    others = []
    found = []
    for row in rows:
        name = row.key.rpartition("/")[2]
        if row.image_hash not in hashes:
            row.image_hash = name if name in hashes else None
        if row.image_hash is not None:
            gone[row.key] = row
            found.append(row)
        elif _RECORD_SIDE not in row.sides:
            others.append(row)
    for row in others:
        # `abc.mask.png` has no record of its own: it is of the row `abc`.
        parts = row.key.split(".")
        owners = [".".join(parts[:count]) for count in range(1, len(parts))]
        owner = next((gone[key] for key in owners if key in gone), None)
        if owner is not None:
            row.image_hash = owner.image_hash
            found.append(row)
    return sum(bool(row.sides) for row in rows), found


def _rows(file: BinaryIO, shard: Path, *, read_records: bool) -> Iterator[_Row]:
    """The rows as ``tar_index`` counts them, with all members of their names."""
    newest: dict[str, _Row] = {}
    rows = []
    for member in members(file, str(shard), shard.stat().st_size):
        key, side = key_and_side(member.name)
        row = newest.get(key)
        if row is None or side in row.sides:
            row = newest[key] = _Row(key=key)
            rows.append(row)
        row.members.append(member)
        if side is not None:
            row.sides.add(side)
        if side == _RECORD_SIDE and read_records:
            file.seek(member.offset)
            row.image_hash = _hash_in(file.read(member.size))
    yield from rows


def _hash_in(record: bytes) -> str | None:
    """Of a record that cannot be read nothing is known but its name."""
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):
        return None
    value = found.get("image_hash") if isinstance(found, dict) else None
    return value.strip() if isinstance(value, str) else None


def _end(member: Member) -> int:
    return member.offset + -(-member.size // _BLOCK) * _BLOCK


def _last(file: BinaryIO, shard: Path) -> int:
    """Where the zeros at the end begin; behind the last file there may be folders and links."""
    size = shard.stat().st_size
    least = max((_end(one) for one in members(file, str(shard), size)), default=0)
    end = size // _BLOCK * _BLOCK
    while end > least:
        file.seek(end - _BLOCK)
        if file.read(_BLOCK).strip(b"\0"):
            break
        end -= _BLOCK
    return end


def _copy(file: BinaryIO, out: IO[Any], start: int, end: int) -> int:
    file.seek(start)
    left = end - start
    while left > 0:
        block = file.read(min(left, _AT_ONCE))
        out.write(block)
        left -= len(block)
    return end - start
