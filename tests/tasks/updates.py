"""Updates of a task over a mesh, and what must be equal to those of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kmm_jax.training.sharding import MeshConfig, make_mesh, param_specs, state_shardings
from kmm_jax.training.state import create, graph_of
from kmm_jax.training.task import TaughtTask
from kmm_jax.training.update import make_update, place

MESHES = {
    "fsdp 8": MeshConfig(data=1, fsdp=8),
    "2 x 2 x 2": MeshConfig(data=2, fsdp=2, tensor=2),
}

# The mesh with every axis is tried by every `make test`, the other too by `make test-all`.
OVER_MESHES = pytest.mark.parametrize(
    "mesh", ["2 x 2 x 2", pytest.param("fsdp 8", marks=pytest.mark.slow)]
)

OPTIMIZER = optax.sgd(0.1)


@functools.cache
def _start(task, optimizer, averaged):
    """The first state, on the host.

    Operation by operation: as one program each parameter's random draw is compiled anew, which for
    a small UNet takes six times as long.
    """
    return jax.device_get(create(task, optimizer, 0, averaged=averaged))


def updater(task, batch, config, *, accumulate=1):
    """The compiled update, a fresh state and the batch, in their places."""
    mesh, taught = make_mesh(config), isinstance(task, TaughtTask)
    first = _start(task, OPTIMIZER, taught)
    specs = param_specs(first.params, task.sharding_rules, mesh, fsdp_min_size=1)
    shardings = state_shardings(first, specs, OPTIMIZER, mesh)
    state = jax.device_put(first, shardings)
    update = make_update(
        task,
        graph_of(task),
        OPTIMIZER,
        lambda step: jnp.float32(0.1),
        mesh,
        shardings,
        average=(lambda step: jnp.float32(0.9)) if taught else None,
        accumulate=accumulate,
    )
    rows = place(batch, mesh)
    return update.lower(state, rows).compile(), state, rows


def two_updates(task, batch, config, *, accumulate=1):
    """State and metrics after two updates."""
    update, state, rows = updater(task, batch, config, accumulate=accumulate)
    for _ in range(2):
        state, metrics = update(state, rows)
    return state, metrics.fetch()


def assert_equal(found, expected):
    """State and metrics to rounding."""
    for name, value in expected[1].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4, err_msg=name)
    for part in ("params", "ema"):
        one, other = (jax.tree.leaves(getattr(state, part)) for state in (found[0], expected[0]))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5, err_msg=part)
