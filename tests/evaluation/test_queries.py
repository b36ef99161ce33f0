"""Generated queries against their records' own: every pair counted by hand."""

import dataclasses
import itertools
import statistics

import numpy as np
import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.evaluation.dataset import read_set
from kmm_jax.evaluation.queries import QueryEvaluator, compare_queries, score_queries
from tests.evaluation.conftest import BATCH, NAMES, ROWS, SIZE


def embedder(seed, dimension=4):
    """A fixed random unit vector a text."""

    def embed(texts):
        rows = [
            np.random.default_rng([seed, *text.encode()]).normal(size=dimension) for text in texts
        ]
        found = np.asarray(rows, np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return embed


def slow_rank(generated, own, gallery, embed):
    """1 + the queries of others that lie at least as near as the nearest of its own."""
    (vector,) = embed([generated])
    near = {text: float(embed([text])[0] @ vector) for text in gallery}
    best = max(near[text] for text in own)
    return 1 + sum(near[text] >= best - 1e-6 for text in gallery if text not in own)


@pytest.mark.parametrize("seed", range(4))
def test_scores_and_their_chance_are_those_of_all_pairs_counted_one_by_one(seed):
    rng = np.random.default_rng(seed)
    words = [f"옷 {number}" for number in range(9)]
    own = [list(rng.choice(words, rng.integers(1, 4), replace=False)) for _ in range(12)]
    generated = list(rng.choice([*words, "모름", "다른 것"], 12))
    embed = embedder(seed)
    found = compare_queries(generated, own, embed)

    gallery = sorted({text for texts in own for text in texts})
    ranks = {
        (i, j): slow_rank(generated[i], own[j], gallery, embed)
        for i, j in itertools.product(range(12), repeat=2)
    }
    real = [ranks[i, i] for i in range(12)]
    assert found.exact == sum(generated[i] in own[i] for i in range(12)) / 12
    assert found.chance_exact == pytest.approx(sum(generated[i] in own[j] for i, j in ranks) / 144)
    for k in (1, 5, 10):
        assert found.at[k] == sum(rank <= k for rank in real) / 12
        assert found.chance_at[k] == pytest.approx(sum(r <= k for r in ranks.values()) / 144)
    assert found.median_rank == statistics.median(real)
    assert found.chance_median_rank == statistics.median_low(ranks.values())


def test_a_query_of_its_own_ranks_first_and_counts_once_normalised():
    own = [["빨간  셔츠", "셔츠"], ["파란 모자"]]
    found = compare_queries(["빨간 셔츠", " 파란 모자"], own, embedder(0))
    assert (found.exact, found.at[1], found.median_rank) == (1, 1, 1)
    assert found.chance_exact == found.chance_at[1] == 0.5


def test_the_commonest_query_of_every_image_has_no_more_than_chance():
    own = [["셔츠"]] * 6 + [["모자"], ["가방"]]
    found = compare_queries(["셔츠"] * 8, own, embedder(1))
    assert found.exact == found.chance_exact == 6 / 8
    assert found.at[1] == found.chance_at[1] == 6 / 8


def test_an_encoder_whose_vectors_are_all_equal_finds_nothing():
    own = [[f"옷 {number}"] for number in range(12)]
    same = np.ones((1, 3), np.float32) / np.sqrt(3)
    found = compare_queries(
        [texts[0] for texts in own], own, lambda texts: np.repeat(same, len(texts), axis=0)
    )
    assert found.exact == 1
    assert found.at[10] == 0
    assert found.median_rank == 12


@pytest.mark.parametrize(
    ("generated", "own"), [([], []), (["옷"], []), (["옷", "옷"], [["옷"], []])]
)
def test_rows_without_a_query_are_refused(generated, own):
    with pytest.raises(ValueError, match="queries of its own"):
        compare_queries(generated, own, embedder(0))


def read(shards, encoder, styles=("query",)):
    return read_set(
        shards, encoder, image_size=SIZE, batch_size=BATCH, caption_styles=styles, vectors=False
    )


def test_queries_of_the_right_colour_find_their_record(shards, encoder):
    rows = read(shards, encoder)
    table = score_queries(rows, lambda texts: encoder.text(texts, "query"), style="query")
    values = {score.name: (score.value, score.chance) for score in table.scores}
    # "빨간색 옷을 찍은 사진" is no query, but of red it says what both red queries say.
    assert values["exact"] == (0, 0)
    assert values["nearest/r1"][0] == 1
    assert values["nearest/r1"][1] == pytest.approx(1 / len(NAMES), abs=0.02)
    assert table.facts == {"images": ROWS, "gallery": 2 * len(NAMES)}


def test_rows_without_queries_are_left_out_and_a_set_without_captions_is_refused(shards, encoder):
    rows = read(shards, encoder)
    bare = dataclasses.replace(rows.rows[0], texts={"caption": ("옷",)})
    rows = dataclasses.replace(rows, rows=(bare, *rows.rows[1:]))
    table = score_queries(rows, lambda texts: encoder.text(texts, "query"), style="query")
    assert table.facts["images"] == ROWS - 1
    with pytest.raises(ConfigError, match="no queries were made"):
        score_queries(rows, lambda texts: encoder.text(texts, None), style=None)


def test_the_evaluator_yields_every_score_and_nothing_without_captions(data, eye):
    found = dict(QueryEvaluator(data=data).run(eye.functions(), np.float32(1)))
    assert found["queries/nearest/r1"] == 1
    assert {"queries/chance_exact", "queries/nearest/chance_r5", "queries/gallery"} <= set(found)
    functions = {"encode_text": eye.text, "encode_image": eye.image}
    assert list(QueryEvaluator(data=data).run(functions, np.float32(1))) == []
