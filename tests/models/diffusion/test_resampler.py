"""Prompts read by an XLM-RoBERTa and given in the form of another encoder."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.clip.config import TextTowerConfig, XLMRobertaConfig
from kmm_jax.models.diffusion import config as presets
from kmm_jax.models.diffusion import flops
from kmm_jax.models.diffusion.config import ResampledTextEncoderConfig, TextEncoderConfig
from kmm_jax.models.diffusion.distillation import DistillationConfig
from kmm_jax.models.diffusion.text_encoders import text_encoder
from kmm_jax.models.keys import abstract_module

LENGTH, POSITIONS, WIDTH, PAD = 9, 6, 20, 1


def tiny(**changes: Any) -> ResampledTextEncoderConfig:
    sizes = {"vocabulary": 50, "length": LENGTH, "width": 16, "depth": 2, "heads": 2, "hidden": 32}
    tower = XLMRobertaConfig(**{**sizes, "positions": 24, **changes.pop("tower", {})})
    options = {"positions": POSITIONS, "width": WIDTH, "depth": 2, "heads": 4, "hidden": 24}
    return ResampledTextEncoderConfig(**{"tower": tower, **options, **changes})


def texts(*lengths: int, room: int = LENGTH) -> jax.Array:
    rng = np.random.default_rng(0)
    ids = np.full((len(lengths), room), PAD, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[0], row[length - 1] = 0, 2
        row[1 : length - 1] = rng.integers(4, 50, length - 2)
    return jnp.asarray(ids)


@pytest.fixture(scope="module")
def encoder() -> Any:
    return text_encoder(tiny(), rngs=nnx.Rngs(0))


def test_the_sequence_has_its_own_form_whatever_the_text(encoder: Any) -> None:
    for room in (4, LENGTH, 20):
        states = encoder(texts(4, 3, room=room))
        assert states.hidden.shape == (2, POSITIONS, WIDTH)
        assert states.pooled.shape == (2, WIDTH)
    projected = text_encoder(tiny(projection=7), rngs=nnx.Rngs(0))
    assert projected(texts(4)).pooled.shape == (1, 7)
    half = text_encoder(tiny(dtype="bfloat16"), rngs=nnx.Rngs(0))
    assert half(texts(4)).hidden.dtype == jnp.bfloat16


def test_padding_says_nothing(encoder: Any) -> None:
    whole = encoder(texts(3, 5, LENGTH))
    for row, length in enumerate((3, 5, LENGTH)):
        alone = encoder(texts(3, 5, LENGTH)[row : row + 1, :length])
        for one, other in zip(whole, alone, strict=True):
            np.testing.assert_allclose(one[row], other[0], atol=1e-5)


def test_every_token_reaches_every_position(encoder: Any) -> None:
    ids = texts(LENGTH)
    before = encoder(ids)
    for place in range(1, LENGTH - 1):
        other = ids.at[0, place].set(4 if ids[0, place] != 4 else 5)
        after = encoder(other)
        assert (jnp.abs(after.hidden - before.hidden).max(axis=(0, 2)) > 1e-5).all()
        assert jnp.abs(after.pooled - before.pooled).max() > 1e-5
    turned = encoder(ids.at[0, 2:4].set(ids[0, jnp.asarray([3, 2])]))
    assert jnp.abs(turned.hidden - before.hidden).max() > 1e-5


def test_layers_cannot_be_skipped(encoder: Any) -> None:
    for options in ({"skip": 1}, {"normed": False}):
        with pytest.raises(ValueError, match="behind its last layer and norm alone"):
            encoder(texts(4), **options)


def teacher(**changes: Any) -> TextEncoderConfig:
    sizes = {"vocabulary": 60, "length": POSITIONS, "width": WIDTH, "heads": 2, "hidden": 32}
    return TextEncoderConfig(tower=TextTowerConfig(**{**sizes, "depth": 2, **changes}))


def test_both_kinds_say_what_is_asked_of_a_text_encoder() -> None:
    own, other = tiny(), teacher()
    for name in ("vocabulary", "length", "positions", "width", "eos_id", "pad_id", "projection"):
        assert getattr(own, name) is None or isinstance(getattr(own, name), int)
        assert getattr(other, name) is None or isinstance(getattr(other, name), int)
    assert (own.length, own.positions, own.width, own.pad_id) == (LENGTH, POSITIONS, WIDTH, PAD)
    assert (other.length, other.positions, other.skippable) == (POSITIONS, POSITIONS, 1)
    assert other.keeps_places and not own.keeps_places


def test_another_form_than_the_teachers_is_refused() -> None:
    unet = presets.UNetConfig(context_width=WIDTH)
    DistillationConfig(student=tiny(), teacher=teacher(), unet=unet)
    with pytest.raises(ValueError, match="the student's positions is 5, the teacher's 6"):
        DistillationConfig(student=tiny(positions=5), teacher=teacher(), unet=unet)
    with pytest.raises(ValueError, match="does not divide into heads=3"):
        tiny(heads=3)


def test_beside_another_encoder_it_is_refused() -> None:
    """SDXL takes states before the last layer."""
    whole = presets.sdxl()
    first = tiny(width=768)
    with pytest.raises(ValueError, match=r"before the last layer count \(SDXL\)"):
        dataclasses.replace(whole, texts=(first, whole.texts[1]))


def test_counted_flops_are_those_of_xla() -> None:
    """Of one layer each: XLA counts the layers of a scan as one."""
    tower = {"width": 128, "hidden": 256, "length": 20, "depth": 1}
    config = tiny(tower=tower, width=64, hidden=512, positions=30, depth=1)
    graphdef, state = nnx.split(abstract_module(lambda rngs: text_encoder(config, rngs=rngs)))
    ids = jax.ShapeDtypeStruct((1, 20), jnp.int32)
    forward = jax.jit(lambda params, ids: nnx.merge(graphdef, params)(ids).hidden)
    found = forward.lower(nnx.as_pure(state), ids).compile().cost_analysis()["flops"]
    assert np.isclose(flops.text_flops(config), found, rtol=0.1)
