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

from kmm_jax.errors import ConfigError, DataError, nearest
from kmm_jax.files import read_json, write_json
from kmm_jax.models.oner.config import HeadConfig
from kmm_jax.tables.config import Table
from kmm_jax.training.dump import to_json
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.run_directory import with_defaults

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
        change: of every experiment, overrides for instance.

    Raises:
        ConfigError: no such row.
    """
    known = {**table.rows, **table.ablations}
    for row in (*rows, *equal_flops):
        if row not in known:
            raise ConfigError(f"the table has no row {row!r}{nearest(row, known)}")
    changed = {row: change(known[row]) for row in dict.fromkeys((*known, *table.rows))}
    longer = {
        f"{row}@flops": _as_costly(changed[row], changed[list(table.rows)[-1]])
        for row in equal_flops
    }
    wanted = {row: changed[row] for row in (rows or table.rows)} | longer
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
    """
    measured = measured or output / "measured"
    missing = [cell for cell in wanted if _known(measured, cell) is None]
    if missing:
        _prepare(table, output, folder)
    for number, cell in enumerate(missing, start=1):
        tell(f"{number}/{len(missing)} {cell.name}: {cell.experiment.duration}")
        if not _run_cell(table, cell, output, measured):
            return None
    return [value for cell in wanted if (value := _known(measured, cell)) is not None]


def already(measured: Path, wanted: Sequence[Cell]) -> Iterator[dict[str, Any]]:
    """What is measured of these cells."""
    for cell in wanted:
        if (found := _known(measured, cell)) is not None:
            yield found


def _known(measured: Path, cell: Cell) -> dict[str, Any] | None:
    """What was measured of this very experiment, which may have got new fields since."""
    found = read_json(measured / f"{cell.name}.json")
    if not isinstance(found, dict) or "experiment" not in found:
        return None
    same = with_defaults(found["experiment"]) == to_json(cell.experiment)
    return found if same else None


def _prepare(table: Table, output: Path, folder: Path | None) -> None:
    if table.data is not None:
        from kmm_jax.quickstart.prepare import prepare
        from kmm_jax.quickstart.recipes import recipe

        prepare(table.data, recipe(table.data), output, folder=folder)
    elif not Path(table.folder).is_dir():
        raise DataError(
            f"the table's data are not there: {table.folder}; docs/guide.md says how it is made"
        )


def _run_cell(table: Table, cell: Cell, output: Path, measured: Path) -> bool:
    from kmm_jax.tables.measure import measure
    from kmm_jax.training.loop import train

    def there(value: Any) -> Any:
        return relocated(value, table.folder, str(output / "data")) if table.data else value

    experiment: Experiment = there(cell.experiment)
    folder = output / "runs" / cell.name
    began = time.perf_counter()
    result = train(experiment, folder)
    if result.end != "finished":
        return False
    trained = time.perf_counter() - began
    model = experiment.task.model
    values = measure(folder, there(table.measures), model, taught=experiment.teacher is not None)
    head = getattr(model, "head", None)
    write_json(
        measured / f"{cell.name}.json",
        {
            "row": cell.row,
            "seed": cell.seed,
            "steps": result.step,
            "examples": result.step * experiment.global_batch_size,
            "flops_per_example": experiment.task.flops_per_example(),
            "head": head.describe() if isinstance(head, HeadConfig) else "two linear heads",
            "outputs": values,
            "curve": list(_curve(folder / "metrics.jsonl")),
            "seconds_of_this_part": trained,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "python": platform.python_version(),
            "experiment": to_json(cell.experiment),
        },
    )
    return True


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
