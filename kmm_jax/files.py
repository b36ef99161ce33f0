"""Whole files or none: write to a temporary sibling, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from kmm_jax.errors import DataError, UserError

# What only writing meets; another error in the same block may come from what is being read.
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# What file systems say that lock no files.
_LOCKLESS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_ABANDONED_SECONDS = 24 * 3600


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors of the disk name ``path``: a failed write names no file, an open the temporary."""
    try:
        yield
    except OSError as error:
        nameless = error.filename is None and error.errno in _OF_WRITING
        if nameless or str(error.filename) == str(temporary):
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open ``path`` for writing so that readers see the old file or the whole new one.

    The parent folder is created. On an exception nothing is left behind. ``mode`` is ``"wb"`` or
    ``"w"`` (UTF-8).

    Raises:
        OSError: it cannot be written; its ``filename`` is ``path`` where the disk is full, too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(path)
    try:
        with _naming(path, temporary):
            with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary sibling folder that takes the name ``path`` once it is whole.

    An existing folder at ``path`` is replaced; it is moved aside first, so a crash between the two
    renames leaves it under a ``.old`` name rather than losing it. The next call moves it back, and
    removes what a killed call left behind a day ago or earlier.

    Raises:
        OSError: it cannot be written; its ``filename`` is ``path`` where the disk is full, too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary, aside = _temporary_name(path), path.with_name(f".{path.name}.old")
    try:
        with _naming(path, temporary):
            if aside.exists() and not path.exists():
                aside.rename(path)
            temporary.mkdir()
            yield temporary
            _fsync_below(temporary)
            if path.exists():
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
            temporary.rename(path)
            _fsync(path.parent)
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed calls of ``atomic_write`` left of this file; no call may be writing it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def refuse_other(folder: Path, ours: Callable[[Path], bool], what: str) -> None:
    """Let ``folder`` be written where it is not there, empty, or holds what may be replaced.

    Args:
        ours: whether a folder holds such a thing.
        what: such a thing, as ``"exported model"``.

    Raises:
        UserError: it holds something else, which would be lost.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not ours(folder):
        raise UserError(
            f"{folder} exists and is no {what}; choose another folder, it would be replaced"
        )


def _sweep(path: Path) -> None:
    """Remove what killed calls for ``path`` left behind, once no call can still be writing it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):  # another process may sweep as well
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left)


def _fsync_below(folder: Path) -> None:
    for inner, _, names in os.walk(folder):
        for name in names:
            file = Path(inner) / name
            # Links have no content of their own, and opening a pipe would wait for its other end.
            if file.is_file() and not file.is_symlink():
                _fsync(file)
        _fsync(Path(inner))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; Korean stays readable."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The JSON in a file; None where there is no file, or no JSON in it."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def read_described(path: Path, format: str, *, missing: str, advice: str = "") -> dict[str, Any]:
    """The JSON object in a file that says of what format it is.

    Args:
        missing: the error where there is no file.
        advice: ends the error where it is of another format.

    Raises:
        DataError: it is missing, damaged, or of another format.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(missing) from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict) or found.get("format") != format:
        raise DataError(f"{path} is not of the format {format!r}{advice}")
    return found


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Hold the file ``path`` for this process alone while the block runs; it is there meanwhile.

    The lock is the operating system's (``flock``): it ends with the process however that ends, so
    that none is ever stale on one machine. On NFS the server keeps it (Linux passes ``flock`` on as
    a lock of the whole file), which holds between machines; that of a machine that lost power stays
    until its lease ends, some 90 seconds. Lustre needs the mount option ``flock``. Where a file
    system locks nothing (object stores mounted as folders), a warning is given and nothing is held.

    Args:
        what: the block does, for the message: ``a corpus is being built here``.

    Raises:
        UserError: another process holds it; names its host and number.
    """
    path = Path(path)
    new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _lock(path, what)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()
        if new:  # and nothing was made of it
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _lock(path: Path, what: str) -> IO[str]:
    import fcntl

    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "a process that has not said its name yet"
            file.close()
            raise UserError(
                f"{path.parent}: {what} by {holder}; wait for it, or end it first (what it has "
                "finished is kept)"
            ) from error
        except OSError as error:
            if error.errno not in _LOCKLESS:
                file.close()
                raise
            warnings.warn(
                f"{path.parent} is on a file system without locks ({error.strerror}): see to it "
                "yourself that no two processes work there at once",
                stacklevel=4,
            )
            return file
        # Its holder may have removed it after we opened it: then others lock another of that name.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
                return file
        file.close()
