"""Pictures side by side: prompts down, numbers of steps across (slides 4.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from kmm_jax.data.fonts import korean_font, wrap
from kmm_jax.generation.request import Request

STEPS = (4, 8, 10, 20, 25, 50)
_HEADING_LINES = 3


def steps_grid(
    make: Callable[[Request], tuple[np.ndarray, Mapping[str, Any]]],
    request: Request,
    steps: Sequence[int] = STEPS,
) -> tuple[np.ndarray, dict[str, Any]]:
    """One picture of each prompt at each number of steps, all from the same noise.

    Args:
        make: a request -> its pictures (B, H, W, 3) uint8, and the settings of the first.

    Returns:
        The picture (H, W, 3) uint8, and what made it.
    """
    seeds = (request.picture_seeds[0],) * len(request.prompts)
    one_each = dataclasses.replace(request, per_prompt=1, seeds=seeds)
    columns, settings = zip(
        *(make(dataclasses.replace(one_each, steps=count)) for count in steps), strict=True
    )
    picture = sheet(
        np.stack(columns, axis=1),
        rows=request.prompts,
        columns=[f"{count} steps" for count in steps],
    )
    whole = {"prompt": " | ".join(request.prompts), "steps": " ".join(map(str, steps))}
    return picture, {**settings[0], **whole}


def sheet(
    images_RCHW3: np.ndarray, *, rows: Sequence[str], columns: Sequence[str], gap: int = 4
) -> np.ndarray:
    """Pictures (R, C, H, W, 3) in a table with names above and, for a row, over its pictures."""
    count, across, height, width, _ = images_RCHW3.shape
    size = max(12, min(28, width // 8))
    font = korean_font(size)
    line = size + 8
    headings = [wrap(name, font, width, _HEADING_LINES) for name in columns]
    above = max(map(len, headings), default=0) * (size + 4) + 4
    whole = Image.new(
        "RGB", (across * (width + gap) + gap, above + count * (height + line + gap)), "white"
    )
    pen = ImageDraw.Draw(whole)
    for number, heading in enumerate(headings):
        for place, words in enumerate(heading):
            left, top = gap + number * (width + gap), 2 + place * (size + 4)
            pen.text((left, top), words, fill="black", font=font)
    for row, name in enumerate(rows):
        top = above + row * (height + line + gap)
        (words,) = wrap(name, font, across * (width + gap) - gap, 1) or [""]
        pen.text((gap, top + 2), words, fill="black", font=font)
        for column in range(across):
            corner = (gap + column * (width + gap), top + line)
            whole.paste(Image.fromarray(images_RCHW3[row, column]), corner)
    return np.asarray(whole)
