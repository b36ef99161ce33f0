"""Real processes through the launch script: as one, restarted, and with one of them killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from kmm_jax.training.metrics import read_records
from tests.compiler import xla_flags
from tests.tiny_shop import SIZES, write

STEPS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("launch"))


@pytest.fixture(scope="module")
def kmm(tmp_path_factory):
    """The command, whatever environment the tests run in."""
    script = tmp_path_factory.mktemp("bin") / "kmm"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kmm_jax "$@"\n')
    script.chmod(0o755)
    return script


def arguments(data, run_dir, *more, steps=STEPS):
    sizes = [size for size in SIZES if not size.startswith("duration")]
    return [
        "coca/shop", "--run-dir", str(run_dir),
        f"data.sources.0.url={data / 'train-*.tar'}", f"tokenizer={data / 'tokenizer'}",
        *sizes, f"duration={steps} steps", "log_every=1 steps", "checkpoint.every=4 steps",
        "mesh.fsdp=2", *more,
    ]  # fmt: skip


def start(command, repository, **environment):
    return subprocess.Popen(
        command,
        cwd=repository,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def launch(data, kmm, repository, processes, run_dir, *more, steps=STEPS):
    return start(
        ["bash", "launch/local.sh", str(processes), *arguments(data, run_dir, *more, steps=steps)],
        repository,
        KMM=str(kmm),
        RESTART_SECONDS="0",
        GRACE_SECONDS="40",
        XLA_FLAGS=xla_flags(devices=4 // processes),
    )


def losses(run_dir):
    return {one["step"]: one["loss"] for one in read_records(run_dir / "metrics.jsonl")}


def wait_for_line(run_dir, count, process):
    end = time.monotonic() + 240
    metrics = run_dir / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def alone(data, kmm, repository, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    _, err = (process := launch(data, kmm, repository, 1, run_dir)).communicate(timeout=300)
    assert process.returncode == 0, err
    return run_dir


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_gives_the_same_losses(
    data, kmm, repository, tmp_path, alone, processes
):
    run_dir = tmp_path / "run"
    process = launch(data, kmm, repository, processes, run_dir)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    found, expected = losses(run_dir), losses(alone)
    assert found.keys() == expected.keys()
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)
    assert out.count("steps, loss") == 1, "one process speaks for all"


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_restart_continues(
    data, kmm, repository, tmp_path, alone
):
    run_dir = tmp_path / "run"
    process = launch(data, kmm, repository, 2, run_dir)
    wait_for_line(run_dir, 6, process)
    pattern = f"kmm_jax train coca/shop --run-dir {run_dir}"
    pids = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True).stdout.split()
    victims = [int(pid) for pid in pids if b"KMM_PROCESS=1" in _environment(int(pid))]
    assert victims, "the second process is there"
    began = time.monotonic()
    os.kill(victims[0], signal.SIGKILL)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert "restart 1 of 3" in err
    assert "goes on from the checkpoint of step 4" in err or "of step 8" in err
    assert time.monotonic() - began < 200
    np.testing.assert_allclose(
        list(losses(run_dir).values()), list(losses(alone).values()), rtol=1e-5
    )


@pytest.mark.slow
def test_without_a_launcher_too_the_others_end_within_a_minute(data, kmm, repository, tmp_path):
    run_dir = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        start(
            [str(kmm), "train", *arguments(data, run_dir, steps=100_000)],
            repository,
            KMM_COORDINATOR=f"127.0.0.1:{port}",
            KMM_PROCESSES="2",
            KMM_PROCESS=str(number),
            XLA_FLAGS=xla_flags(devices=2),
        )
        for number in range(2)
    ]
    wait_for_line(run_dir, 4, processes[0])
    processes[1].kill()
    began = time.monotonic()
    _, err = processes[0].communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert processes[0].returncode not in (0, 2)
    assert "another process" in err.lower() or "distributed" in err.lower(), err[-2000:]


@pytest.mark.slow
def test_sigterm_saves_in_every_process_and_is_no_failure(data, kmm, repository, tmp_path):
    run_dir = tmp_path / "run"
    process = launch(data, kmm, repository, 2, run_dir, steps=4000)
    wait_for_line(run_dir, 6, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "restart" not in err
    last = max(losses(run_dir))
    assert (run_dir / "checkpoints" / str(last)).is_dir()


@pytest.mark.slow
def test_a_run_continues_with_other_processes_on_another_mesh(
    data, kmm, repository, tmp_path, alone
):
    run_dir = tmp_path / "run"
    process = launch(data, kmm, repository, 2, run_dir)
    wait_for_line(run_dir, 2, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    stopped = max(losses(run_dir))
    assert stopped < STEPS, "it was interrupted"
    process = launch(data, kmm, repository, 4, run_dir, "mesh.fsdp=4")
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert f"goes on from the checkpoint of step {stopped}" in err
    np.testing.assert_allclose(
        list(losses(run_dir).values()), list(losses(alone).values()), rtol=1e-5
    )


def test_a_users_mistake_is_not_tried_again(data, kmm, repository, tmp_path):
    process = launch(data, kmm, repository, 1, tmp_path / "run", "optimizer.learning_rat=1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "did you mean 'learning_rate'" in err
    assert "restart" not in err


def test_every_process_says_in_a_dry_run_what_it_would_do(data, kmm, repository, tmp_path):
    process = launch(data, kmm, repository, 2, tmp_path / "run", "--dry-run")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "process 0 of 2" in out and "rows 0 to 3 of each global batch" in out
    assert "process 1 of 2" in out and "rows 4 to 7 of each global batch" in out
    assert "mesh: data=2 x fsdp=2 x tensor=1, 4 devices" in out
    assert not (tmp_path / "run").exists()


def _environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


def test_the_job_of_kubernetes_tells_what_discovery_asks_for(repository):
    yaml = pytest.importorskip("yaml")
    from kmm_jax.training.processes import discover

    jobset = yaml.safe_load((repository / "launch" / "jobset.yaml").read_text("utf-8"))
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    environment = {one["name"]: one.get("value", "1") for one in container["env"]}
    assert environment["JOBSET_JOBS"] == str(job["replicas"])
    assert environment["JOB_COMPLETIONS"] == str(spec["completions"]) == str(spec["parallelism"])
    found = discover(environment | {"JOB_COMPLETION_INDEX": "2"})
    assert found is not None
    assert (found.index, found.count, found.slice_index) == (6, 8, 1)
    name, part = jobset["metadata"]["name"], job["name"]
    assert found.coordinator == f"{name}-{part}-0-0.{name}:8476"
    assert container["command"][:2] == ["kmm", "train"]
    assert json.dumps(spec["podFailurePolicy"]).count("FailJob") == 1


@pytest.mark.parametrize("script", ["local.sh", "slurm.sbatch", "tpu_pod.sh"])
def test_the_scripts_parse_and_say_how_they_are_used(repository, script):
    path = repository / "launch" / script
    subprocess.run(["bash", "-n", path], check=True)
    result = subprocess.run(
        ["bash", path], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "TPU_NAME": "t", "ZONE": "z"},
    )  # fmt: skip
    assert result.returncode == 2
    assert "usage:" in result.stderr
