"""Recall against brute force, and chance against random galleries."""

import itertools

import numpy as np
import pytest

from kmm_jax.evaluation.recall import chance, recalls


def unit(rng, rows, size=16):
    vectors = rng.standard_normal((rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def some_positives(rng, queries, gallery):
    counts = rng.integers(1, 5, queries)
    return [rng.choice(gallery, count, replace=False) for count in counts]


def brute_force(query, gallery, positives, k):
    hits = 0
    for vector, own in zip(query, positives, strict=True):
        order = sorted(range(len(gallery)), key=lambda j: -float(vector @ gallery[j]))
        hits += bool(set(order[:k]) & set(own.tolist()))
    return hits / len(query)


@pytest.mark.parametrize("block_values", [1, 7, 64, 10_000, 16_000_000])
def test_recalls_equal_brute_force_whatever_the_block(block_values):
    rng = np.random.default_rng(0)
    query, gallery = unit(rng, 60), unit(rng, 45)
    positives = some_positives(rng, 60, 45)
    found = recalls(query, gallery, positives, block_values=block_values)
    assert found.at == {k: brute_force(query, gallery, positives, k) for k in (1, 5, 10)}
    assert (found.queries, found.gallery) == (60, 45)


def test_chance_equals_all_draws_of_a_small_gallery():
    for positives, k in itertools.product((1, 2, 5, 6), (1, 3, 6)):
        draws = list(itertools.combinations(range(6), k))
        expected = np.mean([min(draw) < positives for draw in draws])
        assert chance(np.asarray([positives]), 6, k) == pytest.approx(expected, abs=1e-12)


def test_chance_averages_over_queries_and_is_1_beyond_the_gallery():
    assert chance(np.asarray([1, 3]), 10, 1) == pytest.approx(0.2)
    assert chance(np.asarray([1, 3]), 4, 10) == 1.0


def test_random_vectors_give_chance():
    rng = np.random.default_rng(1)
    query, gallery = unit(rng, 4000), unit(rng, 200)
    found = recalls(query, gallery, some_positives(rng, 4000, 200))
    for k, share in found.chance.items():
        error = 4 * np.sqrt(share * (1 - share) / 4000)
        assert found.at[k] == pytest.approx(share, abs=error)


def test_equal_vectors_give_1():
    vectors = unit(np.random.default_rng(2), 50)
    found = recalls(vectors, vectors, [np.asarray([i]) for i in range(50)])
    assert found.at == {1: 1.0, 5: 1.0, 10: 1.0}


def test_a_collapsed_model_finds_nothing():
    same = np.tile(unit(np.random.default_rng(3), 1), (40, 1))
    found = recalls(same, same, [np.asarray([i]) for i in range(40)])
    assert found.at == {1: 0.0, 5: 0.0, 10: 0.0}


def test_several_positives_never_stand_in_each_others_way():
    # Nine positives before the first negative: one of them is the first hit.
    gallery = unit(np.random.default_rng(4), 30)
    query = gallery[:1]
    nearest = np.argsort(-(gallery @ query[0]))
    assert recalls(query, gallery, [nearest[:9]]).at[1] == 1.0
    assert recalls(query, gallery, [nearest[5:9]]).at == {1: 0.0, 5: 0.0, 10: 1.0}


def test_memory_stays_bounded_by_the_block(monkeypatch):
    rng = np.random.default_rng(5)
    query, gallery = unit(rng, 300, 8), unit(rng, 500, 8)
    largest = []
    real = np.ndarray.__matmul__

    class Watched(np.ndarray):
        def __matmul__(self, other):
            result = real(np.asarray(self), np.asarray(other))
            largest.append(result.size)
            return result

    recalls(query.view(Watched), gallery, some_positives(rng, 300, 500), block_values=1000)
    assert max(largest) <= 1000
    assert sum(largest) == 300 * 500


@pytest.mark.parametrize("positives", [[np.asarray([0])], [np.asarray([0]), np.asarray([], int)]])
def test_a_query_without_a_positive_is_refused(positives):
    vectors = unit(np.random.default_rng(6), 2)
    with pytest.raises(ValueError, match="positive"):
        recalls(vectors, vectors, positives)
