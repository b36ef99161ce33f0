"""A whole training run as one value."""

from __future__ import annotations

import dataclasses
from typing import Any

from kmm_jax.data.config import DataConfig
from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.errors import ConfigError
from kmm_jax.training import duration
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.lora import LoRA
from kmm_jax.training.optimizer import Adafactor, AdamW
from kmm_jax.training.sharding import MeshConfig
from kmm_jax.training.teacher import Teacher
from kmm_jax.training.trackers import MLflow, WandB


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What a config file returns and ``train`` runs.

    Attributes:
        name: said in messages and kept with the run.
        task: a ``training.task.Task``; the tasks are in ``kmm_jax.tasks``.
        data: what batches are made of.
        tokenizer: the tokenizer's folder, or ``"@init"`` for that of the weights the run begins
            with; the run keeps a copy.
        global_batch_size: examples an update, over all devices, hosts and accumulated parts.
        duration: of the run, in steps, epochs or examples.
        accumulate: parts a batch is computed in, one after the other, to save memory. The gradient
            is that of the whole batch: a contrastive loss sees every negative (its forward pass
            then runs twice, see ``training.accumulation``).
        ema: decay of the averaged parameters (0.9999, say), which are then those evaluated.
        freeze: regex of the parameters that stay as the run begins with them, matched against
            whole paths (``vision/.*``, see ``training.parameter_names``); None trains all.
        lora: train factors of low rank of some matrices and freeze the rest, instead of ``freeze``.
        teacher: the average a task learns from (``training.task.TaughtTask``), instead of ``ema``;
            what is evaluated and used is the student, unless the average is asked for.
        seed: of the parameters and of the tasks' random numbers; the data has its own.
        evaluators: objects with ``name``, ``every`` (a duration) and
            ``run(functions, params) -> Iterator[(name, value)]``.
        log_every: duration between two records of metrics.
        trackers: told every record, besides ``metrics.jsonl`` and TensorBoard.
        stall_seconds: a wait for a batch or for the devices that takes longer ends the process,
            with the stack of every thread (``training.watchdog``); None waits for ever.
        profile: first and last step of a trace for the profiler, kept under ``profile/``.
    """

    name: str
    task: Any
    data: DataConfig | TextPairs
    tokenizer: str | None = None
    global_batch_size: int
    duration: str
    optimizer: AdamW | Adafactor = dataclasses.field(default_factory=AdamW)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    accumulate: int = 1
    ema: float | None = None
    freeze: str | None = None
    lora: LoRA | None = None
    teacher: Teacher | None = None
    seed: int = 0
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    evaluators: tuple[Any, ...] = ()
    log_every: str = "10 steps"
    trackers: tuple[WandB | MLflow, ...] = ()
    stall_seconds: float | None = 1800.0
    profile: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for field, least in (("global_batch_size", 1), ("accumulate", 1), ("seed", 0)):
            if getattr(self, field) < least:
                raise ConfigError(f"{field} must be at least {least}, got {getattr(self, field)}")
        if self.stall_seconds is not None and not self.stall_seconds > 0:
            raise ConfigError(
                "stall_seconds must be above 0 (or none to wait for ever), got "
                f"{self.stall_seconds}"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema must lie between 0 and 1 (or be none), got {self.ema}")
        if self.ema is not None and self.teacher is not None:
            raise ConfigError(
                f"ema {self.ema} beside a teacher, which is an average already; set ema=none"
            )
        if self.freeze is not None and self.lora is not None:
            raise ConfigError(
                "lora freezes all but its factors and what lora.also names; set freeze=none"
            )
        if duration.parse(self.duration).unit == "percent":
            raise ConfigError(
                f"duration {self.duration!r}: the whole run is given in steps, epochs or examples"
            )
        duration.parse(self.log_every)
        for evaluator in self.evaluators:
            duration.parse(evaluator.every)
        names = [evaluator.name for evaluator in self.evaluators]
        if len(set(names)) < len(names):
            raise ConfigError(f"two evaluators have the same name: {', '.join(sorted(names))}")
        if len(set(self.trackers)) < len(self.trackers):
            raise ConfigError(
                f"the same tracker is given twice: {', '.join(map(str, self.trackers))}"
            )

    @property
    def averaged(self) -> bool:
        """Whether the state keeps an average of the parameters."""
        return self.ema is not None or self.teacher is not None
