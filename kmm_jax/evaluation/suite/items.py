"""A benchmark's images and texts, in whatever form it was published."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from kmm_jax.data.image_files import ImageFiles
from kmm_jax.data.sources import Row, Source
from kmm_jax.errors import DataError

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An image with what a benchmark says of it.

    Attributes:
        key: its name within the benchmark, unique.
        read: gives the encoded image.
        labels: class keys by the label's name.
        texts: by what they are; captions in a language by the language, ``ko`` or ``en``.
    """

    key: str
    read: Callable[[], bytes]
    labels: Mapping[str, str] = dataclasses.field(default_factory=lambda: NOTHING)
    texts: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: NOTHING)


def image_item(
    images: ImageFiles,
    name: str,
    *,
    labels: Mapping[str, str] = NOTHING,
    texts: Mapping[str, tuple[str, ...]] = NOTHING,
) -> Item:
    """The item of the image ``name`` among ``images``, which is read when it is asked for.

    Its key begins with the folder's name: ``train`` and ``test`` number their images alike.
    """
    key = f"{images.path.name}/{name}"
    return Item(key=key, read=functools.partial(images.read, name), labels=labels, texts=texts)


class ItemSource:
    """Items as a :class:`~kmm_jax.data.sources.Source`, which evaluation reads like any other.

    Raises:
        DataError: no item, or two with one key.
    """

    def __init__(self, name: str, items: Sequence[Item]) -> None:
        if not items:
            raise DataError(f"{name}: holds no image of this benchmark")
        if len({item.key for item in items}) < len(items):
            raise DataError(f"{name}: two images have the same name")
        self.name = name
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def record(self, i: int) -> dict[str, Any]:
        """What is known of item ``i``; its image is not read."""
        item = self.items[i]
        return {"image_hash": item.key, "labels": dict(item.labels)}

    def read(self, i: int) -> Row:
        """Item ``i`` with its image."""
        return Row(key=self.items[i].key, image=self.items[i].read(), record=self.record(i))


class Spread:
    """``count`` rows of a source at even distances, or all where it has no more.

    The first rows would be of the first classes only.
    """

    def __init__(self, source: Source, count: int) -> None:
        self._source = source
        count = min(count, len(source))
        self._rows = [number * len(source) // count for number in range(count)]
        self.name = source.name

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, i: int) -> Row:
        """Row ``i`` of those taken."""
        return self._source.read(self._rows[i])
