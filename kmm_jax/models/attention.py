"""Multi-head attention: the one function every model attends through, and its projections.

B batch, T query positions, S key positions, D width, C context width, H heads, K head width.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

# cuDNN's fused kernel takes these on Hopper and Ampere; other shapes go through XLA.
_FUSED_DTYPES = (jnp.bfloat16, jnp.float16)
_FUSED_MAX_HEAD_WIDTH = 128


def attend(
    q_BTHK: Float[Array, "B T H K"],
    k_BSHK: Float[Array, "B S H K"],
    v_BSHK: Float[Array, "B S H K"],
    *,
    causal: bool = False,
    mask: Bool[Array, "B #H #T S"] | None = None,
) -> Float[Array, "B T H K"]:
    """Scaled dot-product attention; softmax in float32, True in ``mask`` means "may attend"."""
    head_width = q_BTHK.shape[-1]
    fused = (
        jax.default_backend() == "gpu"
        and q_BTHK.dtype in _FUSED_DTYPES
        and head_width % 8 == 0
        and head_width <= _FUSED_MAX_HEAD_WIDTH
        # In training cuDNN's kernel takes even lengths only: not a text with its [CLS], 64 + 1.
        and q_BTHK.shape[1] % 2 == 0
        and k_BSHK.shape[1] % 2 == 0
    )
    if fused and mask is not None:
        # cuDNN wants the padding mask in full: https://github.com/jax-ml/jax/issues/28974
        batch, queries, heads, _ = q_BTHK.shape
        mask = jnp.broadcast_to(mask, (batch, heads, queries, k_BSHK.shape[1]))
    return jax.nn.dot_product_attention(
        q_BTHK,
        k_BSHK,
        v_BSHK,
        mask=mask,
        is_causal=causal,
        implementation="cudnn" if fused else "xla",
    )


class Attention(nnx.Module):
    """Multi-head attention of ``width`` over itself or over a context of ``context_width``."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        context_width: int | None = None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        if width % heads:
            raise ValueError(f"attention width {width} does not divide into {heads} heads")
        context_width = context_width or width
        self.heads = heads

        def linear(inputs: int) -> nnx.Linear:
            return nnx.Linear(
                inputs, width, dtype=dtype, kernel_init=nnx.initializers.xavier_uniform(), rngs=rngs
            )

        self.query = linear(width)
        self.key = linear(context_width)
        self.value = linear(context_width)
        self.out = linear(width)

    def _split(self, x_BTD: Array) -> Array:
        return x_BTD.reshape(*x_BTD.shape[:-1], self.heads, -1)

    def project_context(
        self, context_BSC: Float[Array, "B S C"]
    ) -> tuple[Float[Array, "B S H K"], Float[Array, "B S H K"]]:
        """Keys and values of a context, to be attended to now or kept in a cache."""
        return self._split(self.key(context_BSC)), self._split(self.value(context_BSC))

    def attend_projected(
        self,
        x_BTD: Float[Array, "B T D"],
        k_BSHK: Float[Array, "B S H K"],
        v_BSHK: Float[Array, "B S H K"],
        *,
        causal: bool = False,
        mask: Bool[Array, "B #H #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Attend from ``x`` to keys and values that are already projected."""
        y_BTHK = attend(
            self._split(self.query(x_BTD)),
            k_BSHK.astype(self.query.dtype),
            v_BSHK.astype(self.query.dtype),
            causal=causal,
            mask=mask,
        )
        return self.out(y_BTHK.reshape((*x_BTD.shape[:-1], -1)))

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        context_BSC: Float[Array, "B S C"] | None = None,
        *,
        causal: bool = False,
        mask: Bool[Array, "B #H #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Attend from ``x`` to the context, to ``x`` itself without one."""
        k_BSHK, v_BSHK = self.project_context(x_BTD if context_BSC is None else context_BSC)
        return self.attend_projected(x_BTD, k_BSHK, v_BSHK, causal=causal, mask=mask)
