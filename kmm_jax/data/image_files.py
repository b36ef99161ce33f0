"""Images by name: the files of a folder, or the members of a tar that stays packed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kmm_jax.data.storage import RandomReader
from kmm_jax.data.tar_headers import members
from kmm_jax.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class ImageFiles:
    """The files below ``path``, a folder or an uncompressed tar, readable from any thread.

    Raises:
        DataError: neither is there, or the tar is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] | None = None
        if path.is_file():
            total = path.stat().st_size
            with path.open("rb", buffering=2048) as file:
                self._places = {
                    member.name.removeprefix("./"): (member.offset, member.size)
                    for member in members(file, str(path), total)
                }
        elif not path.is_dir():
            raise DataError(f"{path}: no such folder or tar of images")
        self._reader = RandomReader()

    def names(self) -> Iterator[str]:
        """The images by their path within the folder or tar, sorted; hidden files are left out."""
        if self._places is not None:
            found = list(self._places)
        else:
            found = [
                file.relative_to(self.path).as_posix()
                for file in self.path.rglob("*")
                if file.suffix.lower() in SUFFIXES
            ]
        for name in sorted(found):
            last = name.rpartition("/")[2]
            if last.lower().endswith(SUFFIXES) and not last.startswith("."):
                yield name

    def __contains__(self, name: str) -> bool:
        if self._places is not None:
            return name in self._places
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """The bytes of one image.

        Raises:
            DataError: it is not there, or lies outside the folder.
        """
        if self._places is not None:
            if name not in self._places:
                raise DataError(f"{name} is not in {self.path}")
            return self._reader.read(str(self.path), *self._places[name])
        path = self.path / name
        # A table must not read files outside its folder.
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise DataError(f"{name} lies outside {self.path}")
        try:
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise DataError(f"{path} is not a file") from error
