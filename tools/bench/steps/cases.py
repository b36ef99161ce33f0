"""Which training steps are timed: the published sizes, and reduced ones for a processor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from kmm_jax.models import registry
from kmm_jax.models.clip.config import CLIPConfig, clip_b16
from kmm_jax.models.coca.config import CoCaConfig, coca_base
from kmm_jax.models.flops import forward_flops
from kmm_jax.models.registry import ModelConfig

Side = Literal["kmm_jax", "open_clip"]
SIDES: tuple[Side, ...] = ("kmm_jax", "open_clip")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One model at one batch.

    Attributes:
        model: a preset's name, or one of ``REDUCED``.
        apart: queries, keys and values as a product each instead of one for all, to show what the
            joint product is worth on this device; ours only.
    """

    model: str
    batch: int
    apart: bool = False

    @property
    def name(self) -> str:
        """Also what names it on the command line."""
        return f"{self.model}/{self.batch}" + ("/apart" if self.apart else "")

    @property
    def config(self) -> ModelConfig:
        """The model's configuration: bfloat16, but float32 where it is reduced."""
        return REDUCED[self.model]() if self.model in REDUCED else registry.preset(self.model)


def _clip_reduced() -> CLIPConfig:
    config = clip_b16(image_size=128)
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, width=384, depth=6, heads=6, hidden=1536),
        text=dataclasses.replace(config.text, width=256, depth=6, heads=4, hidden=1024),
        embedding=256,
        dtype="float32",
    )


def _coca_reduced() -> CoCaConfig:
    config = coca_base(image_size=144)
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, width=256, depth=6, heads=4, hidden=1024),
        text=dataclasses.replace(
            config.text,
            vocabulary=8000,
            width=256,
            heads=4,
            hidden=1024,
            unimodal_depth=3,
            multimodal_depth=3,
        ),
        queries=64,
        pooler_heads=4,
        embedding=256,
        dtype="float32",
    )


# Small enough for two cores, of the same make: CLIP with 65 image tokens, CoCa with 64.
REDUCED: dict[str, Callable[[], ModelConfig]] = {
    "clip-reduced": _clip_reduced,
    "coca-reduced": _coca_reduced,
}
ON_A_PROCESSOR = (Case(model="clip-reduced", batch=16), Case(model="coca-reduced", batch=8))

# What matters most comes first, for the time may be short; batches rise, so that what follows one
# that does not fit need not be tried.
ON_AN_ACCELERATOR = (
    *(Case(model="coca-large", batch=batch) for batch in (64, 128, 256)),
    *(Case(model="clip-l14", batch=batch) for batch in (128, 256, 512)),
    *(Case(model="coca-base", batch=batch) for batch in (64, 128, 256, 512)),
    *(Case(model="clip-b16", batch=batch) for batch in (256, 512, 1024)),
    *(Case(model="clip-b32", batch=batch) for batch in (512, 1024, 2048)),
    Case(model="coca-large", batch=128, apart=True),
    Case(model="clip-b16", batch=512, apart=True),
)


def sides(case: Case) -> tuple[Side, ...]:
    """Who runs it."""
    return ("kmm_jax",) if case.apart else SIDES


def case_named(name: str) -> Case:
    """The inverse of ``Case.name``."""
    model, batch, *rest = name.split("/")
    return Case(model=model, batch=int(batch), apart=rest == ["apart"])


def rows(case: Case) -> dict[str, Any]:
    """One batch of noise: ``image`` (B, H, W, 3) uint8, ``text`` (B, T) int32 without padding."""
    config, rng = case.config, np.random.default_rng(0)
    side = config.vision.image_size
    text = rng.integers(10, config.text.vocabulary - 10, (case.batch, config.text.length))
    text[:, 0], text[:, -1] = 1, 2  # [BOS], [EOS]
    return {
        "image": rng.integers(0, 256, (case.batch, side, side, 3), dtype=np.uint8),
        "text": text.astype(np.int32),
    }


def open_clip_decoder_layers(config: CoCaConfig) -> tuple[int, float]:
    """How many of open_clip's multimodal layers cost what ours do, and its FLOPs an example then.

    Its layer is a self-attention and a cross-attention block with a feed-forward network each
    (the paper's has one), and it decodes one position less. Forward FLOPs, counted as ours are.
    """
    text = config.text
    ours = sum(forward_flops(config).values())

    def theirs(layers: int) -> float:
        shorter = dataclasses.replace(text, multimodal_depth=layers, length=text.length - 1)
        parts = forward_flops(dataclasses.replace(config, text=shorter))
        second_network = 4 * shorter.length * text.width * text.hidden
        encoders = forward_flops(config)
        return encoders["image"] + encoders["text"] + parts["caption"] + layers * second_network

    layers = min(range(1, text.multimodal_depth + 1), key=lambda n: abs(theirs(n) - ours))
    return layers, theirs(layers)
