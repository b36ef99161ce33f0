"""Checkpoints through Orbax: written in the background, whole or not at all, read onto any mesh."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
from orbax.checkpoint import v1 as ocp

from kmm_jax.errors import DataError
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.state import TrainState

Weights = Literal["params", "ema"]


class Checkpoints:
    """The checkpoints of a run that is training; one is written at a time, in the background."""

    def __init__(self, run_dir: Path, config: CheckpointConfig) -> None:
        folder = _folder(run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._config = config
        self._pending: ocp.AsyncResponse[bool] | None = None
        self._checkpointer = ocp.training.Checkpointer(
            folder.resolve(),
            context=_context(),
            preservation_policy=_preservation(config),
            cleanup_tmp_directories=True,
        )

    def save(self, step: int, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Begin to save; returns once the arrays are copied, so that ``state`` may be donated.

        Args:
            metrics: the latest values by name; the one to rank by is kept along.

        Raises:
            OSError: no space is left on the disk, now or when the save before was written.
        """
        self.wait()
        if any(saved.step == step for saved in self._checkpointer.checkpoints):
            return
        name = self._config.best_metric
        value = metrics.get(name, math.nan) if name is not None else math.nan
        with _explained(self._checkpointer.directory):
            self._pending = self._checkpointer.save_checkpointables_async(
                step,
                _parts(state),
                force=True,
                metrics={name: float(value)} if math.isfinite(value) else None,
            )

    def wait(self) -> None:
        """Return when the save in hand is on the disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with _explained(self._checkpointer.directory):
                pending.result()

    def close(self) -> None:
        """Finish the save in hand and release the folder."""
        try:
            self.wait()
        finally:
            # It waits once more, and reports a save that failed in its own words.
            with _explained(self._checkpointer.directory):
                self._checkpointer.close()


def restore(run_dir: Path, abstract: TrainState) -> TrainState | None:
    """The newest whole checkpoint of a run, or None if it has none.

    A damaged one is said on stderr and passed over; once an older one proves whole it is set aside
    as ``damaged-STEP``.

    Args:
        abstract: ``jax.ShapeDtypeStruct`` leaves with the shardings wanted, those of any mesh.

    Raises:
        DataError: there are checkpoints and none can be read.
    """
    damaged: list[tuple[int, Exception]] = []
    for step in saved_steps(run_dir):
        try:
            parts = ocp.load_checkpointables(_path(run_dir, step), _parts(abstract))
        except Exception as error:  # Orbax and TensorStore raise many kinds
            _raise_if_passing(error)
            damaged.append((step, error))
            continue
        for bad, _ in damaged:
            _set_aside(run_dir, bad)
        number = jax.device_put(jax.numpy.int32(step), abstract.step.sharding)
        return TrainState(step=number, **{"ema": None, **parts})
    if damaged:
        raise _unreadable(run_dir, damaged)
    return None


def restore_params(
    run_dir: str | os.PathLike[str],
    abstract: Any,
    *,
    step: int | None = None,
    weights: Weights | None = None,
) -> tuple[Any, int]:
    """The parameters of a run for use, without its optimizer, and their step.

    Args:
        abstract: nested dicts of ``jax.ShapeDtypeStruct`` with shardings.
        step: the checkpoint to read; the newest whole one by default.
        weights: the parameters or their moving average; by default the average where there is one.

    Raises:
        DataError: no such checkpoint, or none that can be read.
    """
    run_dir = Path(run_dir)
    steps = saved_steps(run_dir)
    if not steps:
        raise DataError(f"{run_dir} holds no checkpoint; train first: kmm train CONFIG --run-dir")
    if step is not None and step not in steps:
        shown = ", ".join(map(str, sorted(steps)))
        raise DataError(f"{run_dir} has no checkpoint of step {step}; it has {shown}")
    damaged: list[tuple[int, Exception]] = []
    for candidate in steps if step is None else [step]:
        path = _path(run_dir, candidate)
        name = weights or ("ema" if (path / "ema").exists() else "params")
        if not (path / name).exists():
            raise DataError(f"{path} holds no {name!r}; the run was trained without it")
        try:
            params = ocp.load_checkpointables(path, {name: abstract})[name]
        except Exception as error:
            _raise_if_passing(error)
            damaged.append((candidate, error))
            continue
        for bad, _ in damaged:
            print(
                f"checkpoint {_path(run_dir, bad)} is damaged and passed over; these are the "
                f"parameters of step {candidate}",
                file=sys.stderr,
            )
        return params, candidate
    raise _unreadable(run_dir, damaged)


def saved_steps(run_dir: str | os.PathLike[str]) -> list[int]:
    """Steps of the finished checkpoints, newest first; those being written do not count."""
    folder = _folder(Path(run_dir))
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def _folder(run_dir: Path) -> Path:
    return run_dir / "checkpoints"


def _path(run_dir: Path, step: int) -> Path:
    return _folder(run_dir).resolve() / str(step)


def _parts(state: TrainState) -> dict[str, Any]:
    """What is read and written apart; the step is the checkpoint's name."""
    ema = {} if state.ema is None else {"ema": state.ema}
    return {"params": state.params, "opt_state": state.opt_state, **ema}


def _context() -> ocp.Context:
    # Splitting the writing of small replicated arrays over devices costs more than it saves.
    context = ocp.Context()
    context.array.saving.min_slice_bytes_for_replica_parallel = 2**20
    return context


def _preservation(config: CheckpointConfig) -> Any:
    policies = ocp.training.preservation_policies
    kept: list[Any] = [policies.LatestN(config.keep_latest)]
    if config.best_metric is not None:
        sign, name = 1 if config.best_is == "highest" else -1, config.best_metric
        kept.append(
            policies.BestN(
                get_metric_fn=lambda metrics: sign * metrics[name],
                n=config.keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
    return policies.AnyPreservationPolicy(kept)


def _raise_if_passing(error: Exception) -> None:
    """Raise what says nothing about the checkpoint: too little memory, an unreachable store."""
    text = str(error)
    passing = ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "PERMISSION_DENIED")
    if isinstance(error, MemoryError | PermissionError | ConnectionError | TimeoutError) or any(
        word in text for word in passing
    ):
        raise error


def _set_aside(run_dir: Path, step: int) -> None:
    path = _path(run_dir, step)
    aside = path.with_name(f"damaged-{step}")
    print(f"checkpoint {path} is damaged and passed over; kept as {aside.name}", file=sys.stderr)
    if jax.process_index() == 0:
        with contextlib.suppress(OSError):
            path.rename(aside)


def _unreadable(run_dir: Path, damaged: list[tuple[int, Exception]]) -> DataError:
    lines = "\n".join(
        f"  step {step}: {' '.join(str(error).split())[:300]}" for step, error in damaged
    )
    return DataError(
        f"no checkpoint in {_folder(run_dir)} can be read (damaged, or of another model):\n"
        f"{lines}\nGive another --run-dir, or delete that folder to begin anew."
    )


@contextlib.contextmanager
def _explained(folder: Any) -> Iterator[None]:
    """A full disk as the OSError it is; TensorStore reports it in words only."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


# Orbax tells every save in several lines; what matters is said by the loop.
logging.getLogger("absl").setLevel(logging.WARNING)
