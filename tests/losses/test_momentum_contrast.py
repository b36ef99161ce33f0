"""The momentum contrast against a hand-written loop and PyTorch, and one device against eight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kmm_jax.losses.momentum_contrast import momentum_contrast

N, E = 16, 8


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(2, N, E))
    pair /= np.linalg.norm(pair, axis=-1, keepdims=True)
    return [jnp.asarray(side, jnp.float32) for side in pair]


def by_hand(query, key, scale):
    """MoCo v3's equation 1, one exponential at a time, in float64."""
    query, key = np.asarray(query, np.float64), np.asarray(key, np.float64)
    total = 0.0
    for i in range(len(query)):
        own = np.exp(scale * query[i] @ key[i])
        total += np.log(own / sum(np.exp(scale * query[i] @ key[j]) for j in range(len(key))))
    return -total / len(query)


@pytest.mark.parametrize("columns", [None, 5, 16])
def test_loss_is_the_mean_over_queries_of_their_cross_entropy(vectors, columns):
    loss, _ = momentum_contrast(*vectors, jnp.float32(5.0), block_columns=columns)
    np.testing.assert_allclose(loss, by_hand(*vectors, 5.0), rtol=1e-6)


def test_value_and_gradient_equal_pytorchs(vectors):
    torch = pytest.importorskip("torch")
    query, key = (torch.tensor(np.asarray(side), requires_grad=True) for side in vectors)
    scale = torch.tensor(5.0, requires_grad=True)
    logits = scale * query @ key.detach().T
    theirs = torch.nn.functional.cross_entropy(logits, torch.arange(N))
    theirs.backward()
    ours, gradients = jax.value_and_grad(
        lambda q, k, s: momentum_contrast(q, k, s, block_columns=6)[0], argnums=(0, 1, 2)
    )(*vectors, jnp.float32(5.0))
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-6)
    np.testing.assert_allclose(gradients[0], query.grad.numpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradients[2], scale.grad.item(), rtol=1e-5)
    assert not np.any(gradients[1]), "no gradient reaches the teacher's keys"


def test_own_keys_nearest_score_full_accuracy(vectors):
    assert momentum_contrast(vectors[0], vectors[0], jnp.float32(10.0))[1] == 1


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)], ids=str)
def test_value_and_gradients_on_eight_devices_equal_one_devices(vectors, shape):
    mesh = jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))

    def loss(query, key, scale, mesh=None):
        return momentum_contrast(query, key, scale, mesh=mesh)[0]

    scale = jnp.float32(7.0)
    one = jax.value_and_grad(loss, argnums=(0, 2))(*vectors, scale)
    sharded = [jax.device_put(side, rows) for side in vectors]
    step = jax.jit(jax.value_and_grad(lambda q, k, s: loss(q, k, s, mesh), argnums=(0, 2)))
    eight = step(*sharded, scale)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, eight)
