"""Where a run lives: a local folder, or a URL of any fsspec file system.

Files of a run grow line by line, and an object store takes whole objects only. A run at a URL
therefore has a working folder on each host; what changed there is put to the URL before each
checkpoint and at the end, and a run that is continued begins with what the URL holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from kmm_jax.data.storage import is_url
from kmm_jax.errors import ConfigError
from kmm_jax.training import store

_STACKS = "stacks-of-process-"


def location(run_dir: str | os.PathLike[str]) -> Path | str:
    """``run_dir`` as a local path or, without a slash at its end, as a URL.

    Raises:
        ConfigError: a URL that went through ``Path``, which drops one of its slashes.
    """
    text = os.fspath(run_dir)
    if is_url(text):
        return text.rstrip("/")
    if re.match(r"(gs|gcs|s3|az|abfss?|hdfs|memory|file):/", text):
        scheme, _, rest = text.partition(":/")
        raise ConfigError(f"{text} is no path; give the URL as a string: {scheme}://{rest}")
    return Path(run_dir)


class RunPlace:
    """A run's place, as one process sees it.

    Process 0 keeps the run's files. What another process writes (its bad rows, its stacks) goes to
    ``processes/NUMBER/`` of a URL, and beside process 0's files on a local disk.

    Attributes:
        root: the local folder or the URL; the checkpoints are there.
        folder: where this process reads and writes all other files: the local folder itself, or the
            URL's working folder on this host.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self.root = location(run_dir)
        if isinstance(self.root, Path):
            self.folder = self.root
            return
        number = jax.process_index()
        self._url = f"{self.root}/processes/{number}" if number else self.root
        self.folder = _working_folder(self.root, number)
        _empty(self.folder)
        fetched = store.fetch(self.root, self.folder, lambda name: not number or name in _OF_ALL)
        if number:
            fetched += store.fetch(self._url, self.folder)
        self._published = {name: _mark(self.folder / name) for name in fetched}

    def names(self) -> list[str]:
        """What stands directly in the run's folder; nothing where there is none."""
        if isinstance(self.root, str):
            return [name for name, _ in store.listing(self.root)]
        return [path.name for path in self.root.iterdir()] if self.root.is_dir() else []

    def publish(self) -> None:
        """Put what changed in the working folder since the last time to the URL, file by file.

        Raises:
            DataError: the URL refuses it.
            ConnectionError: it stays out of reach.
        """
        if isinstance(self.root, Path):
            return
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.name.startswith(".") or not path.is_file():
                continue
            try:
                mark = _mark(path)
                content = path.read_bytes() if self._published.get(name) != mark else None
            except FileNotFoundError:  # trackers' files and the profiler's come and go
                continue
            if content is not None:
                store.put(f"{self._url}/{name}", content)
                self._published[name] = mark

    @contextlib.contextmanager
    def published(self) -> Iterator[None]:
        """Publish at the end, however it ends; an error inside is worth more than one here."""
        try:
            yield
        except BaseException:
            try:
                self.publish()
            except Exception as error:
                print(f"{error}; the run's files are in {self.folder}", file=sys.stderr)
            raise
        self.publish()

    def check_shared(self) -> None:
        """Whether every process sees what process 0 wrote to the URL; all of them ask.

        Raises:
            ConfigError: one does not; each would keep its part of a checkpoint elsewhere. Raised in
                every process, so that none waits for another.
        """
        if isinstance(self.root, Path):
            return
        from jax.experimental import multihost_utils

        sees = np.asarray(store.exists(f"{self.root}/config.json"))
        blind = np.flatnonzero(~multihost_utils.process_allgather(sees))
        if len(blind):
            raise ConfigError(
                f"process {blind[0]} does not see what process 0 wrote to {self.root}; several "
                "processes need a place that all of them share, such as gs://... or s3://..."
            )


_OF_ALL = ("config.json",)


def _mark(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _working_folder(url: str, number: int) -> Path:
    name = f"{url.rpartition('/')[2]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    below = Path(tempfile.gettempdir()) / f"kmm_jax-{os.getuid()}" / "runs"
    return below / name / f"process-{number}"


def _empty(folder: Path) -> None:
    """Remove what a run left, but for the stacks of one that stood still: they are nowhere else."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif not path.name.startswith(_STACKS):
            path.unlink()
