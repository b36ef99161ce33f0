"""Settings found for a wanted recall: what is chosen, against brute force over all there is."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.cli import main
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.files import write_json
from kmm_jax.retrieval import Collection, Index, IndexSettings, checksums, export_embeddings
from kmm_jax.retrieval.learning import Tuning, trials
from kmm_jax.retrieval.trial import Trial
from kmm_jax.retrieval.tuning import Tried, climb, fastest, most_accurate, pairs
from kmm_jax.retrieval.vectors import UnitRows
from tests.retrieval.conftest import clustered, names, nearest_by_numpy

ROWS = 2_100
VECTORS, QUERIES = np.split(clustered(ROWS + 120, dim=16, clusters=30), [ROWS])
NAMES = names(ROWS)
TREE = IndexSettings(engine="scann", layout="tree", recall=0.95)
# Neighbours that only float32 tells apart.
NEAR = np.ones((ROWS, 16), np.float32) + 1e-4 * clustered(ROWS, 16, 1)


def tried(seconds: float, recall: float = 1.0, error: float = 0.0, **settings: Any) -> Tried:
    return Tried(settings=IndexSettings(**settings), recall=recall, error=error, seconds=seconds)


def test_of_what_reaches_the_wanted_recall_the_fastest_is_taken() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        some = [
            tried(
                round(float(rng.uniform(0.1, 0.5)), 1),
                float(rng.uniform(0.8, 1)),
                float(rng.uniform(0, 0.03)),
                leaves_to_search=int(rng.integers(1, 9)),
            )
            for _ in range(8)
        ]
        reaching = [each for each in some if each.recall - each.error >= 0.9]
        found = fastest(some, 0.9)
        assert (found is None) == (not reaching)
        if found is not None:
            least = min(each.seconds for each in reaching)
            alike = [each for each in reaching if each.seconds <= 1.03 * least]
            assert found in alike
            assert found.settings.leaves_to_search == min(
                each.settings.leaves_to_search or 0 for each in alike
            )
        assert most_accurate(some).recall == max(each.recall for each in some)
        # The order in which they were measured does not matter.
        assert fastest(reversed(some), 0.9) == found


def test_for_each_number_rescored_the_fewest_leaves_are_found() -> None:
    rng = np.random.default_rng(1)
    reorders = (10, 20, 50, 100)
    for _ in range(60):
        leaves = int(rng.integers(1, 40))
        # Recall that grows with both.
        recall = np.cumsum(np.cumsum(rng.random((leaves, len(reorders))), 0), 1)
        recall /= recall[-1, -1]
        wanted = float(rng.uniform(0.2, 1.02))
        asked: list[tuple[int, int]] = []

        def reaches(
            some: int,
            reorder: int,
            table: np.ndarray = recall,
            least: float = wanted,
            log: list[tuple[int, int]] = asked,
        ) -> bool:
            log.append((some, reorder))
            return bool(table[some - 1, reorders.index(reorder)] >= least)

        found = pairs(reaches, leaves, reorders)
        true = {
            reorder: int(np.argmax(recall[:, place] >= wanted)) + 1
            for place, reorder in enumerate(reorders)
            if (recall[:, place] >= wanted).any()
        }
        least = min(true.values(), default=0)
        assert {reorder: some for some, reorder in found} == {
            reorder: some for reorder, some in true.items() if some <= 4 * least
        }
        assert len(asked) <= len(reorders) * (2 * math.log2(leaves + 1) + 2)


def test_many_leaves_are_searched_only_where_few_do_not_do() -> None:
    asked: list[int] = []

    def reaches(some: int, reorder: int) -> bool:
        asked.append(some)
        return some >= 5

    assert pairs(reaches, 10_000, (50, 100)) == [(5, 100), (5, 50)]
    assert max(asked) <= 8
    assert pairs(lambda some, reorder: False, 100, (50,)) == []


def test_climbing_ends_at_the_fastest_and_builds_nothing_twice() -> None:
    ladders = {"leaves": (10, 20, 40, 80), "dims_per_block": (1, 2, 4)}
    for best_leaves, best_dims in itertools.product(*ladders.values()):
        asked: list[IndexSettings] = []

        def measure(
            settings: IndexSettings,
            log: list[IndexSettings] = asked,
            to: tuple[int, int] = (best_leaves, best_dims),
        ) -> Tried:
            log.append(settings)
            assert settings.leaves is not None
            away = abs(math.log2(settings.leaves / to[0]))
            away += abs(math.log2(settings.dims_per_block / to[1]))
            return Tried(settings=settings, recall=1, error=0, seconds=1 + away)

        found = climb(IndexSettings(leaves=20, dims_per_block=2), ladders, measure)
        assert found is not None
        assert (found.settings.leaves, found.settings.dims_per_block) == (best_leaves, best_dims)
        assert len(asked) == len(set(asked)) <= 7


def test_climbing_leaves_alone_what_is_hardly_faster_or_finds_too_little() -> None:
    def measure(settings: IndexSettings) -> Tried | None:
        if settings.dims_per_block == 4:
            return None
        return tried(0.98 if settings.leaves == 20 else 1.0, leaves=settings.leaves)

    ladders = {"leaves": (10, 20), "dims_per_block": (2, 4)}
    found = climb(IndexSettings(leaves=10), ladders, measure)
    assert found is not None and found.settings.leaves == 10
    # Where the start finds too little, a neighbour may do.
    start = IndexSettings(leaves=10, dims_per_block=4)
    found = climb(start, ladders, measure)
    assert found is not None and found.settings.dims_per_block == 2
    assert climb(start, {"leaves": (10, 20)}, measure) is None
    asked: list[IndexSettings] = []

    def counted(settings: IndexSettings) -> Tried:
        asked.append(settings)
        return tried(1 / (settings.leaves or 1))

    climb(IndexSettings(leaves=1), {"leaves": tuple(range(1, 100))}, counted, most=3)
    assert len(asked) == 3
    asked.clear()

    def without_a_tree(settings: IndexSettings) -> Tried:
        asked.append(settings)
        return tried(1.0 if settings.layout == "tree" else 0.1)

    climb(
        IndexSettings(layout="tree", leaves=5),
        {"layout": ("hashed", "tree"), "leaves": (4, 5, 6)},
        without_a_tree,
        fit=lambda each: each if each.layout == "tree" else dataclasses.replace(each, leaves=None),
    )
    # Of what has no leaves no other number of them is tried.
    assert [each.layout for each in asked] == ["tree", "hashed"]


def test_recall_is_the_share_of_the_true_nearest_and_a_query_does_not_count_itself() -> None:
    given = UnitRows(VECTORS)
    own = np.arange(0, ROWS, 70)
    trial = Trial.of_rows(given, own)
    true = nearest_by_numpy(VECTORS, VECTORS[own], 11)

    def half(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Itself, five true neighbours, and others."""
        assert k == 11 and len(queries) == len(own)
        found = np.concatenate([true[:, :6], np.full((len(own), 5), -1)], axis=1)
        return found, np.zeros(found.shape)

    assert trial.recall(half) == (0.5, 0.0)
    asked = Trial.of_queries(given, QUERIES)
    exact = nearest_by_numpy(VECTORS, QUERIES, 10)
    assert asked.recall(lambda queries, k: (exact, np.zeros(exact.shape)))[0] == 1.0
    mean, error = asked[:2].recall(lambda queries, k: (exact[[0, 0]], np.zeros((2, 10))))
    other = len(set(exact[0]) & set(exact[1])) / 10
    assert mean == pytest.approx((1 + other) / 2)
    assert error == pytest.approx((1 - other) / 2 / math.sqrt(2))
    assert all(each > 0 for each in asked[:5].seconds([lambda q, k: (exact[:1], exact[:1])] * 2))


def test_queries_that_choose_are_others_than_those_that_tell() -> None:
    given = UnitRows(VECTORS)
    one, other = trials(given, QUERIES)
    assert len(one) == len(other) == len(QUERIES) // 2
    asked: list[np.ndarray] = []

    def search(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(queries)
        return np.zeros((len(queries), k), int), np.zeros((len(queries), k))

    for trial in (one, other, *trials(given, None)):
        trial.recall(search)
    for first, second in (asked[:2], asked[2:]):
        assert not {each.tobytes() for each in first} & {each.tobytes() for each in second}
    with pytest.raises(UserError, match="there are none"):
        trials(given, np.zeros((0, 16), np.float32))
    with pytest.raises(DataError, match="8 dimensions, the vectors 16"):
        trials(given, np.ones((3, 8), np.float32))


@pytest.mark.parametrize(
    "settings",
    [
        TREE,
        dataclasses.replace(TREE, layout="hashed"),
        dataclasses.replace(TREE, dtype="bfloat16", rescore="mapped"),
    ],
    ids=["tree", "hashed", "mapped"],
)
def test_an_index_is_searched_no_more_than_the_wanted_recall_needs(
    tmp_path: Path, needs_scann: None, settings: IndexSettings
) -> None:
    built = Index.build(tmp_path / "i", NAMES, VECTORS, model_hash="m", settings=settings)
    plain = dataclasses.replace(settings, recall=None)
    usual = Index.build(tmp_path / "u", NAMES, VECTORS, model_hash="m", settings=plain)
    index = Index.load(tmp_path / "i")
    true = nearest_by_numpy(VECTORS, QUERIES, 10)
    found = index.search(QUERIES, 10).rows
    hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), true.tolist(), strict=True)]
    assert sum(hits) / true.size >= 0.93  # 120 queries tell it to two points
    kept, before = index.info()["settings"], usual.info()["settings"]
    assert kept["recall"] == 0.95
    if settings.layout == "tree":
        assert kept["leaves_to_search"] < before["leaves_to_search"]
    else:
        assert kept["reorder"] < before["reorder"]
    tuning = index.info()["tuning"]
    assert tuning["wanted"] == 0.95 and tuning["chosen_by"] >= 1_000
    assert built.built_recall is not None and built.built_recall >= 0.95 - 3 * tuning["error"]
    chosen = [
        each
        for each in tuning["tried"]
        if (each["leaves_to_search"], each["reorder"])
        == (kept["leaves_to_search"], kept["reorder"])
    ]
    assert len(chosen) == 1
    least = min(each["microseconds"] for each in tuning["tried"])
    assert chosen[0]["microseconds"] <= 1.03 * least + 0.1
    # More may be asked for than it was tuned for.
    assert index.search(QUERIES[:3], 300).rows.shape == (3, 300)


def test_what_is_given_stays(tmp_path: Path, needs_scann: None) -> None:
    settings = dataclasses.replace(TREE, leaves_to_search=7)
    index = Index.build(tmp_path / "i", NAMES, VECTORS, model_hash="m", settings=settings)
    info = index.info()
    assert {each["leaves_to_search"] for each in info["tuning"]["tried"]} == {7}
    settings = dataclasses.replace(TREE, reorder=77)
    index = Index.build(tmp_path / "i", NAMES, VECTORS, model_hash="m", settings=settings)
    assert {each["reorder"] for each in index.info()["tuning"]["tried"]} == {77}


def test_what_cannot_be_reached_is_said(
    tmp_path: Path, needs_scann: None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(TREE, dtype="bfloat16", recall=0.99)
    with caplog.at_level(logging.WARNING, "kmm_jax.retrieval"):
        index = Index.build(tmp_path / "i", NAMES, NEAR, model_hash="m", settings=settings)
    assert "recall@10 of 0.99 was wanted" in caplog.text and "bfloat16" in caplog.text
    assert index.built_recall is not None and index.built_recall < 0.9
    # Tuning is asked for by someone who looks at its end; nothing is written.
    with pytest.raises(UserError, match=r"0\.99 was wanted; the most that was reached is 0\."):
        Index.build(
            tmp_path / "t",
            NAMES,
            NEAR,
            model_hash="m",
            settings=settings,
            tuning=Tuning(thorough=True),
        )
    assert [each.name for each in tmp_path.iterdir()] == ["i"]
    for wrong in (0, 1.2, -1, math.nan):
        with pytest.raises(ConfigError, match="above 0 and at most 1"):
            IndexSettings(recall=wrong)


def test_a_collection_finds_settings_for_each_segment(tmp_path: Path, needs_scann: None) -> None:
    settings = dataclasses.replace(TREE, recall=0.9)
    shop = Collection.create(tmp_path / "c", model_hash="m", dim=16, settings=settings)
    shop.put(NAMES[:1_000], VECTORS[:1_000])
    shop.put(NAMES[1_000:], VECTORS[1_000:])
    shop.compact()
    whole = Collection.open(tmp_path / "c")
    assert whole.info()["settings"]["recall"] == 0.9
    assert whole.info()["segments"][0]["recall@10"] >= 0.85
    found = whole.search(QUERIES, 10)
    true = nearest_by_numpy(VECTORS, QUERIES, 10)
    hits = [len(set(a) & {NAMES[row] for row in b}) for a, b in zip(found.ids, true, strict=True)]
    assert sum(hits) / true.size >= 0.85


def test_an_index_of_before_there_was_a_wanted_recall_is_read(
    tmp_path: Path, needs_scann: None
) -> None:
    settings = dataclasses.replace(TREE, recall=None)
    Index.build(tmp_path / "i", NAMES, VECTORS, model_hash="m", settings=settings)
    about = json.loads((tmp_path / "i" / "index.json").read_text("utf-8"))
    del about["settings"]["recall"], about["seal"]
    write_json(tmp_path / "i" / "index.json", checksums.sealed(about))
    assert Index.load(tmp_path / "i").info()["settings"]["recall"] is None


def export(folder: Path, ids: list[str], vectors: np.ndarray, model_hash: str = "m") -> str:
    export_embeddings(
        folder,
        rows=len(ids),
        part_rows=1_000,
        compute=lambda start, stop: (ids[start:stop], vectors[start:stop]),
        kind="image",
        model_hash=model_hash,
        dim=16,
    )
    return str(folder)


def test_the_command_tries_structures_and_keeps_the_fastest(
    tmp_path: Path, needs_scann: None, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = export(tmp_path / "e", NAMES, VECTORS)
    queries = export(tmp_path / "q", NAMES[:120], QUERIES)
    out = str(tmp_path / "i")
    words = ["index", "tune", documents, "--output", out, "--recall", "0.95"]
    assert main([*words, "--queries", queries]) == 0
    said = capsys.readouterr()
    assert "46 leaves, 2 dimensions a block" in said.err
    assert "scann" in said.out and "on 60 queries that chose nothing" in said.out
    assert main(["index", "info", out, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    tuning = info["tuning"]
    assert tuning["queries"] == "given"
    names = ("leaves", "dims_per_block", "anisotropic_threshold")
    built = {tuple(each[name] for name in names) for each in tuning["tried"]}
    assert len(built) >= 4
    assert {(46, 2, 0.2), (None, 2, 0.2)} <= built  # 46 is the square root; without a tree
    reaching = [e for e in tuning["tried"] if e["recall"] - e["error"] >= 0.95 + 1e-4]
    kept = info["settings"]
    chosen = [e for e in tuning["tried"] if all(e[name] == kept[name] for name in (
        "leaves", "dims_per_block", "anisotropic_threshold", "leaves_to_search", "reorder",
    ))]  # fmt: skip
    assert len(chosen) == 1
    assert chosen[0]["microseconds"] <= 1.03 * min(e["microseconds"] for e in reaching) + 0.1
    assert main(["index", "info", out]) == 0
    assert "recall@10 0.95" in capsys.readouterr().out
    assert main(["index", "retune", out, "--recall", "0.998"]) == 0
    assert "on 1,000 queries that chose nothing" in capsys.readouterr().out
    after = Index.load(out).info()
    assert after["settings"]["recall"] == after["tuning"]["wanted"] == 0.998
    assert after["recall@10"] >= 0.99 and after["settings"]["leaves"] == kept["leaves"]
    assert main(["index", "retune", out, "--recall", "1"]) == 2
    assert "the most that was reached" in capsys.readouterr().err
    assert Index.load(out).info() == after
    other = export(tmp_path / "o", NAMES[:120], QUERIES, "another")
    assert main([*words, "--queries", other]) == 2
    assert "embed both with one model" in capsys.readouterr().err
    near = export(tmp_path / "n", NAMES, NEAR)
    words = ["index", "tune", near, "--output", str(tmp_path / "x"), "--recall", "1"]
    assert main([*words, "--dtype", "bfloat16"]) == 2
    assert "the most that was reached" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    with pytest.raises(SystemExit):
        main(["index", "tune", near, "--output", out])


def test_few_vectors_are_compared_one_and_all(
    tmp_path: Path, needs_scann: None, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = export(tmp_path / "e", NAMES[:500], VECTORS[:500])
    words = ["index", "tune", documents, "--output", str(tmp_path / "i"), "--recall", "0.99"]
    assert main(words) == 0
    assert "brute force" in capsys.readouterr().out
    assert main(["index", "retune", str(tmp_path / "i"), "--recall", "0.9"]) == 2
    assert "is searched exactly" in capsys.readouterr().err
    Collection.create(tmp_path / "c", model_hash="m", dim=16)
    assert main(["index", "retune", str(tmp_path / "c"), "--recall", "0.9"]) == 2
    assert "is a collection" in capsys.readouterr().err
