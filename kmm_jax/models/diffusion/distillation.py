"""A student that learns to read prompts as its teacher does, and what of a UNet judges it."""

from __future__ import annotations

import dataclasses

from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.diffusion.config import AnyTextConfig, UNetConfig
from kmm_jax.models.diffusion.responder import responders
from kmm_jax.models.diffusion.text_encoders import text_encoder
from kmm_jax.models.diffusion.unet import UNet


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Student, teacher, and the UNet that both speak to.

    Attributes:
        queries: kept of each layer of cross-attention.
        whole_unet: hold the UNet itself too, to compare what it predicts.

    Raises:
        ValueError: the student's states are not of the teacher's form.
    """

    student: AnyTextConfig
    teacher: AnyTextConfig
    unet: UNetConfig
    queries: int = 128
    whole_unet: bool = False

    def __post_init__(self) -> None:
        for name in ("positions", "width"):
            ours, theirs = getattr(self.student, name), getattr(self.teacher, name)
            if ours != theirs:
                raise ValueError(
                    f"the student's {name} is {ours}, the teacher's {theirs}: an unmodified UNet "
                    "takes states of the teacher's form alone"
                )


class Distillation(nnx.Module):
    """All that takes part; of it the student alone learns."""

    def __init__(self, config: DistillationConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.student = text_encoder(config.student, rngs=rngs)
        self.teacher = text_encoder(config.teacher, rngs=rngs)
        self.responders = responders(config.unet, config.queries, rngs=rngs)
        if config.whole_unet:
            self.unet = UNet(config.unet, rngs=rngs)

    def responses(self, context_BSC: Float[Array, "B S C"]) -> list[Float[Array, "B Q K"]]:
        """What the queries of each layer gather from a prompt's states."""
        return [layer(context_BSC) for layer in self.responders]
