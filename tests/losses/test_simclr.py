"""The loss between views against a hand-written loop, PyTorch's, and one device against eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kmm_jax.losses.simclr import simclr_loss

N, E = 16, 8


def views(rows=N, seed=0):
    rng = np.random.default_rng(seed)
    pair = rng.normal(size=(2, rows, E))
    pair[1] += 2 * pair[0]
    pair /= np.linalg.norm(pair, axis=-1, keepdims=True)
    return [jnp.asarray(side, jnp.float32) for side in pair]


def by_hand(first, second, temperature):
    """SimCLR, equation 1 over algorithm 1's order of views, one exponential at a time."""
    view = np.concatenate([first, second]).astype(np.float64)
    total, half = 0.0, len(first)
    for i in range(2 * half):
        j = (i + half) % (2 * half)
        others = sum(np.exp(view[i] @ view[k] / temperature) for k in range(2 * half) if k != i)
        total -= np.log(np.exp(view[i] @ view[j] / temperature) / others)
    return total / (2 * half)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_loss_is_equation_1_averaged_over_both_views(temperature):
    loss, _ = simclr_loss(*views(), temperature=temperature)
    np.testing.assert_allclose(loss, by_hand(*views(), temperature), rtol=1e-5)


def test_value_and_gradients_are_pytorchs_cross_entropy():
    torch = pytest.importorskip("torch")
    first, second = (torch.tensor(np.asarray(side), requires_grad=True) for side in views())
    both = torch.cat([first, second])
    logits = (both @ both.T / 0.1).fill_diagonal_(-torch.inf)
    theirs = torch.nn.functional.cross_entropy(logits, torch.arange(2 * N).roll(N))
    theirs.backward()
    ours, gradients = jax.value_and_grad(
        lambda a, b: simclr_loss(a, b, block_columns=5)[0], argnums=(0, 1)
    )(*views())
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
    for found, side in zip(gradients, (first, second), strict=True):
        np.testing.assert_allclose(found, side.grad.numpy(), atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 4, 1), (2, 2, 2)], ids=str)
def test_value_and_gradients_on_eight_devices_equal_one_devices(shape):
    mesh = jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))

    def loss(first, second, mesh=None):
        return simclr_loss(first, second, mesh=mesh)

    one = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(*views())
    sharded = [jax.device_put(side, rows) for side in views()]
    step = jax.jit(jax.value_and_grad(lambda a, b: loss(a, b, mesh), argnums=(0, 1), has_aux=True))
    eight = step(*sharded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, eight)
    hlo = step.lower(*sharded).compile().as_text()
    assert "all-gather" in hlo
    assert "reduce-scatter" in hlo
    assert f"f32[{2 * N},{2 * N}]" not in hlo


def dense(first, second):
    both = jnp.concatenate([first, second])
    logits = jnp.where(jnp.eye(len(both), dtype=bool), -jnp.inf, both @ both.T / 0.1)
    counterpart = jnp.roll(jnp.arange(len(both)), len(first))[:, None]
    own = jnp.take_along_axis(logits, counterpart, axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - own)


@pytest.mark.parametrize("columns", [1, 7, 64, 144, 1000])
@pytest.mark.parametrize("devices", [1, 8])
def test_any_block_size_gives_the_dense_loss_and_its_gradients(columns, devices):
    pair = views(rows=72, seed=1)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))

    def blockwise(first, second):
        return simclr_loss(first, second, mesh=mesh, block_columns=columns)[0]

    expected = jax.value_and_grad(dense, argnums=(0, 1))(*pair)
    found = jax.jit(jax.value_and_grad(blockwise, argnums=(0, 1)))(*pair)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def test_accuracy_is_the_share_of_views_nearest_to_their_own_counterpart():
    first = jnp.eye(4, E)
    assert simclr_loss(first, first)[1]["view_accuracy"] == 1
    # The second views of two pictures change places: those four views are lost.
    assert simclr_loss(first, first[jnp.array([1, 0, 2, 3])])[1]["view_accuracy"] == 0.5
    same = jnp.tile(jnp.eye(1, E), (4, 1))
    assert simclr_loss(same, same)[1]["view_accuracy"] == 0


def test_a_low_temperature_stays_finite():
    first = jnp.eye(4, E)
    loss, gradients = jax.value_and_grad(
        lambda a, b: simclr_loss(a, b, temperature=0.001, block_columns=1)[0], argnums=(0, 1)
    )(first, -first)
    np.testing.assert_allclose(loss, 1000 + np.log(6), rtol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_at_16384_pictures_on_8_devices_no_device_holds_its_rows_of_logits():
    """XLA's own analysis of the compiled loss with its gradient; nothing is computed."""
    size, width = 16_384, 256
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    side = jax.ShapeDtypeStruct((size, width), jnp.float32, sharding=sharding)
    step = jax.value_and_grad(lambda a, b: simclr_loss(a, b, mesh=mesh)[0], argnums=(0, 1))
    compiled = jax.jit(step).lower(side, side).compile()
    rows_of_logits = 4 * (2 * size // 8) * (2 * size)
    # Blocks of 64 MiB, of which a few stand beside each other, and the gathered vectors.
    assert compiled.memory_analysis().temp_size_in_bytes < 0.5 * rows_of_logits
    assert f"f32[{2 * size // 8},{2 * size}]" not in compiled.as_text()


def test_a_batch_that_does_not_divide_is_refused():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    first, second = views(rows=12)
    with pytest.raises(ValueError, match="12 does not divide over 8"):
        simclr_loss(first, second, mesh=mesh)
