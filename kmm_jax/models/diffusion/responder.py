"""What a UNet takes from a text: its cross-attention alone, with queries kept from real runs.

L layers, Q queries, K width of a layer, B batch, S context positions, C context width.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from kmm_jax.models.attention import attend, project
from kmm_jax.models.diffusion.config import UNetConfig

_COLLECTED: contextvars.ContextVar[list[Array] | None] = contextvars.ContextVar(
    "collected_queries", default=None
)


@contextlib.contextmanager
def collected_queries() -> Iterator[list[Array]]:
    """Gathers the projected queries (B, T, K) of every cross-attention that is traced inside.

    In the order of the layers; for a UNet with ``remat="none"``, whose blocks are traced once.
    """
    found: list[Array] = []
    token = _COLLECTED.set(found)
    try:
        yield found
    finally:
        _COLLECTED.reset(token)


def tell_queries(q_BTK: Array) -> None:
    """Hand queries to whoever collects them."""
    found = _COLLECTED.get()
    if found is not None:
        found.append(q_BTK)


def layer_widths(config: UNetConfig) -> list[tuple[int, int]]:
    """Width and heads of each layer of cross-attention, in the order in which they run."""

    def level(number: int, blocks: int) -> list[tuple[int, int]]:
        depth = config.transformers[number]
        return [(config.widths[number], config.heads[number])] * (depth * blocks)

    levels = range(len(config.widths))
    down = [each for number in levels for each in level(number, config.layers)]
    middle = [(config.widths[-1], config.heads[-1])] * config.middle_transformers
    up = [each for number in reversed(levels) for each in level(number, config.layers + 1)]
    return down + middle + up


class Responder(nnx.Module):
    """One layer of cross-attention: keys, values, and queries that were put to it."""

    def __init__(self, width: int, heads: int, context_width: int, queries: int, *, rngs: nnx.Rngs):
        self.heads = heads
        self.to_k = nnx.Linear(context_width, width, use_bias=False, rngs=rngs)
        self.to_v = nnx.Linear(context_width, width, use_bias=False, rngs=rngs)
        self.queries = nnx.Param(jnp.zeros((queries, width)))

    def __call__(self, context_BSC: Float[Array, "B S C"]) -> Float[Array, "B Q K"]:
        """What each query gathers from a context."""
        k_BSK, v_BSK = project(context_BSC, (self.to_k, self.to_v))
        queries_QK = self.queries[...]
        q_BQK = jnp.broadcast_to(queries_QK, (context_BSC.shape[0], *queries_QK.shape))

        def split(x: Array) -> Array:
            return x.reshape(*x.shape[:-1], self.heads, -1)

        return attend(split(q_BQK), split(k_BSK), split(v_BSK)).reshape(q_BQK.shape)


def responders(config: UNetConfig, queries: int, *, rngs: nnx.Rngs) -> nnx.List[Responder]:
    """A responder for each layer of cross-attention of a UNet."""
    return nnx.List(
        [
            Responder(width, heads, config.context_width, queries, rngs=rngs)
            for width, heads in layer_widths(config)
        ]
    )


def chosen_queries(
    queries_BTK: Sequence[Array], count: int, key: jax.Array
) -> list[Float[Array, "Q K"]]:
    """``count`` of the queries of each layer, at random over pictures and positions."""
    chosen = []
    for number, each in enumerate(queries_BTK):
        flat = each.reshape(-1, each.shape[-1])
        rows = jax.random.choice(jax.random.fold_in(key, number), flat.shape[0], (count,))
        chosen.append(flat[rows].astype(jnp.float32))
    return chosen
