"""One CLIP training step on the CPU, float32: open_clip in PyTorch against ours in JAX.

Same sizes, same batch, forward, contrastive loss, backward and AdamW; the two take turns.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from kmm_jax.errors import require
from kmm_jax.models.clip.config import CLIPConfig, clip_b32
from kmm_jax.tasks.clip import CLIPTask

_BATCH, _REPEATS = 16, 5
_LAYERS, _WIDTH, _TEXT_WIDTH, _SIZE, _PATCH = 6, 384, 256, 128, 16


def _config() -> CLIPConfig:
    config = clip_b32(image_size=_SIZE)
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(
            config.vision,
            patch_size=_PATCH,
            width=_WIDTH,
            depth=_LAYERS,
            heads=_WIDTH // 64,
            hidden=4 * _WIDTH,
        ),
        text=dataclasses.replace(
            config.text,
            width=_TEXT_WIDTH,
            depth=_LAYERS,
            heads=_TEXT_WIDTH // 64,
            hidden=4 * _TEXT_WIDTH,
        ),
        embedding=256,
        dtype="float32",
    )


def _ours(pixels: np.ndarray, ids: np.ndarray) -> tuple[Callable[[], float], int]:
    task = CLIPTask(model=_config())
    graphdef, state = nnx.split(task.init(jax.random.key(0)))
    params = nnx.as_pure(state)
    optimizer = optax.adamw(1e-4)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = {"image": jnp.asarray(pixels), "text": jnp.asarray(ids)}

    # The batch is an argument, as in training: closed over, the compiler would work on it.
    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, moments: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        def loss(params: Any) -> jax.Array:
            return task.loss(nnx.merge(graphdef, params), batch, jax.random.key(0), mesh)[0]

        value, gradients = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return optax.apply_updates(params, updates), moments, value

    held = [params, optimizer.init(params)]

    def run() -> float:
        held[0], held[1], loss = step(held[0], held[1], batch)
        return float(loss)

    return run, sum(leaf.size for leaf in jax.tree.leaves(params))


def _open_clip(pixels: np.ndarray, ids: np.ndarray) -> tuple[Callable[[], float], int]:
    torch = require("torch", extra="test")
    from tools.bench.torch_reference import open_clip_module

    open_clip = open_clip_module()
    model = open_clip.model.CLIP(
        embed_dim=256,
        vision_cfg=open_clip.CLIPVisionCfg(
            image_size=_SIZE, patch_size=_PATCH, width=_WIDTH, layers=_LAYERS, head_width=64
        ),
        text_cfg=open_clip.CLIPTextCfg(width=_TEXT_WIDTH, layers=_LAYERS, heads=_TEXT_WIDTH // 64),
    )
    loss_function = open_clip.loss.ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    texts = torch.from_numpy(ids.astype(np.int64))

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        image, text, scale = model(images, texts)
        loss = loss_function(image, text, scale)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return run, sum(p.numel() for p in model.parameters())


def run() -> dict[str, Any]:
    """Median over paired steps of PyTorch's seconds over ours."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (_BATCH, _SIZE, _SIZE, 3), dtype=np.uint8)
    ids = rng.integers(10, 40_000, (_BATCH, 77)).astype(np.int32)
    # The end token: 2 is read by ours, the largest id by open_clip; both at the last place.
    ids[:, -1] = 2
    theirs_ids = ids.copy()
    theirs_ids[:, -1] = 49_407
    ours, our_size = _ours(pixels, ids)
    theirs, their_size = _open_clip(pixels, theirs_ids)

    def seconds(step: Callable[[], float]) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    seconds(ours), seconds(theirs)
    pairs = [(seconds(theirs), seconds(ours)) for _ in range(_REPEATS)]
    return {
        "value": statistics.median(slow / fast for slow, fast in pairs),
        "open_clip_seconds": [slow for slow, _ in pairs],
        "kmm_jax_seconds": [fast for _, fast in pairs],
        "parameters": {"kmm_jax": our_size, "open_clip": their_size},
        "note": f"batch {_BATCH}, {our_size / 1e6:.1f}M parameters ours, "
        f"{their_size / 1e6:.1f}M theirs, float32",
    }
