"""A run in use: what of it is read, and what of it is not needed."""

import dataclasses
import json

import fsspec
import jax
import numpy as np
import pytest

import kmm_jax
from kmm_jax.cli import main
from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.inference.initial import initial_params
from kmm_jax.inference.loading import read
from kmm_jax.interop import native
from kmm_jax.retrieval import Index, IndexSettings
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.training import run_directory
from kmm_jax.training.checkpoint import Checkpoints
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.run_place import RunPlace
from kmm_jax.training.state import TrainState
from tests.inference.conftest import TEXTS
from tools import export_checkpoint


@pytest.fixture
def run_dir(exported, tmp_path):
    return written_run(exported, tmp_path, tmp_path / "run")


def written_run(exported, tmp_path, where):
    """A run as training leaves it, with one checkpoint, at step 3."""
    exported.tokenizer.save(tmp_path / "tokenizer")
    experiment = Experiment(
        name="run",
        task=CoCaTask(model=exported.config),
        data=DataConfig(sources=(SourceConfig(url="none"),), image_size=16, text_length=12),
        tokenizer=str(tmp_path / "tokenizer"),
        global_batch_size=8,
        duration="3 steps",
    )
    tokenizer = tmp_path / "tokenizer" / "tokenizer.json"
    run_directory.write(experiment, RunPlace(where), tokenizer)
    params = jax.device_put(exported.params)
    checkpoints = Checkpoints(where, CheckpointConfig())
    state = TrainState(step=jax.numpy.int32(3), params=params, opt_state={"m": params}, ema=None)
    checkpoints.save(3, state, {})
    checkpoints.close()
    return where


def change(run_dir, edit):
    file = run_dir / "config.json"
    config = json.loads(file.read_text("utf-8"))
    edit(config["experiment"])
    file.write_text(json.dumps(config), "utf-8")


def test_a_run_is_the_model_it_trained(run_dir, exported):
    found = read(run_dir)
    assert found.step == 3
    assert found.hash == exported.hash
    native.save(run_dir.parent / "export", found)
    assert kmm_jax.load(run_dir.parent / "export").step == kmm_jax.load(run_dir, step=3).step == 3


def test_a_run_with_evaluators_task_and_optimizer_of_its_own_loads(run_dir, exported):
    def edit(experiment):
        experiment["evaluators"] = [{"type": "my_config:Mine", "name": "mine", "every": "10%"}]
        experiment["task"]["type"] = "my_config:MyTask"
        experiment["optimizer"]["renamed_since"] = 1

    change(run_dir, edit)
    model = kmm_jax.load(run_dir)
    assert model.hash == exported.hash
    assert model.styled
    assert model.embed_text(TEXTS).shape == (5, 32)


def test_a_plain_run_is_loaded_as_one(run_dir):
    change(run_dir, lambda experiment: experiment["data"].update(styled=False))
    assert not read(run_dir).styled


@pytest.mark.parametrize(
    ("edit", "error", "said"),
    [
        (lambda e: e["task"].pop("model"), DataError, r"does not say experiment\.task\.model"),
        (lambda e: e.update(data=None), DataError, r"does not say .* experiment\.data\.styled"),
        (
            lambda e: e["task"]["model"].update(type="my_config:MyModel"),
            ConfigError,
            r"config\.json: experiment\.task\.model: 'my_config:MyModel' is no configuration",
        ),
        (
            lambda e: e["task"]["model"].update(renamed=1),
            ConfigError,
            r"config\.json: experiment\.task\.model: .*another version",
        ),
        (
            lambda e: e["task"].update(model={"width": 3}),
            ConfigError,
            r"no model configuration \(CLIPConfig, SLIPConfig, CoCaConfig",
        ),
    ],
)
def test_a_run_of_no_model_of_this_library_is_refused(run_dir, edit, error, said):
    change(run_dir, edit)
    with pytest.raises(error, match=said):
        read(run_dir)


@pytest.mark.parametrize("what", ["tokenizer", "styled"])
def test_search_refuses_a_model_that_reads_texts_otherwise(
    exported, other_tokenizer, tmp_path, capsys, what
):
    changed = {"tokenizer": other_tokenizer, "styled": False}[what]
    native.save(tmp_path / "model", exported)
    index = str(tmp_path / "index")
    settings = IndexSettings(engine="exact")
    Index.build(
        index, ["a"], np.eye(1, 32, dtype=np.float32), model_hash=exported.hash, settings=settings
    )
    search = ["search", index, "셔츠", "--model", str(tmp_path / "model"), "-k", "1"]
    assert main(search) == 0
    native.save(tmp_path / "model", dataclasses.replace(exported, **{what: changed}))
    assert main(search) == 2
    assert "another model" in capsys.readouterr().err


def test_a_run_and_an_export_at_a_url_are_the_same_model(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    run = written_run(exported, tmp_path, "memory://bucket/run")
    assert read(run).hash == exported.hash
    model = kmm_jax.load(run, step=3)
    assert model.path == run
    native.save(tmp_path / "export", read(run))
    memory.put(f"{tmp_path}/export/", "memory://bucket/export", recursive=True)
    assert kmm_jax.load("memory://bucket/export").hash == model.hash
    params = initial_params(run, exported.config, tokenizer=tmp_path / "tokenizer")
    jax.tree.map(np.testing.assert_array_equal, params, exported.params)
    assert export_checkpoint.main([run, "--output", str(tmp_path / "again")]) == 0
    assert model.hash in capsys.readouterr().out
    with pytest.raises(DataError, match="no checkpoint of step 4; it has 3"):
        kmm_jax.load(run, step=4)
    with pytest.raises(DataError, match="holds neither a run nor an exported model"):
        kmm_jax.load("memory://bucket/nothing")
    memory.store.clear()
