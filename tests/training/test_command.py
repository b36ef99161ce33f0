"""``kmm train`` from its arguments to its exit code."""

import subprocess
import sys

import pytest

from kmm_jax.cli import main
from tests.training.test_configuration import CONFIG


@pytest.fixture
def config(tmp_path):
    (tmp_path / "shop.py").write_text(CONFIG)
    return str(tmp_path / "shop.py")


def test_a_wrong_override_ends_with_2_and_the_nearest_name(config, capsys):
    assert main(["train", config, "optimizer.learning_rat=1"]) == 2
    assert "did you mean 'learning_rate'" in capsys.readouterr().err


def test_a_batch_that_does_not_divide_ends_with_2(config, capsys):
    assert main(["train", config, "global_batch_size=12", "--dry-run"]) == 2
    assert "choose a multiple of 8, such as 16" in capsys.readouterr().err


def test_missing_data_ends_with_2_and_leaves_nothing(config, tmp_path, capsys):
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    run_dir = tmp_path / "run"
    arguments = ["train", config, f"tokenizer={tokenizer}", "--run-dir", str(run_dir)]
    assert main(arguments) == 2
    assert main(["train", config, "--run-dir", str(run_dir)]) == 2
    assert "tokenizer=FOLDER" in capsys.readouterr().err
    assert not run_dir.exists()


@pytest.mark.parametrize(
    "order",
    [
        ["CONFIG", "seed=-1", "--dry-run"],
        ["CONFIG", "--dry-run", "seed=-1"],
        ["--dry-run", "CONFIG", "seed=-1"],
        ["CONFIG", "--run-dir", "x", "seed=-1"],
    ],
)
def test_overrides_may_stand_anywhere(config, order, capsys):
    assert main(["train", *(config if word == "CONFIG" else word for word in order)]) == 2
    assert "seed must be at least 0, got -1" in capsys.readouterr().err


def test_a_dry_run_shows_configuration_mesh_and_memory(config, monkeypatch, capsys):
    monkeypatch.setattr("kmm_jax.data.sources.open_source", lambda url: range(640))
    assert main(["train", config, "mesh.fsdp=2", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "name = '가게'" in out and "mesh.fsdp = 2" in out
    assert "mesh: data=4 x fsdp=2 x tensor=1, 8 devices" in out
    assert "steps: 30 of 64 examples" in out
    assert "memory a device:" in out


@pytest.mark.parametrize("window", ["100", "5:5", "a:b", "9:3"])
def test_a_profiler_window_that_is_none_ends_with_2(config, window, capsys):
    assert main(["train", config, "--profile", window, "--dry-run"]) == 2
    assert f"such as 100:105, got {window!r}" in capsys.readouterr().err


def test_the_command_line_needs_no_jax():
    code = (
        "import sys, argparse; import kmm_jax.cli.train as t; "
        "t.add(argparse.ArgumentParser().add_subparsers()); sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
