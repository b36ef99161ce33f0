"""Checkpoints of a run: written in the background, whole or not at all, read onto any mesh.

On a disk Orbax writes them; at a URL each process puts its own pieces.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import jax
import numpy as np

from kmm_jax.data.retries import is_passing
from kmm_jax.errors import DataError
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.orbax_checkpoints import OrbaxFolder, OrbaxWriter
from kmm_jax.training.piece_checkpoints import PieceFolder, PieceWriter, holds_pieces
from kmm_jax.training.run_place import location
from kmm_jax.training.state import TrainState

Weights = Literal["params", "ema"]

# A store that is out of reach for a save may be back for the next; for so many, someone must look.
FAILED_SAVES = 3
_NEWEST = 256  # steps that the processes agree on


class Checkpoints:
    """The checkpoints of a run that is training; one is written at a time, in the background.

    A save that fails for a reason that may pass is said, and the next one tries again; training
    ends after three in a row, or where the last one failed.

    Args:
        run_dir: a local folder or a URL.
        before: at a URL, called in the background before each checkpoint is put.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        config: CheckpointConfig,
        *,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder = _folder(run_dir)
        self.where = folder.where
        self._config = config
        self._pending: tuple[int, Callable[[], None]] | None = None
        self._failed: list[Exception] = []
        self._writer = (
            PieceWriter(folder, config, before)
            if isinstance(folder, PieceFolder)
            else OrbaxWriter(folder, config)
        )

    def save(self, step: int, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Begin to save; returns once the arrays are copied, so that ``state`` may be donated.

        Args:
            metrics: the latest values by name; the one to rank by is kept along.

        Raises:
            OSError: no space is left on the disk, now or when the save before was written.
            ConnectionError: saves failed three times in a row.
            DataError: the store refuses.
        """
        self.wait()
        if self._writer.has(step):
            return
        name = self._config.best_metric
        value = metrics.get(name, math.nan) if name is not None else math.nan
        ranks = {name: float(value)} if name is not None and math.isfinite(value) else {}
        try:
            self._pending = step, self._writer.save(step, _parts(state), ranks)
        except Exception as error:
            self._note_failed(step, error)

    def wait(self) -> None:
        """Return when the save in hand is written, or has failed; raises as ``save``."""
        pending, self._pending = self._pending, None
        if pending is not None:
            step, finish = pending
            try:
                finish()
            except Exception as error:
                self._note_failed(step, error)
            else:
                self._failed.clear()

    def close(self) -> None:
        """Finish the save in hand and release the folder.

        Raises:
            OSError: the last save failed; ConnectionError, if that may pass.
            DataError: the store refuses.
        """
        try:
            self.wait()
        except BaseException:
            self._release()
            raise
        if self._failed:
            self._release()
            raise ConnectionError(
                f"the last checkpoint is not in {self.where} ({_short(self._failed[-1])}); the "
                "same command continues from the one before"
            ) from self._failed[-1]
        self._writer.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except Exception as error:
            if kind is None:
                raise
            # What ended the run is the answer; that a save failed as well is said beside it.
            print(error, file=sys.stderr, flush=True)

    def kept(self) -> str:
        """What an error may say of the checkpoints there are."""
        try:
            self.wait()
            steps = self._folder.steps()
        except Exception as error:
            return f"whether the last checkpoint is kept cannot be told ({_short(error)})"
        return f"the checkpoint of step {steps[0]} is kept" if steps else "nothing was saved"

    def _release(self) -> None:
        """Close after an error that is told already; Orbax would tell it again."""
        try:
            self._writer.close()
        except Exception as error:
            self._failed.append(error)

    def _note_failed(self, step: int, error: Exception) -> None:
        if not is_passing(error):
            raise error
        self._failed.append(error)
        print(
            f"the checkpoint of step {step} could not be written to {self.where} "
            f"({_short(error)}); training goes on and the next one is tried",
            file=sys.stderr,
            flush=True,
        )
        if len(self._failed) >= FAILED_SAVES:
            failed, self._failed = self._failed, []
            raise ConnectionError(
                f"{len(failed)} checkpoints in a row could not be written to {self.where}: "
                f"{_short(error)}. Training ends rather than go on unsaved; the same command "
                "continues from the newest whole checkpoint"
            ) from error


def restore(run_dir: str | os.PathLike[str], abstract: TrainState) -> TrainState | None:
    """The newest whole checkpoint of a run, or None if it has none; all processes take the same.

    A damaged one is said on stderr and passed over; once an older one proves whole it is set aside,
    on a disk as ``damaged-STEP``.

    Args:
        abstract: ``jax.ShapeDtypeStruct`` leaves with the shardings wanted, those of any mesh.

    Raises:
        DataError: there are checkpoints and none can be read.
        ConnectionError: they are out of reach.
    """
    folder = _folder(run_dir)
    damaged: list[tuple[int, Exception]] = []
    for step in _agreed_steps(folder.steps()):
        parts, error = None, None
        try:
            parts = folder.load(step, _parts(abstract))
        except Exception as caught:  # Orbax and TensorStore raise many kinds
            _raise_if_no_verdict(caught)
            error = caught
        if not _everywhere(parts is not None):
            damaged.append((step, error or DataError("another process could not read its part")))
            continue
        assert parts is not None
        for bad, _ in damaged:
            if jax.process_index() == 0:  # the others may not see it any more
                path = folder.path(bad)
                kept = folder.set_aside(bad)
                print(f"checkpoint {path} is damaged and passed over; {kept}", file=sys.stderr)
        number = jax.device_put(jax.numpy.int32(step), abstract.step.sharding)
        return TrainState(step=number, **{"ema": None, **parts})
    if damaged:
        raise _unreadable(folder, damaged)
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
        run_dir: a local folder or a URL.
        abstract: nested dicts of ``jax.ShapeDtypeStruct`` with shardings.
        step: the checkpoint to read; the newest whole one by default.
        weights: the parameters or their moving average; by default the average where there is one.

    Raises:
        DataError: no such checkpoint, or none that can be read.
        ConnectionError: they are out of reach.
    """
    folder = _folder(run_dir)
    steps = folder.steps()
    if not steps:
        raise DataError(f"{run_dir} holds no checkpoint; train first: kmm train CONFIG --run-dir")
    if step is not None and step not in steps:
        shown = ", ".join(map(str, sorted(steps)))
        raise DataError(f"{run_dir} has no checkpoint of step {step}; it has {shown}")
    damaged: list[tuple[int, Exception]] = []
    for candidate in steps if step is None else [step]:
        try:
            names = folder.parts(candidate)
            name = weights or ("ema" if "ema" in names else "params")
            params = folder.load(candidate, {name: abstract})[name] if name in names else None
        except Exception as error:
            _raise_if_no_verdict(error)
            damaged.append((candidate, error))
            continue
        if params is None:
            path = folder.path(candidate)
            raise DataError(f"{path} holds no {name!r}; the run was trained without it")
        for bad, _ in damaged:
            print(
                f"checkpoint {folder.where}/{bad} is damaged and passed over; these are the "
                f"parameters of step {candidate}",
                file=sys.stderr,
            )
        return params, candidate
    if step is None and max(folder.steps(), default=-1) > steps[0]:
        # A run that trains has put another meanwhile, and removed what was listed.
        return restore_params(run_dir, abstract, weights=weights)
    raise _unreadable(folder, damaged)


def saved_steps(run_dir: str | os.PathLike[str]) -> list[int]:
    """Steps of the finished checkpoints, newest first; those being written do not count."""
    return _folder(run_dir).steps()


def _folder(run_dir: str | os.PathLike[str]) -> OrbaxFolder | PieceFolder:
    place = location(run_dir)
    if isinstance(place, str):
        return PieceFolder(place)
    # A run that was copied from a URL to a disk goes on as it began.
    copied = holds_pieces(place / "checkpoints")
    return PieceFolder(f"file://{place.resolve()}") if copied else OrbaxFolder(place)


def _parts(state: TrainState) -> dict[str, Any]:
    """What is read and written apart; the step is the checkpoint's name."""
    ema = {} if state.ema is None else {"ema": state.ema}
    return {"params": state.params, "opt_state": state.opt_state, **ema}


def _agreed_steps(steps: list[int]) -> Iterable[int]:
    """The steps that process 0 sees; a store may show another host an older list."""
    if jax.process_count() == 1:
        return steps
    from jax.experimental import multihost_utils

    padded = np.full(_NEWEST, -1, np.int32)
    padded[: len(steps[:_NEWEST])] = steps[:_NEWEST]
    agreed = np.asarray(multihost_utils.broadcast_one_to_all(padded))
    return agreed[agreed >= 0].tolist()


def _everywhere(true: bool) -> bool:
    """Whether it is true in every process."""
    if jax.process_count() == 1:
        return true
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.asarray(true))))


def _raise_if_no_verdict(error: Exception) -> None:
    """Raise what says nothing about the checkpoint: a store out of reach, a refusal, no memory."""
    for cause in _causes(error):
        text = str(cause)
        refused = isinstance(cause, MemoryError | PermissionError) or any(
            word in text for word in ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "Forbidden")
        )
        if refused or is_passing(cause):
            raise error


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _unreadable(
    folder: OrbaxFolder | PieceFolder, damaged: list[tuple[int, Exception]]
) -> DataError:
    lines = "\n".join(f"  step {step}: {_short(error)}" for step, error in damaged)
    return DataError(
        f"no checkpoint in {folder.where} can be read (damaged, or of another model):\n"
        f"{lines}\nGive another --run-dir, or delete that folder to begin anew."
    )
