"""Multi-head attention: the one function every model attends through, and its projections.

B batch, T query positions, S key positions, D width, C context width, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from kmm_jax.models.placement import scattering_gradient

Implementation = Literal["cudnn", "xla"]

# Names what one kernel does on a GPU, in profiles and to the planner.
SCOPE = "attend"

# cuDNN's flash attention takes these on Hopper and Ampere; other shapes go through XLA.
_FLASH_DTYPES = (jnp.bfloat16, jnp.float16)
_FLASH_MAX_HEAD_WIDTH = 128


def flash_takes(dtype: jnp.dtype, *, queries: int, keys: int, head_width: int) -> bool:
    """Whether cuDNN's flash attention takes these sizes, once ``attend_evenly`` made them even.

    It gets no single query or key: its backward pass refuses one of each, and a decoded token has
    nothing to gain.
    """
    return (
        dtype in _FLASH_DTYPES
        and head_width % 8 == 0
        and head_width <= _FLASH_MAX_HEAD_WIDTH
        and queries > 1
        and keys > 1
    )


@jax.named_scope(SCOPE)
def attend(
    q_BTHK: Float[Array, "B T H K"],
    k_BSHK: Float[Array, "B S H K"],
    v_BSHK: Float[Array, "B S H K"],
    *,
    causal: bool = False,
    mask: Bool[Array, "B #H #T S"] | None = None,
) -> Float[Array, "B T H K"]:
    """Scaled dot-product attention; softmax in float32, True in ``mask`` means "may attend"."""
    _, queries, _, head_width = q_BTHK.shape
    flash = jax.default_backend() == "gpu" and flash_takes(
        q_BTHK.dtype, queries=queries, keys=k_BSHK.shape[1], head_width=head_width
    )
    if flash:
        return attend_evenly(q_BTHK, k_BSHK, v_BSHK, causal=causal, mask=mask)
    return jax.nn.dot_product_attention(
        q_BTHK, k_BSHK, v_BSHK, mask=mask, is_causal=causal, implementation="xla"
    )


def attend_evenly(
    q_BTHK: Float[Array, "B T H K"],
    k_BSHK: Float[Array, "B S H K"],
    v_BSHK: Float[Array, "B S H K"],
    *,
    causal: bool = False,
    mask: Bool[Array, "B #H #T S"] | None = None,
    implementation: Implementation = "cudnn",
) -> Float[Array, "B T H K"]:
    """``attend`` in the form JAX lets through to cuDNN in training: at even lengths.

    Odd ones (an image of 196 patches with its class token, a text of 64 with its [CLS]) get one
    position more. None attends to it, and what it attends to itself is cut off
    (docs/decisions/flash-attention.md).
    """
    batch, queries, heads, _ = q_BTHK.shape
    keys = k_BSHK.shape[1]
    more_queries, more_keys = queries % 2, keys % 2

    def longer(x_BTHK: Array, more: int) -> Array:
        return jnp.pad(x_BTHK, ((0, 0), (0, more), (0, 0), (0, 0))) if more else x_BTHK

    lengths_B = None
    if mask is not None:
        # cuDNN wants a mask in full: https://github.com/jax-ml/jax/issues/28974
        mask = jnp.broadcast_to(mask, (batch, heads, queries, keys))
        mask = jnp.pad(mask, ((0, 0), (0, 0), (0, more_queries), (0, more_keys)))
    elif more_keys and not (causal and queries <= keys):
        # Not as a mask, which cuDNN would add as a bias and work out a gradient for.
        lengths_B = jnp.full((batch,), keys, jnp.int32)
    y_BTHK = jax.nn.dot_product_attention(
        longer(q_BTHK, more_queries),
        longer(k_BSHK, more_keys),
        longer(v_BSHK, more_keys),
        mask=mask,
        is_causal=causal,
        key_value_seq_lengths=lengths_B,
        implementation=implementation,
    )
    return y_BTHK[:, :queries]


def project(
    x_BTC: Float[Array, "B T C"], projections: Sequence[nnx.Linear]
) -> list[Float[Array, "B T D"]]:
    """Several projections of one input as one product.

    The kernels stay parameters of their own, (C, D) each, and are stacked to (C, P, D) where they
    are used, not joined to (C, P D): the new dimension is whole on every device, so each keeps its
    heads of all P projections, however D is split (docs/decisions/projections.md).
    """
    if x_BTC.shape[1] == 1:
        # A token in decoding: its time is that of reading the weights, which a stack would double.
        return [each(x_BTC) for each in projections]
    dtype = projections[0].dtype
    kernel_CPD = scattering_gradient(
        jnp.stack([each.kernel[...].astype(dtype) for each in projections], axis=1)
    )
    y_BTPD = jnp.einsum("BTC,CPD->BTPD", x_BTC.astype(dtype), kernel_CPD)
    if projections[0].bias is not None:
        y_BTPD += jnp.stack([jnp.asarray(each.bias, dtype) for each in projections])
    return [y_BTPD[:, :, number] for number in range(len(projections))]


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

    def join(self, y_BTHK: Float[Array, "B T H K"]) -> Float[Array, "B T D"]:
        """What the heads gathered, as one vector a position."""
        return self.out(y_BTHK.reshape(*y_BTHK.shape[:2], -1))

    def project_context(
        self, context_BSC: Float[Array, "B S C"]
    ) -> tuple[Float[Array, "B S H K"], Float[Array, "B S H K"]]:
        """Keys and values of a context, to be attended to now or kept in a cache."""
        key_BSD, value_BSD = project(context_BSC, (self.key, self.value))
        return self._split(key_BSD), self._split(value_BSD)

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
        q_BTHK = self._split(self.query(x_BTD))
        k_BSHK, v_BSHK = k_BSHK.astype(q_BTHK.dtype), v_BSHK.astype(q_BTHK.dtype)
        return self.join(attend(q_BTHK, k_BSHK, v_BSHK, causal=causal, mask=mask))

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        context_BSC: Float[Array, "B S C"] | None = None,
        *,
        causal: bool = False,
        mask: Bool[Array, "B #H #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Attend from ``x`` to the context, to ``x`` itself without one."""
        if context_BSC is not None:
            k_BSHK, v_BSHK = self.project_context(context_BSC)
            return self.attend_projected(x_BTD, k_BSHK, v_BSHK, causal=causal, mask=mask)
        q_BTHK, k_BSHK, v_BSHK = map(
            self._split, project(x_BTD, (self.query, self.key, self.value))
        )
        return self.join(attend(q_BTHK, k_BSHK, v_BSHK, causal=causal, mask=mask))
