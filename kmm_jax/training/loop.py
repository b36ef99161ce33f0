"""The training loop.

Step t is dispatched before the numbers of step t - 1 are fetched, so the devices never wait for
Python; whatever goes wrong is seen one step late, and never saved.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from kmm_jax.errors import ConfigError, UserError, nearest
from kmm_jax.training import checkpoint, duration, run_directory
from kmm_jax.training import setup as setups
from kmm_jax.training.background import open_trackers
from kmm_jax.training.batch_loader import BatchLoader, open_loader
from kmm_jax.training.beginning import Beginning
from kmm_jax.training.cached_latents import check_weights
from kmm_jax.training.checkpoint import Checkpoints
from kmm_jax.training.compile_cache import use_compile_cache
from kmm_jax.training.evaluators import evaluation_functions
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.host_memory import keep_freed_memory
from kmm_jax.training.interrupts import Interrupted, Interrupts, interrupts
from kmm_jax.training.metrics import MetricsLog
from kmm_jax.training.progress import Meter, Progress
from kmm_jax.training.run_place import RunPlace
from kmm_jax.training.setup import Setup
from kmm_jax.training.speed import Speed
from kmm_jax.training.state import TrainState
from kmm_jax.training.time_spent import TimeSpent
from kmm_jax.training.update import StepMetrics, make_update, place
from kmm_jax.training.watchdog import Watchdog

End = Literal["finished", "SIGTERM", "SIGINT", "stop_after"]


class NotFiniteError(UserError):
    """The loss or the gradient became NaN or infinite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """How training ended.

    Attributes:
        step: updates made, in all.
        end: ``"finished"``, or what stopped it; then the same call goes on from there.
        metrics: the last value of each metric.
        state: the parameters and the rest, on the devices.
    """

    run_dir: Path | str
    step: int
    end: End
    metrics: dict[str, float]
    state: TrainState


def train(
    experiment: Experiment,
    run_dir: str | os.PathLike[str],
    *,
    loader: BatchLoader | None = None,
    initial: Beginning | None = None,
    stop_after: int | None = None,
) -> Result:
    """Train, or go on from the newest whole checkpoint in ``run_dir``.

    SIGTERM and SIGINT end it in order: it saves and returns.

    Args:
        run_dir: a local folder, or a URL such as ``gs://bucket/run``.
        loader: batches from elsewhere than ``experiment.data``.
        initial: the weights to begin with; asked only where there is no checkpoint. Fresh ones by
            default.
        stop_after: stop and save once this step is done, as if interrupted.

    Raises:
        ConfigError: something in the experiment cannot work; before anything is compiled.
        DataError: unusable data, or a run directory that holds something else.
        NotFiniteError: the loss became NaN or infinite; the checkpoints before stay.
    """
    use_compile_cache()
    keep_freed_memory()
    mesh = setups.prepare_mesh(experiment)
    where = RunPlace(run_dir)
    tokenizer = run_directory.check(experiment, where, initial)
    vocabulary = None
    if loader is None:
        loader, vocabulary = open_loader(experiment, where.folder, tokenizer)
    running = run_directory.with_tokenizer(experiment, tokenizer)
    setup = setups.prepare(running, mesh, examples_per_epoch=loader.examples, vocabulary=vocabulary)
    begin = None
    if not checkpoint.saved_steps(where.root):
        if initial is not None:
            begin = initial.params(tokenizer)
        elif experiment.lora is not None:
            raise ConfigError(
                "lora changes given weights, and a fresh model has none worth keeping; name them "
                "by --init WEIGHTS, or set lora=none"
            )
    run_directory.write(experiment, where, tokenizer)
    last = min(setup.total_steps, stop_after or setup.total_steps)
    state = checkpoint.restore(where.root, setup.abstract)
    if state is None:
        state = setups.fresh_state(experiment, setup, begin)
    latents = getattr(loader, "latents", None)
    check_weights(experiment.task, latents, state.params, setup.trained)
    with contextlib.ExitStack() as stack:
        flag = stack.enter_context(interrupts())
        stack.enter_context(where.published())
        run = _Run(running, setup, mesh, where, loader, flag, step=int(state.step), stack=stack)
        step, state = run.train(state, last=last)
    end: End = "finished" if step >= setup.total_steps else "stop_after"
    if run.stopped:
        end = flag.received or "SIGTERM"  # perhaps another process received it
    return Result(run_dir=where.root, step=step, end=end, metrics=run.latest, state=state)


class _Run:
    """One process's part in a run, from the state it begins with to its end."""

    def __init__(
        self,
        experiment: Experiment,
        setup: Setup,
        mesh: Mesh,
        where: RunPlace,
        loader: BatchLoader,
        flag: Interrupts,
        *,
        step: int,
        stack: contextlib.ExitStack,
    ) -> None:
        self.experiment, self.setup, self.mesh, self.where = experiment, setup, mesh, where
        self.loader, self.flag, self.start = loader, flag, step
        self.latest: dict[str, float] = {}
        self.meter = Meter()
        self.time = TimeSpent(where.folder, keep=jax.process_index() == 0, step=step)
        self.speed = Speed(experiment, setup, self.meter, self.time, tell=self._note)
        self.update: Any = None
        self.stopped = self.tracing = False
        stack.callback(self._end_trace)
        report = where.folder / f"stacks-of-process-{jax.process_index()}.txt"
        self.watchdog = Watchdog(experiment.stall_seconds, report)
        stack.callback(self.watchdog.close)
        self.progress = Progress(experiment.name, setup.total_steps)
        stack.callback(self.progress.close)
        self.log: MetricsLog | None = None
        if jax.process_index() == 0:
            trackers = open_trackers(experiment, where.folder)
            self.log = log = MetricsLog(where.folder, step=step, trackers=trackers)
            stack.push(lambda error, *_: log.close(failed=error is not None))
            self.latest |= self.log.latest
        self.checkpoints = stack.enter_context(
            Checkpoints(where.root, experiment.checkpoint, before=where.publish)
        )
        self.functions = evaluation_functions(
            experiment.task, setup.graphdef, mesh, flag.leave_evaluation, setup.trained
        )
        self.log_every = self._steps(experiment.log_every)
        self.save_every = self._steps(experiment.checkpoint.every)
        self.evaluate_every = {e.name: self._steps(e.every) for e in experiment.evaluators}

    def train(self, state: TrainState, *, last: int) -> tuple[int, TrainState]:
        """Steps up to ``last``, or to an interruption; the state there is saved."""
        step, pending = self.start, None
        if step > 0:
            self._note(f"goes on from the checkpoint of step {step}{self.speed.left(step)}")
            with self.time.spend("evaluate"):  # what an interruption left out
                self.stopped = self._evaluate(step, state)
        if step >= last or self.stopped:
            return step, state
        with contextlib.closing(self.loader.batches(step)) as batches:
            self.meter.restart()
            while step < last and not self.stopped:
                began = time.perf_counter()
                self.watchdog.begin(f"batch {step} of the data")
                rows = next(batches)
                self.watchdog.end()
                waited = time.perf_counter() - began
                self.meter.waited(waited)
                self.time.add("data", waited)
                batch = place(rows, self.mesh)
                if self.update is None:
                    with self.time.spend("compile"):
                        self._compile(state, batch)
                self._profile(step)
                step += 1
                with self.meter.devices():  # dispatching waits where their queue is full
                    if self._recorded(step):
                        self.speed.send()
                    state, metrics = self.update(state, batch)
                if pending is not None:
                    self._record(*pending)
                pending = (step, metrics, rows)
                with self.meter.devices():
                    self.stopped = self.flag.agreed(step)
                if self.stopped or step == last or self._due(step):
                    self._record(*pending)
                    pending = None
                    with self.time.spend("evaluate"):
                        self.stopped = self.stopped or self._evaluate(step, state)
                    if self.stopped or step == last or step % self.save_every == 0:
                        with self.time.spend("checkpoint"):
                            self._save(step, state)
                        self.time.save()
                    self.meter.restart()
        self._note(self.time.line())
        if self.stopped:
            self._note(
                f"{self.flag.received or 'a signal elsewhere'}: saved at step {step}; "
                "continue with the same command"
            )
        return step, state

    def _compile(self, state: TrainState, batch: Mapping[str, jax.Array]) -> None:
        """Trace first: what does not fit together shows before the long part."""
        experiment, setup = self.experiment, self.setup
        update = make_update(
            experiment.task,
            setup.graphdef,
            setup.optimizer,
            setup.learning_rate,
            self.mesh,
            setup.shardings,
            accumulate=experiment.accumulate,
            average=setup.average,
            trained=setup.trained,
            seed=experiment.seed,
        )
        try:
            traced = update.trace(state, batch)
        except (TypeError, ValueError) as error:
            shapes = {name: (rows.shape, str(rows.dtype)) for name, rows in batch.items()}
            raise ConfigError(
                f"the task cannot take the data's batches {shapes}: {error}"
            ) from error
        if setup.trained.names is not None:
            self._note(setups.describe_parameters(experiment, setup))
        self._note("compiling")
        self.update = traced.lower().compile()
        self.meter.restart()

    def _record(self, step: int, metrics: StepMetrics, rows: Mapping[str, np.ndarray]) -> None:
        self.watchdog.begin(f"the devices to finish step {step}")
        with self.meter.devices():
            values = metrics.fetch()
        self.watchdog.end()
        self.meter.done(self.experiment.global_batch_size)
        if not math.isfinite(values["loss"]) or not math.isfinite(values["gradient_norm"]):
            raise self._not_finite(step, values, rows)
        if not self._recorded(step):
            return
        values["examples"] = step * self.experiment.global_batch_size
        self.watchdog.begin(f"the other processes at step {step}")
        speed, by_process = self.speed.read(step)
        self.watchdog.end()
        values |= speed | self.loader.bad_rows.metrics()
        self.latest |= values
        if self.log is not None:
            self.log.write(step, values, by_process=by_process)
        if jax.process_index() == 0:
            self.progress.update(step, values)

    def _recorded(self, step: int) -> bool:
        """Whether there is a record of the step; the same in every process."""
        return step % self.log_every == 0 or step == self.setup.total_steps

    def _evaluate(self, step: int, state: TrainState) -> bool:
        """Run the evaluators due and not yet done at this step; True if a signal cut them short."""
        params = state.params if self.experiment.ema is None else state.ema
        for evaluator in self.experiment.evaluators:
            due = step % self.evaluate_every[evaluator.name] == 0 or step == self.setup.total_steps
            if not due or self._evaluated(step, evaluator.name):
                continue
            values: dict[str, float] = {}
            try:
                for name, value in evaluator.run(self.functions, params):
                    values[name] = float(value)
                    if self.flag.any_process():
                        raise Interrupted
            except Interrupted:
                return True
            self.latest |= values
            if self.log is not None:
                self.log.write(step, values, evaluator=evaluator.name)
            self._note(" ".join(f"{k} {v:.4g}" for k, v in values.items()) + f" (step {step})")
        return False

    def _evaluated(self, step: int, name: str) -> bool:
        """Answered by the process that keeps the log, for all alike."""
        done = self.log is not None and self.log.evaluated(step, name)
        if jax.process_count() == 1:
            return done
        from jax.experimental import multihost_utils

        return bool(multihost_utils.broadcast_one_to_all(np.asarray(done)))

    def _save(self, step: int, state: TrainState) -> None:
        best = self.experiment.checkpoint.best_metric
        evaluated = step >= max(self.evaluate_every.values(), default=0)
        # Only the process with the log knows what was measured before a restart.
        if best is not None and best not in self.latest and evaluated and self.log is not None:
            raise ConfigError(
                f"checkpoint.best_metric is {best!r}, and nothing is measured under that name"
                f"{nearest(best, self.latest)}"
            )
        if self.log is not None:
            self.log.sync()
        self.time.save()
        self.checkpoints.save(step, state, self.latest)

    def _due(self, step: int) -> bool:
        every = (self.save_every, *self.evaluate_every.values())
        return any(step % steps == 0 for steps in every)

    def _steps(self, text: str) -> int:
        return max(duration.resolve(text, self.setup.scale), 1)

    def _profile(self, step: int) -> None:
        if self.experiment.profile is not None and jax.process_index() == 0:
            first, end = self.experiment.profile
            if step == first:
                jax.profiler.start_trace(self.where.folder / "profile")
                self.tracing = True
            elif step == end:
                self._end_trace()

    def _end_trace(self) -> None:
        if self.tracing:
            jax.profiler.stop_trace()
            self.tracing = False

    def _note(self, text: str) -> None:
        if jax.process_index() == 0:
            self.progress.note(text)

    def _not_finite(
        self, step: int, values: Mapping[str, float], rows: Mapping[str, np.ndarray]
    ) -> NotFiniteError:
        size = self.experiment.global_batch_size
        shown = ", ".join(f"{k} {v:.4g}" for k, v in sorted(values.items()))
        which = f"examples {(step - 1) * size} to {step * size - 1} in the data's order"
        if "row" in rows:
            which += f", rows {np.asarray(rows['row']).tolist()}"
        return NotFiniteError(
            f"step {step} is not finite ({shown}); its batch is number {step - 1}: {which}. "
            f"Training stopped and {self.checkpoints.kept()}. Lower optimizer.learning_rate, "
            "lengthen optimizer.warmup or look at that batch (loader.batch)."
        )
