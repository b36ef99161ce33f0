"""A collection against a plain dictionary of vectors, whatever is done and whenever it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.collection import Collection
from kmm_jax.retrieval.collection_files import MANIFEST
from kmm_jax.retrieval.segment import Segment
from kmm_jax.retrieval.settings import IndexSettings

DIM = 8
COLORS = ("빨강", "파랑", "초록")


def vectors(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def ids(count: int, first: int = 0) -> list[str]:
    return [f"문서-{number}" for number in range(first, first + count)]


@pytest.fixture
def empty(tmp_path: Path) -> Collection:
    return Collection.create(tmp_path / "c", model_hash="m", dim=DIM, metadata={"이름": "상점"})


def brute(rows: dict[str, tuple[np.ndarray, Any]], query: np.ndarray, k: int) -> list[str]:
    return sorted(rows, key=lambda each: -float(rows[each][0] @ query))[:k]


def test_whatever_is_done_searches_find_what_brute_force_finds(empty: Collection) -> None:
    rng = np.random.default_rng(0)
    rows: dict[str, tuple[np.ndarray, Any]] = {}
    for step in range(40):
        action = rng.choice(["put", "put", "delete", "erase", "compact", "reopen"])
        if action == "put":
            count = int(rng.integers(1, 30))
            some = [f"문서-{number}" for number in rng.choice(120, count, replace=False)]
            made = vectors(count, step)
            colors = [COLORS[number] for number in rng.integers(3, size=count)]
            replaced = empty.put(some, made, {"color": colors})
            assert replaced == sum(each in rows for each in some)
            rows |= dict(zip(some, zip(made, colors, strict=True), strict=True))
        elif action in ("delete", "erase") and rows:
            some = [str(each) for each in rng.choice(list(rows), min(5, len(rows)), replace=False)]
            assert empty.delete([*some, "문서-없음"], erase=action == "erase") == len(some)
            for each in some:
                del rows[each]
        elif action == "compact":
            empty.compact()
            assert len(empty.info()["segments"]) <= 1
        elif action == "reopen":
            empty = Collection.open(empty.folder, model_hash="m")
        assert len(empty) == len(rows)
        query = vectors(1, 1000 + step)[0]
        assert empty.search(query, 7).ids[0] == brute(rows, query, 7)
        red = {each: row for each, row in rows.items() if row[1] == "빨강"}
        if rows:
            found = empty.search(query, 7, where={"color": "빨강"})
            assert found.ids[0] == brute(red, query, 7)
            assert empty.facet("color").get("빨강", 0) == len(red)
    some_id = next(iter(rows))
    np.testing.assert_allclose(empty.vector(some_id), rows[some_id][0], atol=1e-6)
    assert empty.columns([some_id]) == [{"id": some_id, "color": rows[some_id][1]}]
    assert empty.info()["metadata"] == {"이름": "상점"}


def hashed(folder: Path) -> Collection:
    """Without rows; its index of many will be approximate."""
    settings = IndexSettings(layout="hashed", reorder=2000)
    return Collection.create(folder / "c", model_hash="m", dim=DIM, settings=settings)


def test_the_index_of_many_rows_is_searched_for_what_passes_a_filter(tmp_path: Path) -> None:
    """Above 20,000 rows to choose from, through the approximate index; below, each compared."""
    count = 45_000
    made = vectors(count)
    found = hashed(tmp_path)
    found.put(ids(count), made, {"number": list(range(count))})
    (segment,) = found.info()["segments"]
    assert 0.9 < segment["recall@10"] <= 1.0
    queries = vectors(20, 7)
    for least in (15_000, 44_900):
        result = found.search(queries, 10, where={"number": {"gte": least}})
        true = np.argsort(-(queries @ made[least:].T), axis=1)[:, :10] + least
        hits = [
            len({f"문서-{row}" for row in rows} & set(each))
            for rows, each in zip(true, result.ids, strict=True)
        ]
        assert np.mean(hits) >= (10 if least > 30_000 else 9)


def test_a_deletion_does_not_make_each_search_go_through_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 45_000
    made = vectors(count)
    found = hashed(tmp_path)
    found.put(ids(count), made)
    queries = vectors(20, 7)
    nearest = np.argsort(-(queries @ made.T), axis=1)[:, :12]
    gone = np.unique(nearest[:, :2])  # the best two of each
    found.delete([f"문서-{row}" for row in gone])
    monkeypatch.setattr(Segment, "rows", lambda *_: pytest.fail("listed all rows"))
    result = found.search(queries, 10)
    hits = []
    for order, each in zip(np.argsort(-(queries @ made.T), axis=1), result.ids, strict=True):
        true = [row for row in order[:60] if row not in gone][:10]
        hits.append(len({f"문서-{row}" for row in true} & set(each)))
        assert not {f"문서-{row}" for row in gone} & set(each) and len(each) == 10
    assert np.mean(hits) >= 9


def test_others_see_a_change_when_they_look_again(empty: Collection) -> None:
    other = Collection.open(empty.folder)
    empty.put(ids(3), vectors(3))
    assert len(other) == 0 and other.refresh() and len(other) == 3
    assert not other.refresh()
    # What the other holds open was joined and removed meanwhile.
    empty.put(ids(3, 3), vectors(3, 1))
    empty.compact()
    assert other.search(vectors(3)[0], 1).ids == [["문서-0"]]
    assert other.refresh() and len(other) == 6


def test_columns_may_come_later_and_keep_their_type(empty: Collection) -> None:
    empty.put(ids(2), vectors(2), {"price": [1, 2]})
    empty.put(ids(2, 2), vectors(2, 1), {"tags": [["꽃무늬", "여름"], None]})
    assert empty.columns(["문서-0", "문서-2"]) == [
        {"id": "문서-0", "price": 1, "tags": None},
        {"id": "문서-2", "price": None, "tags": ["꽃무늬", "여름"]},
    ]
    assert empty.facet("tags") == {"꽃무늬": 1, "여름": 1}
    assert len(empty.search(vectors(1), 9, where={"price": {"ne": 1}}).ids[0]) == 3
    assert empty.search(vectors(1), 9, where={"price": {"exists": False}, "id": "문서-3"}).ids == [
        ["문서-3"]
    ]
    assert len(empty.search(vectors(1), 9, where=pc.field("price") > 1).ids[0]) == 1
    with pytest.raises(DataError, match="another type"):
        empty.put(ids(1, 9), vectors(1), {"price": [["a"]]})
    assert len(empty) == 4
    empty.put(ids(1, 9), vectors(1, 5), pa.table({"price": [2.5]}))
    assert empty.columns(["문서-0", "문서-9"])[1]["price"] == 2.5


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: c.search(vectors(1), 0), "k must be at least 1"),
        (lambda c: c.search(np.ones((1, 3))), "queries have 3 dimensions, the collection 8"),
        (lambda c: c.search(vectors(1), where={"colour": "빨강"}), "did you mean 'color'"),
        (lambda c: c.search(vectors(1), where={"color": {"near": 3}}), "no comparison 'near'"),
        (lambda c: c.search(vectors(1), where={"color": {"gt": 3}}), "does not fit the columns"),
        (lambda c: c.search(vectors(1), where={"color": {"in": None}}), "'in' needs a value"),
        (lambda c: c.search(vectors(1), where={"color": {"in": "빨강"}}), "'in' needs a list"),
        (lambda c: c.search(vectors(1), where={"color": ["빨강", 3]}), "does not fit the columns"),
        (lambda c: c.put(["a", "a"], vectors(2)), "ids stand more than once"),
        (lambda c: c.put(["a"], np.ones((1, 3))), r"the collection takes \(rows, 8\)"),
        (lambda c: c.put(["a"], np.zeros((1, DIM))), "all zeros"),
        (lambda c: c.put(["a"], vectors(1), {"id": ["b"]}), "the row's own id"),
        (lambda c: c.put(["a"], vectors(1), {"x": [1, 2]}), "columns of 2 rows for 1 ids"),
        (lambda c: c.vector("없음"), "holds no id '없음'"),
        (lambda c: c.facet("colour"), "no column 'colour'"),
        (lambda c: Collection.open(c.folder, model_hash="n"), "search with the model that made it"),
        (lambda c: Collection.create(c.folder, model_hash="m", dim=3), "choose another folder"),
    ],
)
def test_what_cannot_work_is_said_and_changes_nothing(
    empty: Collection, ask: Any, message: str
) -> None:
    empty.put(ids(3), vectors(3), {"color": list(COLORS)})
    before = empty.version
    with pytest.raises((UserError, DataError), match=message):
        ask(empty)
    assert Collection.open(empty.folder).version == before
    assert len(Collection.open(empty.folder)) == 3


@pytest.mark.parametrize(
    "what", ["columns.parquet", "vectors.npy", MANIFEST, "ids.parquet", ".npy"]
)
def test_damage_is_found(empty: Collection, what: str) -> None:
    empty.put(ids(3), vectors(3), {"color": list(COLORS)})
    empty.delete(["문서-0"])
    (file, *_) = [each for each in sorted(empty.folder.rglob("*")) if each.name.endswith(what)]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError):
        Collection.open(empty.folder)


_WRITER = """
    import sys, numpy as np
    from kmm_jax.retrieval.collection import Collection
    found = Collection.open(sys.argv[1], engine="exact")
    rng = np.random.default_rng(0)
    for number in range(10_000):
        found.put([f"{number}", "latest"], rng.standard_normal((2, 8)), {"n": [number, number]})
        if number % 3 == 0:
            found.delete([f"{number // 2}"], erase=number % 2 == 0)
        print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    """Whatever it had said is done is there after ``kill -9``, and the next change goes on."""
    Collection.create(tmp_path / "c", model_hash="m", dim=DIM)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    for run, after in enumerate((1, 4, 11)):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(_WRITER), str(tmp_path / "c")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert writer.stdout is not None
        last = -1
        for line in writer.stdout:
            last = int(line)
            if last >= after:
                break
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        # It may have gone on while the pipe was read.
        last = max([last, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        found = Collection.open(tmp_path / "c", engine="exact")
        at = found.columns(["latest"])[0]["n"]
        assert at in (last, last + 1), run
        assert str(last) in found
        found.put(["after"], vectors(1, run))
        assert found.search(vectors(1, run), 1).ids == [["after"]]
        left = {each.name for each in (tmp_path / "c" / "segments").iterdir()}
        assert left == {each["name"] for each in found.info()["segments"]}


def test_two_do_not_write_at_once(empty: Collection) -> None:
    from kmm_jax.files import locked

    with locked(empty.folder / ".writing", "held"), pytest.raises(UserError):
        empty.put(ids(1), vectors(1))
    empty.put(ids(1), vectors(1))
