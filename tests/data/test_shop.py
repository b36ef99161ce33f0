"""The built-in shop: items depend on their place alone, and the test split stays unseen."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.schema import parse_record, validate_record
from kmm_jax.data.shop import COLOURS, PATTERNS, TYPES, ShopConfig, generate, render_item
from kmm_jax.data.shop.shop import scene_of

TRAIN = ShopConfig(items=4000, seed=3, split="train")
TEST = ShopConfig(items=1500, seed=3, split="test")


@pytest.fixture(scope="module")
def items():
    return list(generate(dataclasses.replace(TRAIN, items=500, image_size=64)))


def test_item_does_not_depend_on_the_range_it_is_generated_in():
    config = ShopConfig(items=12, seed=5, split="train", image_size=48)
    whole = list(generate(config))
    for index in (11, 0, 7):
        alone = render_item(dataclasses.replace(config, items=1), index)
        assert alone.jpeg == whole[index].jpeg
        assert alone.record == whole[index].record


def test_seed_and_split_each_give_other_items():
    base = ShopConfig(items=1, seed=5, split="train", image_size=48)
    others = [base, dataclasses.replace(base, seed=6), dataclasses.replace(base, split="test")]
    assert len({render_item(config, 0).jpeg for config in others}) == 3


def test_another_interpreter_draws_the_same_bytes():
    program = (
        "import hashlib; from kmm_jax.data.shop import *\n"
        "c = ShopConfig(items=4, seed=5, split='test', image_size=48)\n"
        "print(hashlib.sha256(b''.join(i.jpeg + repr(i.record).encode() for i in generate(c)))"
        ".hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(found) == 1


def test_every_item_has_a_hash_of_its_own(items):
    hashes = [item.record["image_hash"] for item in items]
    assert len(set(hashes)) == len(hashes)
    assert all(hashlib.sha256(i.jpeg).hexdigest().startswith(i.record["image_hash"]) for i in items)


def test_records_pass_the_schema_and_carry_every_field_of_the_slide(items):
    slide = [
        "image_hash",
        "image_url",
        "image_size",
        "title",
        "query",
        "query_count",
        "title_kelip_score",
        "query_kelip_score",
        "image_white_pixel_ratio",
        "watermark_score",
        "ocr_num_box",
        "ocr_ratio_box",
    ]
    for item in items:
        assert set(slide) <= set(item.record)
        assert validate_record(dict(item.record)) == item.record
        assert parse_record(json.dumps(item.record).encode()) == item.record
        assert len(item.record["query"]) == len(item.record["query_count"]) >= 1
        assert len(item.record["query"]) <= 4
        assert item.record["title_kelip_score"] is None  # nothing scored it
        image = Image.open(io.BytesIO(item.jpeg))
        assert list(image.size) == item.record["image_size"] == [64, 64]


def test_white_pixel_ratio_is_that_of_the_picture(items):
    for item in items[:40]:
        expected = np.mean(np.asarray(item.image).min(-1) >= 250)
        assert item.record["image_white_pixel_ratio"] == pytest.approx(expected)


def test_test_combinations_never_occur_in_training():
    def combinations(config):
        return {
            (g.kind, g.colour, g.pattern)
            for index in range(config.items)
            for g in scene_of(config, index).garments
        }

    train = combinations(TRAIN) | combinations(dataclasses.replace(TRAIN, seed=4))
    test = combinations(TEST) | combinations(dataclasses.replace(TEST, seed=4))
    assert len(test) == len(TYPES) * len(COLOURS)
    assert not train & test


def test_training_meets_every_type_colour_pattern_and_pair():
    shown = [g for index in range(TRAIN.items) for g in scene_of(TRAIN, index).garments]
    assert {g.kind for g in shown} == {key for key, _ in TYPES}
    assert {g.colour for g in shown} == {key for key, _ in COLOURS}
    assert {g.pattern for g in shown} == {key for key, _ in PATTERNS}
    assert len({(g.kind, g.colour) for g in shown}) == len(TYPES) * len(COLOURS)
    assert len({(g.kind, g.pattern) for g in shown}) == len(TYPES) * len(PATTERNS)
    assert len({(g.colour, g.pattern) for g in shown}) == len(COLOURS) * len(PATTERNS)


def test_types_are_balanced_in_a_small_gallery():
    small = dataclasses.replace(TEST, items=len(TYPES) * len(COLOURS), several_share=0.0)
    count = Counter(scene_of(small, i).garments[0].kind for i in range(small.items))
    assert set(count.values()) == {len(COLOURS)}


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_several_share_is_the_share_of_pictures_with_several(share):
    config = dataclasses.replace(TRAIN, several_share=share)
    several = [len(scene_of(config, index).garments) > 1 for index in range(1000)]
    assert np.mean(several) == pytest.approx(share, abs=0.04)


def test_garments_in_one_picture_are_of_different_types():
    config = dataclasses.replace(TRAIN, several_share=1.0)
    for index in range(300):
        kinds = [g.kind for g in scene_of(config, index).garments]
        assert len(kinds) == len(set(kinds)) in (2, 3)


def test_labels_stand_on_single_pictures_alone(items):
    for index, item in enumerate(items):
        garments = scene_of(TRAIN, index).garments
        boxes = [(b["type"], b["color"], b["pattern"]) for b in item.record["boxes"]]
        assert boxes == [(g.kind, g.colour, g.pattern) for g in garments]
        if len(garments) == 1:
            assert tuple(item.record["labels"].values()) == boxes[0]
        else:
            assert "labels" not in item.record
