"""A prepared data set of TensorFlow Datasets, read at random without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from kmm_jax.data.bad_rows import BadRowError
from kmm_jax.data.schema import validate_record
from kmm_jax.data.sources import Row
from kmm_jax.errors import ConfigError, DataError, nearest, require


class TFDSSource:
    """Rows of the TFDS data set ``name`` (``cifar10``, ``my_set/config:1.0.0``), prepared already.

    It must be prepared in a format with random access: ``file_format="array_record"``. ``features``
    maps a field of the record to a feature: ``{"image": "image", "caption": "label"}``; a dot sets
    an entry of an object (``labels.type``). The image is ``image`` unless mapped; class labels
    become their names. Images stay encoded until the loader decodes them. The key is
    ``<name>-<split>-<row>``.

    Raises:
        UserError: tensorflow_datasets is not installed.
        DataError: the data set is not prepared, or has no such split.
        ConfigError: it has no such feature, or no text is mapped.
    """

    def __init__(
        self,
        name: str,
        split: str = "train",
        *,
        data_dir: str | os.PathLike[str] | None = None,
        features: Mapping[str, str] | None = None,
    ) -> None:
        tfds = require("tensorflow_datasets", extra="tfds")
        self.name = f"tfds:{name}/{split}"
        self._key = f"{name.replace('/', '-').replace(':', '-')}-{split}"
        fields = dict(features or {})
        self._image = fields.pop("image", "image")
        try:
            builder = tfds.builder(name, data_dir=data_dir and os.fspath(data_dir))
            known = builder.info.features
            for feature in (self._image, *fields.values()):
                if feature not in known:
                    raise ConfigError(
                        f"{self.name} has no feature {feature!r}" + nearest(feature, known)
                    )
            self._data = builder.as_data_source(
                split=split, decoders={self._image: tfds.decode.SkipDecoding()}
            )
            rows = len(self._data)
        except ConfigError:
            raise
        except Exception as error:
            # TFDS raises many kinds of exceptions for a set that is not there or not prepared.
            first = str(error).strip().split("\n")[0]
            raise DataError(
                f"{self.name} cannot be read ({type(error).__name__}: {first}); prepare it with "
                f"tfds.builder({name!r}, file_format='array_record').download_and_prepare()"
            ) from error
        if not fields:
            raise ConfigError(
                f"{self.name}: say which feature holds a text, such as ?caption=label; "
                f"features: {', '.join(known)}"
            )
        if rows == 0:
            raise DataError(f"{self.name}: the split holds no row")
        self._fields = {field: (feature, known[feature]) for field, feature in fields.items()}

    def __len__(self) -> int:
        return len(self._data)

    def read(self, i: int) -> Row:
        """Row ``i`` of the split, in the stored order."""
        key = f"{self._key}-{i:08d}"
        example = self._data[i]
        record: dict[str, Any] = {"image_hash": key, "source": self.name}
        for field, (feature, kind) in self._fields.items():
            outer, dot, inner = field.partition(".")
            value = _text(example[feature], kind)
            if dot:
                record.setdefault(outer, {})[inner] = value
            elif field == "query" and isinstance(value, str):
                record[field] = [value]
            else:
                record[field] = value
        try:
            record = validate_record(record)
        except DataError as error:
            raise BadRowError("record", f"{self.name} row {i}: {error}", key=key) from error
        return Row(key=key, image=bytes(example[self._image]), record=record)


def _text(value: Any, kind: Any) -> str | list[str]:
    """A feature's value as text; a class label as its name."""
    if isinstance(value, list | np.ndarray) and np.ndim(value):
        return [str(_text(one, getattr(kind, "feature", kind))) for one in value]
    if hasattr(kind, "int2str"):
        return str(kind.int2str(int(value)))
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
