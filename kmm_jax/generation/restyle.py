"""A picture made over by a prompt, to search with what it becomes (slide 5.4)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from kmm_jax.data.augment import resize_centre
from kmm_jax.errors import UserError
from kmm_jax.generation.request import Request

STRENGTH = 0.6


def restyling(
    picture: Image.Image,
    prompt: str,
    *,
    side: int,
    strength: float = STRENGTH,
    negative: str | None = None,
    steps: int = 25,
    guidance: float = 7.5,
    seed: int = 0,
) -> Request:
    """The request that makes a picture over.

    Of whatever picture, the central square at the size that the generator was trained for: one
    program serves all, and what searches looks at that square anyway.

    Args:
        side: of the generator's pictures, pixels.
        strength: how far to go from the picture, above 0 to 1.

    Raises:
        UserError: no prompt, or a strength out of its range.
    """
    if not prompt.strip():
        raise UserError("say what the picture should become")
    if not 0 < strength <= 1:
        raise UserError(f"strength is above 0 and at most 1, got {strength}")
    return Request(
        prompts=(prompt,),
        negative=negative,
        steps=steps,
        guidance=guidance,
        seeds=seed,
        image=resize_centre(np.asarray(picture.convert("RGB")), side),
        strength=strength,
    )
