"""Keys counted in Python are those of nnx.Rngs."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from kmm_jax.models.keys import Keys, abstract_module
from kmm_jax.models.transformer import Stack


class Toy(nnx.Module):
    """Layers, of which one is stacked, between two that draw before and after."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs, bias_init=nnx.initializers.normal())
        self.stack = Stack(lambda rngs: nnx.Linear(4, 4, rngs=rngs), 3, remat="none", rngs=rngs)
        self.last = nnx.Embed(5, 4, rngs=rngs)


def test_the_parameters_are_those_of_rngs() -> None:
    ours = nnx.to_pure_dict(nnx.state(Toy(rngs=Keys(3))))
    theirs = nnx.to_pure_dict(nnx.state(Toy(rngs=nnx.Rngs(3))))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    kernels = np.asarray(ours["stack"]["layers"]["kernel"])
    assert len({kernel.tobytes() for kernel in kernels}) == 3


def test_streams_of_other_names_and_calls_are_the_one_stream() -> None:
    keys, rngs = Keys(0), nnx.Rngs(0)
    for _ in range(2):
        for name in ("params", "dropout", "default"):
            ours, theirs = getattr(keys, name)(), getattr(rngs, name)()
            np.testing.assert_array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))
        np.testing.assert_array_equal(jax.random.key_data(keys()), jax.random.key_data(rngs()))


def test_shapes_are_those_of_the_module() -> None:
    module = nnx.state(Toy(rngs=nnx.Rngs(0)))
    found = nnx.state(abstract_module(lambda rngs: Toy(rngs=rngs)))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), module
    )
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(found))
