"""Which sets of photos the library knows, and the one way to read them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, get_args

from kmm_jax.data.datasets.photos import Split
from kmm_jax.errors import ConfigError, UserError, nearest


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A set of photos: what it is, where it may lie, what can be classified in it."""

    name: str
    description: str
    class_sets: Mapping[str, str]
    """A key of ``record["labels"]`` -> the class set with its names; the main label first."""
    image_size: int
    """The side of the photos in pixels, for a sensible size of the model's input."""
    layouts: tuple[str, ...]
    """The files looked for in the folder given, or in ``KMM_DATA_DIR``."""


DATASETS: Mapping[str, DatasetInfo] = MappingProxyType(
    {
        "cifar10": DatasetInfo(
            name="cifar10",
            description="CIFAR-10: photos of ten things, 32 x 32 pixels",
            class_sets=MappingProxyType({"type": "cifar10"}),
            image_size=32,
            layouts=(
                "cifar10_train.tar.gz (members train/<class>/<number>.jpg)",
                "train/<class>/<number>.jpg (and test/<class>/<number>.jpg)",
                "<class>/<number>.jpg",
                "nothing: without a folder, TensorFlow Datasets",
            ),
        ),
        "fashion_products": DatasetInfo(
            name="fashion_products",
            description="Fashion Product Images (Small): photos of a fashion shop",
            class_sets=MappingProxyType(
                {
                    "type": "fashion_article_types",
                    "color": "fashion_colours",
                    "gender": "fashion_genders",
                    "sub_category": "fashion_sub_categories",
                    "master_category": "fashion_master_categories",
                    "usage": "fashion_usage",
                    "season": "fashion_seasons",
                }
            ),
            image_size=224,
            layouts=(
                "styles.csv + images/<id>.jpg (as published)",
                "fashion_products.tsv + fashion_products.tar",
            ),
        ),
    }
)


def is_there(name: str, folder: Path) -> bool:
    """Whether a folder holds a known set in one of its layouts; no image is read.

    Raises:
        UserError: no such set.
    """
    return bool(_reader(name).is_there(folder))


def open_rows(
    name: str,
    folder: Path | None = None,
    split: Split = "train",
    *,
    limit: int | None = None,
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The rows of one split of a known set: (record, JPEG bytes), the same ones every time.

    ``folder`` holds one of the layouts of ``DATASETS[name]``, itself or one level below; without
    it ``KMM_DATA_DIR`` is asked. Where a set comes without a test part, every tenth image by its
    hash is in ``test``. The order is by a hash of the file names, so that the first ``limit`` rows
    are a fair sample. Texts are seeded by the image's hash. Images seen before are left out.

    Raises:
        UserError: no such set.
        ConfigError: no such split.
        DataError: nothing of the set in the folder, or files of it that cannot be read.
    """
    reader = _reader(name)
    if split not in get_args(Split):
        raise ConfigError(f"no split {split!r}{nearest(str(split), get_args(Split))}")
    return islice(reader.rows(folder, split), limit)


def _reader(name: str) -> ModuleType:
    if name not in DATASETS:
        raise UserError(f"no data set {name!r}{nearest(name, DATASETS)}")
    return importlib.import_module(f"kmm_jax.data.datasets.{name}")
