"""Transformer layers, stacked and scanned.

B batch, T positions, S context positions, D width, H heads, K head width, L layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from kmm_jax.models.attention import Attention
from kmm_jax.models.keys import Keys
from kmm_jax.models.placement import by_example, gathered

Activation = Literal["gelu", "gelu_tanh", "quick_gelu"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # OpenAI's CLIP
}


Streams = TypeVar("Streams")


class KeyValue(NamedTuple):
    """One layer's projected keys and values."""

    key: Float[Array, "B S H K"]
    value: Float[Array, "B S H K"]


class MLP(nnx.Module):
    """Two linear layers with an activation between."""

    def __init__(
        self, width: int, hidden: int, *, activation: str, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        init = nnx.initializers.xavier_uniform()
        self.activation = activation
        self.up = nnx.Linear(width, hidden, dtype=dtype, kernel_init=init, rngs=rngs)
        self.down = nnx.Linear(hidden, width, dtype=dtype, kernel_init=init, rngs=rngs)

    def __call__(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Applied to each position alone."""
        return self.down(ACTIVATIONS[self.activation](self.up(x_BTD)))


class Layer(nnx.Module):
    """A pre-norm layer: self-attention, cross-attention where there is a context, one FFN.

    With ``cross_ffn``, cross-attention has an FFN of its own behind the other, and a norm of what
    it attends to: two layers in one, as open_clip's CoCa has them.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        cross: bool = False,
        cross_ffn: bool = False,
        activation: str = "gelu",
        norm_epsilon: float = 1e-6,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(width, epsilon=norm_epsilon, dtype=dtype, rngs=rngs)

        self.attention_norm = norm()
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        if cross:
            self.cross_norm = norm()
            self.cross_attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()
        self.mlp = MLP(width, hidden, activation=activation, dtype=dtype, rngs=rngs)
        self.cross_ffn = cross_ffn
        if cross_ffn:
            self.context_norm = norm()
            self.cross_mlp_norm = norm()
            self.cross_mlp = MLP(width, hidden, activation=activation, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        context_BSD: Float[Array, "B S D"] | None = None,
        *,
        causal: bool = False,
        mask: Bool[Array, "B #H #T T"] | None = None,
        context_mask: Bool[Array, "B #H #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """One layer over a whole sequence."""
        x_BTD += self.attention(self.attention_norm(x_BTD), causal=causal, mask=mask)
        context = None if context_BSD is None else self.cross_context(context_BSD)
        return self._after_attention(x_BTD, context, mask=context_mask)

    def _after_attention(
        self,
        x_BTD: Float[Array, "B T D"],
        context: KeyValue | None,
        *,
        mask: Bool[Array, "B #H #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Cross-attention to projected keys and values where there are any, and the FFN."""
        if context is None:
            return x_BTD + self.mlp(self.mlp_norm(x_BTD))
        if self.cross_ffn:
            x_BTD += self.mlp(self.mlp_norm(x_BTD))
        x_BTD += self.cross_attention.attend_projected(self.cross_norm(x_BTD), *context, mask=mask)
        if self.cross_ffn:
            return x_BTD + self.cross_mlp(self.cross_mlp_norm(x_BTD))
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))

    def cross_context(self, context_BSD: Float[Array, "B S D"]) -> KeyValue:
        """The keys and values by which cross-attention attends to a context."""
        if self.cross_ffn:
            context_BSD = self.context_norm(context_BSD)
        return KeyValue(*self.cross_attention.project_context(context_BSD))

    def context(self, x_BSD: Float[Array, "B S D"]) -> KeyValue:
        """The keys and values by which a sequence, as it enters the layer, is attended to."""
        return KeyValue(*self.attention.project_context(self.attention_norm(x_BSD)))

    def given(
        self,
        x_BTD: Float[Array, "B T D"],
        context: KeyValue,
        *,
        mask: Bool[Array, "B #H #T S"] | None = None,
    ) -> Float[Array, "B T D"]:
        """The layer with ``x``'s queries over the keys and values of some sequence's ``context``.

        Of ``x``'s own, it is the layer itself: no weight is added.
        """
        x_BTD += self.attention.attend_projected(self.attention_norm(x_BTD), *context, mask=mask)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))

    def given_each(self, x_BSD: Float[Array, "B S D"], context: KeyValue) -> Float[Array, "B S D"]:
        """The layer where each position has one key to attend to, that at its own place.

        Attention over a single key is that key's value, whatever the query.
        """
        x_BSD += self.attention.join(context.value)
        return x_BSD + self.mlp(self.mlp_norm(x_BSD))

    def empty_cache(self, batch: int, length: int) -> KeyValue:
        """Zeros for ``length`` positions, in the dtype of the computation."""
        query = self.attention.query
        heads = self.attention.heads
        zeros = jnp.zeros((batch, length, heads, query.out_features // heads), query.dtype)
        return KeyValue(zeros, zeros)

    def step(
        self,
        x_B1D: Float[Array, "B 1 D"],
        cache: KeyValue,
        position: Array,
        context: KeyValue | None = None,
    ) -> tuple[Float[Array, "B 1 D"], KeyValue]:
        """One new position through the layer; keys and values of the earlier ones come cached."""
        h_B1D = self.attention_norm(x_B1D)
        k_B1HK, v_B1HK = self.attention.project_context(h_B1D)
        cache = KeyValue(
            jax.lax.dynamic_update_slice_in_dim(
                cache.key, k_B1HK.astype(cache.key.dtype), position, axis=1
            ),
            jax.lax.dynamic_update_slice_in_dim(
                cache.value, v_B1HK.astype(cache.value.dtype), position, axis=1
            ),
        )
        mask = (jnp.arange(cache.key.shape[1]) <= position)[None, None, None, :]
        x_B1D += self.attention.attend_projected(
            h_B1D, *cache, mask=jnp.broadcast_to(mask, (x_B1D.shape[0], *mask.shape[1:]))
        )
        return self._after_attention(x_B1D, context), cache


AnyLayer = TypeVar("AnyLayer", bound=nnx.Module)


class Stack(nnx.Module, Generic[AnyLayer]):
    """``depth`` equal layers whose parameters carry a leading layer dimension.

    One layer is traced and compiled, whatever the depth, and the parameter tree stays small: host
    time a step and compile time do not grow with depth.

    Args:
        make: builds one layer from its ``nnx.Rngs``.
        depth: number of layers, at least 1.
        remat: ``"none"`` keeps activations, ``"full"`` recomputes each layer in the backward pass,
            any other name is a policy of ``jax.checkpoint_policies``.
    """

    def __init__(
        self, make: Callable[[nnx.Rngs], AnyLayer], depth: int, *, remat: str, rngs: nnx.Rngs
    ):
        rematerialised(lambda: None, remat)  # a wrong name shows here, before anything is compiled
        self.remat = remat
        self.depth = depth

        @nnx.vmap(in_axes=(0,), out_axes=0)
        def make_all(key: jax.Array) -> AnyLayer:
            return make(Keys(key))

        self.layers = make_all(jax.random.split(rngs.params(), depth))

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        context_BSD: Float[Array, "B S D"] | None = None,
        *,
        causal: bool = False,
        mask: Bool[Array, "B #H #T T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """All layers over a whole sequence."""
        return self.scan(
            lambda layer, x_BTD: layer(x_BTD, context_BSD, causal=causal, mask=mask), x_BTD
        )

    def scan(
        self,
        apply: Callable[[AnyLayer, Streams], Streams],
        streams: Streams,
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> Streams:
        """``apply`` each layer in turn to what the one before gave.

        Args:
            streams: one sequence (B, T, D), or any tree of them; all of one dtype.
            start, stop: of the layers, only these.
        """
        graphdef, state = nnx.split(self.layers)
        parameters = nnx.as_pure(state)
        if (start, stop or self.depth) != (0, self.depth):
            parameters = jax.tree.map(lambda stacked: stacked[start:stop], parameters)
        dtype = jax.tree.leaves(streams)[0].dtype

        def body(streams: Streams, parameters: Any) -> tuple[Streams, None]:
            parameters = gathered(parameters, prefix="layers/", dtype=dtype, stacked=True)
            layer = nnx.merge(graphdef, parameters)
            streams = apply(layer, jax.tree.map(by_example, streams))
            return jax.tree.map(by_example, streams), None

        return jax.lax.scan(rematerialised(body, self.remat), streams, parameters)[0]

    def unstack(self) -> list[AnyLayer]:
        """The layers one by one, their parameters sliced out of the stack.

        For decoding: a scan inside its loop would copy every weight for every token.
        """
        graphdef, state = nnx.split(self.layers)
        pure = nnx.as_pure(state)

        def layer(number: int) -> AnyLayer:
            return nnx.merge(graphdef, jax.tree.map(lambda stacked: stacked[number], pure))

        return [layer(number) for number in range(self.depth)]


# Names under jax.checkpoint_policies that make a policy from arguments, and are none themselves.
_MAKE_POLICIES = (
    "offload_dot_with_no_batch_dims",
    "save_and_offload_only_these_names",
    "save_any_names_but_these",
    "save_anything_except_these_names",
    "save_from_both_policies",
    "save_only_these_names",
)


def rematerialised(function: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """``function`` under the rematerialisation policy of that name.

    Raises:
        ValueError: there is no such policy.
    """
    if policy == "none":
        return function
    if policy == "full":
        return jax.checkpoint(function, prevent_cse=False)
    if not hasattr(jax.checkpoint_policies, policy) or policy in _MAKE_POLICIES:
        names = [name for name in dir(jax.checkpoint_policies) if not name.startswith("_")]
        names = [name for name in names if name not in _MAKE_POLICIES]
        raise ValueError(f"no remat policy {policy!r}; valid: none, full, {', '.join(names)}")
    return jax.checkpoint(
        function, prevent_cse=False, policy=getattr(jax.checkpoint_policies, policy)
    )
