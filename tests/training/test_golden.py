"""Every experiment as flat text, so that a change of a default shows which experiments it changes.

After a change that is meant: KMM_WRITE_GOLDEN=1 python -m pytest tests/training/test_golden.py
"""

import os
from pathlib import Path

import pytest

from kmm_jax.corpus.config import CorpusConfig
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


@pytest.mark.parametrize("name", NAMES)
def test_the_experiment_is_as_written_down(name):
    text = dump.dump(load(name))
    file = GOLDEN / f"{name.replace('/', '_')}.txt"
    if os.environ.get("KMM_WRITE_GOLDEN"):
        file.write_text(text, "utf-8")
    assert file.exists() and text == file.read_text("utf-8")


def test_nothing_is_written_down_that_is_gone():
    written = {file.stem for file in GOLDEN.glob("*.txt")}
    assert written == {name.replace("/", "_") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_experiment_survives_json(name):
    experiment = load(name)
    assert dump.from_json(dump.to_json(experiment)) == experiment
