"""What text towers share: the token embedding with positions, and pooling at a token.

B batch, T positions, D width, V vocabulary.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int


class TokenEmbedding(nnx.Module):
    """Learned token and position embeddings; also the output softmax where it is tied."""

    def __init__(
        self, vocabulary: int, positions: int, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.dtype = dtype
        self.tokens = nnx.Embed(
            vocabulary,
            width,
            dtype=dtype,
            embedding_init=nnx.initializers.normal(0.02),
            rngs=rngs,
        )
        self.positions = nnx.Param(nnx.initializers.normal(0.01)(rngs.params(), (positions, width)))

    def __call__(
        self, ids_BT: Int[Array, "B T"], *, start: int | Array = 0
    ) -> Float[Array, "B T D"]:
        """Embed tokens at positions ``start``, ``start`` + 1, and so on."""
        positions = self.positions[...][start + jnp.arange(ids_BT.shape[1])]
        return self.tokens(ids_BT) + positions.astype(self.dtype)

    def attend(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Logits by the tied embedding."""
        return self.tokens.attend(x_BTD)


def unit(x_BD: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Unit vectors in float32."""
    x_BD = x_BD.astype(jnp.float32)
    return x_BD / jnp.maximum(jnp.linalg.norm(x_BD, axis=-1, keepdims=True), 1e-12)
