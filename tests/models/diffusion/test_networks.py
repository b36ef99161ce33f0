"""The networks of Stable Diffusion against those of diffusers and transformers, random weights."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.interop.diffusers import configs, names
from kmm_jax.interop.names import taken
from kmm_jax.interop.native import unflatten
from kmm_jax.models.diffusion import config as presets
from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.modeling import LatentDiffusion, abstract
from kmm_jax.models.diffusion.text_encoder import TextEncoder
from kmm_jax.models.diffusion.unet import Added, UNet
from kmm_jax.models.keys import abstract_module
from tests import stable_diffusion

_CLOSE = 2e-5  # of the output's scale


class InMemory(dict):  # type: ignore[type-arg]
    """A state dict, as ``interop.names.taken`` reads weights."""

    path = "a state dict"

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self[name].shape)


def state(module: Any) -> InMemory:
    return InMemory({name: value.numpy() for name, value in module.state_dict().items()})


def filled(make: Any, weights: Any, rules: Any) -> Any:
    """The module of ``make`` with PyTorch's weights."""
    graphdef, abstract = nnx.split(nnx.eval_shape(make))
    shapes = names.shapes_of(nnx.to_pure_dict(nnx.as_pure(abstract)))
    return nnx.merge(graphdef, unflatten(taken(rules(shapes), weights, shapes)))


def of(torch_array: Any) -> jax.Array:
    """A PyTorch array (B, C, H, W) as (B, H, W, C), others as they are."""
    array = torch_array.numpy()
    return jnp.asarray(array.transpose(0, 2, 3, 1) if array.ndim == 4 else array)


def error(ours_BHWC: Any, theirs: Any) -> float:
    """The largest difference, relative to the scale of what PyTorch gives."""
    theirs = np.asarray(of(theirs))
    return float(np.abs(np.asarray(ours_BHWC) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_a_unet_is_that_of_diffusers(kind: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = stable_diffusion.unet(kind)
    config = configs.unet_config(dict(theirs.config), dtype="float32", where="a config")
    ours = filled(
        lambda: UNet(config, rngs=nnx.Rngs(0)),
        state(theirs),
        lambda shapes: names.network_rules(shapes, point_projections=not config.linear_projection),
    )
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 5, config.context_width)
    timestep = torch.tensor([981.0, 13.5])
    added, more = None, {}
    if kind == "sdxl":
        pooled, ids = torch.randn(2, 24), torch.tensor([[64.0, 64, 0, 8, 64, 48]] * 2)
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
        added = Added(of(pooled), of(ids))
    with torch.no_grad():
        expected = theirs(x, timestep, context, **more).sample
    with jax.default_matmul_precision("highest"):
        got = nnx.jit(lambda m, *a: m(*a, added=added))(ours, of(x), of(timestep), of(context))
    assert error(got, expected) < _CLOSE
    assert float(np.abs(expected.numpy()).max()) > 0.1


def test_a_unet_takes_an_embedded_guidance_scale() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    theirs = stable_diffusion.unet(time_cond_proj_dim=16)
    config = configs.unet_config(dict(theirs.config), dtype="float32", where="a config")
    assert config.guidance_width == 16
    ours = filled(
        lambda: UNet(config, rngs=nnx.Rngs(0)),
        state(theirs),
        lambda shapes: names.network_rules(shapes, point_projections=True),
    )
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 32)
    timestep, waves = torch.tensor([500.0]), torch.randn(1, 16)
    with torch.no_grad():
        expected = theirs(x, timestep, context, timestep_cond=waves).sample
    with jax.default_matmul_precision("highest"):
        got = ours(of(x), of(timestep), of(context), guidance_BG=of(waves))
    assert error(got, expected) < _CLOSE


def test_an_autoencoder_is_that_of_diffusers() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = stable_diffusion.vae()
    config = configs.vae_config(dict(theirs.config), dtype="float32", where="a config")
    ours = filled(lambda: Autoencoder(config, rngs=nnx.Rngs(0)), state(theirs), names.network_rules)
    image = torch.rand(2, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        expected = theirs.encode(image).latent_dist
        pixels = theirs.decode(expected.mean).sample
    with jax.default_matmul_precision("highest"):
        got = ours.posterior(of(image))
        decoded = ours.decode(ours.scaled(got.mean))
    assert error(got.mean, expected.mean) < _CLOSE
    assert error(got.log_variance, expected.logvar) < _CLOSE
    assert error(decoded, pixels) < _CLOSE
    assert np.allclose(got.kl(), expected.kl().numpy(), rtol=1e-5)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("skip", [0, 1])
def test_a_text_encoder_is_that_of_transformers(activation: str, skip: int) -> None:
    torch = pytest.importorskip("torch")
    stable_diffusion.diffusers()
    torch.manual_seed(0)
    theirs = stable_diffusion.text_encoder(projection=24, activation=activation)
    weights = names.with_prefix(_Renamable(state(theirs)))
    config = configs.text_config(theirs.config.to_dict(), width=32, dtype="float32", projects=True)
    ours = filled(
        lambda: TextEncoder(config, rngs=nnx.Rngs(0)),
        weights,
        lambda _: names.text_encoder_rules(config),
    )
    end = stable_diffusion.VOCABULARY - 1
    ids = torch.randint(0, end - 1, (3, 20))
    ids[0, 7:], ids[1, 19], ids[2, 4:] = end, end, end
    with torch.no_grad():
        expected = theirs(ids, output_hidden_states=True)
    with jax.default_matmul_precision("highest"):
        got = ours(of(ids), skip=skip, normed=False)
    assert error(got.hidden, expected.hidden_states[-1 - skip]) < _CLOSE
    assert error(got.pooled, expected.text_embeds) < _CLOSE


class _Renamable(InMemory):
    def renamed(self, to: dict[str, str]) -> InMemory:
        return InMemory({new: self[name] for name, new in to.items()})


@pytest.mark.parametrize(
    ("preset", "unet", "vae", "text"),
    [
        ("sd15", 859_520_964, 83_653_863, 123_060_480),
        ("sd21", 865_910_724, 83_653_863, 340_387_840),
        ("sdxl", 2_567_463_684, 83_653_863, 817_720_320),
    ],
)
def test_presets_have_the_published_numbers_of_parameters(
    preset: str, unet: int, vae: int, text: int
) -> None:
    config = presets.PRESETS[preset]()
    model = abstract(config)

    def count(part: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(part)))

    assert count(model.unet) == unet
    assert count(model.vae) == vae
    assert count(model.texts) == text


def test_a_unet_says_which_sides_it_takes() -> None:
    config = presets.tiny(vocabulary=600).unet
    unet = abstract_module(lambda rngs: UNet(config, rngs=rngs))
    with pytest.raises(ValueError, match="6 x 8: both sides must divide by 4"):
        jax.eval_shape(lambda: unet(jnp.zeros((1, 6, 8, 4)), jnp.zeros(1), jnp.zeros((1, 3, 96))))


def test_shapes_alone_are_those_of_a_model() -> None:
    config = presets.tiny(vocabulary=600)
    made = abstract_module(lambda rngs: LatentDiffusion(config, rngs=rngs))
    assert nnx.graphdef(made) == nnx.graphdef(abstract(config))
    assert jax.tree.map(jnp.shape, nnx.state(made)) == jax.tree.map(
        jnp.shape, nnx.state(abstract(config))
    )


def test_recomputing_blocks_changes_no_gradient() -> None:
    def gradient(remat: str) -> Any:
        config = presets.UNetConfig(
            widths=(16, 32),
            layers=1,
            transformers=(0, 1),
            heads=(2, 2),
            context_width=8,
            norm_groups=8,
            remat=remat,
        )
        unet = UNet(config, rngs=nnx.Rngs(0))
        key = jax.random.key(0)
        x, context = jax.random.normal(key, (1, 4, 4, 4)), jax.random.normal(key, (1, 3, 8))

        def loss(unet: UNet) -> jax.Array:
            return jnp.square(unet(x, jnp.asarray([7.0]), context)).sum()

        return nnx.as_pure(nnx.jit(nnx.grad(loss))(unet))

    for kept, recomputed in zip(
        jax.tree.leaves(gradient("none")), jax.tree.leaves(gradient("full")), strict=True
    ):
        assert jnp.allclose(kept, recomputed, rtol=1e-4, atol=1e-5)
