"""An index on a Ray cluster of this host against the same shards here; replicas killed, versions
swapped, and no search that fails meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from kmm_jax.cli import main
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.files import write_json
from kmm_jax.retrieval import Collection, checksums
from kmm_jax.retrieval.cluster.deploy import deploy, health, stop
from kmm_jax.retrieval.cluster.index import ClusterIndex
from kmm_jax.retrieval.cluster.settings import ClusterSettings
from kmm_jax.retrieval.collection_files import BULK, MANIFEST, read_manifest
from kmm_jax.retrieval.searched import UnavailableError
from kmm_jax.retrieval.shards import Shards
from tests.conftest import REPOSITORY
from tests.retrieval.conftest import clustered, names
from tests.retrieval.test_shards import ROWS, VECTORS, make

SETTINGS = ClusterSettings(processors=0.05, routers=2, seconds=60, drain_seconds=5, engine="exact")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a cluster of one node; of the one that RAY_ADDRESS names, if it does."""
    pytest.importorskip("ray.serve", reason="the extra `ray` is not installed")
    if given := os.environ.get("RAY_ADDRESS"):
        yield given
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions of an index, in two shards and in three."""
    folder = tmp_path_factory.mktemp("index")
    return [
        make(folder / "v1", count=2, prefix="1-"),
        make(folder / "v2", count=3, prefix="2-"),
    ]


@pytest.fixture(scope="module")
def served(address: str, places: list[Path]) -> Iterator[ClusterIndex]:
    """The first version on the cluster; the module's tests leave a version there."""
    deploy(places[0], address=address, name="test", settings=SETTINGS)
    found = ClusterIndex.connect(address, "test", model_hash="m")
    yield found
    found.close()
    assert stop(address=address, name="test")


def test_a_cluster_that_is_not_there_is_said_not_to_be() -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if ray.is_initialized():
        pytest.skip("a process has one cluster, and this one has one already")
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        ClusterIndex.connect("127.0.0.1:1")


def test_an_index_that_is_still_being_built_is_not_served(tmp_path: Path) -> None:
    collection = Collection.create(tmp_path / "shop", model_hash="m", dim=8)
    manifest = read_manifest(collection.folder)
    del manifest["seal"]
    unfinished = manifest | {BULK: {"done": 2, "segments": 5}}
    write_json(collection.folder / MANIFEST, checksums.sealed(unfinished))
    with pytest.raises(UserError, match=r"is being built: 2 of 5 segments"):
        deploy(collection.folder, address="127.0.0.1:1", name="test")


@contextlib.contextmanager
def searching(index: ClusterIndex, count: int = 3) -> Iterator[list[str]]:
    """Searches without pause: which versions each search found something of."""
    ended, failures, versions = threading.Event(), [], list[str]()

    def search() -> None:
        while not ended.is_set():
            try:
                found = index.search(VECTORS[:4], 20)
                assert found.complete and all(len(ids) == 20 for ids in found.ids)
            except BaseException as error:
                failures.append(error)
                return
            versions.append("".join(sorted({each[0] for ids in found.ids for each in ids})))

    threads = [threading.Thread(target=search) for _ in range(count)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(versions) > count or bool(failures))
    try:
        yield versions
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures


def wait_until(holds: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def replicas_of(application: str, part: str) -> list[int]:
    """The processes of a deployment's replicas, by the names that Ray gives them."""
    name = f"ServeReplica:{application}:{part}"
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().split(b"\0")[0].decode().strip()
            if line.startswith("ray::") and (line.endswith(name) or f"{name}." in line):
                found.append(int(folder.name))
    return sorted(found)


@pytest.mark.slow
def test_the_cluster_finds_what_shards_here_find(served: ClusterIndex, places: list[Path]) -> None:
    here = Shards.open(places[0], engine="exact")
    assert len(served) == len(here) == ROWS and served.dim == here.dim
    assert served.metadata == here.metadata and served.column_types == here.column_types
    queries = clustered(20, seed=4)
    for k, where in ((7, None), (3, {"even": True}), (1_000, {"even": {"ne": True}})):
        found, wanted = (each.search(queries, k, where=where) for each in (served, here))
        assert found.ids == wanted.ids and found.complete
        assert all(map(np.array_equal, found.scores, wanted.scores))
    some = [f"1-{each}" for each in names(ROWS)[290:310]]
    assert served.columns(some) == here.columns(some)
    assert np.array_equal(served.vector(some[0]), here.vector(some[0]))
    assert served.ids(where={"even": False}) == here.ids(where={"even": False})
    assert served.facet("even", ids=some) == here.facet("even", ids=some) == {True: 10, False: 10}
    assert some[0] in served and "없음" not in served


@pytest.mark.slow
def test_searches_that_come_together_have_each_their_own_answer(served: ClusterIndex) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int) -> str:
        if number % 5 == 4:  # wrong, and its neighbours in the batch must not notice
            with pytest.raises(DataError, match="query"):
                served.search(np.zeros(16, np.float32), 3)
            return ""
        found = served.search(VECTORS[number], 1 + number % 3)
        assert len(found.ids[0]) == 1 + number % 3
        return found.ids[0][0][2:]

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(60)))
    assert found == ["" if number % 5 == 4 else names(ROWS)[number] for number in range(60)]
    with pytest.raises(UserError, match="k must be at least 1"):
        served.search(VECTORS[0], 0)
    with pytest.raises(UserError, match="no column 'colour'"):
        served.search(VECTORS[0], 1, where={"colour": 1})
    with pytest.raises(DataError, match="dimensions"):
        served.search(np.ones(8), 1)
    with pytest.raises(UserError, match="no id '없음'"):
        served.columns(["없음"])
    with pytest.raises(UserError, match="no column 'colour'"):
        served.facet("colour")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["shard-0", "router"])
def test_no_search_fails_when_a_replica_is_killed(
    served: ClusterIndex, address: str, part: str
) -> None:
    wait_until(lambda: health(address=address, name="test").whole)
    with searching(served) as versions:
        application = health(address=address, name="test").version.application
        killed, *others = replicas_of(application, part)
        assert others
        os.kill(killed, signal.SIGKILL)
        done = len(versions)
        wait_until(lambda: len(versions) > done + 30)
    # The cluster starts another one in its place.
    wait_until(lambda: health(address=address, name="test").whole)
    assert killed not in replicas_of(application, part)


@pytest.mark.slow
def test_no_search_fails_or_mixes_versions_while_a_new_one_takes_the_place(
    served: ClusterIndex, places: list[Path], address: str
) -> None:
    other = ClusterIndex.connect(address, "test")  # such as a service on another machine
    pinned = served.pinned()
    with searching(served) as versions, searching(other) as others:
        served.swap(places[1])
        assert served.search(VECTORS[:1], 1).ids[0][0].startswith("2-")
        assert served.folder == places[1] and int(served.version) > 1
        done = len(others)
        wait_until(lambda: len(others) > done + 10)
    other.close()
    assert set(versions) | set(others) == {"1", "2"}
    # Each caller went from one to the other once and for all.
    assert "".join(dict.fromkeys(others[-10:])) == "2"
    # What is pinned to a version that is gone goes on with the one that there is.
    assert pinned.search(VECTORS[:1], 1).ids[0][0].startswith("2-")
    now = health(address=address, name="test")
    assert now.version.folder == str(places[1]) and len(now.parts) == 4


@pytest.mark.slow
def test_what_cannot_be_served_does_not_take_the_place(
    served: ClusterIndex, tmp_path: Path, address: str
) -> None:
    before = served.folder
    make(tmp_path / "other", model_hash="n")
    make(tmp_path / "damaged")
    (file, *_) = (tmp_path / "damaged" / "2").rglob("vectors.npy")
    file.write_bytes(file.read_bytes()[:-1])
    for name, message in (
        ("nowhere", "holds no collections"),
        ("other", "serve it under another --name"),
        ("damaged", "is damaged"),
    ):
        with pytest.raises((UserError, DataError), match=message):
            served.swap(tmp_path / name)
        assert served.folder == before and served.search(VECTORS[5], 1).complete
    short = dataclasses.replace(SETTINGS, processors=1_000, warm_seconds=5)
    with pytest.raises(ConfigError, match="processors"):
        deploy(before, address=address, name="test", settings=short)
    assert served.search(VECTORS[5], 1).complete
    with pytest.raises(UserError, match="no index 'nothing' on the cluster"):
        ClusterIndex.connect(address, "nothing")


@pytest.mark.slow
def test_a_missing_shard_fails_the_search_or_is_said_to_be_missing(
    address: str, tmp_path: Path
) -> None:
    place = make(tmp_path / "v1", count=2)
    for missing in ("fail", "partial"):
        settings = dataclasses.replace(
            SETTINGS, replicas=1, routers=1, seconds=3, missing=missing, drain_seconds=0
        )
        deploy(place, address=address, name="missing", settings=settings)
        index = ClusterIndex.connect(address, "missing")
        assert index.search(VECTORS[:2], 5).complete
        application = health(address=address, name="missing").version.application
        # Nothing can start in its place.
        (place / "1").rename(tmp_path / "aside")
        (killed,) = replicas_of(application, "shard-1")
        os.kill(killed, signal.SIGKILL)
        if missing == "fail":
            with pytest.raises(UnavailableError, match="shard 1 of 2"):
                index.search(VECTORS[:2], 5)
        else:
            found = index.search(VECTORS[:2], 5)
            assert not found.complete
            assert found.ids == Collection.open(place / "0").search(VECTORS[:2], 5).ids
        wait_until(lambda: not health(address=address, name="missing").complete)
        index.close()
        (tmp_path / "aside").rename(place / "1")
    assert stop(address=address, name="missing")
    assert not stop(address=address, name="missing")


@pytest.mark.slow
def test_commands_serve_search_and_stop(
    address: str, places: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--ray", address, "--name", "commands"]
    serve = ["index", "serve", *given]
    few = ["--replicas", "1", "--processors", "0.05", "--drain", "1"]
    assert main([*serve, str(places[0]), *few]) == 0
    assert f"{ROWS:,} vectors" in capsys.readouterr().out
    assert main([*serve, str(places[1])]) == 0  # settings of the version before
    assert main([*serve, "--status"]) == 0
    said = capsys.readouterr().out
    assert str(places[1]) in said and "shard-2" in said and "1 of 1 replicas" in said
    assert main([*serve, "--stop"]) == 0
    assert main([*serve, "--status"]) == 2
    assert "no index 'commands'" in capsys.readouterr().err


@pytest.mark.slow
def test_documents_find_images_on_the_cluster_as_in_their_folder(
    address: str, tmp_path: Path
) -> None:
    pytest.importorskip("tantivy", reason="the engine is in the extra search")
    pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")
    from kmm_jax.search.document_search import DocumentSearch, Query
    from tests.search.colors import Colors
    from tests.serving.served import make_documents

    here = make_documents(tmp_path / "docs", tmp_path / "photos")
    few = dataclasses.replace(SETTINGS, replicas=1, routers=1)
    deploy(tmp_path / "docs" / "images", address=address, name="images", settings=few)
    index = ClusterIndex.connect(address, "images")
    there = DocumentSearch(tmp_path / "docs", Colors(), images=index)
    for query in (
        Query(text="초록 셔츠"),
        Query(like="빨간-모자"),
        Query(text="파란", where={"source": "shop"}, weights={"words": 0, "text": 0}),
    ):
        assert there.search(query, 5) == here.search(query, 5)
    document = here.store.get(["초록-셔츠"])["초록-셔츠"]
    found, wanted = there.images_of(document), here.images_of(document)
    assert found[0] == wanted[0] and np.array_equal(found[1], wanted[1])
    index.close()
    assert stop(address=address, name="images")


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong in (
        {"replicas": 0},
        {"replicas": 3, "most_replicas": 2},
        {"seconds": 0.0},
        {"gather": -1.0},
        {"missing": "ignore"},
        {"target": float("nan")},
    ):
        with pytest.raises(ConfigError):
            ClusterSettings(**wrong)  # type: ignore[arg-type]
    assert ClusterSettings(replicas=2).scaling == {"num_replicas": 2}
    scaling = ClusterSettings(replicas=2, most_replicas=6, target=4).scaling
    assert scaling["autoscaling_config"] == {
        "min_replicas": 2,
        "max_replicas": 6,
        "target_ongoing_requests": 4,
    }
    with pytest.raises(UserError, match="letters, digits"):
        stop(address="nowhere", name="a/b")
    with pytest.raises(ConfigError, match="from a node of the cluster"):
        ClusterIndex.connect("ray://localhost:10001")
