"""The contrastive loss against a hand-written loop, and one device against eight."""

import functools

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


def dense(image_NE, text_NE, scale, mesh=None):
    """The usual way: both sides gathered, each device's n x N logits of either direction whole."""

    def rows(image_nE, text_nE, scale):
        image_NE, text_NE = (
            jax.lax.all_gather(x, ("data",), tiled=True) for x in (image_nE, text_nE)
        )
        own_n = jax.lax.axis_index("data") * len(image_nE) + jnp.arange(len(image_nE))

        def one_direction(query_nE, key_NE):
            logits_nN = scale * query_nE @ key_NE.T
            own_n1 = jnp.take_along_axis(logits_nN, own_n[:, None], axis=1)
            return jnp.sum(jax.nn.logsumexp(logits_nN, axis=1, keepdims=True) - own_n1)

        total = one_direction(image_nE, text_NE) + one_direction(text_nE, image_NE)
        return jax.lax.psum(total, "data")

    specs = PartitionSpec("data"), PartitionSpec("data"), PartitionSpec()
    sharded = jax.shard_map(rows, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())
    return sharded(image_NE, text_NE, scale) / len(image_NE)


def on_eight():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


@pytest.mark.parametrize("columns", [1, 7, 64, 100, 1000])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_any_block_size_gives_the_dense_loss_and_its_gradients(columns, scale):
    rng = np.random.default_rng(1)
    pair = rng.normal(size=(2, 72, E))
    pair /= np.linalg.norm(pair, axis=-1, keepdims=True)
    image, text = (jnp.asarray(side, jnp.float32) for side in pair)
    mesh = on_eight()

    def blockwise(image, text, scale):
        return contrastive_loss(image, text, scale, mesh=mesh, block_columns=columns)[0]

    arguments = image, text, jnp.float32(scale)
    expected = jax.jit(jax.value_and_grad(functools.partial(dense, mesh=mesh), argnums=(0, 1, 2)))(
        *arguments
    )
    found = jax.jit(jax.value_and_grad(blockwise, argnums=(0, 1, 2)))(*arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_opposite_vectors_at_the_lowest_temperature_stay_finite():
    image = jnp.tile(jnp.eye(1, E), (N, 1))
    loss, gradients = jax.value_and_grad(
        lambda i, t: contrastive_loss(i, t, jnp.float32(100.0), block_columns=4)[0], argnums=(0, 1)
    )(image, -image)
    np.testing.assert_allclose(loss, 2 * np.log(N), rtol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_equal_vectors_are_no_hits():
    same = jnp.tile(jnp.eye(1, E), (N, 1))
    _, metrics = contrastive_loss(same, same, jnp.float32(10.0))
    assert metrics["image_to_text_accuracy"] == metrics["text_to_image_accuracy"] == 0


def test_at_65536_rows_on_8_devices_the_memory_is_a_fraction_of_the_dense_losss():
    """XLA's own analysis of the compiled loss with its gradient; nothing is computed."""
    size, width, mesh = 65_536, 512, on_eight()
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    side = jax.ShapeDtypeStruct((size, width), jnp.float32, sharding=sharding)
    scale = jax.ShapeDtypeStruct((), jnp.float32)

    def compiled(loss):
        return (
            jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(side, side, scale).compile()
        )

    blockwise = compiled(lambda i, t, s: contrastive_loss(i, t, s, mesh=mesh)[0])
    usual = compiled(functools.partial(dense, mesh=mesh))
    bytes_of = [c.memory_analysis().temp_size_in_bytes for c in (blockwise, usual)]
    assert bytes_of[0] <= 0.15 * bytes_of[1], bytes_of
    hlo = blockwise.as_text()
    assert "all-gather" in hlo
    assert "reduce-scatter" in hlo
    assert f"{size // 8},{size}]" not in hlo
    assert f"f32[{size // 8},{size}]" in usual.as_text()


def test_a_batch_that_does_not_divide_is_refused(vectors):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    with pytest.raises(ValueError, match="12 does not divide over 8"):
        contrastive_loss(vectors[0][:12], vectors[1][:12], jnp.float32(1), mesh=mesh)
