"""Two Ray nodes build what one machine builds, whoever of them is killed (all on this host)."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmm_jax.cli import main
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import CorpusConfig, Images
from kmm_jax.errors import ConfigError
from tests.conftest import REPOSITORY
from tools import dirty_shop

FILES = 12


@pytest.fixture(scope="module")
def cluster():
    """A head and another node, a processor each."""
    pytest.importorskip("daft", reason="the extra `ray` is not installed")
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    two = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    two.add_node(**node)
    yield two
    two.shutdown()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Raw input in 12 files, and what this machine makes of it."""
    folder = tmp_path_factory.mktemp("shop")
    config = dirty_shop.write(folder / "raw", items=360, seed=5, image_size=232, files=FILES)
    config = dataclasses.replace(config, shard_rows=40)
    build(config, folder / "local")
    return folder


def started(shop, out, cluster):
    """The command on the cluster, as a process."""
    raw = shop / "raw"
    words = ["corpus", "build", "corpus/tables", "--output", str(out), "shard_rows=40"]
    words += ["ocr=none", "watermark=none"]
    words += [f"images.0.url={raw}/images-*.parquet", f"clicks.0.url={raw}/clicks-*.parquet"]
    words += [f"documents.0.url={raw}/documents-*.parquet", "--cluster", cluster.address]
    return subprocess.Popen(
        [sys.executable, "-m", "kmm_jax", *words], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )


def ended(process):
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said


def same_as_local(shop, out):
    wanted, found = (
        {path.name: path.read_bytes() for path in (folder / "shards").glob("*.tar")}
        for folder in (shop / "local", out)
    )
    return bool(wanted) and wanted == found


def wait_for(process, done):
    deadline = time.monotonic() + 400
    while not done():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)


def finished(out):
    """When the last table of each task was written, and each shard that is whole."""
    kinds = ("keys", "documents", "beside", "judged")
    tables = (path for kind in kinds for path in out.glob(f"work/{kind}/[0-9]*.parquet"))
    # A shard counts once its sum is there as well; those shown have theirs in the manifest.
    named = (path.name.removesuffix(".done") for path in out.glob(".building/*.done"))
    shards = (*out.glob("shards/*.tar"), *(out / ".building" / "shards" / name for name in named))
    return {
        path.relative_to(path.parent.parent): path.stat().st_mtime_ns for path in (*tables, *shards)
    }


def workers(cluster):
    """The numbers of the processes that do tasks: descendants of the cluster's nodes."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            parents[int(folder.name)] = int(rest.split()[1]), name
    nodes = {
        found.process.pid
        for node in cluster.list_all_nodes()
        for found in node.all_processes.get("raylet", [])
    }

    def line(pid):
        try:
            return (Path("/proc") / str(pid) / "cmdline").read_bytes()
        except OSError:
            return b""

    return [pid for pid, (parent, _) in parents.items() if parent in nodes and b"UDF" in line(pid)]


@pytest.mark.slow
def test_both_nodes_work_and_the_shards_are_those_of_one_machine(cluster, shop, tmp_path):
    out = tmp_path / "out"
    ended(started(shop, out, cluster))
    assert same_as_local(shop, out)
    tasks = json.loads((out / "work" / "nodes.json").read_text("utf-8"))
    assert len(tasks) == 2 and min(tasks.values()) > FILES


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["facts", "judged", ".building/shards"])
def test_the_driver_killed_in_a_stage_loses_no_finished_file(cluster, shop, tmp_path, stage):
    out = tmp_path / "out"
    process = started(shop, out, cluster)
    watched = out / stage if stage.startswith(".") else out / "work" / stage
    wait_for(process, lambda: watched.exists() and len(list(watched.glob("[0-9t]*"))) >= 2)
    process.kill()
    process.communicate()
    assert not (out / "shards").exists()
    # The cluster ends the processes of a driver that is gone, within seconds.
    deadline = time.monotonic() + 60
    while workers(cluster):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Each of the two processes had one task in hand, whose first table may be there.
    assert len([*out.glob("work/*/.*.tmp"), *out.glob(".building/**/.*.tmp")]) <= 2
    begun, whole = (list(out.glob(f"work/{kind}/[0-9]*")) for kind in ("facts", "keys"))
    assert len(begun) - len(whole) <= 2
    before = finished(out)
    assert before
    ended(started(shop, out, cluster))
    assert same_as_local(shop, out)
    after = finished(out)
    assert {path: after[path] for path in before} == before  # none was done again


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["facts", ".building/shards"])
def test_a_worker_killed_is_replaced_and_the_build_goes_on(cluster, shop, tmp_path, stage):
    out = tmp_path / "out"
    process = started(shop, out, cluster)
    watched = out / stage if stage.startswith(".") else out / "work" / stage
    wait_for(process, lambda: watched.exists() and any(watched.iterdir()) and workers(cluster))
    os.kill(workers(cluster)[0], signal.SIGKILL)
    ended(process)
    assert same_as_local(shop, out)


@pytest.mark.slow
def test_a_node_that_cannot_write_or_read_is_named_before_any_work(cluster, shop, tmp_path):
    from kmm_jax.corpus.cluster import Cluster as Engine
    from kmm_jax.corpus.cluster import _try

    told = subprocess.run(
        [sys.executable, "-c", _UNSEEN, cluster.address, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "it cannot read nowhere/images.parquet" in told.stdout, told.stderr
    assert not list(tmp_path.glob(".seen*"))
    assert "cannot read in /nowhere" in (_try(".", "/nowhere", "a", "b", [])[1] or "")
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        Engine("127.0.0.1:9", tmp_path, [])


_UNSEEN = """
import sys
from pathlib import Path
from kmm_jax.corpus.cluster import Cluster
from kmm_jax.errors import DataError
try:
    Cluster(sys.argv[1], Path(sys.argv[2]), ["nowhere/images.parquet"])
except DataError as error:
    print(error)
"""


def test_without_a_cluster_the_command_says_so_at_once(tmp_path, capsys):
    pytest.importorskip("daft", reason="the extra `ray` is not installed")
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    (tmp_path / "00.tar").write_bytes(bytes(10240))
    config = CorpusConfig(name="x", images=(Images(url=str(tmp_path / "00.tar")),))
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        build(config, tmp_path / "out", cluster="ray://127.0.0.1:9")
    assert not (tmp_path / "out" / ".lock").exists()
    assert main(["corpus", "build", "corpus/tables", "--output", str(tmp_path), "--cluster", "x"])
    capsys.readouterr()
