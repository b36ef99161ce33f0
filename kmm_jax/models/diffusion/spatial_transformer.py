"""Transformers over the positions of a feature map that attend to a sequence.

B batch, H height, W width, T positions (H W), S context positions, D width, C context width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.attention import attend, project
from kmm_jax.models.diffusion.layers import group_norm
from kmm_jax.models.diffusion.responder import tell_queries

# Transformer2DModel norms with this, whatever the ResNet blocks beside it take.
_EPSILON = 1e-6


class CrossAttention(nnx.Module):
    """Attention of ``width`` to a context of ``context_width``, to itself without one.

    Keys and values have no biases here.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        context_width: int | None = None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.heads = heads
        self.to_q = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.to_k = nnx.Linear(
            context_width or width, width, use_bias=False, dtype=dtype, rngs=rngs
        )
        self.to_v = nnx.Linear(
            context_width or width, width, use_bias=False, dtype=dtype, rngs=rngs
        )
        self.to_out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def _split(self, x_BTD: Array) -> Array:
        return x_BTD.reshape(*x_BTD.shape[:-1], self.heads, -1)

    def __call__(
        self, x_BTD: Float[Array, "B T D"], context_BSC: Float[Array, "B S C"] | None = None
    ) -> Float[Array, "B T D"]:
        """What each position gathers."""
        if context_BSC is None:
            q_BTD, k_BSD, v_BSD = project(x_BTD, (self.to_q, self.to_k, self.to_v))
        else:
            q_BTD = self.to_q(x_BTD)
            tell_queries(q_BTD)
            k_BSD, v_BSD = project(context_BSC, (self.to_k, self.to_v))
        y_BTHK = attend(*map(self._split, (q_BTD, k_BSD, v_BSD)))
        return self.to_out(y_BTHK.reshape(x_BTD.shape))


class GEGLU(nnx.Module):
    """An FFN gated by gelu (arXiv 2002.05202), the exact one."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.proj = nnx.Linear(width, 8 * width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Applied to each position alone."""
        hidden, gate = jnp.split(self.proj(x_BTD), 2, axis=-1)
        return self.out(hidden * jax.nn.gelu(gate, approximate=False))


class TransformerBlock(nnx.Module):
    """Self-attention, cross-attention and an FFN, each behind its norm."""

    def __init__(
        self, width: int, heads: int, context_width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(
                width, epsilon=1e-5, use_fast_variance=False, dtype=dtype, rngs=rngs
            )

        self.norm1 = norm()
        self.attn1 = CrossAttention(width, heads, dtype=dtype, rngs=rngs)
        self.norm2 = norm()
        self.attn2 = CrossAttention(
            width, heads, context_width=context_width, dtype=dtype, rngs=rngs
        )
        self.norm3 = norm()
        self.ff = GEGLU(width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x_BTD: Float[Array, "B T D"], context_BSC: Float[Array, "B S C"]
    ) -> Float[Array, "B T D"]:
        """The block."""
        x_BTD += self.attn1(self.norm1(x_BTD))
        x_BTD += self.attn2(self.norm2(x_BTD), context_BSC)
        return x_BTD + self.ff(self.norm3(x_BTD))


class SpatialTransformer(nnx.Module):
    """Transformer blocks over the positions of a feature map, between two projections."""

    def __init__(
        self,
        width: int,
        heads: int,
        depth: int,
        context_width: int,
        *,
        groups: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.norm = group_norm(width, groups, _EPSILON, dtype=dtype, rngs=rngs)
        self.proj_in = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.transformer_blocks = nnx.List(
            [
                TransformerBlock(width, heads, context_width, dtype=dtype, rngs=rngs)
                for _ in range(depth)
            ]
        )
        self.proj_out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self, x_BHWD: Float[Array, "B H W D"], context_BSC: Float[Array, "B S C"]
    ) -> Float[Array, "B H W D"]:
        """The feature map with what its positions gathered."""
        batch, height, width, channels = x_BHWD.shape
        x_BTD = self.proj_in(self.norm(x_BHWD).reshape(batch, height * width, channels))
        for block in self.transformer_blocks:
            x_BTD = block(x_BTD, context_BSC)
        return x_BHWD + self.proj_out(x_BTD).reshape(x_BHWD.shape)
