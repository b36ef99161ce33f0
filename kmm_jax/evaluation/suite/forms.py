"""The forms in which benchmarks lie on a disk or in TensorFlow Datasets, each found and read.

A form looks and opens no image. A benchmark lists the forms that it may have; the first one that is
there is taken.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from kmm_jax.data.datasets import DATASETS, is_there, open_rows
from kmm_jax.data.datasets.photos import Split
from kmm_jax.data.image_files import ImageFiles
from kmm_jax.data.sources import Source
from kmm_jax.errors import DataError
from kmm_jax.evaluation.suite.items import Item, ItemSource, image_item

CLASS = "class"
"""The label under which a benchmark with one kind of classes has them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A part of a benchmark that is there.

    Attributes:
        where: for people.
        open: gives its rows, whose records carry ``image_hash`` and ``labels``.
    """

    where: str
    open: Callable[[], Source]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Places:
    """Where to look.

    Attributes:
        folders: searched in turn.
        tfds: the folder of prepared TensorFlow Datasets; None for its default, which
            ``TFDS_DATA_DIR`` sets.
    """

    folders: tuple[Path, ...] = ()
    tfds: Path | None = None

    def first(self, *names: str) -> Path | None:
        """The first of these paths that exists below one of the folders."""
        paths = (folder / name for folder in self.folders for name in names)
        return next((path for path in paths if path.exists()), None)

    def name(self, path: Path) -> str:
        """A path as seen from its folder."""
        inside = (path.relative_to(one) for one in self.folders if path.is_relative_to(one))
        return next(map(str, inside), str(path))

    def found(
        self, path: Path | None, items: Callable[[Path], Sequence[Item]], *, name: str | None = None
    ) -> Found | None:
        """The items that ``items`` reads at a path, if there is one."""
        if path is None:
            return None
        where = name or self.name(path)
        return Found(where=where, open=lambda: ItemSource(str(path), items(path)))

    @property
    def prepared(self) -> Path:
        """Where TensorFlow Datasets are."""
        default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
        return self.tfds or Path(default).expanduser()


class Form(Protocol):
    """One form of a benchmark."""

    @property
    def layout(self) -> str:
        """What is looked for, for people."""
        ...

    def find(self, places: Places) -> Found | None:
        """What is there of it."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFolders:
    """A folder for each class, as torchvision's ``ImageFolder`` reads them.

    Attributes:
        paths: tried in turn.
        numbered: the folders' names are places in these keys (ImageNet-V2); by default the name of
            a folder is the class key.
    """

    paths: tuple[str, ...]
    numbered: tuple[str, ...] = ()

    @property
    def layout(self) -> str:
        """What is looked for."""
        return f"{' or '.join(self.paths)}, with CLASS/IMAGE"

    def find(self, places: Places) -> Found | None:
        """The first of the paths that is there."""
        return places.found(places.first(*self.paths), self._items)

    def _items(self, path: Path) -> list[Item]:
        images = ImageFiles(path)
        named = [(name, PurePosixPath(name).parent.name) for name in images.names()]
        if self.numbered:
            named = [(name, self._numbered(path, folder)) for name, folder in named]
        return [image_item(images, name, labels={CLASS: key}) for name, key in named]

    def _numbered(self, path: Path, folder: str) -> str:
        if not folder.isdecimal() or int(folder) >= len(self.numbered):
            raise DataError(
                f"{path / folder}: the folders here are numbers below {len(self.numbered)}"
            )
        return self.numbered[int(folder)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedByClass:
    """Images in one folder, each named by its class: ``n01440764_tench.JPEG``, ``Bengal_12.jpg``.

    Attributes:
        paths: tried in turn.
        key: the class key of a file's stem.
        listed: a file, from the images' folder, with the stems to take, one first in each line;
            all of them by default.
    """

    paths: tuple[str, ...]
    key: Callable[[str], str]
    listed: str | None = None

    @property
    def layout(self) -> str:
        """What is looked for."""
        which = f", those of {self.listed}" if self.listed else ""
        return f"{' or '.join(self.paths)}, with CLASS_ANYTHING.jpg{which}"

    def find(self, places: Places) -> Found | None:
        """The first of the paths that is there."""
        return places.found(places.first(*self.paths), self._items)

    def _items(self, path: Path) -> list[Item]:
        images = ImageFiles(path)
        names = list(images.names())
        if self.listed is not None:
            lines = lines_of(path / self.listed)
            wanted = {line.split()[0] for line in lines if not line.startswith("#")}
            names = [name for name in names if PurePosixPath(name).stem in wanted]
        return [
            image_item(images, name, labels={CLASS: self.key(PurePosixPath(name).stem)})
            for name in names
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A tab-separated table beside a folder or tar of images of the same name.

    Attributes:
        paths: of the table, tried in turn.
        image: the column with an image's name.
        labels: label to column.
        texts: what a text is to a column, or to the beginning of several columns (``caption_en``).
        only: a column and the value that a row must have in it.
    """

    paths: tuple[str, ...]
    image: str = "file"
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    only: tuple[str, str] | None = None

    @property
    def layout(self) -> str:
        """What is looked for."""
        columns = [self.image, *self.labels.values(), *(f"{one}..." for one in self.texts.values())]
        return (
            f"{' or '.join(self.paths)} (columns {', '.join(columns)}) beside a folder or .tar of "
            "images of that name"
        )

    def find(self, places: Places) -> Found | None:
        """The table, if its images are there as well."""
        table = places.first(*self.paths)
        if table is None:
            return None
        images = next(
            (path for path in (table.with_suffix(".tar"), table.with_suffix("")) if path.exists()),
            None,
        )
        if images is None:
            return None
        return places.found(table, functools.partial(self._items, images))

    def _items(self, images: Path, table: Path) -> list[Item]:
        files = ImageFiles(images)
        columns, rows = table_rows(table, (self.image, *self.labels.values()))
        found = []
        for row in rows:
            if self.only is not None and row.get(self.only[0]) != self.only[1]:
                continue
            texts = {
                what: tuple(row[c] for c in columns if c.startswith(start) and row[c].strip())
                for what, start in self.texts.items()
            }
            labels = {label: row[column] for label, column in self.labels.items() if row[column]}
            found.append(image_item(files, row[self.image], labels=labels, texts=texts))
        return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFDS:
    """A prepared set of TensorFlow Datasets; nothing is fetched.

    Attributes:
        name, split: of the set.
        label: the feature that is the class; the names of its values are the keys.
    """

    name: str
    split: str
    label: str = "label"

    @property
    def layout(self) -> str:
        """What is looked for."""
        return f"tfds:{self.name}/{self.split}, prepared with file_format='array_record'"

    def find(self, places: Places) -> Found | None:
        """The set, if it lies prepared; TensorFlow Datasets, which takes seconds, stays out."""
        if not (places.prepared / self.name.partition(":")[0]).is_dir():
            return None
        where = f"tfds:{self.name}/{self.split}"
        return Found(where=where, open=functools.partial(self._open, places.prepared))

    def _open(self, prepared: Path) -> Source:
        from kmm_jax.data.tfds_source import TFDSSource

        features = {"caption": self.label, f"labels.{CLASS}": self.label}
        return TFDSSource(self.name, self.split, data_dir=prepared, features=features)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A set that the library prepares itself (:mod:`kmm_jax.data.datasets`), with Korean texts.

    Attributes:
        name, split: of the set; where it comes without a test part, every tenth image by its hash.
        labels: label to that of the record.
        texts: what a text is to the record's field.
    """

    name: str
    split: Split
    labels: Mapping[str, str]
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def layout(self) -> str:
        """What is looked for."""
        layouts = DATASETS[self.name].layouts
        return "; or ".join(one for one in layouts if not one.startswith("nothing"))

    def find(self, places: Places) -> Found | None:
        """The set, if one of the folders has it in a form that the library knows."""
        folder = next((one for one in places.folders if is_there(self.name, one)), None)
        return places.found(folder, self._items, name=self.name)

    def _items(self, folder: Path) -> list[Item]:
        return [
            Item(
                key=record["image_hash"],
                read=functools.partial(bytes, image),
                labels={
                    label: record["labels"][name]
                    for label, name in self.labels.items()
                    if name in record["labels"]
                },
                texts={what: _several(record.get(field)) for what, field in self.texts.items()},
            )
            for record, image in open_rows(self.name, folder, self.split)
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsPublished:
    """A form like no other: a function over the folder that holds it.

    Attributes:
        folders: of the benchmark, tried in turn.
        signs: what must be in such a folder.
        read: gives the items of the folder.
    """

    folders: tuple[str, ...]
    signs: tuple[str, ...]
    read: Callable[[Path], Sequence[Item]]

    @property
    def layout(self) -> str:
        """What is looked for."""
        return f"{' or '.join(self.folders)}, with {', '.join(self.signs)}"

    def find(self, places: Places) -> Found | None:
        """The first folder that has all the signs."""
        for name in self.folders:
            folder = places.first(name)
            if folder is not None and all((folder / sign).exists() for sign in self.signs):
                return places.found(folder, self.read)
        return None


def table_rows(table: Path, needed: Sequence[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of a tab-separated table with one header line and no quotes.

    Raises:
        DataError: it cannot be read, lacks a needed column, or a line has another number of cells.
    """
    header, *lines = lines_of(table) or [""]
    columns = header.split("\t")
    for column in needed:
        if column not in columns:
            raise DataError(f"{table} has no column {column!r}; there are {', '.join(columns)}")
    rows = []
    for number, line in enumerate(lines, start=2):
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise DataError(
                f"{table} line {number}: {len(columns)} columns expected, {len(cells)} found"
            )
        rows.append(dict(zip(columns, cells, strict=True)))
    return columns, rows


def lines_of(path: Path) -> list[str]:
    """The lines of a UTF-8 text, empty ones left out.

    Raises:
        DataError: it cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]


def json_of(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _several(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
