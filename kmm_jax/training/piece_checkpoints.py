"""Checkpoints at a URL: each process puts its pieces, and all of them together are the checkpoint.

    checkpoints/STEP-ATTEMPT/00000-of-00002-00000.bin   arrays' bytes
    checkpoints/STEP-ATTEMPT/00000-of-00002.json        where each piece is; put last
    checkpoints/STEP-ATTEMPT/damaged                    it could not be read

A checkpoint is whole when every process's index is there, so that nothing is ever renamed and no
process waits for another. An attempt is one start of the run; two never write into one folder.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.training import pieces, store
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.pieces import Block, Entry, Piece

FORMAT = "kmm_jax pieces 1"

# Small enough to be put again where the connection broke, large enough that requests do not count.
_FILE_BYTES = 64 << 20
_PUTTING, _GETTING = 8, 16  # requests at a time, each with a file or a piece in memory
_OTHERS_SECONDS = 300.0  # what another process may take longer than this one
_FOLDER = re.compile(r"(\d+)-([0-9a-f]{8})")
_INDEX = re.compile(r"\d{5}-of-(\d{5})\.json")
_DAMAGED = "damaged"


def holds_pieces(folder: Path) -> bool:
    """Whether the local ``checkpoints`` folder was copied from a URL."""
    return folder.is_dir() and any(_FOLDER.fullmatch(path.name) for path in folder.iterdir())


class PieceFolder:
    """The checkpoints of a run at a URL, to read them."""

    def __init__(self, url: str) -> None:
        self.where = f"{url}/checkpoints"

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, newest first.

        Raises:
            DataError: checkpoints written on a local disk lie there.
        """
        return sorted(self.whole(), reverse=True)

    def whole(self) -> dict[int, str]:
        """The folders of the whole checkpoints that are not marked as damaged, by step."""
        found = {}
        for name, is_folder in store.listing(self.where):
            if is_folder and name.isdecimal():
                raise DataError(
                    f"{self.where}/{name} was written on a local disk; copy the run to one, and "
                    "use it from there"
                )
            if (match := _FOLDER.fullmatch(name)) and is_folder:
                files = [file for file, _ in store.listing(f"{self.where}/{name}")]
                if _DAMAGED not in files and _indexes(files):
                    found[int(match[1])] = name
        return found

    def path(self, step: int) -> str:
        """Of a whole checkpoint, for people and for what reads it.

        Raises:
            DataError: there is none of that step (any more).
        """
        whole = self.whole()
        if step not in whole:
            raise DataError(f"{self.where} holds no whole checkpoint of step {step} any more")
        return f"{self.where}/{whole[step]}"

    def parts(self, step: int) -> set[str]:
        """The names that ``load`` takes for this step (``params``, ...)."""
        return {name.partition("/")[0] for name in self._entries(self.path(step))}

    def load(self, step: int, abstract: Mapping[str, Any]) -> dict[str, Any]:
        """Parts of a checkpoint on any mesh; each process reads the pieces that it needs.

        Args:
            abstract: trees of ``jax.ShapeDtypeStruct`` with shardings, by name.

        Raises:
            DataError: damaged, or of another model.
            ConnectionError: the store stays out of reach.
        """
        path = self.path(step)
        entries = self._entries(path)
        wanted = pieces.named(abstract)
        if missing := wanted.keys() - entries.keys():
            raise DataError(f"{path} holds no {min(missing)} ({len(missing)} missing)")

        def assemble(name: str) -> Any:
            return pieces.assemble(name, entries[name], wanted[name], lambda one: _read(path, one))

        with ThreadPoolExecutor(_GETTING) as pool:
            arrays = [
                pieces.placed(leaf, parts)
                for leaf, parts in zip(wanted.values(), pool.map(assemble, wanted), strict=True)
            ]
        return jax.tree.unflatten(jax.tree.structure(abstract), arrays)

    def set_aside(self, step: int) -> str:
        """Let a damaged checkpoint count no more; says how it is kept."""
        path = self.path(step)
        store.put(f"{path}/{_DAMAGED}", b"")
        return f"kept, with a file {_DAMAGED!r} in it"

    def metrics(self, folder: str) -> dict[str, float]:
        """What the checkpoint in ``folder`` may be ranked by."""
        return self._indexes(f"{self.where}/{folder}", only_first=True)[0]["metrics"]

    def _entries(self, path: str) -> dict[str, Entry]:
        about: dict[str, tuple[tuple[int, ...], str]] = {}
        found: dict[str, list[Piece]] = collections.defaultdict(list)
        for index in self._indexes(path):
            for name, array in index["arrays"].items():
                about[name] = (tuple(array["shape"]), array["dtype"])
                for bounds, *rest in array["pieces"]:
                    file, offset, size, crc = rest
                    part = tuple((start, to) for start, to in bounds)
                    found[name].append(
                        Piece(bounds=part, file=file, offset=offset, size=size, crc=crc)
                    )
        return {
            name: Entry(shape=shape, dtype=dtype, pieces=tuple(found[name]))
            for name, (shape, dtype) in about.items()
        }

    def _indexes(self, path: str, *, only_first: bool = False) -> list[dict[str, Any]]:
        names = _indexes([file for file, _ in store.listing(path)])
        with ThreadPoolExecutor(_GETTING) as pool:
            read = lambda name: json.loads(store.get(f"{path}/{name}"))  # noqa: E731
            indexes = list(pool.map(read, names[:1] if only_first else names))
        for index in indexes:
            if index.get("format") != FORMAT:
                raise DataError(f"{path} is not of the format {FORMAT!r}")
        return indexes


class PieceWriter:
    """Writes the checkpoints of a run at a URL, in the background.

    Args:
        folder: where they are read.
        before: called in the background before each checkpoint; what it puts is there when the
            checkpoint is.
    """

    def __init__(
        self, folder: PieceFolder, config: CheckpointConfig, before: Callable[[], None]
    ) -> None:
        self._folder = folder
        self._config = config
        self._before = before
        self._attempt = _agreed_attempt()
        found = self._folder.whole()
        self._saved, self._found = set(found), frozenset(found.values())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kmm-checkpoint")
        self._told: set[str] = set()
        if jax.process_index() == 0:
            self._sweep()

    def has(self, step: int) -> bool:
        """Whether a whole checkpoint of the step is there."""
        return step in self._saved

    def save(
        self, step: int, parts: Mapping[str, Any], metrics: dict[str, float]
    ) -> Callable[[], None]:
        """Copy this process's share of ``parts`` and begin to put it.

        What is returned waits for the end. It raises DataError where the store refuses,
        ConnectionError where it stays out of reach.
        """
        arrays = pieces.named(parts)
        blocks = pieces.own_blocks(arrays)
        about = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        return self._thread.submit(self._write, step, about, blocks, metrics).result

    def close(self) -> None:
        """End the thread; what was begun is finished."""
        self._thread.shutdown()

    def _write(
        self,
        step: int,
        about: dict[str, tuple[tuple[int, ...], str]],
        blocks: list[Block],
        metrics: dict[str, float],
    ) -> None:
        self._before()
        folder = f"{step}-{self._attempt}"
        path = f"{self._folder.where}/{folder}"
        own = f"{jax.process_index():05}-of-{jax.process_count():05}"
        arrays: dict[str, dict[str, Any]] = {
            name: {"shape": shape, "dtype": dtype, "pieces": []}
            for name, (shape, dtype) in about.items()
        }

        def put(numbered: tuple[int, list[Block]]) -> list[tuple[str, Piece]]:
            number, pack = numbered
            content, index = pieces.written(pack, f"{own}-{number:05}.bin")
            store.put(f"{path}/{own}-{number:05}.bin", content)
            return index

        with ThreadPoolExecutor(_PUTTING) as pool:
            for index in pool.map(put, enumerate(pieces.packed(blocks, _FILE_BYTES))):
                for name, piece in index:
                    arrays[name]["pieces"].append(list(dataclasses.astuple(piece)))
        about_all = {"format": FORMAT, "step": step, "metrics": metrics, "arrays": arrays}
        store.put(f"{path}/{own}.json", json.dumps(about_all).encode())
        self._saved.add(step)
        if jax.process_index() == 0:
            self._await_others(path)
            self._remove_old()

    def _await_others(self, path: str) -> None:
        end = time.monotonic() + _OTHERS_SECONDS
        wait = 0.1
        while not _indexes([file for file, _ in store.listing(path)]):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{path} is not whole: other processes have not put their parts in "
                    f"{_OTHERS_SECONDS:.0f} seconds"
                )
            time.sleep(wait)
            wait = min(2 * wait, 5.0)

    def _remove_old(self) -> None:
        """Keep the newest and the best.

        What another start of the run, still alive somewhere, puts meanwhile is neither counted nor
        removed: it may be damaged, or be all that there is.
        """
        with self._tidying("old checkpoints"):
            whole = {
                step: folder
                for step, folder in self._folder.whole().items()
                if folder in self._found or folder.endswith(f"-{self._attempt}")
            }
            steps = sorted(whole, reverse=True)
            kept = set(steps[: self._config.keep_latest])
            name = self._config.best_metric
            if name is not None:
                sign = 1 if self._config.best_is == "highest" else -1
                metrics = {step: self._folder.metrics(whole[step]) for step in steps}
                ranked = sorted(
                    (sign * values[name], step)
                    for step, values in metrics.items()
                    if name in values
                )
                kept |= {step for _, step in ranked[-self._config.keep_best :]}
            for step in steps:
                if step not in kept:
                    self._remove(whole[step])

    def _sweep(self) -> None:
        """Remove what killed attempts left half written."""
        with self._tidying("half-written checkpoints"):
            for name, is_folder in store.listing(self._folder.where):
                match = _FOLDER.fullmatch(name)
                if match and is_folder and name not in self._found and match[2] != self._attempt:
                    files = [file for file, _ in store.listing(f"{self._folder.where}/{name}")]
                    if _DAMAGED not in files and not _indexes(files):
                        self._remove(name)

    @contextlib.contextmanager
    def _tidying(self, what: str) -> Iterator[None]:
        """What fails in here is said once, and no reason to end: all that is needed is there."""
        try:
            yield
        except Exception as error:  # an index that cannot be read has many ways to fail
            if what not in self._told:
                print(f"{what} stay: {error}", file=sys.stderr, flush=True)
            self._told.add(what)

    def _remove(self, folder: str) -> None:
        """First the indexes, so that what a kill leaves of it does not look whole."""
        path = f"{self._folder.where}/{folder}"
        for index in _indexes([file for file, _ in store.listing(path)]):
            store.remove(f"{path}/{index}")
        store.remove(path)


def _indexes(files: list[str]) -> list[str]:
    """The names of the index files, one a process; none unless all are there."""
    matches = [match for file in files if (match := _INDEX.fullmatch(file))]
    names = sorted(match[0] for match in matches)
    return names if matches and len(names) == int(matches[0][1]) else []


def _read(path: str, piece: Piece) -> bytes:
    if not piece.size:
        return b""
    return store.get(f"{path}/{piece.file}", piece.offset, piece.offset + piece.size)


def _agreed_attempt() -> str:
    number = np.asarray(secrets.randbits(31), np.int32)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        number = multihost_utils.broadcast_one_to_all(number)
    return f"{int(number):08x}"
