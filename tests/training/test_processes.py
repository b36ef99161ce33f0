"""Two real processes with two devices each, over gloo."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from kmm_jax.training.loop import train
from kmm_jax.training.metrics import read_records
from kmm_jax.training.sharding import MeshConfig
from tests.compiler import xla_flags
from tests.training import toy
from tests.training.test_loop import losses, records

PROGRAM = """
import os, signal, sys, time
process, port, run_dir, steps, signal_at, slow = int(sys.argv[1]), sys.argv[2], *sys.argv[3:]
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)
from kmm_jax.training.loop import train
from kmm_jax.training.sharding import MeshConfig
from tests.training import toy

class Half(toy.ToyLoader):
    def batches(self, start_step=0):
        for step, batch in enumerate(super().batches(start_step), start_step):
            if process == 1 and step == int(signal_at):
                os.kill(os.getpid(), signal.SIGTERM)
            if process == int(slow):
                time.sleep(0.05)
            yield {k: v[process * 8 : process * 8 + 8] for k, v in batch.items()}

experiment = toy.experiment(
    duration=steps, mesh=MeshConfig(data=2, fsdp=2, fsdp_min_size=1),
    evaluators=(toy.ToyEvaluator(every="20"),), ema=0.9,
)
result = train(experiment, run_dir, loader=Half())
print(result.end, result.step)
"""


def _run(repository, run_dir, steps, signal_at=-1, slow=-1):
    """The last line that each process prints, and what process 0 says on stderr."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]

    environment = os.environ | {"XLA_FLAGS": xla_flags(devices=2)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, (i, port, run_dir, steps, signal_at, slow))],
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert all(p.returncode == 0 for p in processes), outputs[0][1] + outputs[1][1]
    return [out.splitlines()[-1] for out, _ in outputs], outputs[0][1]


@pytest.mark.slow
def test_two_processes_train_as_one_and_stop_together(tmp_path, repository):
    run_dir = tmp_path / "two"
    # The signal reaches one of them; they agree at the next tenth step.
    assert _run(repository, run_dir, 24, signal_at=4)[0] == ["SIGTERM 10"] * 2
    assert _run(repository, run_dir, 24)[0] == ["finished 24"] * 2
    train(
        toy.experiment(
            duration="24",
            mesh=MeshConfig(data=2, fsdp=2, fsdp_min_size=1),
            evaluators=(toy.ToyEvaluator(every="20"),),
            ema=0.9,
        ),
        tmp_path / "one",
        loader=toy.ToyLoader(),
    )
    np.testing.assert_allclose(losses(run_dir), losses(tmp_path / "one"), rtol=0, atol=1e-5)
    assert [r["step"] for r in records(run_dir)] == [r["step"] for r in records(tmp_path / "one")]

    # One process reads what two wrote, and goes on.
    result = train(
        toy.experiment(
            duration="26", ema=0.9, evaluators=(toy.ToyEvaluator(every="20"),), mesh=MeshConfig()
        ),
        run_dir,
        loader=toy.ToyLoader(),
    )
    assert result.step == 26


@pytest.mark.slow
@pytest.mark.parametrize("slow", [0, 1])
def test_the_process_that_the_other_waits_for_is_named(tmp_path, repository, slow):
    ends, said = _run(repository, tmp_path, 24, slow=slow)
    assert ends == ["finished 24"] * 2
    assert said.count(f"process {slow} holds the others up") == 1
    found = [one for one in read_records(tmp_path / "metrics.jsonl") if "loss" in one]
    later = found[2:]
    assert {one["speed/slowest_process"] for one in later} == {slow}
    assert {one["speed/slowest_data_process"] for one in later} == {slow}
    assert min(one["speed/slowest_ratio"] for one in later) > 1.5
    for one in later:
        assert one["speed/data_seconds"][slow] >= 0.05
        assert one["speed/host_seconds"][1 - slow] < 0.04
