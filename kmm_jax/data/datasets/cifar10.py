"""CIFAR-10: photos of ten things, from an archive, from folders, or from TensorFlow Datasets."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from random import Random
from typing import Any

from kmm_jax.data.datasets.catalog import DATASETS
from kmm_jax.data.datasets.cifar10_wording import photo_texts
from kmm_jax.data.datasets.location import VARIABLE, candidates, data_folder, not_found
from kmm_jax.data.datasets.photos import Photo, Split, photo_rows
from kmm_jax.errors import DataError, require
from kmm_jax.text.classnames import class_set

NAME = "cifar10"

_FOLDERS = ("images", NAME, "CIFAR-10-images")
_ARCHIVES = ("cifar10_train.tar.gz", "cifar10_test.tar.gz")
_SUFFIXES = (".jpg", ".jpeg", ".png")


def rows(folder: Path | None, split: Split) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The rows of one split; see :func:`kmm_jax.data.datasets.open_rows`."""
    folder = data_folder(folder)
    photos = _local(folder) if folder else _tfds(split)
    return photo_rows(photos, split, NAME, _texts)


def is_there(folder: Path) -> bool:
    """Whether a folder holds one of the layouts; no image is read."""
    return any(
        any((root / name).is_file() for name in _ARCHIVES) or any(_class_folders(root))
        for root in candidates(folder, _FOLDERS)
    )


def _local(folder: Path) -> list[Photo]:
    for root in candidates(folder, _FOLDERS):
        if archives := [root / name for name in _ARCHIVES if (root / name).is_file()]:
            photos = [photo for archive in archives for photo in _archived(archive)]
        else:
            photos = _unpacked(root)
        if photos:
            return _parted(photos)
    raise not_found(NAME, folder, DATASETS[NAME].layouts)


def _archived(archive: Path) -> Iterator[Photo]:
    """The members ``<part>/<class>/<file>``; a compressed archive is read once, into memory."""
    count = 0
    try:
        with tarfile.open(archive, "r:*") as opened:
            for member in opened:
                content = opened.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                photo = _photo(PurePosixPath(member.name), partial(bytes, content.read()))
                if photo:
                    count += 1
                    yield photo
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{archive} is broken after {count} images ({error}); fetch it again"
        ) from error
    if not count:
        raise DataError(f"{archive} holds no image; its members must be train/<class>/<number>.jpg")


def _unpacked(root: Path) -> list[Photo]:
    found = (
        _photo(file.relative_to(root), file.read_bytes)
        for folder in _class_folders(root)
        for file in sorted(folder.iterdir())
    )
    return [photo for photo in found if photo]


def _class_folders(root: Path) -> list[Path]:
    return [
        root / part / key
        for part in ("train", "test", ".")
        for key in class_set(NAME).keys
        if (root / part / key).is_dir()
    ]


def _photo(path: PurePath, read: Callable[[], bytes]) -> Photo | None:
    """The photo at ``[<part>/]<class>/<file>``; None for a file that is something else."""
    if path.suffix.lower() not in _SUFFIXES or path.parent.name not in class_set(NAME).keys:
        return None
    part = path.parent.parent.name
    return Photo(
        name="/".join(path.parts[-3:]),
        read=read,
        facts=path.parent.name,
        part="train" if part == "train" else "test" if part == "test" else None,
    )


def _parted(photos: Sequence[Photo]) -> list[Photo]:
    """Only a set that has both parts is split as published; one part alone is split by the hash."""
    if {"train", "test"} <= {photo.part for photo in photos}:
        return list(photos)
    return [replace(photo, part=None) for photo in photos]


def _tfds(split: Split) -> list[Photo]:
    """The published split, prepared (and fetched) on the first call."""
    tfds = require("tensorflow_datasets", extra="tfds")
    from kmm_jax.data.tfds_source import TFDSSource

    try:
        tfds.builder(NAME, file_format="array_record").download_and_prepare()
    except Exception as error:  # TFDS raises whatever its parts raise
        raise DataError(
            f"TensorFlow Datasets cannot prepare {NAME} ({type(error).__name__}: {error}); set "
            f"{VARIABLE} to a folder that holds {DATASETS[NAME].layouts[0]}"
        ) from error
    source = TFDSSource(NAME, split, features={"caption": "label"})
    photos = []
    for number in range(len(source)):
        row = source.read(number)
        photos.append(
            Photo(
                name=f"{split}/{number:05d}",
                read=partial(bytes, row.image),
                facts=row.record["caption"],
                part=split,
            )
        )
    return photos


def _texts(photo: Photo, image_hash: str, white_ratio: float) -> dict[str, Any]:
    return {**photo_texts(photo.facts, Random(image_hash)), "labels": {"type": photo.facts}}
