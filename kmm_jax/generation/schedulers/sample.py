"""Run a sampler: one scan over its table.

n evaluations, K remembered arrays, O outputs of a step, B elements of its basis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from kmm_jax.generation.schedulers.table import HISTORY, Table

Denoise = Callable[[Float[Array, "..."], Float[Array, ""]], Float[Array, "..."]]


State = tuple[Array, Array, tuple[Array, ...]]
"""The sample, the saved one, and the arrays remembered, between two steps."""


def begin(x: Float[Array, "..."]) -> State:
    """The state before the first step."""
    x = x.astype(jnp.float32)
    empty = jnp.zeros_like(x)
    return x, empty, (empty,) * HISTORY


def sample(
    denoise: Denoise,
    x: Float[Array, "..."],
    table: Table,
    *,
    noise: Callable[[Int[Array, ""]], Float[Array, "..."]] | None = None,
    step_hook: Callable[[Int[Array, ""], Float[Array, "..."]], Float[Array, "..."]] | None = None,
) -> Float[Array, "..."]:
    """From noise to a clean sample, in float32.

    Under jit pass the table as an argument: the program then serves every table of its length.

    Args:
        denoise: the network: scaled sample and time step (a float32 scalar) to its raw prediction.
        x: noise times ``table.initial_sigma``, or a clean sample noised to the table's start.
        noise: standard normal noise of the shape of ``x`` for a step's index, from 0. Tables that
            are not stochastic multiply it by zero: give it always, and DDIM and LCM share a
            program; leave it out, and none is drawn.
        step_hook: what becomes of the sample after each step, by the row of ``table``.

    Raises:
        ValueError: the table wants noise and there is none (seen outside of jit only).
    """
    return advance(denoise, begin(x), table, noise=noise, step_hook=step_hook)[0]


def advance(
    denoise: Denoise,
    state: State,
    table: Table,
    *,
    first: int | Int[Array, ""] = 0,
    noise: Callable[[Int[Array, ""]], Float[Array, "..."]] | None = None,
    step_hook: Callable[[Int[Array, ""], Float[Array, "..."]], Float[Array, "..."]] | None = None,
) -> State:
    """The state after the steps of a table, or of a part of one (`Table.part`).

    Args:
        first: the number of the part's first step, which ``noise`` counts on from.
        denoise, noise, step_hook: as in `sample`.

    Raises:
        ValueError: as `sample`.
    """
    if noise is None and isinstance(table.weights_nOB, np.ndarray) and table.stochastic:
        raise ValueError("this sampler adds fresh noise at its steps; pass noise=")
    table = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), table)

    def step(carry: Any, row: Any) -> tuple[Any, None]:
        x, saved, past = carry
        output = denoise(x * row["input_scale"], row["timestep"]).astype(jnp.float32)
        clean = row["clean_from_x"] * x + row["clean_from_output"] * output
        clean = jnp.clip(clean, -table.clip, table.clip)
        basis = [x, saved, clean, output, *past]
        if noise is not None:
            basis.append(noise(first + row["index"]).astype(jnp.float32))
        x, saved, remembered = (_combine(weights_B, basis) for weights_B in row["weights_OB"])
        if step_hook is not None:
            x = step_hook(row["index"], x)
        return (x, saved, (remembered, *past[:-1])), None

    rows = {
        "index": jnp.arange(len(table)),
        "timestep": table.timesteps,
        "input_scale": table.input_scale,
        "clean_from_x": table.clean_from_x,
        "clean_from_output": table.clean_from_output,
        "weights_OB": table.weights_nOB,
    }
    found: State = jax.lax.scan(step, state, rows)[0]
    return found


def _combine(weights_B: Array, basis: list[Array]) -> Array:
    """Written as a sum, not as a product of matrices, which accelerators round to fewer bits."""
    total = weights_B[0] * basis[0]
    for i in range(1, len(basis)):
        total = total + weights_B[i] * basis[i]
    return total
