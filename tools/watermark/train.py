"""Trains the detector: crops first, which are cheap, then squares as large as the scorer's."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from kmm_jax.errors import UserError
from kmm_jax.files import atomic_write
from kmm_jax.interop.native import flatten
from kmm_jax.models.watermark import MarkDetector
from tools.watermark.samples import Backgrounds, example

_AHEAD = 3  # batches made before they are asked for
_REPORT = 500  # steps
_HEAT_WEIGHT = 2.0  # of the marked cells: one in eight is


class Phase(NamedTuple):
    """``steps`` updates on batches of ``batch`` squares of ``side`` pixels."""

    side: int
    batch: int
    steps: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """All that the weights depend on, with the photos."""

    phases: tuple[Phase, ...] = (Phase(96, 8, 24_000), Phase(224, 8, 3500))
    seed: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 100
    save_every: int = 500

    @property
    def steps(self) -> int:
        """Updates in all."""
        return sum(phase.steps for phase in self.phases)

    def phase(self, step: int) -> Phase:
        """The phase of update ``step``, counted from 0."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        raise IndexError(step)

    def first_example(self, step: int) -> int:
        """The number of the first example of update ``step``."""
        first = 0
        for phase in self.phases:
            first += phase.batch * min(step, phase.steps)
            step = max(0, step - phase.steps)
        return first


class Batch(NamedTuple):
    """Examples side by side."""

    pixels_BHWC: np.ndarray
    cells_Bhw: np.ndarray
    label_B: np.ndarray


class State(NamedTuple):
    """Parameters, statistics of the batch norms, and what the optimizer remembers."""

    params: Any
    statistics: Any
    optimizer: Any


def train(
    plan: Plan,
    backgrounds: Backgrounds,
    folder: Path,
    *,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    stop_after: int | None = None,
) -> MarkDetector:
    """The trained detector, in inference mode.

    ``folder`` keeps the state every ``plan.save_every`` steps; a second call goes on from there and
    ends with the same weights as one that was never interrupted. ``stop_after`` ends after so many
    steps in all, with the state saved.

    Raises:
        UserError: the folder holds the state of another plan.
        FloatingPointError: the loss is not finite.
    """
    model = MarkDetector(rngs=nnx.Rngs(plan.seed))
    model.train()
    graph, *parts = nnx.split(model, nnx.Param, nnx.BatchStat)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, plan.learning_rate, min(plan.warmup, plan.steps // 2), plan.steps
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0), optax.adamw(schedule, weight_decay=plan.weight_decay)
    )
    params, statistics = parts
    state = State(params, statistics, optimizer.init(params))
    path = folder / "state.npz"
    state, done = _read(path, state, plan) if path.exists() else (state, 0)
    if done:
        say(f"going on after {done} of {plan.steps} steps, from {path}")
    update = _update(graph, optimizer)
    last = plan.steps if stop_after is None else min(stop_after, plan.steps)
    began, began_at, told = time.perf_counter(), done, []
    for step, batch in _batches(plan, backgrounds, done, last):
        state, losses = update(state, batch)
        done = step + 1
        told.append(losses)
        if done % _REPORT == 0 or done == last:
            heat, score, right = (float(each) for each in np.mean(jax.device_get(told), axis=0))
            told = []
            if not np.isfinite(heat + score):
                raise FloatingPointError(f"the loss is {heat + score} after {done} steps")
            pace = (time.perf_counter() - began) / (done - began_at)
            say(
                f"step {done}/{plan.steps}  cells {heat:.3f}  picture {score:.3f}  right "
                f"{right:.0%}  {pace:.2f} s a step, {pace * (plan.steps - done) / 60:.0f} min left"
            )
        if done % plan.save_every == 0 or done == last:
            _write(path, state, done, plan)
    trained = nnx.merge(graph, state.params, state.statistics)
    trained.eval()
    return trained


def save(path: Path, model: MarkDetector) -> str:
    """Write the weights as float16 safetensors; returns the file's SHA-256.

    Half precision halves the file; the scores are measured on what it holds.
    """
    from safetensors.numpy import save as encoded

    named = flatten(nnx.to_pure_dict(nnx.state(model)))
    half = {name: np.ascontiguousarray(value, np.float16) for name, value in named.items()}
    data = encoded(half, metadata={"format": "kmm_jax watermark 1"})
    with atomic_write(path) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def _update(
    graph: Any, optimizer: optax.GradientTransformation
) -> Callable[[State, Batch], tuple[State, jax.Array]]:
    def loss(params: Any, statistics: Any, batch: Batch) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, params, statistics, copy=True)
        score_B, *heats_Bhw = model.with_early_heat(batch.pixels_BHWC)
        cells_Bhw = batch.cells_Bhw.astype(jnp.float32)
        weight_Bhw = jnp.where(batch.cells_Bhw, _HEAT_WEIGHT, 1.0)
        heat, early = (
            (optax.sigmoid_binary_cross_entropy(each, cells_Bhw) * weight_Bhw).mean()
            for each in heats_Bhw
        )
        asked_B = batch.label_B >= 0
        marked_B = batch.label_B == 1
        score = optax.sigmoid_binary_cross_entropy(score_B, marked_B.astype(jnp.float32))
        score = (score * asked_B).sum() / jnp.maximum(asked_B.sum(), 1)
        right = (((score_B > 0) == marked_B) & asked_B).sum() / jnp.maximum(asked_B.sum(), 1)
        statistics = nnx.state(model, nnx.BatchStat)
        return heat + early + 0.5 * score, (statistics, jnp.stack([heat, score, right]))

    @jax.jit
    def update(state: State, batch: Batch) -> tuple[State, jax.Array]:
        gradient, (statistics, losses) = jax.grad(loss, has_aux=True)(
            state.params, state.statistics, batch
        )
        updates, memory = optimizer.update(gradient, state.optimizer, state.params)
        return State(optax.apply_updates(state.params, updates), statistics, memory), losses

    return update


def _batches(
    plan: Plan, backgrounds: Backgrounds, start: int, end: int
) -> Iterator[tuple[int, Batch]]:
    """Batches in order, made by a second thread while the first one computes."""

    def make(step: int) -> Batch:
        phase, first = plan.phase(step), plan.first_example(step)
        examples = [
            example(backgrounds, plan.seed, first + number, phase.side)
            for number in range(phase.batch)
        ]
        return Batch(
            np.stack([each.pixels_SSC for each in examples]),
            np.stack([each.cells_cc for each in examples]),
            np.array([each.label for each in examples], np.int32),
        )

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, step) for step in range(start, min(start + _AHEAD, end))]
        for step in range(start, end):
            batch = waiting.pop(0).result()
            if step + _AHEAD < end:
                waiting.append(pool.submit(make, step + _AHEAD))
            yield step, batch


def _write(path: Path, state: State, done: int, plan: Plan) -> None:
    leaves = {f"{n:04d}": np.asarray(leaf) for n, leaf in enumerate(jax.tree.leaves(state))}
    buffer = io.BytesIO()
    np.savez(buffer, done=np.int64(done), plan=np.array(_said(plan)), **leaves)  # type: ignore[arg-type]
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _read(path: Path, state: State, plan: Plan) -> tuple[State, int]:
    with np.load(path, allow_pickle=False) as file:
        if str(file["plan"]) != _said(plan):
            raise UserError(
                f"{path} is the state of another plan, {file['plan']}; remove it to start anew, or "
                "name another folder"
            )
        leaves, tree = jax.tree.flatten(state)
        read = [jnp.asarray(file[f"{number:04d}"]) for number in range(len(leaves))]
        return jax.tree.unflatten(tree, read), int(file["done"])


def _said(plan: Plan) -> str:
    return json.dumps(dataclasses.asdict(plan))
