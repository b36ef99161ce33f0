import json
import logging
import shutil

import numpy as np
import pyarrow as pa
import pytest

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.retrieval import Index, IndexSettings, engines, index_files, scann_engine
from kmm_jax.retrieval.ids import Ids
from kmm_jax.retrieval.settings import for_rows
from tests.retrieval.conftest import clustered, names, nearest_by_numpy

VECTORS = clustered(600)
NAMES = names(600)
HASHED = IndexSettings(layout="hashed")
TREE = IndexSettings(layout="tree")


@pytest.fixture
def without_scann(monkeypatch):
    def absent():
        raise ModuleNotFoundError("No module named 'scann'", name="scann")

    engines._say_once.cache_clear()
    monkeypatch.setattr(scann_engine, "_scann", absent)


def build(folder, settings=None, **more):
    return Index.build(folder, NAMES, VECTORS, model_hash="m1", settings=settings, **more)


@pytest.mark.parametrize("layout", ["hashed", "tree"])
def test_recall_is_at_least_95_percent_of_brute_force(tmp_path, needs_scann, layout):
    vectors = clustered(10_000, dim=64, clusters=200)
    rng = np.random.default_rng(1)
    queries = vectors[:200] + 0.2 * rng.normal(size=(200, 64)).astype(np.float32)
    settings = IndexSettings(engine="scann", layout=layout)
    index = Index.build(tmp_path / "i", names(10_000), vectors, model_hash="m", settings=settings)
    assert layout in index.info()["engine"]
    true = nearest_by_numpy(vectors, queries, 10)
    found = index.search(queries, 10)
    hits = [len(set(a) & set(b)) for a, b in zip(found.rows.tolist(), true.tolist(), strict=True)]
    recall = sum(hits) / true.size
    assert recall >= 0.95
    assert index.recall(queries, 10) == pytest.approx(recall, abs=0.002)


@pytest.mark.parametrize("settings", [None, HASHED, TREE, IndexSettings(engine="exact")])
def test_each_vector_finds_itself_first_with_score_one(tmp_path, settings):
    index = build(tmp_path / "i", settings)
    found = index.search(VECTORS[::50], 3)
    assert [ids[0] for ids in found.ids] == NAMES[::50]
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    assert found.scores.dtype == np.float32


@pytest.mark.parametrize("settings", [None, HASHED, TREE, IndexSettings(engine="exact")])
def test_more_than_there_are_gives_all_once(tmp_path, settings):
    index = build(tmp_path / "i", settings)
    found = index.search(VECTORS[0], 10_000)
    assert found.scores.shape == (1, 600)
    assert sorted(found.ids[0]) == NAMES
    assert np.isfinite(found.scores).all()


def test_leaves_with_too_few_vectors_are_made_up_for(tmp_path, needs_scann):
    settings = IndexSettings(layout="tree", leaves=100, leaves_to_search=1)
    index = build(tmp_path / "i", settings)
    found = index.search(VECTORS[:20], 40)
    assert found.rows.shape == (20, 40)
    assert all(len(set(row)) == 40 and min(row) >= 0 for row in found.rows.tolist())


def test_engines_agree_and_an_index_of_one_opens_with_the_other(tmp_path, needs_scann):
    build(tmp_path / "scann", HASHED)
    build(tmp_path / "exact", IndexSettings(engine="exact", layout="hashed"))
    queries = clustered(20, seed=5)
    wanted = nearest_by_numpy(VECTORS, queries, 5).tolist()
    for name in ("scann", "exact"):
        for engine in ("scann", "exact", "auto"):
            index = Index.load(tmp_path / name, engine=engine)
            assert index.search(queries, 5).rows.tolist() == wanted
            shown = index.info()["engine"]
            assert shown.startswith(name if engine == "auto" else engine)


def test_without_scann_exact_search_answers_and_says_so_once(tmp_path, without_scann, caplog):
    with caplog.at_level(logging.WARNING, logger="kmm_jax"):
        index = build(tmp_path / "i")
        Index.load(tmp_path / "i")
    assert index.info()["engine"] == "exact (JAX): scann is not installed"
    assert [record.getMessage() for record in caplog.records] == [
        "kmm_jax: searching exactly, in JAX, without ScaNN: scann is not installed"
    ]
    queries = clustered(7, seed=5)
    assert (index.search(queries, 5).rows == nearest_by_numpy(VECTORS, queries, 5)).all()


def test_scann_asked_for_where_it_does_not_run_is_refused(tmp_path, without_scann):
    with pytest.raises(UserError, match="scann is not installed; leave it to 'auto'"):
        build(tmp_path / "i", IndexSettings(engine="scann"))
    assert not (tmp_path / "i").exists()


def test_an_index_built_without_scann_uses_it_later_only_where_nothing_is_learnt(
    tmp_path, needs_scann, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(scann_engine, "unavailable", lambda: "this processor has no AVX2")
        build(tmp_path / "brute")
        build(tmp_path / "hashed", HASHED)
    assert Index.load(tmp_path / "brute").info()["engine"].startswith("scann")
    assert "when the index was built, as this processor has no AVX2" in str(
        Index.load(tmp_path / "hashed").info()["engine"]
    )


@pytest.mark.parametrize("settings", [HASHED, TREE])
def test_a_moved_index_answers_the_same(tmp_path, needs_scann, settings):
    queries = clustered(20, seed=5)
    before = build(tmp_path / "here" / "i", settings).search(queries)
    shutil.move(tmp_path / "here", tmp_path / "저쪽=1")
    after = Index.load(tmp_path / "저쪽=1" / "i").search(queries)
    assert after.ids == before.ids
    for path in (tmp_path / "저쪽=1").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()


@pytest.mark.parametrize("settings", [HASHED, TREE])
def test_the_same_input_gives_the_same_bytes(tmp_path, needs_scann, settings):
    for name in ("a", "b"):
        build(tmp_path / name, settings)
    first = {p.relative_to(tmp_path / "a"): p for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert len(first) > 5
    for relative, path in first.items():
        assert path.read_bytes() == (tmp_path / "b" / relative).read_bytes(), relative


def test_another_model_is_refused_with_both_hashes(tmp_path):
    build(tmp_path / "i")
    Index.load(tmp_path / "i", model_hash="m1").check_model("m1")
    with pytest.raises(UserError, match=r"'m1'.*'m2'"):
        Index.load(tmp_path / "i", model_hash="m2")


def test_vectors_come_back_by_id(tmp_path):
    index = build(tmp_path / "i")
    unit = VECTORS[7] / np.linalg.norm(VECTORS[7])
    np.testing.assert_allclose(index.vector(NAMES[7]), unit, rtol=1e-6)
    with pytest.raises(UserError, match="'없는 상품'"):
        index.vector("없는 상품")


def test_info_is_json_and_metadata_is_kept(tmp_path):
    info = build(tmp_path / "i", metadata={"source": "상점/train"}).info()
    assert json.loads(json.dumps(info)) == info
    assert (info["rows"], info["dim"], info["model_hash"]) == (600, 16, "m1")
    assert len(Index.load(tmp_path / "i")) == 600
    assert Index.load(tmp_path / "i").metadata == {"source": "상점/train"}


@pytest.mark.parametrize(
    ("ids", "vectors", "words"),
    [
        (["a", "b", "a", "b", "c"], VECTORS[:5], "2 ids stand more than once, the first is 'a'"),
        (NAMES[:4], VECTORS[:5], "4 ids for 5 vectors"),
        ([], VECTORS[:0], "at least one vector"),
        ([1, 2], VECTORS[:2], "ids are texts"),
        (["", "b"], VECTORS[:2], "not empty"),
        (["a", "b"], np.array([[1, 0], [0, 0]]), "vector 1 is all zeros"),
        (["a", "b"], np.array([[1, np.nan], [0, 1]]), "vector 0 is NaN"),
        (["a", "b"], np.array([1.0, 2.0]), "shape"),
    ],
)
def test_ids_and_vectors_that_cannot_be_searched_are_refused(tmp_path, ids, vectors, words):
    with pytest.raises(DataError, match=words):
        Index.build(tmp_path / "i", ids, vectors, model_hash="m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        (np.zeros(16), "all zeros"),
        (np.full((2, 16), np.nan), "NaN"),
        (np.ones(15), "15 dimensions, the index 16"),
        (np.ones((1, 2, 16)), "shape"),
    ],
)
def test_queries_without_direction_or_of_another_model_are_refused(tmp_path, queries, words):
    with pytest.raises(DataError, match=words):
        build(tmp_path / "i").search(queries)


def test_k_below_one_and_recall_of_nothing_are_refused(tmp_path):
    index = build(tmp_path / "i")
    with pytest.raises(UserError, match="at least 1"):
        index.search(VECTORS[0], 0)
    with pytest.raises(UserError, match="at least one query"):
        index.recall(np.zeros((0, 16)))


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "사진").mkdir()
    (tmp_path / "사진" / "가족.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="exists and is no index"):
        build(tmp_path / "사진")
    assert (tmp_path / "사진" / "가족.jpg").exists()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _cut_a_little(data: bytes) -> bytes:
    return data[:-3]


def _empty(data: bytes) -> bytes:
    return b""


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("harm", [_cut, _cut_a_little, _empty, _flip, None])
def test_no_damaged_file_is_taken_for_a_whole_one(tmp_path, needs_scann, harm):
    build(tmp_path / "i", TREE)
    files = [path for path in (tmp_path / "i").rglob("*") if path.is_file()]
    names_found = {path.name for path in files}
    assert {"index.json", "vectors.npy", "ids.parquet", "ah_codebook.pb"} <= names_found
    for path in files:
        whole = path.read_bytes()
        if not whole:
            continue
        if harm:
            path.write_bytes(harm(whole))
        else:
            path.unlink()
        with pytest.raises(DataError):
            Index.load(tmp_path / "i")
        path.write_bytes(whole)
    Index.load(tmp_path / "i")


def test_ids_exchanged_with_another_index_are_refused(tmp_path):
    build(tmp_path / "a")
    Index.build(tmp_path / "b", NAMES[::-1], VECTORS, model_hash="m1")
    shutil.copy(tmp_path / "b" / index_files.IDS, tmp_path / "a" / index_files.IDS)
    with pytest.raises(DataError, match=r"ids\.parquet is damaged"):
        Index.load(tmp_path / "a")


def test_no_index_says_where_an_interrupted_build_left_the_old_one(tmp_path):
    with pytest.raises(DataError, match="kmm index build"):
        Index.load(tmp_path / "i")
    build(tmp_path / ".i.old")
    with pytest.raises(DataError, match=r"\.i\.old"):
        Index.load(tmp_path / "i")


def test_settings_follow_the_number_of_rows():
    def layout(rows):
        return for_rows(IndexSettings(), rows).layout

    assert [layout(rows) for rows in (1, 19_999, 20_000, 99_999, 100_000)] == [
        "brute_force",
        "brute_force",
        "hashed",
        "hashed",
        "tree",
    ]
    tree = for_rows(IndexSettings(), 1_000_000)
    assert (tree.leaves, tree.leaves_to_search) == (1000, 64)
    few, many = (for_rows(IndexSettings(layout="tree"), rows) for rows in (40_000, 10**8))
    assert (few.leaves_to_search, many.leaves_to_search) == (20, 200)


@pytest.mark.parametrize("wrong", [{"engine": "scan"}, {"layout": "hash"}, {"leaves": 0}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError):
        IndexSettings(**wrong)


def test_hashes_cannot_be_learnt_from_a_handful(tmp_path):
    with pytest.raises(ConfigError, match="at least 16 vectors, found 5"):
        Index.build(tmp_path / "i", NAMES[:5], VECTORS[:5], model_hash="m", settings=HASHED)


def test_ids_of_many_places_are_those_of_each():
    texts = ["가방", "a", "모자 🎩", "\u1100\u1161", "긴 이름 " * 9]
    ids = Ids(pa.chunked_array([pa.array(texts[:2]), pa.array(texts[2:])]))
    places = np.array([[4, 0, 0], [1, 2, 3]])
    assert ids.at(places) == [[texts[place] for place in row] for row in places]
    assert ids.at(np.zeros((2, 0), np.int64)) == [[], []]
    part = Ids(pa.chunked_array([pa.array(["x", *texts]).slice(1)]))
    assert part.at(places) == ids.at(places)
    many = np.random.default_rng(0).integers(0, 5, (70, 11))
    for each in (ids, part, Ids(pa.chunked_array([pa.array(["a", "bc", "d", "", "e"])]))):
        assert each.at(many) == [[each[place] for place in row] for row in many]
    assert Ids(pa.chunked_array([], pa.string())).at(np.zeros((0, 3), np.int64)) == []
