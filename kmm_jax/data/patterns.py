"""Which shards a name means: a folder, a glob, a brace range, a list, or any of them as a URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kmm_jax.data.storage import file_system, is_url
from kmm_jax.errors import DataError

Pattern = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WILD = re.compile(r"[*?\[]")


def expand(pattern: Pattern) -> list[str]:
    """The shards that ``pattern`` names, in natural order (``train-2`` before ``train-10``).

    ``pattern`` is a shard, a folder (all ``*.tar`` in it), a glob, a brace range
    ``train-{000..012}.tar``, braces with commas, a list of these, or a URL of any of these kinds.

    Raises:
        DataError: nothing there; the message says what was looked for.
    """
    if not isinstance(pattern, str | os.PathLike):
        return [shard for one in pattern for shard in expand(one)]
    pattern = os.fspath(pattern)
    return [shard for one in braces(pattern) for shard in _expand_one(one)]


def sets(shards: Iterable[str]) -> dict[str, list[str]]:
    """The shards by set: the name before the number (``train-000.tar`` is of ``train``)."""
    found: dict[str, list[str]] = {}
    for shard in shards:
        found.setdefault(re.sub(r"[-_.]?\d*\.tar$", "", Path(shard).name), []).append(shard)
    return found


def one_set(shards: list[str], pattern: Pattern) -> list[str]:
    """``shards``, unless a folder was named that holds several sets (train and test).

    Raises:
        DataError: several sets; the message says how to name one.
    """
    found = sets(shards)
    if len(found) > 1 and _names_folder(pattern):
        folder = str(pattern).rstrip("/")
        names = ", ".join(f"{name} ({len(some)} shards)" for name, some in sorted(found.items()))
        example = f"{folder}/{min(found, key=lambda name: name != 'train')}-*.tar"
        raise DataError(f"{folder} holds several sets: {names}; name one of them: '{example}'")
    return shards


def _names_folder(pattern: Pattern) -> bool:
    if not isinstance(pattern, str | os.PathLike):
        return False
    text = os.fspath(pattern)
    return not (text.endswith(".tar") or _WILD.search(text) or _BRACES.search(text))


def braces(pattern: str) -> list[str]:
    """The patterns without braces that one with braces stands for: ``{000..012}``, ``{jpg,png}``.

    Raises:
        DataError: a range runs backwards.
    """
    match = _BRACES.search(pattern)
    if not match:
        return [pattern]
    inside = match.group(1)
    span = _RANGE.fullmatch(inside)
    if span:
        first, last = span.groups()
        if int(last) < int(first):
            raise DataError(f"{pattern}: the range {{{inside}}} runs backwards")
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        choices = inside.split(",")
    return [
        whole
        for choice in choices
        for whole in braces(pattern[: match.start()] + choice + pattern[match.end() :])
    ]


def _expand_one(pattern: str) -> list[str]:
    if is_url(pattern):
        return _expand_url(pattern)
    path = Path(pattern).expanduser()
    if path.is_dir():
        return _some((str(one) for one in path.glob("*.tar")), f"{pattern}/*.tar")
    if path.exists():
        return [str(path)]
    if _WILD.search(pattern):
        return _some(map(str, Path(path.anchor or ".").glob(_relative(path))), pattern)
    raise DataError(f"{pattern}: no such shard or folder (looked in {path.parent.absolute()})")


def _relative(path: Path) -> str:
    return str(path.relative_to(path.anchor))


def _expand_url(url: str) -> list[str]:
    system, inner = file_system(url)
    if _WILD.search(inner):
        return _some((system.unstrip_protocol(one) for one in system.glob(inner)), url)
    if system.isdir(inner):
        found = system.glob(inner.rstrip("/") + "/*.tar")
        return _some((system.unstrip_protocol(one) for one in found), f"{url}/*.tar")
    if system.exists(inner):
        return [url]
    raise DataError(f"{url}: no such shard or folder")


def _some(found: Iterable[str], looked_for: str) -> list[str]:
    shards = sorted(found, key=_natural)
    if not shards:
        raise DataError(f"no shards: nothing matches {looked_for}")
    return shards


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]
