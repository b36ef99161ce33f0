"""Models of other libraries as they run there, in PyTorch: what an import is held against.

Letters: N rows, S pixels a side, T tokens, E dimensions of the vectors.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError, require
from kmm_jax.interop.families import recognise
from kmm_jax.interop.families.base import Family
from kmm_jax.interop.weights import Weights, open_weights
from kmm_jax.models.clip.config import CLIP_MEAN, CLIP_STD
from kmm_jax.text.adopted import adopt
from kmm_jax.text.tokenizer import Tokenizer

_BATCH = 16
_OPEN_CLIP_CONFIG = "open_clip_config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Original:
    """A dual encoder of another library, in float32 on the processor.

    Attributes:
        title: of the library and its class, for people.
        image_size: side of the pictures it takes, pixels.
        logit_scale: what its cosines are multiplied by.
        image: uint8 (N, S, S, 3) to unit vectors (N, E), float32, normalised by its own mean.
        files: picture files, prepared in its library's own way, to the same.
        text: ids (N, T) to the same.
        tokenizer: what lies beside the weights; None where nothing does.
    """

    title: str
    path: Path
    image_size: int
    logit_scale: float
    image: Callable[[np.ndarray], np.ndarray]
    files: Callable[[Sequence[Path]], np.ndarray]
    text: Callable[[np.ndarray], np.ndarray]
    tokenizer: Tokenizer | None


def open_original(path: Path) -> Original:
    """The model in a folder of transformers (``CLIPModel``) or open_clip (``CLIP``, ``CoCa``).

    Raises:
        UserError: pickles, a model without images or of no such library, or PyTorch or the library
            is not installed.
        DataError: a file is damaged.
    """
    weights = open_weights(path)
    if _reads_text_alone(weights):
        raise UserError(f"{path} is a text encoder; give a model that reads images and texts")
    family, _ = recognise(weights)
    if family.name == "hf-clip":
        return _transformers(path, weights, family)
    if family.name not in ("open-clip", "open-clip-coca"):
        raise UserError(
            f"{path} is {family.title}, which no library on a package index runs; compare with a "
            "CLIPModel of transformers or a model of open_clip"
        )
    if not (path / _OPEN_CLIP_CONFIG).is_file():
        raise UserError(f"{path} has no {_OPEN_CLIP_CONFIG}, by which open_clip builds its models")
    return _open_clip(path, weights, family)


def _reads_text_alone(weights: Weights) -> bool:
    sides = [("vision" in name or "visual" in name, "text" in name) for name in weights]
    return any(text for _, text in sides) and not any(image for image, _ in sides)


def _transformers(path: Path, weights: Weights, family: Family) -> Original:
    torch = require("torch", extra="test")
    transformers = require("transformers", extra="interop")
    with _quiet(transformers):
        module = transformers.CLIPModel.from_pretrained(
            path, use_safetensors=True, local_files_only=True, dtype=torch.float32
        ).eval()

    def processed(files: Sequence[Path]) -> Any:
        processor = transformers.AutoImageProcessor.from_pretrained(path, local_files_only=True)
        return processor(images=[_picture(file) for file in files], return_tensors="pt")[
            "pixel_values"
        ]

    about = weights.about("preprocessor_config.json")
    return _original(
        f"CLIPModel of transformers {transformers.__version__}",
        path,
        family,
        module,
        image_size=module.config.vision_config.image_size,
        mean_std=(about.get("image_mean", CLIP_MEAN), about.get("image_std", CLIP_STD)),
        processed=processed,
        image=lambda pixels: _pooled(module.get_image_features(pixel_values=pixels)),
        text=lambda ids: _pooled(module.get_text_features(input_ids=ids)),
    )


def _open_clip(path: Path, weights: Weights, family: Family) -> Original:
    torch = require("torch", extra="test")
    library = require("open_clip", extra="test")
    module, prepare = library.create_model_from_pretrained(f"local-dir:{path}")
    module = module.float().eval()
    picture: Mapping[str, Any] = weights.about(_OPEN_CLIP_CONFIG).get("preprocess_cfg", {})
    size = module.visual.image_size
    return _original(
        f"{type(module).__name__} of open_clip {library.__version__}",
        path,
        family,
        module,
        image_size=size[0] if isinstance(size, tuple) else size,
        mean_std=(picture.get("mean", CLIP_MEAN), picture.get("std", CLIP_STD)),
        processed=lambda files: torch.stack([prepare(_picture(file)) for file in files]),
        image=module.encode_image,
        text=module.encode_text,
    )


def _original(
    title: str,
    path: Path,
    family: Family,
    module: Any,
    *,
    image_size: int,
    mean_std: tuple[Sequence[float], Sequence[float]],
    processed: Callable[[Sequence[Path]], Any],
    image: Callable[[Any], Any],
    text: Callable[[Any], Any],
) -> Original:
    torch = require("torch", extra="test")
    mean, std = (np.asarray(each, np.float32) for each in mean_std)

    def normalised(pixels_NSSC: np.ndarray) -> Any:
        scaled = (pixels_NSSC.astype(np.float32) / 255 - mean) / std
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))

    def numbers(ids_NT: np.ndarray) -> Any:
        return torch.from_numpy(ids_NT.astype(np.int64))

    def unit_vectors(
        inputs: Callable[[Any], Any], encode: Callable[[Any], Any]
    ) -> Callable[[Any], np.ndarray]:
        def run(rows: Any) -> np.ndarray:
            with torch.no_grad():
                parts = [
                    torch.nn.functional.normalize(encode(inputs(rows[i : i + _BATCH])), dim=-1)
                    for i in range(0, len(rows), _BATCH)
                ]
            return np.concatenate([part.numpy() for part in parts])

        return run

    try:
        tokenizer = Tokenizer(adopt(path, lower_case=family.lower_case))
    except UserError:
        tokenizer = None
    return Original(
        title=title,
        path=path,
        image_size=image_size,
        logit_scale=float(module.logit_scale.detach().exp()),
        image=unit_vectors(normalised, image),
        files=unit_vectors(processed, image),
        text=unit_vectors(numbers, text),
        tokenizer=tokenizer,
    )


def _picture(file: Path) -> Any:
    from PIL import Image

    with Image.open(file) as opened:
        return opened.convert("RGB")


def _pooled(found: Any) -> Any:
    """transformers 5 gives an object where 4 gave a tensor."""
    return getattr(found, "pooler_output", found)


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without a bar for weights that are read within a second."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
