"""Fashion Product Images (Small): product photos of a shop, with their attributes.

Two layouts: as published (``styles.csv`` and ``images/<id>.jpg``), or one ``fashion_products.tsv``
beside ``fashion_products.tar``, which is read where it lies.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from kmm_jax.data.datasets.catalog import DATASETS
from kmm_jax.data.datasets.fashion_wording import Product, product_texts
from kmm_jax.data.datasets.location import candidates, data_folder, not_found
from kmm_jax.data.datasets.photos import Photo, Split, photo_rows
from kmm_jax.errors import DataError
from kmm_jax.text.classnames import class_set

NAME = "fashion_products"

_FOLDERS = ("fashion", NAME, "fashion-product-images-small", "myntradataset")

# The column of the published table -> the field of Product.
_COLUMNS = {
    "gender": "gender",
    "masterCategory": "master_category",
    "subCategory": "sub_category",
    "articleType": "type",
    "baseColour": "color",
    "season": "season",
    "year": "year",
    "usage": "usage",
    "productDisplayName": "display_name",
}
_UNKNOWN = frozenset({"", "NA"})
_BLOCK = 512


def rows(folder: Path | None, split: Split) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The rows of one split; see :func:`kmm_jax.data.datasets.open_rows`."""
    return photo_rows(photos(data_folder(folder)), split, NAME, _texts)


def products(folder: Path | None) -> list[Product]:
    """The attributes of every product in the table, in its order; no image is read.

    Raises:
        DataError: the data set is not there.
    """
    return [photo.facts for photo in photos(data_folder(folder))]


def is_there(folder: Path) -> bool:
    """Whether a folder holds one of the layouts; no image is read."""
    return _layout(folder) is not None


def photos(folder: Path | None) -> list[Photo]:
    """Every product's photo, in the order of the table; each is read when it is asked for.

    Raises:
        DataError: the data set is not there.
    """
    found = _layout(folder) if folder else None
    if found is None:
        raise not_found(NAME, folder, DATASETS[NAME].layouts)
    read, root = found
    return read(root)


def _layout(folder: Path) -> tuple[Callable[[Path], list[Photo]], Path] | None:
    for root in candidates(folder, _FOLDERS):
        if (root / "styles.csv").is_file() and (root / "images").is_dir():
            return _published, root
        if (root / f"{NAME}.tsv").is_file() and (root / f"{NAME}.tar").is_file():
            return _packed, root
    return None


def _published(root: Path) -> list[Photo]:
    """``styles.csv`` quotes nothing: a comma in the name makes the row longer than the header."""
    images = root / "images"
    return [
        _photo(cells["id"] + ".jpg", cells, (images / f"{cells['id']}.jpg").read_bytes)
        for cells in _table(root / "styles.csv", ",", "id")
    ]


def _packed(root: Path) -> list[Photo]:
    archive = root / f"{NAME}.tar"
    members = _members(archive)
    photos = []
    for cells in _table(root / f"{NAME}.tsv", "\t", "file"):
        name = cells["file"]
        photos.append(_photo(name, cells, _member_reader(archive, members.get(name), name)))
    return photos


def _photo(name: str, cells: dict[str, str], read: Callable[[], bytes]) -> Photo:
    fields = {field: cells[column].strip() for column, field in _COLUMNS.items()}
    known = {field: "" if value in _UNKNOWN else value for field, value in fields.items()}
    return Photo(name=name, read=read, facts=Product(**known))


def _table(path: Path, separator: str, key: str) -> Iterator[dict[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}") from error
    header = lines[0].rstrip("\r").split(separator)
    if missing := {key, *_COLUMNS} - set(header):
        raise DataError(f"{path} has no column {', '.join(sorted(missing))}; found: {header}")
    for number, line in enumerate(lines[1:], start=2):
        line = line.rstrip("\r")
        if not line:
            continue
        cells = line.split(separator, len(header) - 1)
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: {len(cells)} cells of {len(header)}")
        if len(cells[-1]) > 1 and cells[-1][0] == cells[-1][-1] == '"':
            cells[-1] = cells[-1][1:-1].replace('""', '"')
        yield dict(zip(header, cells, strict=True))


def _members(archive: Path) -> dict[str, tuple[int, int]]:
    """File name -> (offset, bytes) of every member."""
    try:
        with tarfile.open(archive, "r:") as opened:
            members = {
                Path(member.name).name: (member.offset_data, member.size)
                for member in opened
                if member.isfile()
            }
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{archive} cannot be read: {error}; fetch it again") from error
    # A tar ends with empty blocks; one that was cut between two members looks whole without them.
    end = max((offset + size for offset, size in members.values()), default=0)
    if archive.stat().st_size < -(-end // _BLOCK) * _BLOCK + _BLOCK:
        raise DataError(f"{archive} is truncated: it has no end; fetch it again")
    return members


def _member_reader(archive: Path, place: tuple[int, int] | None, name: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if place is None:
            raise FileNotFoundError(f"{archive} has no member {name}")
        with archive.open("rb") as file:
            file.seek(place[0])
            return file.read(place[1])

    return read


def _texts(photo: Photo, image_hash: str, white_ratio: float) -> dict[str, Any]:
    product: Product = photo.facts
    labels = {
        label: value
        for label, name in DATASETS[NAME].class_sets.items()
        if (value := getattr(product, label)) in class_set(name).keys
    }
    return {
        **product_texts(product, Random(image_hash), white_ratio),
        "product_name_en": product.display_name,
        "labels": labels,
    }
