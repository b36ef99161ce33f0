import numpy as np
import pytest

from kmm_jax.retrieval import exact
from kmm_jax.retrieval.exact import ExactSearcher
from tests.retrieval.conftest import clustered, nearest_by_numpy


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_blocks_of_any_number_give_what_numpy_gives(rows, k):
    vectors, queries = unit(clustered(rows)), unit(clustered(5, seed=1))
    k = min(k, rows)
    found, scores = ExactSearcher(vectors, block_rows=64).search(queries, k)
    np.testing.assert_array_equal(found, nearest_by_numpy(vectors, queries, k))
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, found, 1), atol=1e-6)


def test_ties_go_to_the_lower_row_across_blocks():
    vectors = np.tile(np.eye(4, dtype=np.float32)[:1], (200, 1))
    found, _ = ExactSearcher(vectors, block_rows=32).search(vectors[:1], 150)
    np.testing.assert_array_equal(found[0], np.arange(150))


def test_more_queries_than_a_group_keep_their_order():
    vectors = unit(clustered(100, dim=4))
    queries = unit(clustered(exact._QUERIES + 3, dim=4, seed=2))
    found, _ = ExactSearcher(vectors).search(queries, 3)
    np.testing.assert_array_equal(found, nearest_by_numpy(vectors, queries, 3))


def test_no_queries_find_nothing():
    found, scores = ExactSearcher(unit(clustered(10))).search(np.zeros((0, 16), np.float32), 3)
    assert found.shape == scores.shape == (0, 3)


def test_numbers_of_queries_share_compiled_shapes():
    searcher = ExactSearcher(unit(clustered(100, dim=8)), block_rows=32)
    queries = unit(clustered(16, dim=8, seed=3))
    searcher.search(queries, 10)
    compiled = exact._better._cache_size()
    for count in range(9, 17):
        for k in (9, 12, 16):
            searcher.search(queries[:count], k)
    assert exact._better._cache_size() == compiled


def test_vectors_that_do_not_stay_on_the_device_are_read_anew():
    vectors, queries = unit(clustered(100)), unit(clustered(5, seed=1))
    searcher = ExactSearcher(vectors, block_rows=32, kept_bytes=0)
    found, _ = searcher.search(queries, 5)
    assert not searcher._kept
    np.testing.assert_array_equal(found, nearest_by_numpy(vectors, queries, 5))
