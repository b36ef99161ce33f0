"""Loose picture files: listings of a thousand or so, each of which is a task's file.

A listing is a JSON line for each picture: its name below the folder, its size and what changes when
it does, and the same of the JSON beside it. So a picture that changed, came or went changes one
listing, and what was made of the others stays. Where the folder's list is cut depends on the names
next to the cut alone, so that a new name moves no cut behind it.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kmm_jax.data.patterns import braces
from kmm_jax.data.retries import patiently
from kmm_jax.data.storage import RandomReader, file_system, is_url, mark_of, stamp
from kmm_jax.errors import DataError
from kmm_jax.files import atomic_write

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
"""Of what counts as a picture, in any case."""

_LISTING = ".listing"
_MEAN, _MOST = 1000, 4000
_WILD = re.compile(r"[*?\[{]")
_AT_ONCE = 64
_THREADS = 16  # a store answers one request in some 50 ms and many at once


class Entry(NamedTuple):
    """One picture: its path, its name below the folder, bytes; bytes of the JSON beside it."""

    path: str
    name: str
    size: int
    json_size: int | None


def is_listing(file: str) -> bool:
    """Whether a file of pictures is a listing of them."""
    return file.endswith(_LISTING)


def write_listings(url: str, folder: Path) -> list[str]:
    """List the pictures that ``url`` names into ``folder``; a listing that stays as it is is not
    written. Hidden files are left out.

    Raises:
        DataError: there are none.
    """
    base, found = _found(url)
    names = sorted(name for name in found if _is_picture(name))
    if not names:
        raise DataError(f"no pictures: nothing matches {url} ({', '.join(SUFFIXES)})")
    written = []
    for number, own in enumerate(_cut(names)):
        lines = [{"folder": base, "pictures": len(own), "first": own[0], "last": own[-1]}]
        records = (found.get(_stem(name) + ".json", (None, None)) for name in own)
        entries = [[name, *found[name], *beside] for name, beside in zip(own, records, strict=True)]
        text = "".join(json.dumps(line) + "\n" for line in [*lines, *entries])
        path = folder / f"{number:05d}{_LISTING}"
        if not path.exists() or path.read_text("utf-8") != text:
            with atomic_write(path, "w") as file:
                file.write(text)
        written.append(str(path))
    return written


def entries(file: str) -> list[Entry]:
    """The pictures of a listing."""
    first, *lines = Path(file).read_text("utf-8").splitlines()
    folder = json.loads(first)["folder"]
    return [
        Entry(f"{folder}/{name}", name, size, json_size)
        for name, size, _, json_size, _ in map(json.loads, lines)
    ]


def shown(file: str) -> str:
    """A listing in the words of its user: the folder, and from which picture to which."""
    with Path(file).open(encoding="utf-8") as lines:
        told = json.loads(next(lines))
    words = f"{told['folder']}: {told['first']} to {told['last']} ({told['pictures']} pictures)"
    return words.encode("utf-8", "replace").decode()


def read(file: str) -> Iterator[tuple[Entry, bytes, bytes | None]]:
    """Each picture of a listing, its bytes and those of the JSON beside it.

    Raises:
        DataError: one is gone or is shorter than it was listed.
    """
    reader = RandomReader()

    def one(entry: Entry) -> tuple[Entry, bytes, bytes | None]:
        beside = None
        if entry.json_size:
            beside = reader.read(_stem(entry.path) + ".json", 0, entry.json_size)
        return entry, _bytes(reader, entry), beside

    yield from _each(one, entries(file))


def read_at(file: str, numbers: Sequence[int]) -> Iterator[bytes]:
    """The bytes of the pictures that stand at these places of a listing."""
    reader, listed = RandomReader(), entries(file)
    yield from _each(lambda entry: _bytes(reader, entry), [listed[number] for number in numbers])


def name_of(name: str) -> str:
    """A picture's name without its suffix, as texts may call it."""
    return _stem(name) if _is_picture(name) else name


def _bytes(reader: RandomReader, entry: Entry) -> bytes:
    return reader.read(entry.path, 0, entry.size) if entry.size else b""


def _each(call: Callable[[Entry], Any], listed: Sequence[Entry]) -> Iterator[Any]:
    if not listed or not is_url(listed[0].path):
        yield from map(call, listed)
        return
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(listed), _AT_ONCE):
            yield from pool.map(call, listed[start : start + _AT_ONCE])


def _found(url: str) -> tuple[str, dict[str, tuple[int, str]]]:
    """The folder that names are below, and of each file its name, its size and its mark."""
    wild = _WILD.search(url)
    base = url[: wild.start()].rpartition("/")[0] if wild else url.rstrip("/")
    if not wild and _is_picture(url):
        base = url.rpartition("/")[0]
    if is_url(url):
        inner = file_system(base)[1]
    else:
        base = inner = str(Path(base or ("/" if url.startswith("/") else ".")).expanduser())
    # Names are below the folder, in whatever form the file system has the folder.
    inner = "" if inner == "." else inner.rstrip("/") + "/"
    listed = itertools.chain.from_iterable(map(_listed, _with_records(url)))
    names = ((path.removeprefix(inner).lstrip("/"), size, mark) for path, size, mark in listed)
    hidden = re.compile(r"(^|/)\.")
    return base.rstrip("/"), {
        name: (size, mark) for name, size, mark in names if not hidden.search(name)
    }


def _with_records(url: str) -> Iterable[str]:
    """The patterns of the pictures, and of the JSON beside them."""
    patterns = braces(url)
    return dict.fromkeys(
        [*patterns, *(_stem(one) + ".json" for one in patterns if _is_picture(one))]
    )


def _listed(pattern: str) -> Iterator[tuple[str, int, str]]:
    if is_url(pattern):
        system, inner = file_system(pattern)
        # `find` lists what is below a folder, and of a file the file.
        list_all = system.glob if _WILD.search(inner) else system.find
        for path, info in patiently(pattern, lambda: list_all(inner, detail=True)).items():
            if info.get("size") is None:  # pages of HTTP list names alone
                info = patiently(path, functools.partial(system.info, path))
            if info["type"] != "file":
                continue
            if info.get("size") is None:
                raise DataError(f"{path}: the server does not tell its size, which reading needs")
            yield path, info["size"], mark_of(info) or str(sorted(map(str, info.items())))
        return
    path = Path(pattern).expanduser()
    if path.is_dir():
        found: Iterable[Path] = path.rglob("*")
    elif _WILD.search(pattern):
        found = Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
    else:
        found = [path]
    for one in found:
        if one.is_file():
            size, mark = stamp(str(one))
            yield str(one), size, str(mark)


def _cut(names: Sequence[str]) -> Iterator[list[str]]:
    held: list[str] = []
    for name in names:
        held.append(name)
        digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).digest()
        if int.from_bytes(digest, "big") % _MEAN == 0 or len(held) == _MOST:
            yield held
            held = []
    if held:
        yield held


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
