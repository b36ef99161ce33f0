"""Detectors of watermarks from elsewhere: LAION's EfficientNet-B3, as a folder of this library."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_directory, read_json, refuse_other, write_json
from kmm_jax.interop.native import flatten, unflatten
from kmm_jax.interop.weights import Weights, open_weights, save_tensors
from kmm_jax.models.keys import abstract_module

if TYPE_CHECKING:
    from kmm_jax.models.efficientnet import EfficientNetB3

FORMAT = "kmm_jax detector 1"
WEIGHTS = "model.safetensors"

_HEAD = re.compile(r"classifier\.(\d+)\.weight")
_PREFIXES = ("", "module.", "model.")
_CLASSES = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """An EfficientNet-B3 that tells marked pictures from clean ones; by default LAION's.

    Attributes:
        image_size: side of the square that a whole picture is squashed to, pixels. LAION's own
            scripts have 256; the net takes others, and scores then differ.
        head: outputs of the linear layers after the pooled features; the last are the two classes.
        marked: the class of pictures with a mark.
        mean, std: of pixels in [0, 1], by channel (ImageNet's).
    """

    image_size: int = 256
    head: tuple[int, ...] = (625, 256, _CLASSES)
    marked: int = 0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


def recognise(path: str | Path) -> Weights | None:
    """The weights at ``path`` if they are of such a detector, without the prefix of a wrapper.

    Raises:
        UserError: a pickle, or no safetensors there.
        DataError: a file is damaged.
    """
    weights = open_weights(path)
    for prefix in _PREFIXES:
        below = weights.without(prefix) if prefix else weights
        if "conv_stem.weight" in below and any(map(_HEAD.fullmatch, below)):
            return below
    return None


def from_timm(weights: Mapping[str, np.ndarray], path: Path) -> EfficientNetB3:
    """The net of timm's ``efficientnet_b3`` whose classifier is a sequence of linear layers.

    Args:
        path: of the weights, for messages.

    Raises:
        DataError: a tensor is missing, left over, or of another shape; or it tells not two classes.
    """
    from kmm_jax.models import efficientnet

    numbers = sorted(int(found[1]) for found in map(_HEAD.fullmatch, weights) if found)
    head = [f"classifier.{number}" for number in numbers]
    try:
        model = efficientnet.from_timm(weights, head)
    except ValueError as error:
        raise DataError(
            f"{path} does not hold the weights of LAION-5B-WatermarkDetection, an efficientnet_b3 "
            f"of timm with linear layers as its classifier: {error}"
        ) from error
    classes = model.head[-1].out_features if head else 0
    if classes != _CLASSES:
        raise DataError(
            f"{path} tells {classes} classes apart, and a detector two: marked and clean"
        )
    return model


def save(folder: str | Path, model: EfficientNetB3, *, image_size: int) -> DetectorConfig:
    """Write a folder that :func:`load` and the corpus's watermark score read, whole or not at all.

    Raises:
        UserError: the folder holds something else, or an image size that the net cannot take.
        OSError: no space is left on the disk.
    """
    from flax import nnx

    if image_size < 32:
        raise UserError(f"an image size of {image_size} leaves nothing after five halvings")
    folder = Path(folder)
    refuse_other(folder, _is_detector, "detector")
    head: Sequence[Any] = model.head
    config = DetectorConfig(image_size=image_size, head=tuple(layer.out_features for layer in head))
    named = flatten(nnx.to_pure_dict(nnx.as_pure(nnx.state(model))))
    with atomic_directory(folder) as temporary:
        save_tensors(temporary / WEIGHTS, named, metadata={"format": FORMAT})
        digest = hashlib.sha256((temporary / WEIGHTS).read_bytes()).hexdigest()
        values = {"format": FORMAT, "detector": dataclasses.asdict(config), "sha256": digest}
        write_json(temporary / "config.json", values)
    return config


def read_config(folder: str | Path) -> DetectorConfig:
    """What a folder says of its detector.

    Raises:
        DataError: it is none, or of another version.
    """
    found = read_json(Path(folder) / "config.json")
    if not _is_detector(Path(folder)):
        raise DataError(
            f"{folder} is no detector of this library; python -m tools.import_checkpoint makes one "
            "of the weights of LAION-5B-WatermarkDetection"
        )
    try:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in found["detector"].items()
        }
        return DetectorConfig(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}/config.json is of another version: {error}") from error


def load(folder: str | Path) -> tuple[DetectorConfig, EfficientNetB3]:
    """The detector of a folder.

    Raises:
        DataError: it is none, damaged, or its files were not written together.
    """
    import jax.numpy as jnp
    from flax import nnx
    from safetensors import SafetensorError
    from safetensors.numpy import load as load_tensors

    from kmm_jax.models.efficientnet import EfficientNetB3

    config, file = read_config(folder), Path(folder) / WEIGHTS
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != read_json(Path(folder) / "config.json")["sha256"]:
        raise DataError(f"{file} is not what was written with its config.json; import it again")
    try:
        named = {name: jnp.asarray(value) for name, value in load_tensors(content).items()}
    except SafetensorError as error:
        raise DataError(f"{file} is damaged ({error}); import it again") from error
    graph, _ = nnx.split(abstract_module(lambda rngs: EfficientNetB3(config.head, rngs=rngs)))
    return config, nnx.merge(graph, unflatten(named))


def _is_detector(folder: Path) -> bool:
    found = read_json(folder / "config.json")
    return isinstance(found, dict) and found.get("format") == FORMAT
