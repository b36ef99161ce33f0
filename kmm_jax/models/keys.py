"""The random keys that modules draw their parameters by, and modules of shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

AnyModule = TypeVar("AnyModule", bound=nnx.Module)


class Keys(nnx.Rngs):
    """The keys of ``nnx.Rngs(key)``, the same in the same order, counted in Python.

    ``nnx.Rngs`` counts in an array. Under a trace each draw then walks all that was traced before
    (flax 0.12.8 asks a tracer for its sharding, and JAX composes the message of the error), which
    grows with the square of the number of parameters: 17 seconds for the UNet of SD 1.5.
    """

    def __init__(self, key: int | jax.Array):
        super().__init__()
        self._key = nnx.RngKey(jax.random.key(key) if isinstance(key, int) else key, tag="params")
        self._drawn = 0

    def params(self) -> jax.Array:
        """The next key."""
        key = jax.random.fold_in(self._key[...], self._drawn)
        self._drawn += 1
        return key

    def __call__(self) -> jax.Array:
        """As ``params``."""
        return self.params()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.params  # as of nnx.Rngs, whose streams without a key are the one there is


class _OneKey(Keys):
    """For shapes, which hang on no key."""

    def params(self) -> jax.Array:
        return self._key[...]


def abstract_module(make: Callable[[nnx.Rngs], AnyModule]) -> AnyModule:
    """What ``make`` makes with ``jax.ShapeDtypeStruct`` for arrays; nothing is computed."""
    return nnx.eval_shape(lambda: make(_OneKey(0)))
