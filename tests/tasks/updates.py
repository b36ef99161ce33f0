"""Updates of a task over a mesh, and what must be equal to those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kmm_jax.training.sharding import MeshConfig, make_mesh, param_specs, state_shardings
from kmm_jax.training.state import create, graph_of
from kmm_jax.training.task import TaughtTask
from kmm_jax.training.update import make_update, place

MESHES = {
    "fsdp 8": MeshConfig(data=1, fsdp=8),
    "2 x 2 x 2": MeshConfig(data=2, fsdp=2, tensor=2),
}


def updater(task, batch, config):
    """The compiled update, a fresh state and the batch, in their places."""
    mesh, optimizer = make_mesh(config), optax.sgd(0.1)
    taught = isinstance(task, TaughtTask)

    def start():
        return create(task, optimizer, 0, averaged=taught)

    abstract = jax.eval_shape(start)
    specs = param_specs(abstract.params, task.sharding_rules, mesh, fsdp_min_size=1)
    shardings = state_shardings(abstract, specs, optimizer, mesh)
    state = jax.jit(start, out_shardings=shardings)()
    update = make_update(
        task,
        graph_of(task),
        optimizer,
        lambda step: jnp.float32(0.1),
        mesh,
        shardings,
        average=(lambda step: jnp.float32(0.9)) if taught else None,
    )
    rows = place(batch, mesh)
    return update.lower(state, rows).compile(), state, rows


def two_updates(task, batch, config):
    """State and metrics after two updates."""
    update, state, rows = updater(task, batch, config)
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
