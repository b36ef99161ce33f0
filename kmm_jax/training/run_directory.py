"""What stands in a run directory beside checkpoints and metrics: config.json and the tokenizer."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import jax

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.files import atomic_directory, read_described, write_json
from kmm_jax.training import dump
from kmm_jax.training.beginning import OF_WEIGHTS, Beginning
from kmm_jax.training.checkpoint import saved_steps
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.run_place import RunPlace

FORMAT = "kmm_jax run 1"

# What may differ when a run is continued: it changes how long, where and how observed, not what.
_FREE = re.compile(
    r"(name|duration|log_every|stall_seconds|tokenizer|data\.threads|data\.max_bad_share)"
    r"|(mesh|checkpoint|evaluators|profile|trackers)(\..*)?"
)
_SHOWN = 8


def check(experiment: Experiment, where: RunPlace, initial: Beginning | None = None) -> Path | None:
    """Whether the experiment may train here, and where its tokenizer is; writes nothing.

    A run without a checkpoint has nothing to lose: any configuration may take its place.

    Args:
        initial: the weights to begin with; their tokenizer is taken where the experiment says so.

    Raises:
        ConfigError: the run there has another configuration or tokenizer; names the differences.
        DataError: it is no run directory, or the tokenizer is missing.
    """
    root, run_dir = where.root, where.folder
    if not (run_dir / "config.json").exists() and (run_dir.is_file() or _foreign(where.names())):
        raise DataError(
            f"{root} exists and holds something else than a run; choose a new --run-dir"
        )
    started = bool(saved_steps(root))
    if started:
        before = with_defaults(read_config(run_dir)["experiment"])
        _check_same(dump.to_json(experiment), before, root)
    if experiment.tokenizer is None:
        return None
    copy = run_dir / "tokenizer" / "tokenizer.json"
    if experiment.tokenizer == OF_WEIGHTS:
        source = copy if started and copy.exists() else _of_weights(initial)
    else:
        source = _tokenizer_file(Path(experiment.tokenizer))
    if not (started and copy.exists()):
        if not source.is_file():
            raise DataError(
                f"no tokenizer at {experiment.tokenizer}; train one with: "
                f"kmm tokenizer train INPUT --output {experiment.tokenizer}"
            )
        _check_evaluators(experiment, source)
        return source
    if source.is_file() and source.read_bytes() != copy.read_bytes():
        raise ConfigError(
            f"{root} was trained with another tokenizer than {source}; its ids mean other "
            "texts. Choose another --run-dir, or name the run's own tokenizer."
        )
    _check_evaluators(experiment, copy)
    return copy


def _of_weights(initial: Beginning | None) -> Path:
    if initial is None:
        raise ConfigError(
            f"tokenizer={OF_WEIGHTS} takes that of the weights the run begins with; name them by "
            "--init, or name a tokenizer"
        )
    return initial.tokenizer()


def with_tokenizer(experiment: Experiment, tokenizer: Path | None) -> Experiment:
    """The experiment whose evaluators read by the run's tokenizer where they say ``@init``."""

    def one(evaluator: Any) -> Any:
        data = getattr(evaluator, "data", None)
        if getattr(data, "tokenizer", None) != OF_WEIGHTS or tokenizer is None:
            return evaluator
        assert data is not None
        own = dataclasses.replace(data, tokenizer=str(tokenizer))
        return dataclasses.replace(evaluator, data=own)

    return dataclasses.replace(experiment, evaluators=tuple(map(one, experiment.evaluators)))


def _check_evaluators(experiment: Experiment, own: Path) -> None:
    """Refuse evaluators whose tokenizer is not the run's: their ids would mean other texts."""
    for number, evaluator in enumerate(experiment.evaluators):
        named = getattr(getattr(evaluator, "data", None), "tokenizer", None)
        if not isinstance(named, str) or named == OF_WEIGHTS:
            continue
        other = _tokenizer_file(Path(named))
        if other.is_file() and other.read_bytes() != own.read_bytes():
            raise ConfigError(
                f"the evaluator {evaluator.name!r} reads texts by the tokenizer {other}, the run "
                f"by {own}, and they differ; set evaluators.{number}.data.tokenizer={own.parent}"
            )


def write(experiment: Experiment, where: RunPlace, tokenizer: Path | None) -> None:
    """Write ``config.json`` and the copy of the tokenizer; one process does, all wait for it.

    Raises:
        ConfigError: another process does not see them.
        DataError: the run's URL cannot be written.
    """
    if jax.process_index() == 0:
        copy = where.folder / "tokenizer"
        if tokenizer is not None and tokenizer.parent != copy:
            _copy_tokenizer(tokenizer, copy)
        values = {"format": FORMAT, "experiment": dump.to_json(experiment)}
        write_json(where.folder / "config.json", values)
        where.publish()
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("run directory")
        where.check_shared()


def read_config(run_dir: Path) -> dict[str, Any]:
    """The ``config.json`` of a run; ``dump.from_json`` rebuilds what is under ``experiment``.

    Raises:
        DataError: it is missing, damaged, or of another format.
    """
    return read_described(
        run_dir / "config.json",
        FORMAT,
        missing=f"{run_dir} is no run directory: it has no config.json",
        advice="; choose another --run-dir",
    )


def with_defaults(experiment: Any) -> Any:
    """A written experiment with the fields that have come since, at their defaults."""
    try:
        return dump.to_json(dump.from_json(experiment))
    except ConfigError:  # a field or a class has gone since; the comparison names it
        return experiment


def _check_same(new: Any, old: Any, run_dir: Path | str) -> None:
    now, before = dump.leaves(new), dump.leaves(old)
    missing = "(not there)"
    different = [
        f"  {path}: {before.get(path, missing)!r} -> {now.get(path, missing)!r}"
        for path in sorted(now.keys() | before.keys())
        if not _FREE.fullmatch(path) and now.get(path, missing) != before.get(path, missing)
    ]
    if different:
        more = f"\n  ... and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        raise ConfigError(
            f"{run_dir} holds a run of another configuration:\n"
            + "\n".join(different[:_SHOWN])
            + more
            + "\nChoose another --run-dir, or take these changes back to continue that run."
        )


def _foreign(names: list[str]) -> bool:
    """Whether there is anything that a run does not leave when it is killed at its start."""
    left = ("tokenizer", ".tokenizer.", "checkpoints", "bad_rows.jsonl", ".config.json.")
    return any(not name.startswith(left) for name in names)


def _tokenizer_file(path: Path) -> Path:
    return path / "tokenizer.json" if path.is_dir() else path


def _copy_tokenizer(source: Path, folder: Path) -> None:
    with atomic_directory(folder) as temporary:
        for file in source.parent.iterdir() if source.name == "tokenizer.json" else [source]:
            if file.is_file() and (file == source or file.suffix == ".json"):
                name = "tokenizer.json" if file == source else file.name
                shutil.copyfile(file, temporary / name)
