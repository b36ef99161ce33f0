"""Every experiment as flat text, so that a change of a default shows which experiments it changes.

After a change that is meant: KMM_WRITE_GOLDEN=1 python -m pytest tests/training/test_golden.py
"""

import os
from pathlib import Path

import pytest

from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.tables.config import Table
from kmm_jax.training import dump
from kmm_jax.training.config_file import load_config, load_experiment

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(
    file.relative_to(CONFIGS).with_suffix("").as_posix() for file in CONFIGS.glob("*/*.py")
)


def load(name):
    file = CONFIGS / f"{name}.py"
    if name.startswith("corpus/"):
        return load_config(file, function="corpus", kind=CorpusConfig)
    return load_experiment(file)


TABLES = [name for name in NAMES if "def table(" in (CONFIGS / f"{name}.py").read_text("utf-8")]


def written_down(stem, text):
    file = GOLDEN / f"{stem}.txt"
    if os.environ.get("KMM_WRITE_GOLDEN"):
        file.write_text(text, "utf-8")
    return file.exists() and text == file.read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_experiment_is_as_written_down(name):
    assert written_down(name.replace("/", "_"), dump.dump(load(name)))


def rows(name):
    """Every row of a table, by the lines in which it differs from the file's experiment."""
    table = load_config(CONFIGS / f"{name}.py", function="table", kind=Table)
    own = set(dump.dump(load(name)).splitlines())
    for row, experiment in {**table.rows, **table.ablations}.items():
        yield f"[{row}]"
        yield from (line for line in dump.dump(experiment).splitlines() if line not in own)


@pytest.mark.parametrize("name", TABLES)
def test_the_rows_of_a_table_are_as_written_down(name):
    assert written_down(f"{name.replace('/', '_')}_rows", "\n".join(rows(name)) + "\n")


def test_nothing_is_written_down_that_is_gone():
    written = {file.stem for file in GOLDEN.glob("*.txt")}
    stems = {name.replace("/", "_") for name in NAMES}
    assert written == stems | {f"{name.replace('/', '_')}_rows" for name in TABLES}


@pytest.mark.parametrize("name", NAMES)
def test_the_experiment_survives_json(name):
    experiment = load(name)
    assert dump.from_json(dump.to_json(experiment)) == experiment
