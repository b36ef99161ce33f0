"""The members of a tar by streaming over its headers: ustar, GNU long names and pax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from kmm_jax.errors import DataError

_BLOCK = 512
_ZERO = bytes(_BLOCK)
_REGULAR = b"0\0" + b"7"
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"
# A long name or a pax header is a few hundred bytes; a corrupt size must not be allocated.
_MAX_EXTENSION = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Member:
    """A regular file in a tar: its name, where its headers begin and where its bytes stand."""

    name: str
    start: int
    offset: int
    size: int


def members(file: BinaryIO, name: str, total: int) -> Iterator[Member]:
    """The regular files of the tar ``file``, in order; data is skipped, not read.

    ``file`` is seekable and ``total`` bytes long; ``name`` is how errors call it.

    Raises:
        DataError: compressed, corrupt or truncated; a truncation names the last whole member.
    """
    position, count, last = 0, 0, "none"
    start: int | None = None
    extension = _Extension()

    def fail(what: str) -> DataError:
        return DataError(
            f"{name}: {what} ({total:,} bytes, {count:,} whole members, the last one {last!r}). "
            "Copy or build this shard again, or leave it out."
        )

    while True:
        file.seek(position)
        header = file.read(_BLOCK)
        if header == _ZERO:
            return
        if len(header) < _BLOCK:
            if total == 0:
                raise DataError(f"{name}: empty shard (0 bytes); build it again or leave it out")
            raise fail("truncated tar: it ends without the end-of-archive mark")
        if position == 0 and header.startswith((_GZIP, _BZIP2, _XZ, _ZSTD)):
            raise DataError(
                f"{name}: a compressed tar cannot be read at random; decompress it first"
            )
        if not _checksum_holds(header):
            raise fail(f"not a tar header at byte {position:,}")
        kind = header[156:157]
        try:
            size = _number(header[124:136])
        except ValueError as error:
            raise fail(f"corrupt size in the header at byte {position:,}") from error
        if kind not in b"LKxgX" and extension.size is not None:
            size = extension.size
        data = position + _BLOCK
        if data + size > total:
            raise fail(
                f"truncated tar: a member at byte {position:,} needs {size:,} bytes, "
                f"{max(total - data, 0):,} are there"
            )
        begins = position if start is None else start
        position = data + -(-size // _BLOCK) * _BLOCK
        if kind in b"LKxgX":
            if size > _MAX_EXTENSION:
                raise fail(f"corrupt extended header at byte {data - _BLOCK:,}")
            try:
                extension.read(kind, file.read(size))
            except ValueError as error:
                raise fail(f"corrupt extended header at byte {data - _BLOCK:,}") from error
            # A global header (g) is of all that follow, not of the next member.
            start = None if kind == b"g" else begins
            continue
        start = None
        name_inside = extension.name or _name(header)
        member = Member(name=name_inside, start=begins, offset=data, size=size)
        extension = extension.after_member()
        if kind in _REGULAR and not member.name.endswith("/"):
            yield member
        count, last = count + 1, member.name


class _Extension:
    """What the extended headers before a member say about it."""

    def __init__(self, everywhere: dict[str, str] | None = None) -> None:
        self._everywhere = everywhere or {}
        self._here: dict[str, str] = {}

    @property
    def name(self) -> str | None:
        return self._here.get("path", self._everywhere.get("path"))

    @property
    def size(self) -> int | None:
        size = self._here.get("size", self._everywhere.get("size"))
        return None if size is None else int(size)

    def after_member(self) -> _Extension:
        return _Extension(self._everywhere)

    def read(self, kind: bytes, data: bytes) -> None:
        if kind == b"L":
            self._here["path"] = _text(data.split(b"\0", 1)[0])
        elif kind == b"g":
            self._everywhere = {**self._everywhere, **_pax(data)}
        elif kind in b"xX":
            self._here.update(_pax(data))


def _pax(data: bytes) -> dict[str, str]:
    """The records ``<length> <key>=<value>\\n`` of a pax header."""
    found, position = {}, 0
    while position < len(data) and data[position] != 0:
        space = data.index(b" ", position)
        length = int(data[position:space])
        if length <= space - position or position + length > len(data):
            raise ValueError("pax record length")
        key, _, value = data[space + 1 : position + length - 1].partition(b"=")
        found[_text(key)] = _text(value)
        position += length
    return {key: found[key] for key in ("path", "size") if key in found}


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    # The prefix exists in POSIX ustar; old GNU headers keep times at the same place.
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """A header number: octal text, or base 256 for sizes of 8 GiB and more (GNU)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits else 0


def _checksum_holds(header: bytes) -> bool:
    try:
        stated = _number(header[148:156])
    except ValueError:
        return False
    return stated == sum(header) - sum(header[148:156]) + 8 * ord(" ")
