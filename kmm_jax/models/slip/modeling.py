"""SLIP: CLIP's two towers, and a head that compares views of the same picture (arXiv 2112.12750).

B batch, V views, D width, F features, E embedding, T text positions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.placement import by_example
from kmm_jax.models.slip.config import SLIPConfig, ViewHeadConfig
from kmm_jax.models.text import unit


class BatchNorm(nnx.Module):
    """Batch norm by the statistics of the batch it is given, in float32 (arXiv 1502.03167).

    The means are over the first dimension of the array as the program sees it, which over a mesh is
    the global batch: XLA adds the devices' parts. There are no running statistics, because nothing
    behind this norm is ever used outside of training.
    """

    def __init__(self, features: int, *, epsilon: float = 1e-5):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((features,)))
        self.bias = nnx.Param(jnp.zeros((features,)))

    def __call__(self, x_BF: Float[Array, "B F"]) -> Float[Array, "B F"]:
        """Every feature with mean 0 and variance 1 over the batch, scaled and shifted."""
        x_BF = x_BF.astype(jnp.float32)
        centred_BF = x_BF - x_BF.mean(axis=0)
        variance_F = jnp.square(centred_BF).mean(axis=0)
        return centred_BF * jax.lax.rsqrt(variance_F + self.epsilon) * self.scale + self.bias


class ViewHead(nnx.Module):
    """From the image tower's class token to the space in which views are compared.

    Three linear layers, the inner two with batch norm and ReLU.
    """

    def __init__(self, width: int, config: ViewHeadConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        def linear(inputs: int, outputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, outputs, dtype=dtype, rngs=rngs)

        self.first = linear(width, config.hidden)
        self.first_norm = BatchNorm(config.hidden)
        self.second = linear(config.hidden, config.hidden)
        self.second_norm = BatchNorm(config.hidden)
        self.last = linear(config.hidden, config.embedding)

    def __call__(self, class_BD: Float[Array, "B D"]) -> Float[Array, "B E"]:
        """Unit vectors of one view of every picture of the global batch.

        Other views are normalised by their own statistics, in calls of their own, as the authors'
        code has it.
        """
        x_BF = by_example(class_BD)
        x_BF = by_example(jax.nn.relu(self.first_norm(self.first(x_BF))))
        x_BF = by_example(jax.nn.relu(self.second_norm(self.second(x_BF))))
        return unit(self.last(x_BF))


class SLIP(nnx.Module):
    """A CLIP, and the head that trains its image tower besides; in use, the CLIP alone is left."""

    def __init__(self, config: SLIPConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.clip = CLIP(config.clip, rngs=rngs)
        self.view_head = ViewHead(
            config.vision.width, config.head, dtype=jnp.dtype(config.dtype), rngs=rngs
        )

    def encode_image(self, image_BHWC: Num[Array, "B H W 3"]) -> Float[Array, "B E"]:
        """Unit vectors of images: the CLIP's."""
        return self.clip.encode_image(image_BHWC)

    def encode_text(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
        """Unit vectors of texts: the CLIP's."""
        return self.clip.encode_text(ids_BT)

    def view_features(self, views_BVHWC: Num[Array, "B V H W 3"]) -> Float[Array, "B V D"]:
        """What the head takes of each view: its class token, by the tower of the images."""
        batch, views, *pixels = views_BVHWC.shape
        _, class_BD = self.clip.vision(views_BVHWC.reshape(batch * views, *pixels))
        assert class_BD is not None  # CLIP saw to the class token
        return class_BD.reshape(batch, views, -1)
