"""Similarity and safety against the model asked directly."""

import json
import threading

import numpy as np
import pytest

from kmm_jax import inference
from kmm_jax.corpus import scores
from kmm_jax.corpus.scoring.safety import Safety
from kmm_jax.corpus.scoring.similarity import Similarity
from kmm_jax.errors import ConfigError, DataError


def test_similarity_is_the_cosine_of_picture_and_each_text(tiny_encoder, samples):
    found = Similarity(model=tiny_encoder).load().score(samples)
    model = inference.load(tiny_encoder)
    for sample, values in zip(samples, found, strict=True):
        image = model.embed_image([sample.pixels_HWC])[0]
        for texts, column, style in (
            (sample.titles, "title_kelip_score", "prompt"),
            (sample.queries, "query_kelip_score", "query"),
            (sample.names, "product_name_kelip_score", "shopping"),
            (sample.captions, "caption_kelip_score", "prompt"),
        ):
            assert len(values[column]) == len(texts)
            if texts:
                expected = model.embed_text(list(texts), style) @ image
                np.testing.assert_allclose(values[column], expected, atol=2e-4)
    assert Similarity(model=tiny_encoder).load().score([]) == []


def test_texts_below_their_threshold_leave_and_a_row_without_any_goes():
    rules = Similarity(model="unused", least_title=0.3, least_query=0.2)
    row = {
        "titles": ["가", "나"],
        "title_counts": [3, 1],
        "title_kelip_score": [0.29, 0.3],
        "query": ["다", "라"],
        "query_count": [5, 2],
        "query_kelip_score": [0.1, 0.25],
        "beside": None,
        "product_name_kelip_score": [],
        "caption_kelip_score": [],
    }
    kept, reason = rules.judge(row)
    assert reason is None
    assert kept["titles"] == ["나"] and kept["title_counts"] == [1]
    assert kept["query"] == ["라"] and kept["query_kelip_score"] == [0.25]
    poor = {**row, "title_kelip_score": [0.1, 0.1], "query_kelip_score": [0.1, 0.1]}
    assert rules.judge(poor)[1] == "similarity"
    assert Similarity(model="unused").judge(poor) == (poor, None)  # only measured
    assert rules.thresholds() == {
        "title_kelip_score": ("least", 0.3),
        "product_name_kelip_score": ("least", 0.3),
        "caption_kelip_score": ("least", 0.3),
        "query_kelip_score": ("least", 0.2),
    }


def test_captions_and_names_of_products_are_texts_too():
    rules = Similarity(model="unused", least_title=0.3)
    beside = {"caption": ["가", "나"], "product_name": "다", "category": ["옷"]}
    row = {
        "titles": [],
        "title_counts": [],
        "title_kelip_score": [],
        "query": [],
        "query_count": [],
        "query_kelip_score": [],
        "beside": json.dumps(beside),
        "product_name_kelip_score": [0.1],
        "caption_kelip_score": [0.2, 0.4],
    }
    kept, reason = rules.judge(row)
    assert reason is None
    assert json.loads(kept["beside"]) == {"caption": ["나"], "category": ["옷"]}
    assert kept["caption_kelip_score"] == [0.4] and kept["product_name_kelip_score"] == []
    assert rules.judge({**row, "caption_kelip_score": [0.2, 0.2]})[1] == "similarity"
    named, reason = rules.judge({**row, "product_name_kelip_score": [0.5]})
    assert reason is None and json.loads(named["beside"])["product_name"] == "다"


def test_unsafe_is_the_share_of_the_softmax_over_unsafe_descriptions(tiny_encoder, samples):
    rules = Safety(model=tiny_encoder, unsafe=("잔인한 사진",), safe=("제품 사진", "셔츠"))
    model = inference.load(tiny_encoder)
    texts = model.embed_text(["잔인한 사진", "제품 사진", "셔츠"])
    for sample, values in zip(samples, rules.load().score(samples), strict=True):
        weights = np.exp(100 * texts @ model.embed_image([sample.pixels_HWC])[0])
        assert values["unsafe_score"] == pytest.approx(weights[0] / weights.sum(), abs=5e-3)
    assert rules.judge({"unsafe_score": 0.6})[1] == "unsafe"
    assert rules.judge({"unsafe_score": 0.4})[1] is None
    with pytest.raises(ConfigError, match="both unsafe and safe"):
        Safety(model="x", safe=())


def test_threads_share_one_scorer(tiny_encoder):
    rules, found = Similarity(model=tiny_encoder, least_query=0.123), []
    threads = [
        threading.Thread(target=lambda: found.append(scores.loaded(rules, "x"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(scorer) for scorer in found}) == 1


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        Similarity(model=str(tmp_path / "none")).identity()
    with pytest.raises(ConfigError, match=r"similarity\.model=PATH"):
        Similarity().identity()
