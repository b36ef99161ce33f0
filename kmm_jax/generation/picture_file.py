"""Pictures as PNG files that say how they were made."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kmm_jax.errors import DataError
from kmm_jax.files import atomic_write

_KEY = "kmm_jax"


# Ours -> what the line of image viewers calls it.
_LINE = {
    "steps": "Steps",
    "sampler": "Sampler",
    "guidance": "CFG scale",
    "seed": "Seed",
    "model": "Model",
    "strength": "Denoising strength",
}


def write_picture(path: Path, image_HW3: np.ndarray, settings: Mapping[str, Any]) -> None:
    """Write a PNG, whole or not at all, with ``settings`` inside it as JSON.

    Other programs show them as the text field ``kmm_jax``; ``parameters`` holds the prompts and the
    main settings as viewers of generated pictures read them.
    """
    with atomic_write(path) as file:
        file.write(png(image_HW3, settings))


def png(image_HW3: np.ndarray, settings: Mapping[str, Any]) -> bytes:
    """The file that `write_picture` writes."""
    about = PngInfo()
    about.add_itxt(_KEY, json.dumps(dict(settings), ensure_ascii=False, sort_keys=True))
    about.add_itxt("parameters", _parameters(settings, image_HW3.shape))
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, format="PNG", pnginfo=about)
    return buffer.getvalue()


def _parameters(settings: Mapping[str, Any], shape: tuple[int, ...]) -> str:
    lines = [str(settings.get("prompt", ""))]
    if settings.get("negative"):
        lines.append(f"Negative prompt: {settings['negative']}")
    named = {name: settings.get(key) for key, name in _LINE.items()}
    named["Size"] = f"{shape[1]}x{shape[0]}"
    lines.append(
        ", ".join(f"{name}: {value}" for name, value in named.items() if value is not None)
    )
    return "\n".join(lines)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings inside a picture that ``write_picture`` wrote.

    Raises:
        DataError: it holds none.
    """
    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get(_KEY)
    except OSError as error:
        raise DataError(f"{path} is no picture: {error}") from error
    if text is None:
        raise DataError(f"{path} holds no settings: it was not made by `kmm generate`")
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise DataError(f"the settings in {path} are damaged: {error}") from error
