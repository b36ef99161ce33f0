"""Runs in a bucket over HTTP: requests that fail, processes that are killed, several of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import jax
import numpy as np
import pytest

from kmm_jax.training.loop import train
from kmm_jax.training.sharding import MeshConfig
from tests.compiler import xla_flags
from tests.training import toy
from tests.training.gcs_server import Bucket, Fault, serving
from tests.training.test_loop import losses, records

URL = "gs://bucket/runs/toy"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bucket]:
    """A bucket that this process and those it starts reach as ``gs://bucket``."""
    pytest.importorskip("gcsfs", reason="gs:// needs gcsfs")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serving() as (address, held):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        # Asking Google what kind of bucket it is would only cost time.
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        fsspec.filesystem("gs").clear_instance_cache()
        yield held
        fsspec.filesystem("gs").clear_instance_cache()


def fetched(held: Bucket, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_bytes(held.objects["runs/toy/metrics.jsonl"])
    return folder


def whole_steps(held: Bucket) -> list[int]:
    indexes = [name for name in held.objects if name.endswith("00000-of-00001.json")]
    return sorted(int(name.split("/")[-2].split("-")[0]) for name in indexes)


def test_a_bucket_that_fails_is_trained_in_and_read_from_all_the_same(
    bucket: Bucket, tmp_path: Path
) -> None:
    failing: dict[str, list[Fault]] = {
        "POST": ["503", "reset", None, "429", "reset"],  # files are put
        ".bin": ["reset", "503", None, "503"],  # arrays are read
        "prefix=": ["503", None, "reset"],  # names are listed
    }

    def fault(method: str, path: str) -> Fault:
        for what, faults in failing.items():
            if faults and (what == method or (method == "GET" and what in path)):
                return faults.pop(0)
        return None

    bucket.fault = fault
    train(toy.experiment(ema=0.9), URL, loader=toy.ToyLoader(), stop_after=6)
    result = train(toy.experiment(ema=0.9), URL, loader=toy.ToyLoader())
    assert not any(failing.values()) and bucket.failed == 9
    whole = train(toy.experiment(ema=0.9), tmp_path / "whole", loader=toy.ToyLoader())
    states = jax.device_get(result.state), jax.device_get(whole.state)
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert records(fetched(bucket, tmp_path / "run")) == records(tmp_path / "whole")
    assert whole_steps(bucket) == [8, 12]


@pytest.mark.slow
def test_a_run_killed_on_one_host_continues_on_another(
    bucket: Bucket, tmp_path: Path, repository: Path
) -> None:
    """Killed in the middle of a save; the other host shares nothing but the bucket."""
    steps = 40
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.training.train_process", URL, str(steps), "0.02"],
        cwd=repository,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )

    def in_a_save() -> bool:
        names = list(bucket.objects)
        folders = {name.split("/")[-2] for name in names if name.endswith(".bin")}
        return len(whole_steps(bucket)) > 1 and len(folders) > len(whole_steps(bucket))

    end = time.monotonic() + 60
    while not in_a_save():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    newest = max(whole_steps(bucket))
    kept = [json.loads(line) for line in bucket.objects["runs/toy/metrics.jsonl"].splitlines()]
    assert newest in {record["step"] for record in kept}, "metrics are there before a checkpoint is"

    train(toy.killed_experiment(steps), URL, loader=toy.ToyLoader())
    train(toy.killed_experiment(steps), tmp_path / "whole", loader=toy.ToyLoader())
    assert records(fetched(bucket, tmp_path / "run")) == records(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_on_s3_continues_past_a_damaged_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("s3fs", "boto3", "moto"):
        pytest.importorskip(name, reason="s3:// needs s3fs, and its test moto[server]")
    import boto3
    from moto.server import ThreadedMotoServer

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        train(toy.experiment(), "s3://bucket/run", loader=toy.ToyLoader(), stop_after=6)
        names = [row["Key"] for row in client.list_objects_v2(Bucket="bucket")["Contents"]]
        arrays = next(name for name in names if "/6-" in name and name.endswith(".bin"))
        client.put_object(Bucket="bucket", Key=arrays, Body=b"cut")
        result = train(toy.experiment(), "s3://bucket/run", loader=toy.ToyLoader())
    finally:
        server.stop()
    whole = train(toy.experiment(), tmp_path / "whole", loader=toy.ToyLoader())
    states = jax.device_get(result.state), jax.device_get(whole.state)
    jax.tree.map(np.testing.assert_array_equal, *states)


PROGRAM = """
import os, signal, sys
process, port, run_dir, steps = int(sys.argv[1]), *sys.argv[2:]
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=process)
from kmm_jax.training.loop import train
from kmm_jax.training.sharding import MeshConfig
from tests.training import toy

class Half(toy.ToyLoader):
    def batches(self, start_step=0):
        for batch in super().batches(start_step):
            yield {k: v[process * 8 : process * 8 + 8] for k, v in batch.items()}

experiment = toy.experiment(mesh=MeshConfig(data=2, fsdp=2, fsdp_min_size=1), ema=0.9)
result = train(experiment, run_dir, loader=Half(), stop_after=int(steps))
print(result.end, result.step)
"""


def _two(repository: Path, folder: Path, url: str, steps: int) -> tuple[list[int], str]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment = {"XLA_FLAGS": xla_flags(devices=2), "TMPDIR": str(folder)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, (number, port, url, steps))],
            cwd=repository,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    return [process.returncode for process in processes], "".join(err for _, err in outputs)


@pytest.mark.slow
def test_two_processes_keep_a_run_in_a_bucket(
    bucket: Bucket, tmp_path: Path, repository: Path
) -> None:
    """Each puts its half; both read what both wrote, and then one process alone does."""
    codes, said = _two(repository, tmp_path, URL, 6)
    assert codes == [0, 0], said
    theirs = [name for name in bucket.objects if name.endswith("/00001-of-00002-00000.bin")]
    newest = next(name for name in theirs if "/6-" in name)
    bucket.objects[newest] = bucket.objects[newest][:-1]  # process 1 alone reads this
    codes, said = _two(repository, tmp_path, URL, 10)
    assert codes == [0, 0], said
    assert "goes on from the checkpoint of step 4" in said
    experiment = toy.experiment(mesh=MeshConfig(), ema=0.9)
    assert train(experiment, URL, loader=toy.ToyLoader()).step == 12
    train(experiment, tmp_path / "one", loader=toy.ToyLoader())
    run = fetched(bucket, tmp_path / "run")
    np.testing.assert_allclose(losses(run), losses(tmp_path / "one"), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_processes_need_a_place_that_both_see(tmp_path: Path, repository: Path) -> None:
    codes, said = _two(repository, tmp_path, "memory://bucket/run", 4)
    assert all(codes)
    assert "does not see what process 0 wrote to memory://bucket/run" in said
