"""The contrastive loss against a hand-written loop, and one device against eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kmm_jax.losses.contrastive import contrastive_loss

N, E = 16, 8


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(2, N, E))
    pair /= np.linalg.norm(pair, axis=-1, keepdims=True)
    return [jnp.asarray(side, jnp.float32) for side in pair]


def by_hand(image, text, scale):
    """CoCa equation 2, one exponential at a time, in float64."""
    image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    total = 0.0
    for i in range(len(image)):
        own = np.exp(scale * image[i] @ text[i])
        total += np.log(own / sum(np.exp(scale * image[i] @ text[j]) for j in range(len(text))))
        total += np.log(own / sum(np.exp(scale * text[i] @ image[j]) for j in range(len(image))))
    return -total / len(image)


def test_loss_is_equation_2_summed_over_both_directions(vectors):
    loss, _ = contrastive_loss(*vectors, jnp.float32(5.0))
    np.testing.assert_allclose(loss, by_hand(*vectors, 5.0), rtol=1e-6)


def test_perfect_pairs_score_full_accuracy(vectors):
    _, metrics = contrastive_loss(vectors[0], vectors[0], jnp.float32(10.0))
    assert metrics["image_to_text_accuracy"] == metrics["text_to_image_accuracy"] == 1


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (2, 2, 2)], ids=str)
def test_value_and_gradients_on_eight_devices_equal_one_devices(vectors, shape):
    mesh = jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))

    def loss(image, text, scale, mesh=None):
        return contrastive_loss(image, text, scale, mesh=mesh)[0]

    scale = jnp.float32(7.0)
    one = jax.value_and_grad(loss, argnums=(0, 1, 2))(*vectors, scale)
    sharded = [jax.device_put(side, rows) for side in vectors]
    step = jax.jit(jax.value_and_grad(lambda i, t, s: loss(i, t, s, mesh), argnums=(0, 1, 2)))
    eight = step(*sharded, scale)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, eight)
    hlo = step.lower(*sharded, scale).compile().as_text()
    assert "all-gather" in hlo
    assert "reduce-scatter" in hlo
    assert f"f32[{N},{N}]" not in hlo


def test_a_batch_that_does_not_divide_is_refused(vectors):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    with pytest.raises(ValueError, match="12 does not divide over 8"):
        contrastive_loss(vectors[0][:12], vectors[1][:12], jnp.float32(1), mesh=mesh)
