"""Captions of 64 tokens: with the key-value cache, and recomputing the whole text each token."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kmm_jax.models.coca import decoding
from kmm_jax.models.coca.config import small
from kmm_jax.models.coca.modeling import CoCa

_LENGTH, _IMAGES, _REPEATS = 64, 4, 3
_PROMPT = (1, 4)


def uncached_greedy(text: Any, image_BQD: jax.Array, never: tuple[int, ...]) -> jax.Array:
    """Greedy decoding that runs both halves over all positions for every token."""
    length = text.config.length
    ids_BT = jnp.zeros((image_BQD.shape[0], length), jnp.int32)
    ids_BT = ids_BT.at[:, : len(_PROMPT)].set(jnp.asarray(_PROMPT))

    def step(position: int, ids_BT: jax.Array) -> jax.Array:
        states_BTD = text.multimodal(text.encode(ids_BT)[1], image_BQD, causal=True)
        state_B1D = jax.lax.dynamic_slice_in_dim(states_BTD, position, 1, axis=1)
        logits_BV = text.predict(state_B1D)[:, 0].at[:, jnp.asarray(never)].set(-1e9)
        return ids_BT.at[:, position + 1].set(logits_BV.argmax(axis=-1).astype(jnp.int32))

    return jax.lax.fori_loop(len(_PROMPT) - 1, length - 1, step, ids_BT)


def run() -> dict[str, Any]:
    """Both are one compiled program each; [EOS] is forbidden, so that all 64 places are filled."""
    config = small(
        image_size=64,
        patch_size=8,
        width=256,
        depth=2,
        half=4,
        vocabulary=8000,
        length=_LENGTH,
    )
    graphdef, state = nnx.split(CoCa(config, rngs=nnx.Rngs(0)))
    params = nnx.as_pure(state)
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, 64, 64, 3), dtype=np.uint8)
    never = tuple(range(7))

    @jax.jit
    def encode(params: Any) -> jax.Array:
        return nnx.merge(graphdef, params).encode_image(pixels)[1]

    @jax.jit
    def cached(params: Any, image_BQD: jax.Array) -> jax.Array:
        text = nnx.merge(graphdef, params).text
        prompt = jnp.asarray(_PROMPT, jnp.int32)
        return decoding.greedy(text, image_BQD, prompt, eos_id=2, never=never)

    @jax.jit
    def uncached(params: Any, image_BQD: jax.Array) -> jax.Array:
        return uncached_greedy(nnx.merge(graphdef, params).text, image_BQD, never)

    image_BQD = encode(params)
    same = np.array_equal(
        np.asarray(cached(params, image_BQD))[:, :-1],
        np.asarray(uncached(params, image_BQD))[:, :-1],
    )

    def seconds(function: Callable[..., jax.Array]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(params, image_BQD))
        return time.perf_counter() - start

    pairs = [(seconds(uncached), seconds(cached)) for _ in range(_REPEATS)]
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    return {
        "value": ratio,
        "same_tokens": bool(same),
        "uncached_seconds": [slow for slow, _ in pairs],
        "cached_seconds": [fast for _, fast in pairs],
        "note": f"{_IMAGES} images, width 256, 4 + 4 layers, vocabulary 8,000; "
        + ("same tokens" if same else "TOKENS DIFFER"),
    }
