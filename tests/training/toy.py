"""A small task and a loader without files, shared by the tests of this room."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.lora import LoRA
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.sharding import MeshConfig

WIDTH = 16


class Net(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.up = nnx.Linear(WIDTH, width, rngs=rngs)
        self.down = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.down(jnp.tanh(self.up(x)))[:, 0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyTask:
    """Regression, its loss a mean over rows; ``noise`` makes it depend on the step's key."""

    width: int = 32
    noise: float = 0.0
    sharding_rules: tuple[Any, ...] = (
        ("up/kernel", PartitionSpec("fsdp", "tensor")),
        ("down/kernel", PartitionSpec("tensor", None)),
        (".*", "fsdp"),
    )

    def init(self, key: jax.Array) -> nnx.Module:
        return Net(self.width, rngs=nnx.Rngs(key))

    def loss(self, module: Any, batch: Any, key: jax.Array, mesh: Any) -> Any:
        shift = self.noise * jax.random.normal(key)
        error = module(batch["x"]) - batch["y"] - shift
        return jnp.mean(error**2), {"error": jnp.mean(jnp.abs(error))}

    def functions(self) -> Any:
        return {"predict": lambda module, batch: module(batch["x"])}

    def flops_per_example(self) -> float:
        return 4.0 * WIDTH * self.width


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyEvaluator:
    """The mean squared error on a fixed batch."""

    name: str = "held_out"
    every: str = "4 steps"

    def run(self, functions: Any, params: Any) -> Iterator[tuple[str, float]]:
        batch = rows(10**6, 24)
        predicted = functions["predict"](params, {"x": batch["x"]})
        yield "held_out/error", float(np.mean((np.asarray(predicted) - batch["y"]) ** 2))


def rows(step: int, size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    x = rng.normal(size=(size, WIDTH)).astype(np.float32)
    return {"x": x, "y": np.sin(x[:, 0] + x[:, 1]).astype(np.float32)}


@dataclasses.dataclass
class ToyLoader:
    """Batches that are a function of the step; ``poison`` names a step whose batch holds a NaN."""

    size: int = 16
    examples: int = 160
    poison: int | None = None
    seconds: float = 0.0
    asked: list[int] = dataclasses.field(default_factory=list)
    closed: bool = False

    @property
    def bad_rows(self) -> Any:
        return self

    def metrics(self) -> dict[str, float]:
        return {"data/bad_rows": 0}

    def batches(self, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        step = start_step
        try:
            while True:
                self.asked.append(step)
                time.sleep(self.seconds)
                batch = rows(step, self.size)
                if step == self.poison:
                    batch["x"][3] = np.nan
                yield batch
                step += 1
        finally:
            self.closed = True


def experiment(**changes: Any) -> Experiment:
    fields: dict[str, Any] = {
        "name": "toy",
        "task": ToyTask(),
        "data": DataConfig(sources=(SourceConfig(url="none"),), image_size=8, text_length=8),
        "global_batch_size": 16,
        "duration": "12 steps",
        "optimizer": AdamW(learning_rate=1e-2, warmup="10%"),
        "mesh": MeshConfig(data=1),
        "log_every": "1 steps",
        "checkpoint": CheckpointConfig(every="4 steps"),
    }
    return Experiment(**fields | changes)


@dataclasses.dataclass
class Given:
    """Weights that a run begins with."""

    seed: int = 3

    def tokenizer(self) -> Any:
        raise AssertionError("the toy reads no text")

    def params(self, tokenizer: Any) -> Any:
        module = ToyTask().init(jax.random.key(self.seed))
        return jax.device_get(nnx.to_pure_dict(nnx.as_pure(nnx.state(module))))


def killed_experiment(steps: int, kind: str = "whole") -> Experiment:
    """Everything that a resumed run must carry on: noise, an average, evaluations, many saves."""
    lora = LoRA(rank=3, targets="up/kernel", also="down/.*")
    return experiment(
        lora=lora if kind == "lora" else None,
        duration=f"{steps} steps",
        task=ToyTask(noise=0.1),
        ema=0.9,
        evaluators=(ToyEvaluator(),),
        checkpoint=CheckpointConfig(every="3 steps"),
    )
