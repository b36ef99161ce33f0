"""Prompts to ids, and to what a UNet is told.

B pictures, T positions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from kmm_jax.generation.program import Prompted
from kmm_jax.models.diffusion.config import LatentDiffusionConfig
from kmm_jax.models.diffusion.modeling import Conditioning, LatentDiffusion
from kmm_jax.text.tokenizer import Tokenizer


def prompt_ids(
    prompts: Sequence[str], tokenizers: Sequence[Tokenizer], config: LatentDiffusionConfig
) -> tuple[np.ndarray, ...]:
    """Ids (B, T) int32 of the prompts for each text encoder."""
    return tuple(
        tokenizer.sequences(prompts, None, text.length)
        for tokenizer, text in zip(tokenizers, config.texts, strict=True)
    )


def say_what_is_cut(
    prompts: Sequence[str], tokenizers: Sequence[Tokenizer], config: LatentDiffusionConfig
) -> None:
    """Tell on standard error which prompts are read only in part."""
    for prompt in dict.fromkeys(prompts):
        for tokenizer, text in zip(tokenizers, config.texts, strict=True):
            if tokenizer.truncates(prompt, None, text.length):
                ids = tokenizer.encode(prompt)[: text.length - 2]
                read = tokenizer.decode(ids).replace("</w>", " ").rstrip("\ufffd").strip()
                print(
                    f"a prompt is longer than {text.length - 2} tokens and read only up to "
                    f"{read[-40:]!r}: {prompt}",
                    file=sys.stderr,
                )
                break


def time_ids(height: int, width: int, pictures: int) -> np.ndarray:
    """SDXL's numbers about a picture, (B, 6) float32: nothing was scaled, nothing cropped."""
    return np.tile(np.asarray([height, width, 0, 0, height, width], np.float32), (pictures, 1))


def conditions(
    model: LatentDiffusion,
    wanted: Sequence[jnp.ndarray],
    unwanted: Sequence[jnp.ndarray] | None,
    ids_BN: jnp.ndarray | None,
    unwanted_is_absent: jnp.ndarray,
    *,
    skip: int,
    zero_absent: bool,
) -> Prompted:
    """What the UNet is told, from ids.

    Args:
        unwanted: ids of the negative prompts; None without guidance.
        unwanted_is_absent: (B,) bool, where there is no negative prompt, not even an empty one.
        zero_absent: an absent one is zeros (SDXL base), not the states of an empty text.
    """
    positive = model.condition(wanted, skip=skip)
    if unwanted is None:
        return Prompted(positive, None, ids_BN)
    negative = model.condition(unwanted, skip=skip)
    if zero_absent:
        kept_B = ~unwanted_is_absent
        negative = Conditioning(
            negative.context * kept_B[:, None, None],
            None if negative.pooled is None else negative.pooled * kept_B[:, None],
        )
    return Prompted(positive, negative, ids_BN)
