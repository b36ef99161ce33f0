"""Counted FLOPs against PyTorch's counter on the published sizes, and against XLA's analysis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.diffusion import config as presets
from kmm_jax.models.diffusion import flops
from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.unet import Added, UNet
from kmm_jax.models.keys import abstract_module


@pytest.mark.parametrize(
    ("preset", "side", "tera"),
    [("sd15", 64, 0.803), ("sd21", 64, 0.804), ("sd21", 96, 2.149), ("sdxl", 128, 6.761)],
)
def test_a_pass_of_a_published_unet_costs_what_pytorch_counts(
    preset: str, side: int, tera: float
) -> None:
    """PyTorch's FlopCounterMode on diffusers' networks without memory (the meta device)."""
    config = presets.PRESETS[preset]().unet
    assert np.isclose(flops.unet_flops(config, side, side) / 1e12, tera, atol=5e-4)


def test_an_autoencoder_and_a_text_encoder_cost_what_pytorch_counts() -> None:
    config = presets.sd15()
    assert np.isclose(flops.encode_flops(config.vae, 512, 512) / 1e12, 1.117, atol=5e-4)
    for side, tera in ((512, 2.515), (768, 5.754), (1024, 10.47)):
        found = flops.decode_flops(config.vae, side, side) / 1e12
        assert np.isclose(found, tera, rtol=1e-3), side
    assert np.isclose(flops.text_flops(config.texts[0]) / 1e12, 0.013, atol=5e-4)


def counted(module: Any, call: Callable[..., Any], *inputs: tuple[int, ...]) -> float:
    """XLA's count of a forward pass of one example."""
    graphdef, state = nnx.split(module)
    shapes = [jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in inputs]

    def forward(params: Any, *arrays: jax.Array) -> Any:
        return call(nnx.merge(graphdef, params), *arrays)

    lowered = jax.jit(forward).lower(nnx.as_pure(state), *shapes)
    return float(lowered.cost_analysis()["flops"])


@pytest.mark.parametrize("added", [False, True])
def test_counted_flops_are_those_of_xla(added: bool) -> None:
    """On maps so large that the zeros around them, which XLA leaves out, do not matter."""
    config = presets.UNetConfig(
        widths=(128, 256, 256),
        layers=1,
        transformers=(0, 1, 2),
        heads=(2, 4, 4),
        middle_transformers=2,
        context_width=64,
        linear_projection=added,
        time_ids=6 if added else 0,
        pooled_width=32 if added else 0,
    )
    unet = abstract_module(lambda rngs: UNet(config, rngs=rngs))

    def predict(unet: UNet, x: Any, t: Any, context: Any, *more: Any) -> jax.Array:
        return unet(x, t, context, added=Added(*more) if added else None)

    more = ((32,), (6,)) if added else ()
    found = counted(unet, predict, (64, 128, 4), (), (24, 64), *more)
    assert np.isclose(flops.unet_flops(config, 64, 128, context=24), found, rtol=0.03)


def test_counted_flops_of_an_autoencoder_are_those_of_xla() -> None:
    config = presets.VAEConfig(widths=(64, 128), layers=1)
    vae = abstract_module(lambda rngs: Autoencoder(config, rngs=rngs))
    encoded = counted(vae, lambda vae, x: vae.posterior(x), (64, 128, 3))
    assert np.isclose(flops.encode_flops(config, 64, 128), encoded, rtol=0.03)
    decoded = counted(vae, lambda vae, z: vae.decode(z), (32, 64, 4))
    assert np.isclose(flops.decode_flops(config, 64, 128), decoded, rtol=0.03)


def test_a_guided_picture_costs_two_passes_an_evaluation() -> None:
    """Of SD 1.5 at 512 pixels and 50 steps: 83 TFLOP."""
    config = presets.sd15()
    guided = flops.picture_flops(config, 512, 512, evaluations=50, guided=True)
    assert np.isclose(guided / 1e12, 82.9, atol=0.1)
    alone = flops.picture_flops(config, 512, 512, evaluations=50, guided=False)
    decoded = flops.decode_flops(config.vae, 512, 512)
    assert np.isclose(guided - decoded, 2 * (alone - decoded))
