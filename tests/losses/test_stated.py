"""The contrastive loss where texts are known to be true of other rows' images too."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from kmm_jax.losses.contrastive import Stated, contrastive_loss

N, E, A = 16, 8, 3


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(2, N, E))
    pair /= np.linalg.norm(pair, axis=-1, keepdims=True)
    return [jnp.asarray(side, jnp.float32) for side in pair]


@pytest.fixture(scope="module")
def stated():
    """Few statements, so that most are true of several images; of one image all are."""
    rng = np.random.default_rng(1)
    text = rng.integers(1, 6, N).astype(np.int32)
    true = np.zeros((N, 6), np.int32)
    true[:, 0] = text
    true[:, 1] = rng.integers(0, 6, N)
    true[3] = [text[3], 1, 2, 3, 4, 5]
    return Stated(jnp.asarray(text), jnp.asarray(true))


def by_hand(image, text, scale, stated):
    """One exponential at a time, in float64; a true text of another row is left out of the sums."""
    image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    codes, true = np.asarray(stated.text_N), np.asarray(stated.true_NA)

    def counts(i, j):
        return i == j or codes[j] not in set(true[i].tolist()) - {0}

    total = 0.0
    for i in range(len(image)):
        own = np.exp(scale * image[i] @ text[i])
        rows = sum(np.exp(scale * image[i] @ text[j]) for j in range(N) if counts(i, j))
        columns = sum(np.exp(scale * image[j] @ text[i]) for j in range(N) if counts(j, i))
        total += np.log(own / rows) + np.log(own / columns)
    return -total / len(image)


@pytest.mark.parametrize("columns", [None, 1, 5])
def test_a_text_true_of_another_image_is_no_counterexample(vectors, stated, columns):
    loss, metrics = contrastive_loss(
        *vectors, jnp.float32(5.0), stated=stated, block_columns=columns
    )
    np.testing.assert_allclose(loss, by_hand(*vectors, 5.0, stated), rtol=1e-6)
    assert all(0 <= value <= 1 for value in metrics.values())


def test_nothing_known_beside_the_own_texts_is_the_plain_loss(vectors):
    codes = jnp.arange(1, N + 1, dtype=jnp.int32)
    alone = Stated(codes, codes[:, None])
    scale = jnp.float32(5.0)
    assert contrastive_loss(*vectors, scale, stated=alone) == contrastive_loss(*vectors, scale)


def test_gradients_are_those_of_the_dense_loss(vectors, stated):
    codes, true = stated

    def dense(image, text, scale):
        logits = scale * image @ text.T
        known = jnp.any(true[:, None] == codes[None, :, None], -1) & ~jnp.eye(N, dtype=bool)
        logits = jnp.where(known, -jnp.inf, logits)
        both = jax.nn.logsumexp(logits, 1) + jax.nn.logsumexp(logits, 0) - 2 * jnp.diag(logits)
        return both.mean()

    def ours(image, text, scale):
        return contrastive_loss(image, text, scale, stated=stated, block_columns=3)[0]

    found, expected = (
        jax.value_and_grad(each, argnums=(0, 1, 2))(*vectors, jnp.float32(9.0))
        for each in (ours, dense)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), found, expected
    )


@pytest.mark.parametrize("scale", [7.0, 100.0])
def test_eight_devices_equal_one(vectors, stated, scale):
    """At scale 100 as well, with whole blocks of one device left out."""
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))

    def loss(image, text, scale, stated, mesh=None):
        return contrastive_loss(image, text, scale, stated=stated, mesh=mesh)[0]

    one = jax.value_and_grad(loss, argnums=(0, 1, 2))(*vectors, jnp.float32(scale), stated)
    sharded = jax.device_put([*vectors, stated], rows)
    step = jax.jit(jax.value_and_grad(lambda *given: loss(*given, mesh), argnums=(0, 1, 2)))
    eight = step(*sharded[:2], jnp.float32(scale), sharded[2])
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(eight))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), one, eight)
