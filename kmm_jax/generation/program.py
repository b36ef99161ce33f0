"""The compiled parts of a generator: prompts to sequences, noise to latents, latents to pixels.

All of a picture is computed on one device: nothing crosses between devices, in or around the loop.

B pictures of a device, h w Z of the latents, S context positions, E context width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from kmm_jax.generation.schedulers.sample import State, advance, begin
from kmm_jax.generation.schedulers.table import Table
from kmm_jax.models.diffusion.config import UNetConfig
from kmm_jax.models.diffusion.modeling import Conditioning
from kmm_jax.models.diffusion.unet import Added, UNet

# Numbers of a picture's own random stream: the noise it starts from, and that of each step.
_START, _STEPS = 0, 1


class Known(NamedTuple):
    """What an image to start from says.

    Attributes:
        latents: of the image.
        mask: 1 where latents are made anew; all 1 without a mask.
        masked: for an inpainting UNet, the latents of the image with the masked part grey. Such a
            UNet sees what to keep; with another it is put back after every step.
        from_noise: begin from noise alone, and not from the noised image.
    """

    latents: Float[Array, "B h w Z"]
    mask: Float[Array, "B h w 1"]
    masked: Float[Array, "B h w Z"] | None
    from_noise: Bool[Array, " B"]


class Prompted(NamedTuple):
    """What a UNet is told of each picture.

    Attributes:
        wanted, unwanted: of prompts and of negative prompts; the latter None without guidance.
        time_ids: for SDXL.
    """

    wanted: Conditioning
    unwanted: Conditioning | None
    time_ids: Float[Array, "B N"] | None


def starting_noise(seed_B: Int[Array, " B"], shape: tuple[int, ...]) -> Float[Array, "B h w Z"]:
    """Standard normal noise, of each picture by its own seed."""
    return _normal(seed_B, _START, jnp.uint32(0), shape)


def step_noise(
    seed_B: Int[Array, " B"], index: Int[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "B h w Z"]:
    """Standard normal noise of a step of a stochastic sampler, of each picture by its own seed."""
    return _normal(seed_B, _STEPS, index, shape)


def _normal(seed_B: Array, stream: int, index: Array, shape: tuple[int, ...]) -> Array:
    def one(seed: Array) -> Array:
        key = jax.random.fold_in(jax.random.key(seed), stream)
        return jax.random.normal(jax.random.fold_in(key, index), shape, jnp.float32)

    return jax.vmap(one)(seed_B)


def interleaved(wanted: Array, unwanted: Array) -> Array:
    """Rows of two arrays in turns: unwanted, wanted, unwanted, ...

    A picture and its counterpart stay on one device however the batch is split; one array behind
    the other would cross between devices in every step.
    """
    return jnp.stack([unwanted, wanted], axis=1).reshape(-1, *wanted.shape[1:])


def guidance_waves(guidance: Float[Array, ""], width: int) -> Float[Array, " {width}"]:
    """Sines, then cosines, of a guidance scale, for latent consistency models.

    They space their frequencies otherwise than the timestep's (arXiv 2310.04378, appendix;
    ``get_guidance_scale_embedding``).
    """
    half = width // 2
    rates = jnp.exp(-jnp.log(10_000.0) / (half - 1) * jnp.arange(half, dtype=jnp.float32))
    angles = 1000.0 * (guidance - 1.0) * rates
    return jnp.pad(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)]), (0, width % 2))


def begin_latents(noise_BhwZ: Float[Array, "B h w Z"], known: Known | None, table: Table) -> State:
    """What the sampler starts from: standard normal noise at its first level, or an image in it."""
    start = noise_BhwZ * jnp.asarray(table.initial_sigma, jnp.float32)
    if known is not None:
        noised = (
            jnp.asarray(table.start_signal, jnp.float32) * known.latents
            + jnp.asarray(table.start_sigma, jnp.float32) * noise_BhwZ
        )
        start = jnp.where(known.from_noise[:, None, None, None], start, noised)
    return begin(start)


def advance_latents(
    graphdef: Any,
    config: UNetConfig,
    params: Any,
    state: State,
    noise_BhwZ: Float[Array, "B h w Z"],
    seed_B: Int[Array, " B"],
    prompted: Prompted,
    known: Known | None,
    table: Table,
    guidance: Float[Array, ""],
    first: Int[Array, ""],
) -> State:
    """Scaled latents further on, float32: one scan over the sampler's table, or a part of it.

    Args:
        noise_BhwZ: standard normal noise, what sampling began with.
        seed_B: of each picture, for the noise of stochastic samplers.
        known: an image to start from, or to keep a part of.
        first: the number of the first step of ``table``.
    """
    unet: UNet = nnx.merge(graphdef, params)
    paired = prompted.unwanted is not None
    context, added = _conditions(prompted)
    waves = None
    if config.guidance_width:
        waves = guidance_waves(guidance, config.guidance_width)

    def denoise(x_BhwZ: Array, timestep: Array) -> Array:
        inputs = _with_mask(x_BhwZ, known) if config.in_channels > x_BhwZ.shape[-1] else x_BhwZ
        if paired:
            inputs = interleaved(inputs, inputs)
        rows = inputs.shape[0]
        output = unet(
            inputs,
            jnp.broadcast_to(timestep, (rows,)),
            context,
            added=added,
            guidance_BG=None if waves is None else jnp.broadcast_to(waves, (rows, waves.size)),
        )
        if not paired:
            return output
        unwanted, wanted = jnp.moveaxis(output.reshape(-1, 2, *output.shape[1:]), 1, 0)
        return unwanted + guidance * (wanted - unwanted)

    def keep(row: Array, x_BhwZ: Array) -> Array:
        assert known is not None
        kept = (
            jnp.asarray(table.after_signal, jnp.float32)[row] * known.latents
            + jnp.asarray(table.after_sigma, jnp.float32)[row] * noise_BhwZ
        )
        return jnp.where(known.mask > 0.5, x_BhwZ, kept)

    shape = noise_BhwZ.shape[1:]
    return advance(
        denoise,
        state,
        table,
        first=first,
        noise=lambda index: step_noise(seed_B, index, shape),
        step_hook=None if known is None or known.masked is not None else keep,
    )


def _conditions(prompted: Prompted) -> tuple[Array, Added | None]:
    wanted, unwanted, time_ids = prompted
    context, pooled = wanted
    if unwanted is not None:
        context = interleaved(context, unwanted.context)
        if pooled is not None:
            assert unwanted.pooled is not None and time_ids is not None  # they come together
            pooled = interleaved(pooled, unwanted.pooled)
            time_ids = interleaved(time_ids, time_ids)
    if pooled is None or time_ids is None:
        return context, None
    return context, Added(pooled, time_ids)


def _with_mask(x_BhwZ: Array, known: Known | None) -> Array:
    """Latents, mask and masked image side by side, as an inpainting UNet takes them."""
    assert known is not None and known.masked is not None  # the pipeline saw to it
    return jnp.concatenate([x_BhwZ, known.mask, known.masked], axis=-1)
