"""Weights of other libraries on disk: safetensors, whole or in parts, one tensor in memory a time.

Pickles (``.pt``, ``.bin``, ``.pth``, ``.ckpt``) are refused: reading one runs whatever is in it.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import DataError, UserError

INDEX = "model.safetensors.index.json"
_NAMES = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".npz")
_PART_BYTES = 5 * 10**9
_CONVERT = (
    "turn it into safetensors once, beside PyTorch, by: python -m tools.convert_pickle FILE "
    "--output FILE.safetensors (it takes tensors and nothing else)"
)


class Weights(Mapping[str, np.ndarray]):
    """Named tensors of one or several safetensors files; each is read when it is asked for.

    Attributes:
        path: what was given.
        folder: where files about it lie.
    """

    def __init__(
        self, path: Path, files: Mapping[str, Path], *, stored: Mapping[str, str] | None = None
    ):
        """``files`` says where each name is; ``stored`` what it is called there, if otherwise."""
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        self._files, self._stored = dict(files), dict(stored or {})
        self._open: dict[Path, Any] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        file = self._files[name]
        return np.asarray(self._opened(file).get_tensor(self._stored.get(name, name)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor, without reading it.

        Raises:
            DataError: there is no such tensor, and the weights are not whole.
        """
        if name not in self:
            raise DataError(f"{self.path} has no tensor {name}; it is not whole, or another model")
        return tuple(
            self._opened(self._files[name]).get_slice(self._stored.get(name, name)).get_shape()
        )

    def matching(self, pattern: str) -> list[str]:
        """The names that a regular expression matches from their beginning."""
        return [name for name in self if re.match(pattern, name)]

    def count(self, pattern: str) -> int:
        """How many layers there are: one more than the largest number the pattern finds."""
        found = (re.match(pattern, name) for name in self)
        return max((int(each[1]) + 1 for each in found if each), default=0)

    def about(self, *names: str) -> dict[str, Any]:
        """The first JSON file of these names beside the weights; empty where there is none.

        Raises:
            DataError: it is no JSON.
        """
        for name in names:
            file = self.folder / name
            if file.is_file():
                try:
                    return dict(json.loads(file.read_text("utf-8")))
                except ValueError as error:
                    raise DataError(f"{file} is damaged: {error}") from error
        return {}

    def metadata(self) -> dict[str, str]:
        """What is written in the head of the file; empty where there is nothing, or several files.

        Raises:
            DataError: it is damaged.
        """
        files = set(self._files.values())
        return dict(self._opened(*files).metadata() or {}) if len(files) == 1 else {}

    def below(self, prefix: str) -> Weights:
        """The tensors below a prefix, under their names."""
        return self.renamed({name: name for name in self if name.startswith(prefix)})

    def without(self, prefix: str) -> Weights:
        """The tensors below a prefix, named without it."""
        below = [name for name in self if name.startswith(prefix)]
        return self.renamed({name: name.removeprefix(prefix) for name in below})

    def renamed(self, names: Mapping[str, str]) -> Weights:
        """Of these tensors, those that ``names`` has, under the names that it gives them."""
        return Weights(
            self.path,
            {new: self._files[name] for name, new in names.items()},
            stored={new: self._stored.get(name, name) for name, new in names.items()},
        )

    def _opened(self, file: Path) -> Any:
        if file not in self._open:
            from safetensors import SafetensorError, safe_open

            try:
                self._open[file] = safe_open(str(file), "numpy")
            except (SafetensorError, OSError) as error:
                raise DataError(f"{file} is damaged or unreadable: {error}") from error
        return self._open[file]


def open_weights(path: str | Path) -> Weights:
    """The tensors of a safetensors file, or of a folder that holds one or an index of several.

    Raises:
        UserError: a pickle, or no safetensors there.
        DataError: a file is damaged, or a part of several is missing.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise UserError(f"no weights at {path}")
    if path.name.endswith(".index.json"):
        return _of_index(path)
    if path.suffix in _PICKLES:
        raise UserError(f"{path} is a pickle, which is never loaded here; {_CONVERT}")
    if path.suffix != ".safetensors":
        raise UserError(f"{path} is no .safetensors file nor a folder that holds one")
    return Weights(path, dict.fromkeys(_names(path), path))


def _of_folder(folder: Path) -> Weights:
    if (folder / INDEX).is_file():
        found = _of_index(folder / INDEX)
        found.path = folder
        return found
    named = [folder / name for name in _NAMES if (folder / name).is_file()]
    files = named[:1] or sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return Weights(folder, dict.fromkeys(_names(files[0]), files[0]))
    if files:
        raise UserError(
            f"{folder} holds several .safetensors files ({files[0].name}, {files[1].name}, ...) "
            f"and no {INDEX}; name one of them"
        )
    pickles = sorted(file for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickles:
        raise UserError(f"{folder} holds no .safetensors, but {pickles[0].name}: {_CONVERT}")
    raise UserError(f"{folder} holds no .safetensors file")


def _of_index(index: Path) -> Weights:
    try:
        parts = json.loads(index.read_text("utf-8"))["weight_map"]
        files = {str(name): index.parent / str(part) for name, part in parts.items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{index} is damaged: {error!r}") from error
    for file in sorted(set(files.values())):
        if not file.is_file():
            raise DataError(f"{index} names {file.name}, which is not there; fetch it again")
        missing = {name for name, where in files.items() if where == file} - set(_names(file))
        if missing:
            raise DataError(f"{file} has no tensor {min(missing)}, which {index} says it has")
    return Weights(index, files)


def _names(file: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), "numpy") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} is damaged or no safetensors file: {error}") from error


def write_weights(
    folder: Path,
    named: Iterable[tuple[str, np.ndarray]],
    *,
    part_bytes: int = _PART_BYTES,
    name: str = "model",
) -> list[Path]:
    """Write tensors into ``folder`` as one safetensors file, or as parts with an index.

    Only one part is held in memory at a time.

    Args:
        part_bytes: largest size of a part; a larger tensor has a part of its own.
        name: of the file, ``NAME.safetensors`` or ``NAME-00001-of-00003.safetensors``.
    """
    parts: list[tuple[Path, list[str]]] = []
    held: dict[str, np.ndarray] = {}
    total = 0

    def put() -> None:
        file = folder / f".{name}-{len(parts) + 1:05d}.safetensors"
        # Readers of PyTorch's look for this key.
        save_tensors(file, held, metadata={"format": "pt"})
        parts.append((file, list(held)))
        held.clear()

    for key, value in named:
        if held and sum(each.nbytes for each in held.values()) + value.nbytes > part_bytes:
            put()
        held[key] = value
        total += value.nbytes
    if held or not parts:
        put()
    if len(parts) == 1:
        whole = folder / f"{name}.safetensors"
        parts[0][0].replace(whole)
        return [whole]
    places: dict[str, str] = {}
    files = []
    for number, (file, names) in enumerate(parts, start=1):
        final = folder / f"{name}-{number:05d}-of-{len(parts):05d}.safetensors"
        file.replace(final)
        files.append(final)
        places |= dict.fromkeys(names, final.name)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / f"{name}.safetensors.index.json").write_text(
        json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8"
    )
    return files


def save_tensors(
    file: Path, named: Mapping[str, np.ndarray], *, metadata: Mapping[str, str]
) -> None:
    """Write one safetensors file: the same tensors and metadata are the same bytes.

    Raises:
        OSError: no space is left on the disk.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {name: np.asarray(value, order="C") for name, value in named.items()}
    try:
        save_file(tensors, str(file), metadata=dict(metadata))
    except SafetensorError as error:
        if "No space left" not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file)) from error
    if len(metadata) > 1:
        _order_metadata(file)


def _order_metadata(file: Path) -> None:
    """Sort a file's metadata in place: the library writes it in an order drawn anew every time."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = opened.read(length).decode()
        scan = json.JSONDecoder().raw_decode
        at = header.index("{", header.index('"__metadata__"')) + 1
        begin, pairs = at, []
        while header[at - 1] != "}":
            _, middle = scan(header, at)
            _, end = scan(header, middle + 1)
            pairs.append(header[at:end])
            at = end + 1
        # The text of each pair is kept as it was written, and so the header keeps its length.
        ordered = header[:begin] + ",".join(sorted(pairs)) + header[at - 1 :]
        opened.seek(8)
        opened.write(ordered.encode())
