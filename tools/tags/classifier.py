"""The tagger of the study: a small convolutional network, trained end to end on its rows.

End to end, because augmentation and generated pictures teach an encoder more than a layer on top
of one that is frozen. N pictures, G groups, C labels of a group.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from kmm_jax.models.diffusion.layers import conv, group_norm
from kmm_jax.models.keys import abstract_module

WIDTHS = (16, 32, 64)
BATCH = 128

Views = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Pictures (B, S, S, 3) to views of them."""


class Network(nnx.Module):
    """Three halvings, global averages, and a head for each group."""

    def __init__(self, labels: Sequence[int], *, rngs: nnx.Rngs):
        dtype = jnp.dtype("float32")
        pairs = list(zip((3, *WIDTHS[:-1]), WIDTHS, strict=True))
        self.first = nnx.List([conv(i, o, stride=2, dtype=dtype, rngs=rngs) for i, o in pairs])
        self.second = nnx.List([conv(w, w, dtype=dtype, rngs=rngs) for w in WIDTHS])
        self.norms = nnx.List([group_norm(w, 8, 1e-5, dtype=dtype, rngs=rngs) for w in WIDTHS])
        self.heads = nnx.List([nnx.Linear(WIDTHS[-1], count, rngs=rngs) for count in labels])

    def __call__(self, image_NHW3: jax.Array) -> list[jax.Array]:
        """The logits (N, C) of each group."""
        x = image_NHW3.astype(jnp.float32) / 127.5 - 1
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            x = jax.nn.silu(first(x))
            x = x + jax.nn.silu(norm(second(x)))
        x_ND = x.mean(axis=(1, 2))
        return [head(x_ND) for head in self.heads]


def _graphdef(labels: tuple[int, ...]) -> Any:
    return nnx.graphdef(abstract_module(lambda rngs: Network(labels, rngs=rngs)))


@functools.cache
def _training(labels: tuple[int, ...], steps: int) -> tuple[Any, Any]:
    """Optimizer and update; compiled once for all trainings of a world."""
    graphdef = _graphdef(labels)
    optimizer = optax.adamw(
        optax.warmup_cosine_decay_schedule(0.0, 2e-3, max(1, steps // 20), steps),
        b2=0.99,
        weight_decay=1e-2,
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, state: Any, images: jax.Array, truth_NG: jax.Array) -> Any:
        def loss(params: Any) -> jax.Array:
            logits = nnx.merge(graphdef, params)(images)
            each = optax.softmax_cross_entropy_with_integer_labels
            return sum(
                (each(one, truth_NG[:, place]).mean() for place, one in enumerate(logits)),
                jnp.zeros(()),
            )

        changes, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, changes), state

    return optimizer, update


@functools.cache
def _logits(labels: tuple[int, ...]) -> Any:
    graphdef = _graphdef(labels)

    @jax.jit
    def logits(params: Any, images: jax.Array) -> Any:
        return nnx.merge(graphdef, params)(images)

    return logits


def train(
    images: np.ndarray,
    labels: np.ndarray,
    shares: np.ndarray,
    sizes: Sequence[int],
    *,
    steps: int,
    seed: int,
    views: Views | None = None,
) -> Any:
    """The parameters of a network that saw rows as often as their shares say.

    Args:
        images, labels: (N, S, S, 3) uint8 and (N, G).
        shares: (N,), that add up to 1.
        sizes: labels of each group.
    """
    optimizer, update = _training(tuple(sizes), steps)
    network = Network(sizes, rngs=nnx.Rngs(seed))
    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(network)))
    state = optimizer.init(params)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = rng.choice(len(images), BATCH, p=shares)
        some = images[chosen] if views is None else views(images[chosen], rng)
        params, state = update(params, state, some, labels[chosen])
    return jax.device_get(params)


def answers(params: Any, images: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """The probabilities (N, C) of each group."""
    logits = _logits(tuple(sizes))
    parts = []
    for start in range(0, len(images), 256):
        some = images[start : start + 256]
        filled = np.concatenate([some, np.zeros((256 - len(some), *some.shape[1:]), np.uint8)])
        found = jax.device_get(logits(params, filled))
        parts.append([np.asarray(jax.nn.softmax(one))[: len(some)] for one in found])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]
