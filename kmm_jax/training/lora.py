"""Low-rank adaptation: W + (alpha / R) A B in place of W; A and B alone are trained.

arXiv 2106.09685, section 4.1, whose W is ours transposed. The factors lie among a run's parameters
under ``lora``, each pair at the path of its matrix, and the step adds their product to the matrix
before a module is made of it: models know nothing of them, and what a run is loaded or exported as
has the sums. The gradient of a whole matrix exists for a moment in each step; what is saved is its
moments, its gradient's clipping and average, and the time of its update.

I inputs, O outputs, R rank; stacked layers have a leading dimension and a pair each.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from kmm_jax.errors import ConfigError
from kmm_jax.training.parameter_names import chosen, named

LORA = "lora"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRA:
    """Which matrices are adapted, and how.

    Attributes:
        rank: R.
        alpha: the product of the factors counts alpha / R.
        targets: regex of the matrices' whole paths (``training.parameter_names``); by default those
            that the paper adapts, the query and value projections of every attention.
        also: regex of parameters that are trained whole besides, such as a head that begins fresh;
            all others are frozen.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: str = r".*/(query|value)/kernel"
    also: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"lora.rank must be at least 1, got {self.rank}")
        if not self.alpha > 0:
            raise ConfigError(f"lora.alpha must be above 0, got {self.alpha}")

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied with."""
        return self.alpha / self.rank


def with_factors(params: Any, config: LoRA, key: jax.Array) -> dict[Any, Any]:
    """Parameters with fresh factors: A (L, I, R) uniform as in the authors' code, B (L, R, O) zero.

    B being zero, the sums are the matrices themselves at first.

    Raises:
        ConfigError: ``targets`` names no parameter, or one that is no matrix of more than ``rank``
            rows and columns.
    """
    leaves = named(params)
    targets = chosen(config.targets, leaves, setting="lora.targets")
    for path in sorted(targets):
        shape = leaves[path].shape
        if len(shape) != 2 + _stacked(path) or min(shape[-2:]) <= config.rank:
            raise ConfigError(
                f"lora.targets {config.targets!r} names {path} of shape {shape}"
                f"{', the first of it the layers' if _stacked(path) else ''}: of rank "
                f"{config.rank} are changes to matrices with more rows and columns than that"
            )

    def factors(tree: Any, prefix: str) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for name, leaf in tree.items():
            path = f"{prefix}{name}"
            if isinstance(leaf, dict):
                if inner := factors(leaf, f"{path}/"):
                    found[name] = inner
            elif path in targets:
                *layers, inputs, outputs = leaf.shape
                own = jax.random.fold_in(key, zlib.crc32(path.encode()))
                bound = inputs**-0.5
                a = jax.random.uniform(own, (*layers, inputs, config.rank), minval=-1) * bound
                found[name] = {"a": a, "b": jnp.zeros((*layers, config.rank, outputs))}
        return found

    return {**params, LORA: factors(params, "")}


def merged(params: Any, config: LoRA) -> dict[Any, Any]:
    """The model's parameters, each target with the product of its factors added, in float32."""

    def add(weight: Any, factors: Any) -> Any:
        # A TPU or TF32 would round the factors; they are small enough to be multiplied exactly.
        product = jnp.einsum("...ir,...ro->...io", factors["a"], factors["b"], precision="highest")
        return weight + config.scale * product

    return _with_sums(params, add)


def merged_for_use(params: Any, config: LoRA) -> dict[Any, Any]:
    """As ``merged``, in NumPy and the same bits on every machine, which a model's hash depends on.

    Products are added one by one in float64: no library chooses another order.
    """

    def add(weight: Any, factors: Any) -> Any:
        a, b = (np.asarray(factors[name], np.float64) for name in ("a", "b"))
        total = np.asarray(weight, np.float64)
        for number in range(config.rank):
            total = total + config.scale * a[..., :, number, None] * b[..., number, None, :]
        return total.astype(np.float32)

    return _with_sums(params, add)


def factor_specs(specs: Any, factors: Any) -> Any:
    """Partitions of the factors: A's inputs as its matrix's inputs, B's outputs as its outputs.

    The product then is made where the matrix lies, and nothing is sent.

    Args:
        specs: partitions of the model's parameters, nested.
        factors: what lies under ``lora``, arrays or shapes.
    """
    if set(factors) == {"a", "b"} and not isinstance(specs, dict):
        whole = [*specs, *[None] * (len(factors["a"].shape) - len(specs))]
        *layers, inputs, outputs = whole
        return {
            "a": PartitionSpec(*layers, inputs, None),
            "b": PartitionSpec(*layers, None, outputs),
        }
    return {name: factor_specs(specs[name], inner) for name, inner in factors.items()}


def matrix_of(path: str) -> str:
    """The parameter that a factor belongs to; of any other parameter, itself."""
    return re.sub(rf"{LORA}/(.*)/[ab]", r"\1", path)


def _with_sums(params: Any, add: Any) -> dict[Any, Any]:
    def walk(tree: Any, factors: Any) -> Any:
        if factors is None:
            return tree
        if not isinstance(tree, dict):
            return add(tree, factors)
        return {name: walk(leaf, factors.get(name)) for name, leaf in tree.items()}

    base = {name: leaf for name, leaf in params.items() if name != LORA}
    found: dict[Any, Any] = walk(base, params[LORA])
    return found


def _stacked(path: str) -> bool:
    return "layers" in path.split("/")
