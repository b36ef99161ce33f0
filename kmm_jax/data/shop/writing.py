"""The shop as shards on disk: written whole or not at all, and not written twice."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.shop.shop import ShopConfig, render_item
from kmm_jax.errors import ConfigError, UserError
from kmm_jax.files import atomic_directory, write_json

_MANIFEST = "shop.json"
_SHARD = re.compile(r"(train|test)-\d+\.tar")
_CHUNK = 50
# Below this many items, starting a second process costs more than it saves.
_ALONE = 400

Row = tuple[dict[str, Any], bytes]


def write_shop(
    folder: str | os.PathLike[str],
    *,
    train: int,
    test: int,
    seed: int,
    image_size: int,
    english: bool = False,
    questions: bool = False,
    attributes: bool = False,
    processes: int | None = None,
) -> dict[str, Any]:
    """Write ``train-*.tar`` and ``test-*.tar`` into ``folder``, replacing an older shop there.

    ``train`` and ``test`` are numbers of items, ``image_size`` the side in pixels; ``english``,
    ``questions`` and ``attributes`` are as in :class:`ShopConfig`. The folder appears at once,
    whole, with a ``shop.json`` that tells what it holds; where that is already what is asked for,
    nothing is done. Of an older shop, the shards and their indexes go; whatever else was put
    beside them, such as a tokenizer, stays. ``processes`` is one a core by default; the bytes do
    not depend on it. A script that calls this with several processes needs the usual
    ``if __name__ == "__main__":``.

    Returns:
        What ``shop.json`` holds; equal for equal shops.

    Raises:
        ConfigError: a number out of its range.
        UserError: ``folder`` holds something else than a shop, or shards that are not the shop's.
    """
    folder = Path(folder)
    wanted = _description(train=train, test=test, seed=seed, image_size=image_size)
    # Not said where it is off, so that a shop from before these texts stays what it is.
    more = {"english": english, "questions": questions, "attributes": attributes}
    wanted |= {name: True for name, on in more.items() if on}
    both = ShopConfig(
        items=train,
        seed=seed,
        image_size=image_size,
        split="train",
        **more,
    )
    configs = [both, dataclasses.replace(both, items=test, split="test")]
    if processes is not None and processes < 1:
        raise ConfigError(f"the shop cannot be drawn by {processes} processes; give 1 or more")
    if _holds(folder, wanted):
        return _manifest(folder)
    _refuse_other_content(folder)
    with atomic_directory(folder) as whole, _mapper(processes, train + test) as mapped:
        shards: list[Path] = []
        for config in configs:
            with ShardWriter(whole, prefix=config.split) as writer:
                for record, jpeg in _with_progress(_rows(config, mapped), config):
                    writer.write(record, jpeg)
            shards += writer.shards
        files = {shard.name: shard.stat().st_size for shard in shards}
        manifest = {**wanted, "files": files}
        write_json(whole / _MANIFEST, manifest)
        _keep_other_entries(folder, whole)
    return manifest


def _description(**numbers: int) -> dict[str, Any]:
    return {"format": "kmm_jax shop", **numbers, "code": _code_version()}


@functools.cache
def _code_version() -> str:
    """A hash of this package's sources: other drawings or wordings are another shop."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _holds(folder: Path, wanted: dict[str, Any]) -> bool:
    manifest = _manifest(folder)
    files = manifest.pop("files", None)
    if manifest != wanted or not isinstance(files, dict):
        return False
    paths = {folder / name: size for name, size in files.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def _refuse_other_content(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; the shop needs a folder of its own")
    if any(folder.iterdir()) and not (folder / _MANIFEST).is_file():
        raise UserError(
            f"{folder} holds files but no {_MANIFEST}, so it is not a shop, and writing one would "
            "mix with them; choose a new folder"
        )
    # A damaged manifest does not tell: then all that is named like a shard is the shop's.
    files = _manifest(folder).get("files")
    if isinstance(files, dict):
        names = (path.name for path in folder.iterdir())
        added = [name for name in names if _SHARD.fullmatch(name) and name not in files]
        if added:
            raise UserError(
                f"{folder} holds {min(added)}, which this shop did not write and another shop "
                "would replace or mix with; move it, or choose a new folder"
            )


def _keep_other_entries(old: Path, new: Path) -> None:
    """Give the new folder what people put into the old one.

    Links, so that it costs nothing and the old folder stays whole until the new one has its name.
    """
    if not old.exists():
        return
    for path in old.iterdir():
        if path.name == _MANIFEST or _SHARD.fullmatch(path.name.removesuffix(".index")):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link)
        else:
            _link(path, new / path.name)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        # Some file systems know no hard links.
        shutil.copy2(source, target, follow_symlinks=False)


def _render(config: ShopConfig, start: int) -> list[Row]:
    """A run of rows; at module level, so that another process can be told to do it."""
    stop = min(start + _CHUNK, config.items)
    items = (render_item(config, index) for index in range(start, stop))
    return [(item.record, item.jpeg) for item in items]


def _cores() -> int:
    """The cores this process may use, where the system tells; else all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


Mapper = Callable[[Callable[[int], list[Row]], Iterable[int]], Iterator[list[Row]]]


@contextmanager
def _mapper(processes: int | None, items: int) -> Iterator[Mapper]:
    """A ``map`` that keeps the order: in this process for a few items, else in several."""
    if processes is None:
        processes = 1 if items < _ALONE else min(_cores(), 16)
    if processes == 1:
        yield map
        return
    # Spawned, because a forked child of a process that runs JAX may hang.
    pool: Executor = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield pool.map
    except BrokenProcessPool as error:
        raise UserError(
            "a process that draws the shop ended early. A script that calls write_shop must do so "
            "under `if __name__ == '__main__':`; or pass processes=1. If memory ran out, give "
            "fewer processes."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _rows(config: ShopConfig, mapped: Mapper) -> Iterator[Row]:
    for rows in mapped(functools.partial(_render, config), range(0, config.items, _CHUNK)):
        yield from rows


def _with_progress(rows: Iterator[Row], config: ShopConfig) -> Iterator[Row]:
    """The same rows; a line on a terminal tells how far they are."""
    begin = time.perf_counter()
    for done, row in enumerate(rows, start=1):
        yield row
        if sys.stderr.isatty() and (done % _CHUNK == 0 or done == config.items):
            rate = done / (time.perf_counter() - begin)
            print(
                f"\r\033[Kshop, {config.split}: {done:,} of {config.items:,} pictures drawn "
                f"({rate:,.0f}/s)",
                end="\n" if done == config.items else "",
                file=sys.stderr,
                flush=True,
            )
