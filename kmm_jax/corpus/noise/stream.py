"""Rows of shards in one pass forward, wherever they lie; pictures only where they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kmm_jax.data.patterns import Pattern, expand, one_set
from kmm_jax.data.schema import parse_record
from kmm_jax.data.storage import open_stream, stamp
from kmm_jax.data.tar_headers import members
from kmm_jax.data.tar_index import key_and_side
from kmm_jax.errors import DataError

_IMAGE, _RECORD = 0, 1


class Place(NamedTuple):
    """Where a picture's bytes are: the shard's number, the offset in it and how many."""

    shard: int
    offset: int
    size: int


class Row(NamedTuple):
    """A picture with its record.

    Attributes:
        image: the encoded picture, if asked for.
    """

    image_hash: str
    record: dict[str, Any]
    place: Place
    image: bytes | None


class Shards:
    """A set of shards, read forward as often as needed.

    Attributes:
        bad: rows of the last pass whose record or picture is missing or broken.

    Raises:
        DataError: nothing there, or several sets in the folder named.
    """

    def __init__(self, pattern: Pattern) -> None:
        self.shards: Sequence[str] = one_set(expand(pattern), pattern)
        self.bad = 0

    def rows(self, *, images: bool = False) -> Iterator[Row]:
        """Every good row.

        Raises:
            DataError: a shard that is missing, truncated or no tar.
        """
        self.bad = 0
        for number, shard in enumerate(self.shards):
            total, _ = stamp(shard)
            held: dict[str, dict[int, Any]] = {}
            with open_stream(shard) as file:
                for member in members(file, shard, total):
                    key, side = key_and_side(member.name)
                    if side is None:
                        continue
                    parts = held.setdefault(key, {})
                    data = None
                    if side == _RECORD or images:
                        file.seek(member.offset)
                        data = file.read(member.size)
                    parts[side] = (Place(number, member.offset, member.size), data)
                    if len(parts) == 2:
                        (place, image), (_, record) = parts[_IMAGE], parts[_RECORD]
                        del held[key]
                        row = self._row(place, image, record)
                        if row is not None:
                            yield row
            self.bad += len(held)

    def _row(self, place: Place, image: bytes | None, raw: bytes) -> Row | None:
        try:
            record = parse_record(raw)
        except DataError:
            self.bad += 1
            return None
        return Row(record["image_hash"], record, place, image)


def digest(image_hash: str) -> int:
    """A picture's hash as a number below 2**64, evenly spread whatever the hash is."""
    found = hashlib.blake2b(image_hash.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(found.digest(), "big")
