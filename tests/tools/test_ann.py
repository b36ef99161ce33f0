"""The comparison of engines: one rule of choice for all, and nothing measured twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.errors import UserError
from kmm_jax.retrieval import export_embeddings, scann_engine
from tests.retrieval.conftest import clustered, names, nearest_by_numpy
from tools.bench import ann
from tools.bench.neighbours import engines, measuring, report
from tools.bench.neighbours.measuring import Grid, Measurer
from tools.bench.neighbours.vectors import (
    Mixture,
    Vectors,
    make_clustered,
    make_of_embeddings,
)
from tools.bench.neighbours.worker import Worker

ROWS, DIM = 3_000, 16
GRID = Grid(
    builds={"hnswlib": [{"M": 8, "ef_construction": 60}]},
    searches={"hnswlib": [[{"ef": effort} for effort in (10, 40, 160)]]},
    our_builds=1,
    targets=(0.9,),
    timed=40,
    rounds=2,
)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    return make_clustered(tmp_path_factory.mktemp("ann") / "vectors", ROWS, DIM, 0, queries=200)


def test_queries_are_of_the_same_clusters_and_not_among_the_rows(vectors: Vectors) -> None:
    assert vectors.rows.shape == (ROWS, DIM) and vectors.asking.shape == (200, DIM)
    np.testing.assert_allclose(np.linalg.norm(vectors.rows, axis=1), 1, atol=1e-5)
    known = {each.tobytes() for each in (*vectors.rows, *vectors.choosing)}
    assert not known & {each.tobytes() for each in vectors.asking}
    for asked, true in (
        (vectors.choosing, vectors.choosing_true),
        (vectors.asking, vectors.asking_true),
    ):
        np.testing.assert_array_equal(true, nearest_by_numpy(vectors.rows, asked, 10))
    again = Mixture(ROWS, DIM, 0).draw(ROWS, np.random.default_rng((0, 1)))
    np.testing.assert_array_equal(again, vectors.rows)
    # Nearer than chance would have them: clusters are there.
    nearest = np.einsum("qd,qd->q", vectors.asking, vectors.rows[vectors.asking_true[:, 0]])
    by_chance = vectors.asking @ vectors.rows[0]
    assert np.median(nearest) > np.quantile(by_chance, 0.99)


def test_vectors_of_an_export_are_parted(tmp_path: Path) -> None:
    some = clustered(1_200, DIM)
    ids = names(1_200)
    export_embeddings(
        tmp_path / "e",
        rows=1_200,
        part_rows=500,
        compute=lambda start, stop: (ids[start:stop], some[start:stop]),
        kind="image",
        model_hash="m",
        dim=DIM,
    )
    made = make_of_embeddings(tmp_path / "w", tmp_path / "e")
    assert made.rows.shape == (1_080, DIM) and made.choosing.shape == made.asking.shape == (60, DIM)
    all_of_them = np.concatenate([made.rows, made.choosing, made.asking])
    assert len({each.tobytes() for each in all_of_them}) == 1_200
    assert make_of_embeddings(tmp_path / "w", tmp_path / "e").about == made.about
    with pytest.raises(UserError, match="holds other vectors"):
        make_of_embeddings(tmp_path / "w", tmp_path / "e", seed=1)


@pytest.mark.parametrize(
    ("name", "built", "narrow", "wide"),
    [
        ("faiss_hnsw", {"M": 8, "ef_construction": 60}, {"ef": 10}, {"ef": 400}),
        ("hnswlib", {"M": 8, "ef_construction": 60}, {"ef": 10}, {"ef": 400}),
        (
            "faiss_ivfpq",
            {"lists": 16, "code": "PQ4"},
            {"probes": 1, "k_factor": 1},
            {"probes": 16, "k_factor": 100},
        ),
        (
            "faiss_ivfpq",
            {"lists": 16, "code": "PQ8x4fs"},
            {"probes": 1, "k_factor": 1},
            {"probes": 16, "k_factor": 100},
        ),
    ],
    ids=["faiss_hnsw", "hnswlib", "PQ", "fast scan"],
)
def test_each_engine_finds_more_with_more_effort_until_it_finds_all(
    vectors: Vectors,
    tmp_path: Path,
    name: str,
    built: dict[str, Any],
    narrow: dict[str, Any],
    wide: dict[str, Any],
) -> None:
    if reason := engines.missing(name):
        pytest.skip(reason)
    engines.build(name, vectors, tmp_path / "i", built)
    searching = engines.load(name, tmp_path / "i", 1)
    true = [{engines.id_of(row) for row in rows} for rows in vectors.asking_true.tolist()]

    def recall(settings: dict[str, Any]) -> float:
        search = searching(settings)
        together = search(vectors.asking)
        assert search(vectors.asking[7])[0] == together[7]
        return float(np.mean([len(set(a) & b) / 10 for a, b in zip(together, true, strict=True)]))

    little = recall(narrow)
    assert 0.2 < little < recall(wide) and recall(wide) > 0.98


def test_what_was_measured_is_not_measured_again(
    vectors: Vectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := scann_engine.unavailable():
        pytest.skip(reason)
    used = [engines.OURS] + ([] if engines.missing("hnswlib") else ["hnswlib"])
    found = Measurer(vectors, tmp_path, GRID, used).measured()
    for name, about in found["timed"]["0.9"]["engines"].items():
        assert about["recall"] > 0.85 and about["memory_bytes"] > 0
        for mode in measuring.MODES:
            seconds = about[mode]["seconds"]
            assert len(seconds) == 2 and about[mode]["queries_per_second"] > 0
            ours = found["timed"]["0.9"]["engines"][engines.OURS][mode]["seconds"]
            ratios = [each / own for each, own in zip(seconds, ours, strict=True)]
            assert about[mode]["ours_over_it"] == pytest.approx(np.median(ratios)), name
    monkeypatch.setattr(measuring, "Worker", lambda *_, **__: pytest.fail("measured again"))
    again = Measurer(vectors, tmp_path, GRID, used).measured()
    assert json.dumps(again, sort_keys=True) == json.dumps(found, sort_keys=True)
    report.draw([found], tmp_path / "ann.svg")
    assert "<svg" in (tmp_path / "ann.svg").read_text("utf-8")
    if len(used) > 1:  # the page is a comparison
        page = report.body([json.loads(json.dumps(found))], "ann.svg", {"hnswlib": "0.8.0"})
        assert f"## {ROWS:,} x {DIM} clustered" in page and "recall@10 0.9" in page
        assert "Compared: hnswlib 0.8.0." in page


def test_a_recall_that_none_of_the_grid_reaches_is_said(vectors: Vectors, tmp_path: Path) -> None:
    measurer = Measurer(vectors, tmp_path, GRID, [engines.OURS])
    points = [
        {"search": {"ef": 1}, "recall": 0.93, "error": 0.01, "seconds": 3.0},
        {"search": {"ef": 2}, "recall": 0.92, "error": 0.01, "seconds": 2.0},
        {"search": {"ef": 3}, "recall": 0.92, "error": 0.03, "seconds": 1.0},
    ]
    assert measurer._choice(points, 0.9) == points[1]
    assert measurer._choice(points, 0.95) is None


def test_a_process_that_ends_is_noticed(vectors: Vectors, tmp_path: Path) -> None:
    with (
        Worker("hnswlib", vectors.folder, one=True) as worker,
        pytest.raises(RuntimeError, match="ended with no answer"),
    ):
        worker.ask("load", folder=str(tmp_path / "nothing"))


def test_of_points_only_those_count_that_no_other_beats() -> None:
    rng = np.random.default_rng(0)
    points = [(float(a), float(b)) for a, b in rng.random((40, 2)).round(1)]
    best = {
        one
        for one in points
        if not any(other != one and other[0] >= one[0] and other[1] >= one[1] for other in points)
    }
    assert report.front(points) == sorted(best)
    assert report.front([]) == []


def test_the_grid_grows_with_the_vectors() -> None:
    grid = ann.grid_of(1_000_000, 256)
    lists = {each["lists"] for each in grid.builds["faiss_ivfpq"]}
    assert lists == {1_024, 4_096}
    assert {each["code"] for each in grid.builds["faiss_ivfpq"]} == {"PQ64", "PQ128x4fs"}
    every = list(engines.NAMES)
    minutes = ann.minutes_of(1_000_000, 256, grid, every, 2)
    assert 20 < minutes < 60
    quick = ann.grid_of(20_000, 64, quick=True)
    assert ann.minutes_of(20_000, 64, quick, every, 2) < 3
    assert dataclasses.asdict(grid)["targets"] == (0.90, 0.95, 0.99)
