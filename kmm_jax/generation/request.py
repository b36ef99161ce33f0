"""What is asked of a generator."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kmm_jax.errors import UserError

MOST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """Pictures to make: ``per_prompt`` of each prompt, in that order.

    Attributes:
        prompts: one or several.
        negative: what to guide away from; one for all, or one a prompt. None for none at all, which
            SDXL tells from an empty text.
        sampler: one of ``schedulers.config.SAMPLERS``; None for the model's own.
        steps: of the sampler.
        guidance: scale of classifier-free guidance (arXiv 2207.12598); at 1 and below there is
            none, and half the work.
        height, width: in pixels; None for the image's, or for what the model was trained for.
        seeds: one a picture; or the first, which the others count on from. A picture depends on
            its own seed and prompt alone, whatever is made beside it.
        skip: last layers of the text encoder left out (``clip_skip``).
        eta: DDIM's share of fresh noise.
        image: to start from, (H, W, 3) or (B, H, W, 3) uint8; scaled to cover height and width
            where these are given, and cut at the middle to sides the model takes.
        strength: how far to go from ``image``: 1 keeps nothing but, at most, what ``mask`` leaves.
        mask: of ``image``, (H, W) or (B, H, W) bool: True is made anew.
        latents: starting noise of your own, standard normal, (B, h, w, Z) or as PyTorch keeps it
            (B, Z, h, w); or of one picture, for all.

    Raises:
        UserError: what cannot work; before anything is computed.
    """

    prompts: Sequence[str]
    negative: str | Sequence[str] | None = None
    per_prompt: int = 1
    sampler: str | None = None
    steps: int = 25
    guidance: float = 7.5
    height: int | None = None
    width: int | None = None
    seeds: int | Sequence[int] = 0
    skip: int = 0
    eta: float = 0.0
    image: Any = None
    strength: float = 0.8
    mask: Any = None
    latents: Any = None

    def __post_init__(self) -> None:
        prompts = (self.prompts,) if isinstance(self.prompts, str) else tuple(self.prompts)
        object.__setattr__(self, "prompts", prompts)
        if not isinstance(self.negative, str | None):
            object.__setattr__(self, "negative", tuple(self.negative))
        if isinstance(self.seeds, Iterable):
            object.__setattr__(self, "seeds", tuple(map(_whole, self.seeds)))
        else:
            object.__setattr__(self, "seeds", _whole(self.seeds))
        self._check()

    def _check(self) -> None:
        if not self.prompts:
            raise UserError("no prompt: say what to make")
        if self.per_prompt < 1:
            raise UserError(f"per_prompt must be at least 1, got {self.per_prompt}")
        if not np.isfinite(self.guidance):
            raise UserError(f"guidance must be a number, got {self.guidance}")
        if isinstance(self.negative, tuple) and len(self.negative) != len(self.prompts):
            raise UserError(
                f"{len(self.negative)} negative prompts for {len(self.prompts)} prompts; give one "
                "for all or one for each"
            )
        if isinstance(self.seeds, tuple) and len(self.seeds) != self.pictures:
            raise UserError(
                f"{len(self.seeds)} seeds for {self.pictures} pictures; give one for each, or the "
                "first alone"
            )
        for seed in self.picture_seeds:
            if not 0 <= seed <= MOST_SEED:
                raise UserError(f"a seed is a whole number from 0 to {MOST_SEED}, got {seed}")
        if self.mask is not None and self.image is None:
            raise UserError("a mask says which part of an image is made anew: give the image too")

    @property
    def pictures(self) -> int:
        """How many are made."""
        return len(self.prompts) * self.per_prompt

    @property
    def guided(self) -> bool:
        """Whether there is guidance."""
        return self.guidance > 1

    @property
    def picture_seeds(self) -> tuple[int, ...]:
        """The seed of each picture."""
        if isinstance(self.seeds, int):
            return tuple(range(self.seeds, self.seeds + self.pictures))
        return tuple(self.seeds)

    @property
    def picture_prompts(self) -> tuple[str, ...]:
        """The prompt of each picture."""
        return tuple(prompt for prompt in self.prompts for _ in range(self.per_prompt))

    @property
    def picture_negatives(self) -> tuple[str | None, ...]:
        """The negative prompt of each picture; None where there is none."""
        if self.negative is None or isinstance(self.negative, str):
            return (self.negative,) * self.pictures
        return tuple(each for each in self.negative for _ in range(self.per_prompt))


def _whole(seed: Any) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise UserError(f"a seed is a whole number from 0 to {MOST_SEED}, got {seed!r}") from None
