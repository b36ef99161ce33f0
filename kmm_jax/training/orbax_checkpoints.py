"""Checkpoints on a local or network disk through Orbax: whole or not at all, read onto any mesh."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from kmm_jax.training.checkpoint_config import CheckpointConfig


class OrbaxFolder:
    """The checkpoints of a run on a disk, to read them."""

    def __init__(self, run_dir: Path) -> None:
        self.where = run_dir / "checkpoints"

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, newest first; those being written do not count."""
        names = [entry.name for entry in self.where.iterdir()] if self.where.is_dir() else []
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def path(self, step: int) -> Path:
        """Of a finished checkpoint."""
        return self.where.resolve() / str(step)

    def parts(self, step: int) -> set[str]:
        """The names that ``load`` takes for this step (``params``, ...)."""
        return {entry.name for entry in self.path(step).iterdir() if entry.is_dir()}

    def load(self, step: int, abstract: Mapping[str, Any]) -> dict[str, Any]:
        """Parts of a checkpoint; Orbax and TensorStore raise many kinds of errors."""
        return dict(ocp.load_checkpointables(self.path(step), dict(abstract)))

    def set_aside(self, step: int) -> str:
        """Rename a damaged checkpoint; says how it is kept."""
        path = self.path(step)
        names = (f"damaged-{step}{again}" for again in ("", *(f"-{n}" for n in range(2, 100))))
        aside = next(free for name in names if not (free := path.with_name(name)).exists())
        try:
            path.rename(aside)
        except OSError as error:
            return f"it cannot be renamed ({error.strerror}); remove it, or its step is not saved"
        return f"kept as {aside.name}"


class OrbaxWriter:
    """Writes the checkpoints of a run on a disk, in the background."""

    def __init__(self, folder: OrbaxFolder, config: CheckpointConfig) -> None:
        folder.where.mkdir(parents=True, exist_ok=True)
        self._checkpointer = ocp.training.Checkpointer(
            folder.where.resolve(),
            context=_context(),
            preservation_policy=_preservation(config),
            cleanup_tmp_directories=True,
        )

    def has(self, step: int) -> bool:
        """Whether a finished checkpoint of the step is there."""
        return any(saved.step == step for saved in self._checkpointer.checkpoints)

    def save(
        self, step: int, parts: Mapping[str, Any], metrics: dict[str, float]
    ) -> Callable[[], None]:
        """Copy ``parts`` and begin to write; what is returned waits for the end, and raises."""
        with self._explained():
            pending = self._checkpointer.save_checkpointables_async(
                step, dict(parts), force=True, metrics=metrics or None
            )

        def wait() -> None:
            with self._explained():
                pending.result()

        return wait

    def close(self) -> None:
        """Release the folder; reports a save that failed in its own words."""
        with self._explained():
            self._checkpointer.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """A full disk as the OSError it is; TensorStore reports it in words only."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            if "No space left on device" in str(error) or "Disk quota exceeded" in str(error):
                folder = str(self._checkpointer.directory)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder) from error
            raise


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


# Orbax tells every save in several lines; what matters is said by the loop.
logging.getLogger("absl").setLevel(logging.WARNING)
