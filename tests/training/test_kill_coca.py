"""A CoCa on real shards, killed without warning again and again."""

import json
import random
import subprocess
import sys
import time

import pytest

from kmm_jax.training.metrics import OF_PROCESSES, read_records
from tests.tiny_shop import SIZES, write

STEPS, KILLS = 60, 3


@pytest.fixture
def data(tmp_path):
    # One picture in a hundred may be bad; it must be passed over alike each time.
    return write(tmp_path / "data", rows=120, bad=(60,))


def _command(data, run_dir):
    return [
        sys.executable, "-m", "kmm_jax", "train", "coca/shop", "--run-dir", str(run_dir),
        f"data.sources.0.url={data / 'train-*.tar'}", f"tokenizer={data / 'tokenizer'}",
        *[size for size in SIZES if not size.startswith("duration")],
        f"duration={STEPS} steps", "checkpoint.every=3 steps", "log_every=1 steps", "ema=0.9",
    ]  # fmt: skip


def _told(run_dir):
    """The records without what tells of time and of the process."""
    return [
        {name: value for name, value in one.items() if not name.startswith(OF_PROCESSES)}
        for one in read_records(run_dir / "metrics.jsonl")
    ]


@pytest.mark.slow
def test_a_coca_killed_again_and_again_ends_as_one_that_was_not(data, tmp_path, repository):
    run_dir, whole = tmp_path / "killed", tmp_path / "whole"
    subprocess.run(_command(data, whole), cwd=repository, capture_output=True, check=True)
    metrics = run_dir / "metrics.jsonl"
    for kill in range(KILLS):
        process = subprocess.Popen(
            _command(data, run_dir), cwd=repository, stderr=subprocess.DEVNULL
        )
        target = (kill + 1) * STEPS // (KILLS + 2)
        end = time.monotonic() + 240
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < target:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < end, "it hangs"
            time.sleep(0.005)
        time.sleep(random.random() * 0.2)
        process.kill()
        process.wait()
    subprocess.run(_command(data, run_dir), cwd=repository, capture_output=True, check=True)
    assert json.dumps(_told(run_dir)) == json.dumps(_told(whole))
