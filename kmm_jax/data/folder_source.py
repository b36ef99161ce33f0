"""A folder (or a tar) of images with their texts in a TSV."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm_jax.data.bad_rows import BadRowError
from kmm_jax.data.image_files import ImageFiles
from kmm_jax.data.schema import FIELDS, validate_record
from kmm_jax.data.sources import Row
from kmm_jax.errors import DataError, nearest

_IMAGE_COLUMNS = ("image", "file", "filename", "path")
_SCHEMA_COLUMNS = (
    "image_hash",
    "image_url",
    "title",
    "caption",
    "product_name",
    "query",
    "category",
)


class FolderSource:
    """Rows from images in ``folder`` and texts in ``tsv``: UTF-8, tabs, one header line, no quotes.

    ``folder`` is a folder or an uncompressed tar. ``columns`` maps a field of the record to a
    column: ``{"image": "file", "caption": "class_ko", "labels.type": "articleType"}``; a dot sets
    an entry of an object (``labels``, ``attributes``). Columns named like a field need no mapping.
    ``image`` is the file's path within the folder (found by itself when the column is called image,
    file, filename or path). Texts in a query cell are separated by ``|``. Columns that no field
    uses are kept in the record under their own names. The key is the path without its suffix.

    Raises:
        DataError: the folder, the table or a column is missing, or the table holds no row.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tsv: str | os.PathLike[str],
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"folder+tsv:{os.fspath(folder)},{os.fspath(tsv)}"
        self._header, self._lines = _table(Path(tsv))
        self._tsv = Path(tsv)
        self._image, self._fields = self._plan(dict(columns or {}))
        self._images = ImageFiles(Path(folder))

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, i: int) -> Row:
        """Row ``i``: the line ``i + 2`` of the table with its image."""
        where = f"{self._tsv} line {i + 2}"
        cells = self._lines[i].split("\t")
        if len(cells) != len(self._header):
            raise BadRowError(
                "record", f"{where}: {len(self._header)} columns expected, {len(cells)} found"
            )
        row = dict(zip(self._header, cells, strict=True))
        image = row[self._image]
        key = image.rpartition(".")[0] or image
        record: dict[str, Any] = {"image_hash": key}
        for field, column in self._fields.items():
            if row[column].strip():
                _set(record, field, row[column].strip())
        try:
            record = validate_record(record)
        except DataError as error:
            raise BadRowError("record", f"{where}: {error}", key=key) from error
        return Row(key=key, image=self._read_image(image, where, key), record=record)

    def _read_image(self, image: str, where: str, key: str) -> bytes:
        try:
            return self._images.read(image)
        except DataError as error:
            raise BadRowError("pair", f"{where}: {error}", key=key) from error

    def _plan(self, columns: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The image's column, and the column of every field."""
        for field, column in columns.items():
            if column not in self._header:
                raise DataError(
                    f"{self._tsv} has no column {column!r} (wanted for {field})"
                    + nearest(column, self._header)
                )
        image = columns.pop("image", None)
        if image is None:
            image = next((name for name in _IMAGE_COLUMNS if name in self._header), None)
        if image is None:
            raise DataError(
                f"{self._tsv}: no column {' / '.join(_IMAGE_COLUMNS)}; say which one holds the "
                f"image's path with image=COLUMN; columns: {', '.join(self._header)}"
            )
        for column in self._header:
            if column not in (image, *columns.values()):
                columns.setdefault(column if column in _SCHEMA_COLUMNS else _free(column), column)
        return image, columns


def _free(column: str) -> str:
    """The field for a column outside the schema: its own name, unless the name is typed there."""
    return f"tsv_{column}" if column in FIELDS else column


def _set(record: dict[str, Any], field: str, cell: str) -> None:
    outer, dot, inner = field.partition(".")
    if dot:
        record.setdefault(outer, {})[inner] = cell
    elif field == "query":
        record[field] = [text.strip() for text in cell.split("|") if text.strip()]
    else:
        record[field] = cell


def _table(path: Path) -> tuple[list[str], list[str]]:
    """The header's cells and the other lines, split at tabs only when they are read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such table of texts") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path} line {line}: not UTF-8; save the table as UTF-8") from error
    # Only real line ends: str.splitlines would also split at U+2028 and form feeds in a text.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    header, body = lines[0].split("\t"), [line for line in lines[1:] if line]
    if not body:
        raise DataError(f"{path}: no rows; expected a header line and one line per image")
    return header, body
