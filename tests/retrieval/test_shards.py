"""Shards against the whole, and a new version put in their place while they are searched."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import Collection
from kmm_jax.retrieval.bulk import ArrayRows, build_collection
from kmm_jax.retrieval.collection import Found
from kmm_jax.retrieval.shards import Shards, is_sharded, merged
from tests.retrieval.conftest import clustered, names, nearest_by_numpy

ROWS = 600
VECTORS = clustered(ROWS)


def make(folder: Path, count: int = 3, prefix: str = "", **more: Any) -> Path:
    for number in range(count):
        some = slice(number * ROWS // count, (number + 1) * ROWS // count)
        shard = Collection.create(
            folder / str(number), **{"model_hash": "m", "dim": 16, "metadata": {"n": number}} | more
        )
        ids = [prefix + each for each in names(ROWS)[some]]
        shard.put(ids, VECTORS[some], {"even": [row % 2 == 0 for row in range(ROWS)][some]})
    return folder


def test_shards_find_what_brute_force_over_all_finds(tmp_path: Path) -> None:
    found = Shards.open(make(tmp_path / "v1"), model_hash="m", engine="exact")
    assert is_sharded(tmp_path / "v1") and not is_sharded(tmp_path / "v1" / "0")
    assert len(found) == ROWS and found.dim == 16 and found.metadata == {"n": 0}
    queries = clustered(20, seed=4)
    true = nearest_by_numpy(VECTORS, queries, 7)
    result = found.search(queries, 7)
    assert result.ids == [[names(ROWS)[row] for row in rows] for rows in true]
    assert all((np.diff(each) <= 0).all() for each in result.scores)
    even = nearest_by_numpy(VECTORS[::2], queries[:1], 4)[0] * 2
    wanted = [names(ROWS)[row] for row in even]
    assert found.search(queries[0], 4, where={"even": True}).ids == [wanted]
    assert found.columns([names(ROWS)[599], names(ROWS)[0]]) == [
        {"id": names(ROWS)[599], "even": False},
        {"id": names(ROWS)[0], "even": True},
    ]
    assert names(ROWS)[300] in found and "없음" not in found
    assert found.column_types == {"id": "string", "even": "bool"}
    assert found.ids(where={"even": True}) == names(ROWS)[::2]
    length = np.linalg.norm(VECTORS[599])
    np.testing.assert_allclose(found.vector(names(ROWS)[599]), VECTORS[599] / length, atol=1e-6)
    assert found.facet("even") == {True: 300, False: 300}
    assert found.facet("even", ids=names(ROWS)[:3]) == {True: 2, False: 1}
    with pytest.raises(UserError, match="no column 'colour'"):
        found.facet("colour")
    with pytest.raises(UserError, match="holds no id '없음' in 3 shards"):
        found.columns(["없음"])


def test_an_id_in_several_shards_is_found_once_with_its_best_score() -> None:
    def said(*pairs: tuple[str, float]) -> Found:
        return Found(
            ids=[[name for name, _ in pairs]],
            scores=[np.asarray([score for _, score in pairs], np.float32)],
        )

    found = merged([said(("a", 0.5), ("b", 0.25)), said(("b", 0.75)), said()], 2)
    assert found.ids == [["b", "a"]] and found.scores[0].tolist() == [0.75, 0.5]


def test_no_search_fails_or_mixes_versions_while_a_new_one_takes_the_place(tmp_path: Path) -> None:
    places = [make(tmp_path / "v1", prefix="1-"), make(tmp_path / "v2", count=2, prefix="2-")]
    found = Shards.open(places[0], engine="exact")
    pinned, version = found.pinned(), found.version
    found.search(VECTORS[:4], 5)
    ended, failures, versions = threading.Event(), [], set()

    def search() -> None:
        while not ended.is_set():
            try:
                said = {each[0] for ids in found.search(VECTORS[:4], 5).ids for each in ids}
            except Exception as error:
                failures.append(error)
                return
            versions.add("".join(sorted(said)))

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for place in (places[1], places[0], places[1]):
        found.swap(place)
    assert found.search(VECTORS[:1], 1).ids[0][0].startswith("2-")
    assert found.folder == places[1] and found.version != version
    assert pinned.search(VECTORS[:1], 1).ids[0][0].startswith("1-") and pinned.version == version
    ended.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert versions <= {"1", "2"}


def test_what_is_no_whole_version_does_not_take_the_place(tmp_path: Path) -> None:
    found = Shards.open(make(tmp_path / "v1"), engine="exact")
    (tmp_path / "empty").mkdir()
    make(tmp_path / "other", model_hash="n")
    make(tmp_path / "mixed")
    Collection.create(tmp_path / "mixed" / "9", model_hash="m", dim=8)
    make(tmp_path / "damaged")
    (file, *_) = (tmp_path / "damaged" / "2").rglob("vectors.npy")
    file.write_bytes(file.read_bytes()[:-1])
    for number in (0, 1):
        build_collection(
            tmp_path / "missing" / str(number),
            ArrayRows(names(50), VECTORS[:50]),
            model_hash="m",
            origin={"shard": [number, 3]},
        )

    class Cut(ArrayRows):
        def __getitem__(self, where: slice) -> np.ndarray:
            if where.start >= 100:
                raise KeyboardInterrupt
            return super().__getitem__(where)

    with pytest.raises(KeyboardInterrupt):
        build_collection(
            tmp_path / "begun" / "0",
            Cut(names(200), VECTORS[:200]),
            model_hash="m",
            segment_rows=100,
        )
    for name, message in (
        ("nowhere", "holds no collections"),
        ("empty", "holds no collections"),
        ("other", "search with the model that made it"),
        ("mixed", "shards are of one model"),
        ("damaged", "is damaged"),
        ("missing", "2 of 3 shards: the others are missing"),
        ("begun", "1 of 2 segments are there"),
    ):
        with pytest.raises((UserError, DataError), match=message):
            found.swap(tmp_path / name)
        assert found.search(VECTORS[5], 1).ids == [[names(ROWS)[5]]], name
