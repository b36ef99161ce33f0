"""Vectors kept as bfloat16: half the bytes, and answers that stay those of float32."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.retrieval import Collection, Index, IndexSettings, export_embeddings, load_embeddings
from kmm_jax.retrieval.vectors import stored_rows, unit_rows
from tests.retrieval.conftest import clustered, names, nearest_by_numpy

ROWS = 2_000
VECTORS = clustered(ROWS, dim=64)
QUERIES = VECTORS[:50] + 0.2 * clustered(50, dim=64, seed=3)
LAYOUTS = ("brute_force", "hashed", "tree")


def size_of(folder: Path, name: str) -> int:
    return sum(each.stat().st_size for each in folder.rglob(name))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rescore", ["memory", "mapped"])
def test_half_the_bytes_find_what_brute_force_over_float32_finds(
    tmp_path: Path, needs_scann: None, layout: str, rescore: str
) -> None:
    settings = IndexSettings(engine="scann", layout=layout, dtype="bfloat16", rescore=rescore)
    index = Index.build(tmp_path / "i", names(ROWS), VECTORS, model_hash="m", settings=settings)
    wide = Index.build(
        tmp_path / "w",
        names(ROWS),
        VECTORS,
        model_hash="m",
        settings=IndexSettings(layout=layout),
    )
    assert size_of(tmp_path / "i", "vectors.npy") == ROWS * 64 * 2 + 128
    assert size_of(tmp_path / "w", "vectors.npy") == ROWS * 64 * 4 + 128
    assert not list((tmp_path / "i").rglob("*dataset.npy")) or layout != "brute_force"
    assert not list((tmp_path / "i" / "scann").glob("bfloat16_dataset.npy"))
    true = nearest_by_numpy(VECTORS, QUERIES, 10)
    found = Index.load(tmp_path / "i").search(QUERIES, 10)
    hits = [len(set(a) & set(b)) for a, b in zip(found.rows.tolist(), true.tolist(), strict=True)]
    assert sum(hits) / true.size >= 0.95
    assert index.built_recall is not None and index.built_recall >= 0.95
    # Against cosines of the float32 vectors: the rounding of a unit vector moves none further.
    cosines = np.einsum("qkd,qd->qk", unit_rows(VECTORS, "v")[found.rows], unit_rows(QUERIES, "q"))
    assert np.abs(found.scores - cosines).max() <= 2**-9 + 1e-6
    assert (wide.built_recall is None) == (layout == "brute_force")


def test_scores_from_the_mapped_file_are_float32_products_with_what_is_stored(
    tmp_path: Path, needs_scann: None
) -> None:
    for dtype in ("float32", "bfloat16"):
        settings = IndexSettings(engine="scann", layout="tree", dtype=dtype, rescore="mapped")
        index = Index.build(
            tmp_path / dtype, names(ROWS), VECTORS, model_hash="m", settings=settings
        )
        assert "rescored from disk" in index.info()["engine"]
        found = index.search(QUERIES, 7)
        stored = index.vectors_of(found.rows.ravel()).reshape(*found.rows.shape, -1)
        wanted = np.einsum("qkd,qd->qk", stored, unit_rows(QUERIES, "q"))
        np.testing.assert_allclose(found.scores, wanted, atol=1e-6)
        assert (np.diff(found.scores, axis=1) <= 0).all()


def test_recall_is_measured_against_what_was_given_not_what_was_kept(
    tmp_path: Path, needs_scann: None
) -> None:
    """Neighbours that only float32 tells apart: exact search over bfloat16 must miss some."""
    rng = np.random.default_rng(0)
    near = np.ones((400, 32), np.float32) + 1e-3 * rng.normal(size=(400, 32)).astype(np.float32)
    settings = IndexSettings(engine="exact", dtype="bfloat16")
    index = Index.build(tmp_path / "i", names(400), near, model_hash="m", settings=settings)
    assert not index.approximate
    assert index.built_recall is not None and index.built_recall < 0.9
    queries = unit_rows(near, "q")
    rounded = queries.astype(ml_dtypes.bfloat16).astype(np.float32)
    by_hand = np.argsort(-(queries[:5] @ rounded.T), axis=1, kind="stable")[:, :10]
    assert (index.search(near[:5], 10).scores >= 0.99).all()
    assert set(index.search(near[:5], 400).rows[0]) == set(range(400))
    scores = index.search(near[:5], 10).scores
    np.testing.assert_allclose(
        scores, np.take_along_axis(queries[:5] @ rounded.T, by_hand, 1), atol=1e-6
    )


def test_rows_that_are_written_again_and_again_stay_bit_for_bit() -> None:
    once = stored_rows(VECTORS, "v", "bfloat16")
    assert once.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(stored_rows(once, "v", "bfloat16"), once)
    # Others than unit vectors are brought to length 1.
    twice = stored_rows((2 * VECTORS).astype(ml_dtypes.bfloat16), "v", "bfloat16")
    lengths = np.linalg.norm(twice.astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2**-8)


def test_a_collection_of_bfloat16_changes_and_stays_what_it_was(tmp_path: Path) -> None:
    made = Collection.create(
        tmp_path / "c", model_hash="m", dim=64, settings=IndexSettings(dtype="bfloat16")
    )
    for start in range(0, 600, 100):
        made.put(names(ROWS)[start : start + 100], VECTORS[start : start + 100])
    before = made.vector(names(ROWS)[5])
    assert before.dtype == np.float32
    made.delete(names(ROWS)[:3], erase=True)
    for _ in range(3):
        made.put(["새것"], VECTORS[700:701])
        made.compact()
    np.testing.assert_array_equal(made.vector(names(ROWS)[5]), before)
    (segment,) = made.info()["segments"]
    assert segment["recall@10"] >= 0.95
    true = nearest_by_numpy(VECTORS[3:600], QUERIES, 1)[:, 0] + 3
    found = [each[0] for each in made.search(QUERIES, 1).ids]
    assert np.mean([a == names(ROWS)[b] for a, b in zip(found, true, strict=True)]) >= 0.9
    assert Collection.open(tmp_path / "c").info()["settings"]["dtype"] == "bfloat16"


def test_embeddings_are_kept_as_bfloat16(tmp_path: Path) -> None:
    def export(folder: Path, dtype: str) -> None:
        export_embeddings(
            folder,
            rows=40,
            part_rows=16,
            compute=lambda start, stop: (names(40)[start:stop], VECTORS[start:stop]),
            kind="image",
            model_hash="m",
            dim=64,
            dtype=dtype,
        )

    export(tmp_path / "e", "bfloat16")
    loaded = load_embeddings(tmp_path / "e")
    assert loaded.vectors.dtype == np.float32
    wanted = VECTORS[:40].astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(loaded.vectors, wanted)
    export(tmp_path / "w", "float32")
    assert size_of(tmp_path / "e", "*.parquet") < 0.7 * size_of(tmp_path / "w", "*.parquet")
    with pytest.raises(UserError, match="another dtype"):
        export(tmp_path / "e", "float32")
    assert "dtype" not in json.loads((tmp_path / "w" / "manifest.json").read_text())


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        IndexSettings(dtype="bfloat61")  # type: ignore[arg-type]
    settings = IndexSettings(engine="exact", dtype="bfloat16")
    bad = np.concatenate([VECTORS[:5], np.full((1, 64), np.nan, np.float32)])
    with pytest.raises(DataError, match="NaN or infinite"):
        Index.build(tmp_path / "i", names(6), bad, model_hash="m", settings=settings)
    assert not (tmp_path / "i").exists()
    Index.build(tmp_path / "i", names(5), VECTORS[:5], model_hash="m", settings=settings)
    file = tmp_path / "i" / "vectors.npy"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match="damaged"):
        Index.load(tmp_path / "i")
