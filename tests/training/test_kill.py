"""Training in a process of its own, killed without warning."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from kmm_jax.training.loop import train
from tests.training import toy
from tests.training.test_loop import records

STEPS = 40


def _start(run_dir, repository, kind="whole", seconds="0.02"):
    command = [sys.executable, "-m", "tests.training.train_process", str(run_dir), str(STEPS)]
    return subprocess.Popen(
        [*command, seconds, kind],
        cwd=repository,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _wait_for(process, condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


@pytest.mark.parametrize("kind", ["whole", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, repository, kind):
    """Once at a random moment, once in the middle of a save, then to the end in this process."""
    run_dir = tmp_path / "run"
    metrics, checkpoints = run_dir / "metrics.jsonl", run_dir / "checkpoints"

    process = _start(run_dir, repository, kind)
    _wait_for(process, lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 8)
    time.sleep(random.random() * 0.2)
    process.kill()
    process.wait()

    process = _start(run_dir, repository, kind)
    lines = metrics.read_bytes().count(b"\n")
    _wait_for(process, lambda: metrics.read_bytes().count(b"\n") > lines + 8)
    _wait_for(process, lambda: any("tmp" in name for name in os.listdir(checkpoints)))
    process.kill()
    process.wait()

    for folder in (run_dir, tmp_path / "whole"):
        experiment = toy.killed_experiment(STEPS, kind)
        train(experiment, folder, loader=toy.ToyLoader(), initial=toy.Given())
    assert records(run_dir) == records(tmp_path / "whole")
    assert not any("tmp" in name for name in os.listdir(checkpoints))


@pytest.mark.slow
def test_sigterm_ends_the_process_in_order(tmp_path, repository):
    process = _start(tmp_path / "run", repository)
    metrics = tmp_path / "run" / "metrics.jsonl"
    _wait_for(process, lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 4)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith("SIGTERM")
    assert "continue with the same command" in err


def test_metrics_are_whole_lines_after_a_cut(tmp_path):
    train(toy.experiment(duration="4"), tmp_path, loader=toy.ToyLoader())
    whole = records(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + json.dumps({"step": 5, "loss": 1})[:9])
    assert records(tmp_path) == whole
    train(toy.experiment(duration="5"), tmp_path, loader=toy.ToyLoader())
    assert [r["step"] for r in records(tmp_path)] == [1, 2, 3, 4, 5]
