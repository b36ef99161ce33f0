"""CLIP: an image tower and a text tower with one contrastive space (arXiv 2103.00020).

B batch, T text positions, D width, E embedding, G patches along a side.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from kmm_jax.models.clip.config import CLIPConfig, TextConfig, TextTowerConfig
from kmm_jax.models.clip.xlm_roberta import ProjectionMLP, XLMRoberta
from kmm_jax.models.grad_cam import grad_cam
from kmm_jax.models.text import TokenEmbedding, unit
from kmm_jax.models.transformer import Layer, Stack
from kmm_jax.models.vision import VisionTransformer


class TextTower(nnx.Module):
    """A causal Transformer read at its end-of-text token."""

    def __init__(self, config: TextTowerConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        self.embedding = TokenEmbedding(
            config.vocabulary, config.length, config.width, dtype=dtype, rngs=rngs
        )
        self.blocks = Stack(
            lambda rngs: Layer(
                config.width,
                config.heads,
                config.hidden,
                activation=config.activation,
                norm_epsilon=config.norm_epsilon,
                dtype=dtype,
                rngs=rngs,
            ),
            config.depth,
            remat=config.remat,
            rngs=rngs,
        )
        self.norm = nnx.LayerNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)

    def __call__(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B D"]:
        """The vector at the end of each text."""
        return self.pooled(ids_BT, self.states(ids_BT)[1])

    def states(
        self, ids_BT: Int[Array, "B T"], *, skip: int = 0
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B T D"]]:
        """The vectors at all positions ``skip`` layers before the last, and after the last.

        Neither has gone through the last norm. Padding comes after a text and attention is causal,
        so no mask is needed.

        Raises:
            ValueError: there are not so many layers.
        """
        if not 0 <= skip < self.config.depth:
            raise ValueError(f"skip={skip} of {self.config.depth} layers")

        def layer(layer: Layer, x_BTD: Array) -> Array:
            return layer(x_BTD, causal=True)

        kept = self.config.depth - skip
        hidden_BTD = self.blocks.scan(layer, self.embedding(ids_BT), stop=kept)
        last_BTD = self.blocks.scan(layer, hidden_BTD, start=kept) if skip else hidden_BTD
        return hidden_BTD, last_BTD

    def pooled(
        self, ids_BT: Int[Array, "B T"], last_BTD: Float[Array, "B T D"]
    ) -> Float[Array, "B D"]:
        """Of the vectors after the last layer, that at the end of each text, normed."""
        x_BTD = self.norm(last_BTD)
        if self.config.pooling == "argmax":
            end_B = jnp.argmax(ids_BT, axis=1)
        else:
            end_B = jnp.argmax(ids_BT == self.config.eos_id, axis=1)
        return jnp.take_along_axis(x_BTD, end_B[:, None, None], axis=1)[:, 0]


def text_tower(config: TextConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> TextTower | XLMRoberta:
    """The text tower of a configuration: ids (B, T) -> vectors (B, D)."""
    if isinstance(config, TextTowerConfig):
        return TextTower(config, dtype=dtype, rngs=rngs)
    return XLMRoberta(config, dtype=dtype, rngs=rngs)


def text_projection(
    config: TextConfig, embedding: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.Linear | ProjectionMLP:
    """What takes a text tower's vectors (B, D) to the space of the images (B, E)."""
    form = "linear" if isinstance(config, TextTowerConfig) else config.projection
    if form == "mlp":
        return ProjectionMLP(config.width, embedding, dtype=dtype, rngs=rngs)
    return nnx.Linear(config.width, embedding, use_bias=form == "biased", dtype=dtype, rngs=rngs)


class CLIP(nnx.Module):
    """Two towers, two projections, one learned temperature."""

    def __init__(self, config: CLIPConfig, *, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.dtype)
        self.vision = VisionTransformer(config.vision, dtype=dtype, rngs=rngs)
        self.text = text_tower(config.text, dtype=dtype, rngs=rngs)
        if not config.vision.class_token:
            raise ValueError(
                "a CLIP image tower is read at its class token: set vision.class_token"
            )
        self.image_projection = nnx.Linear(
            config.vision.width, config.embedding, use_bias=False, dtype=dtype, rngs=rngs
        )
        self.text_projection = text_projection(
            config.text, config.embedding, dtype=dtype, rngs=rngs
        )
        self.log_scale = nnx.Param(jnp.asarray(-math.log(config.temperature), jnp.float32))

    @property
    def logit_scale(self) -> Float[Array, ""]:
        """1 / temperature, at most 100 (section 2.5)."""
        return jnp.exp(jnp.minimum(self.log_scale[...], math.log(100.0)))

    def encode_image(self, image_BHWC: Num[Array, "B H W 3"]) -> Float[Array, "B E"]:
        """Unit vectors of images."""
        _, class_BD = self.vision(image_BHWC)
        assert class_BD is not None  # __init__ saw to the class token
        return unit(self.image_projection(class_BD))

    def encode_text(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
        """Unit vectors of texts."""
        return unit(self.text_projection(self.text(ids_BT)))

    def heat_map(
        self, image_BHWC: Num[Array, "B H W 3"], ids_BT: Int[Array, "B T"]
    ) -> Float[Array, "B G G"]:
        """What each patch adds to the cosine of its image and its text, by Grad-CAM; 0 or more."""
        text_BE = self.encode_text(ids_BT)

        def cosine(patches_BND: Array, class_BD: Array | None) -> Array:
            assert class_BD is not None  # __init__ saw to the class token
            return jnp.einsum("BE,BE->B", unit(self.image_projection(class_BD)), text_BE)

        return grad_cam(self.vision, image_BHWC, cosine)
