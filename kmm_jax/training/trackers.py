"""Where a run can be watched beside ``metrics.jsonl``: TensorBoard, Weights & Biases, MLflow.

A tracker only repeats what ``metrics.jsonl`` holds. TensorBoard's files are always written; the
others are configured, need their packages (``pip install 'kmm-jax[trackers]'``), and one process of
a run talks to them, from a thread of its own (``training.background``).
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import jax

from kmm_jax.errors import ConfigError
from kmm_jax.training import dump

# W&B's uploads at the end of a run; a launcher that stops a process waits about 30 s in all.
_FINISH_SECONDS = 10.0
_RUN_TAG = "kmm_jax.run"
# MLflow's limits on one call and on one value.
_PARAMS, _PARAM_LENGTH = 100, 6000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        id: the same after every restart; the tracker finds by it what it has of the run.
        config: the experiment as ``dump.to_json`` gives it.
    """

    id: str
    name: str
    run_dir: Path
    config: Mapping[str, Any]


class Tracker(Protocol):
    """One place that a run's numbers go to."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the finite values of a step; a step may come again after a restart."""
        ...

    def close(self, *, failed: bool) -> None:
        """Send the rest; ``failed`` if training ended by an error."""
        ...


class TrackerConfig(Protocol):
    """A tracker to be opened; in practice a frozen dataclass."""

    def check(self) -> None:
        """Raise ConfigError where it cannot work; called before anything is compiled."""
        ...

    def open(self, run: TrackedRun) -> Tracker:
        """Begin the run there, or continue it; the configuration is sent when it begins."""
        ...


class TensorBoard:
    """``tensorboard/`` of a run, continued after ``step``."""

    def __init__(self, run_dir: Path, *, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append the values.

        Raises:
            OSError: the disk is full.
        """
        self._check()
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def _check(self) -> None:
        """Its thread ends silently on a full disk, and the next record would wait for it."""
        worker = getattr(getattr(self._writer.file_writer, "event_writer", None), "_worker", None)
        if worker is not None and not worker.is_alive():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._writer.logdir))

    def flush(self) -> None:
        """Bring the values to the operating system."""
        self._writer.flush()

    def close(self, *, failed: bool = False) -> None:
        """Write the rest."""
        self._writer.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class WandB:
    """Weights & Biases.

    Attributes:
        entity: the team; the account's own by default.
        mode: ``"offline"`` keeps the run under ``wandb/`` in the run directory, a folder for each
            start; ``wandb sync`` sends them later.
    """

    project: str = "kmm_jax"
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"
    tags: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ConfigError if the package is missing, or nobody is logged in where it is used."""
        _check_installed("wandb", "WandB")
        if self.mode == "offline" or jax.process_index() != 0:
            return
        import wandb

        try:
            wandb.login(verify=False)
        except wandb.Error as error:
            raise ConfigError(
                f"trackers: Weights & Biases cannot be used ({error}); run `wandb login`, set "
                "WANDB_API_KEY, or take mode=offline and send the run later with `wandb sync`"
            ) from error

    def open(self, run: TrackedRun) -> Tracker:
        """Begin or continue the run; waits for the network."""
        import wandb

        tracked = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            tags=self.tags,
            id=run.id,
            name=run.name,
            dir=str(run.run_dir),
            resume="allow",
            reinit="create_new",
            # What is printed stays ours, and an end without a network does not hang.
            settings=wandb.Settings(console="off", silent=True, finish_timeout=_FINISH_SECONDS),
        )
        # By our step: W&B's own counter would drop what a restarted run measures again or late.
        tracked.define_metric("*", step_metric="step")
        if not tracked.resumed:
            tracked.config.update(dict(run.config))
        if tracked.url:
            print(f"Weights & Biases: {tracked.url}", file=sys.stderr, flush=True)
        return _WandBRun(tracked)


class _WandBRun:
    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLflow:
    """MLflow.

    Attributes:
        experiment: its name there; made if it is not there.
        tracking_uri: of the server; by default what ``MLFLOW_TRACKING_URI`` says.
    """

    experiment: str = "kmm_jax"
    tracking_uri: str | None = None

    def check(self) -> None:
        """Raise ConfigError if the package is missing."""
        _check_installed("mlflow", "MLflow")

    def open(self, run: TrackedRun) -> Tracker:
        """Begin or continue the run; waits for the network."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.tracking_uri)
        experiment = client.get_experiment_by_name(self.experiment)
        where = (
            experiment.experiment_id if experiment else client.create_experiment(self.experiment)
        )
        # MLflow gives runs ids of its own, so ours is a tag to find it by.
        found = client.search_runs([where], f"tags.`{_RUN_TAG}` = '{run.id}'", max_results=1)
        if found:
            tracked = found[0]
            client.update_run(tracked.info.run_id, status="RUNNING")
        else:
            tracked = client.create_run(where, tags={_RUN_TAG: run.id}, run_name=run.name)
        if not tracked.data.params:
            for params in _params(run.config):
                client.log_batch(tracked.info.run_id, params=params)
        return _MLflowRun(client, tracked.info.run_id)


class _MLflowRun:
    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._id = client, run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_mlflow_name(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, *, failed: bool) -> None:
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def _params(config: Mapping[str, Any]) -> Iterator[list[Any]]:
    from mlflow.entities import Param

    params = [
        Param(_mlflow_name(path), str(value)[:_PARAM_LENGTH])
        for path, value in dump.leaves(config).items()
    ]
    for first in range(0, len(params), _PARAMS):
        yield params[first : first + _PARAMS]


def _mlflow_name(name: str) -> str:
    return re.sub(r"[^/\w.\- :]", "_", name)


def _check_installed(module: str, kind: str) -> None:
    spec = importlib.util.find_spec(module)
    # Without an origin it is but a folder of that name here, such as the one W&B leaves behind.
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"trackers: {kind} needs the package {module}, which is not installed; "
            "pip install 'kmm-jax[trackers]'"
        )
