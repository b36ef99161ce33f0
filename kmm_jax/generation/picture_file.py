"""Pictures as PNG files that say how they were made."""

from __future__ import annotations

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


def write_picture(path: Path, image_HW3: np.ndarray, settings: Mapping[str, Any]) -> None:
    """Write a PNG, whole or not at all, with ``settings`` inside it as JSON.

    Other programs show them as the text field ``kmm_jax``; ``parameters`` holds the prompt and the
    main settings in a line, where image viewers for generated pictures look.
    """
    about = PngInfo()
    about.add_itxt(_KEY, json.dumps(dict(settings), ensure_ascii=False, sort_keys=True))
    line = ", ".join(
        f"{name}: {settings[name]}"
        for name in ("steps", "sampler", "guidance", "seed", "model")
        if settings.get(name) is not None
    )
    about.add_itxt("parameters", f"{settings.get('prompt', '')}\n{line}")
    with atomic_write(path) as file:
        Image.fromarray(image_HW3).save(file, format="PNG", pnginfo=about)


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
    return dict(json.loads(text))
