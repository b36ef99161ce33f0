"""Experiments by file or by name."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import kmm_jax
from kmm_jax.errors import ConfigError, UserError, nearest
from kmm_jax.training import overrides as dotted
from kmm_jax.training.experiment import Experiment

T = TypeVar("T")


@runtime_checkable
class _HasRows(Protocol):
    """A table of experiments (``kmm_jax.tables``)."""

    rows: Mapping[str, Experiment]
    ablations: Mapping[str, Experiment]


def load_experiment(name: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Run the config file's ``experiment()`` and apply dotted overrides to what it returns.

    Args:
        name: a path (``configs/coca/shop.py``), or a name (``coca/shop``) looked for in
            ``./configs`` and then among the configs that come with the package. After a colon, a
            row of the table that the file's ``table()`` returns (``oner/shop:itc``).

    Raises:
        ConfigError: no such file, a mistake in it (with its line), or a wrong override.
    """
    file, colon, row = str(name).rpartition(":")
    if not colon:
        return load_config(name, overrides, function="experiment", kind=Experiment)
    table: Any = load_config(file, function="table", kind=object)
    if not isinstance(table, _HasRows):
        raise ConfigError(f"{file}: table() returned {type(table).__name__}, which has no rows")
    rows = {**table.rows, **table.ablations}
    if row not in rows:
        raise ConfigError(f"{file} has no row {row!r}{nearest(row, rows)}")
    return dotted.apply(rows[row], overrides)


def load_config(
    name: str | Path, overrides: Sequence[str] = (), *, function: str, kind: type[T]
) -> T:
    """As ``load_experiment``, of a file whose ``function`` returns a ``kind``."""
    return dotted.apply(_run(_find(str(name)), function, kind), overrides)


def _folders() -> list[Path]:
    package = Path(kmm_jax.__file__).parent
    # Beside the package in a checkout, inside it once installed.
    return [Path("configs"), package / "configs", package.parent / "configs"]


def _find(name: str) -> Path:
    if name.endswith(".py"):
        if Path(name).is_file():
            return Path(name)
        stem = name.removesuffix(".py").removeprefix("./").removeprefix("configs/")
    else:
        stem = name.removeprefix("configs/")
    for folder in _folders():
        file = folder / f"{stem}.py"
        if file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            return file
    known = {
        file.relative_to(folder).with_suffix("").as_posix()
        for folder in _folders()
        for file in folder.glob("*/*.py")
    }
    raise ConfigError(f"no config {name!r}, as a file or under configs/{nearest(stem, known)}")


def _run(file: Path, function: str, kind: type[T]) -> T:
    # Dataclasses look their module up, so it is registered while it runs.
    module_name = "kmm_config_" + "_".join(file.with_suffix("").parts[-2:])
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, function, None)):
            raise ConfigError(
                f"{file} defines no function {function}() that returns {kind.__name__}"
            )
        config = getattr(module, function)()
    except UserError as error:
        raise ConfigError(f"{file}: {error}") from error
    except SyntaxError as error:
        raise ConfigError(f"{error.filename} line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = [f for f in frames if Path(f.filename).resolve() == file.resolve()]
        line = f" line {where[-1].lineno}" if where else ""
        raise ConfigError(f"{file}{line}: {type(error).__name__}: {error}") from error
    if not isinstance(config, kind):
        raise ConfigError(
            f"{file}: {function}() returned {type(config).__name__}, expected {kind.__name__}"
        )
    return config
