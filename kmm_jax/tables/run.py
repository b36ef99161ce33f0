"""A table's rows, trained and measured one after the other; what is measured is not run again."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flax import nnx
from jax import device_count, devices, random

from kmm_jax.data.sources import open_source
from kmm_jax.errors import ConfigError, DataError, nearest, require
from kmm_jax.evaluation.classes import named_classes
from kmm_jax.files import locked, read_json, write_json
from kmm_jax.models.oner.config import HeadConfig
from kmm_jax.models.summary import parameters
from kmm_jax.tables.config import Measures, Table
from kmm_jax.training.checkpoint import saved_steps
from kmm_jax.training.dump import leaves, to_json
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.run_directory import read_config, with_defaults

_PACKAGES = ("jax", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One row at one seed, with its experiment as the config says it.

    Attributes:
        row: a key of the table's rows or ablations, behind it ``@flops`` where the run was made as
            long as the dearest row's operations allow.
    """

    row: str
    seed: int
    experiment: Experiment

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.row}-seed{self.seed}"


def cells(
    table: Table,
    *,
    rows: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    equal_flops: Sequence[str] = (),
    change: Callable[[Experiment], Experiment] = lambda experiment: experiment,
) -> list[Cell]:
    """The cells that are asked for, all rows of one seed before those of the next.

    Args:
        rows: of the table and of its ablations; the table's own by default.
        equal_flops: rows to train once more, for as many operations as the table's last row takes.
        change: of every experiment wanted, overrides for instance.

    Raises:
        ConfigError: no such row.
    """
    known = {**table.rows, **table.ablations}
    for row in (*rows, *equal_flops):
        if row not in known:
            raise ConfigError(f"the table has no row {row!r}{nearest(row, known)}")
    wanted = {row: change(known[row]) for row in (rows or table.rows)}
    if equal_flops:
        dearest = change(known[list(table.rows)[-1]])
        wanted |= {f"{row}@flops": _as_costly(change(known[row]), dearest) for row in equal_flops}
    return [
        Cell(row=row, seed=seed, experiment=_seeded(experiment, seed))
        for seed in seeds
        for row, experiment in wanted.items()
    ]


def _seeded(experiment: Experiment, seed: int) -> Experiment:
    """Other parameters, random numbers and order of the data."""
    return dataclasses.replace(
        experiment, seed=seed, data=dataclasses.replace(experiment.data, seed=seed)
    )


def _as_costly(experiment: Experiment, other: Experiment) -> Experiment:
    number, _, unit = experiment.duration.partition(" ")
    if experiment.duration != other.duration or (
        experiment.global_batch_size != other.global_batch_size
    ):
        raise ConfigError("rows of equal operations must be of equal batch and duration before")
    ratio = other.task.flops_per_example() / experiment.task.flops_per_example()
    longer = f"{max(round(float(number) * ratio), 1)} {unit}".strip()
    return dataclasses.replace(experiment, duration=longer)


def relocated(value: Any, before: str, now: str) -> Any:
    """A configuration whose paths below one folder lead below another."""
    if isinstance(value, str):
        inside = value == before or value.startswith(f"{before}/")
        return now + value[len(before) :] if inside else value
    if isinstance(value, tuple | list):
        return type(value)(relocated(each, before, now) for each in value)
    if isinstance(value, dict):
        return {key: relocated(each, before, now) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: relocated(getattr(value, field.name), before, now)
            for field in dataclasses.fields(value)
            if field.init
        }
        return dataclasses.replace(value, **changes)
    return value


def run(
    table: Table,
    wanted: Sequence[Cell],
    output: Path,
    *,
    measured: Path | None = None,
    folder: Path | None = None,
    tell: Callable[[str], None] = print,
) -> list[dict[str, Any]] | None:
    """Train and measure what is missing, and return what each cell came to.

    The same call again goes on where it was interrupted, within a row too.

    Args:
        output: ``data``, ``runs`` and, unless it is elsewhere, ``measured`` go there.
        measured: one JSON file a cell.
        folder: where the files of a real data set lie (``KMM_DATA_DIR``).
        tell: told each row as it begins and ends.

    Returns:
        None if a signal ended it: all is saved.

    Raises:
        DataError: the data are not there.
        ConfigError: a run of another configuration is where a row's belongs.
        UserError: another process runs this table, or a package that measures is not installed.
    """
    measured = measured or output / "measured"
    with locked(output / "table.lock", "a table is being run here"):
        missing = [cell for cell in wanted if _known(table, measured, cell) is None]
        if missing:
            _check(table, output, folder)
        for number, cell in enumerate(missing, start=1):
            tell(f"{number}/{len(missing)} {cell.name}: {cell.experiment.duration}")
            if not _run_cell(table, cell, output, measured):
                return None
        return list(already(table, measured, wanted))


def already(table: Table, measured: Path, wanted: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """What is measured of these cells."""
    for cell in wanted:
        if (found := _known(table, measured, cell)) is not None:
            yield found


def _known(table: Table, measured: Path, cell: Cell) -> dict[str, Any] | None:
    """What was measured of this very experiment in this way; both may have new fields since."""
    found = read_json(measured / f"{cell.name}.json")
    if not isinstance(found, dict):
        return None
    for name, now in (("experiment", cell.experiment), ("measures", table.measures)):
        if name not in found or with_defaults(found[name]) != to_json(now):
            return None
    return found


def _check(table: Table, output: Path, folder: Path | None) -> None:
    """Make the data; refuse what would fail after a row is trained."""
    if table.measures.probe is not None:
        require("sklearn", extra="analysis")
    _prepare(table, output, folder)
    measures: Measures = _there(table, output, table.measures)
    probe = measures.probe
    for source in dict.fromkeys(
        (
            *(one.source for one in measures.zero_shot),
            measures.retrieval.source,
            *((probe.train, probe.test) if probe else ()),
            *((measures.boxes,) if measures.boxes else ()),
        )
    ):
        open_source(source)
    for one in measures.zero_shot:
        named_classes(one.classes, one.lang)


def _there(table: Table, output: Path, value: Any) -> Any:
    """A configuration over the data that this command made."""
    return relocated(value, table.folder, str(output / "data")) if table.data else value


def _prepare(table: Table, output: Path, folder: Path | None) -> None:
    if table.data is not None:
        from kmm_jax.quickstart.prepare import prepare
        from kmm_jax.quickstart.recipes import recipe

        prepare(table.data, recipe(table.data), output, folder=folder)
    elif not Path(table.folder).is_dir():
        raise DataError(
            f"the table's data are not there: {table.folder}; the config file says what is needed"
        )


def _run_cell(table: Table, cell: Cell, output: Path, measured: Path) -> bool:
    from kmm_jax.tables.measure import measure
    from kmm_jax.training.loop import train

    experiment: Experiment = _there(table, output, cell.experiment)
    folder = output / "runs" / cell.name
    _refuse_another(experiment, folder)
    began = time.perf_counter()
    result = train(experiment, folder)
    if result.end != "finished":
        return False
    trained = time.perf_counter() - began
    model = experiment.task.model
    measures = _there(table, output, table.measures)
    values = measure(folder, measures, model, taught=experiment.teacher is not None)
    # Protocols name their sources as the config does, wherever the data was.
    values = _said_of(values, str(output / "data"), table.folder) if table.data else values
    write_json(
        measured / f"{cell.name}.json",
        {
            "row": cell.row,
            "seed": cell.seed,
            "steps": result.step,
            "examples": result.step * experiment.global_batch_size,
            "flops_per_example": experiment.task.flops_per_example(),
            "head": _head(model),
            "embedding": model.embedding,
            "parameters": parameters(nnx.eval_shape(lambda: experiment.task.init(random.key(0)))),
            "outputs": values,
            "curve": list(_curve(folder / "metrics.jsonl")),
            "seconds_of_this_part": trained,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "python": platform.python_version(),
            "processor": f"{device_count()} x {devices()[0].device_kind}, {platform.machine()}",
            "experiment": to_json(cell.experiment),
            "measures": to_json(table.measures),
        },
    )
    return True


def _refuse_another(experiment: Experiment, folder: Path) -> None:
    """A run may be made longer or evaluated otherwise; a row of a table may not."""
    if not (folder / "config.json").is_file() or not saved_steps(folder):
        return
    before = with_defaults(read_config(folder)["experiment"])
    old, new = leaves(before), leaves(to_json(experiment))
    different = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if different:
        shown = ", ".join(
            f"{name} {old.get(name)!r} -> {new.get(name)!r}" for name in different[:3]
        )
        raise ConfigError(
            f"{folder} holds a run of another configuration ({shown}); remove that folder, or "
            "give another --output"
        )


def _head(model: Any) -> str:
    head = getattr(model, "head", None)
    if isinstance(head, HeadConfig):
        return head.describe()
    return "two linear heads" + (", an MLP with batch norm for its views" if head else "")


def _said_of(value: Any, before: str, now: str) -> Any:
    if isinstance(value, dict):
        return {key: _said_of(each, before, now) for key, each in value.items()}
    return value.replace(before, now) if isinstance(value, str) else value


def _curve(metrics: Path) -> Iterator[dict[str, float]]:
    """The modality gap over training, where an evaluator called ``gap`` measured it."""
    for line in metrics.read_text("utf-8").splitlines():
        record = json.loads(line)
        point = {
            name.partition("/")[2]: value
            for name, value in record.items()
            if name.startswith("gap/") and "chance" not in name
        }
        if point:
            yield {"step": record["step"], **point}
