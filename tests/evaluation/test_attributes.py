"""Attributes: what is asked of rows, and the shares that are right, against loops."""

from __future__ import annotations

import numpy as np
import pytest

from kmm_jax.data.shop import write_shop
from kmm_jax.data.sources import open_source
from kmm_jax.data.statements import Attribute, described
from kmm_jax.errors import DataError
from kmm_jax.evaluation.attributes import (
    AttributeQueries,
    ask_attributes,
    calibrate,
    probabilities,
    score_attributes,
)

ATTRIBUTES = tuple(
    Attribute(key=key, value=value)
    for key, values in (
        ("색상", "빨강 파랑 노랑"),
        ("패턴", "체크 줄무늬"),
        ("토스타일", "라운드 포인티드"),
    )
    for value in values.split()
)


@pytest.fixture(scope="module")
def asked():
    """Random answers, pulled towards the truth."""
    rng = np.random.default_rng(0)
    true = rng.random((400, len(ATTRIBUTES))) < 0.25
    categories = tuple(rng.choice(["", "신발", "치마"], 400).tolist())
    score = rng.normal(0, 1, true.shape) + 1.2 * true
    return AttributeQueries(
        attributes=ATTRIBUTES,
        score_QA=score,
        true_QA=true,
        categories=categories,
        several=rng.random(400) < 0.3,
    )


def _by_name(table):
    return {score.name: score for score in table.scores}


def test_shares_are_those_of_a_loop(asked):
    found = _by_name(score_attributes(asked, name="x"))
    rows = [row for row, name in enumerate(asked.categories) if not name]
    precise, of_kind, values = [], [], {}
    for row in rows:
        best = sorted(range(len(ATTRIBUTES)), key=lambda a: -asked.score_QA[row, a])[:5]
        keys = {ATTRIBUTES[a].key for a in range(len(ATTRIBUTES)) if asked.true_QA[row, a]}
        precise += [asked.true_QA[row, a] for a in best]
        of_kind += [ATTRIBUTES[a].key in keys for a in best] if keys else []
        for key in keys:
            own = [a for a in range(len(ATTRIBUTES)) if ATTRIBUTES[a].key == key]
            top = max(own, key=lambda a: asked.score_QA[row, a])
            values.setdefault(key, []).append(asked.true_QA[row, top])
    assert found["alone/precision@5"].value == pytest.approx(np.mean(precise))
    assert found["alone/kind@5"].value == pytest.approx(np.mean(of_kind))
    for key, hits in values.items():
        assert found[f"alone/value/{key}"].value == pytest.approx(np.mean(hits))
    assert found["alone/value"].value == pytest.approx(
        np.mean([np.mean(hits) for hits in values.values()])
    )
    assert found["alone/value"].value > found["alone/value"].chance


def test_a_key_that_nearly_everything_has_says_nothing_of_kinds(asked):
    """With a colour always there, and always first, the kinds of the rest are what counts."""
    score, true = asked.score_QA.copy(), asked.true_QA.copy()
    true[:, :3] = [True, False, False]
    score[:, :3] += 100
    common = AttributeQueries(
        attributes=ATTRIBUTES,
        score_QA=score,
        true_QA=true,
        categories=asked.categories,
        several=asked.several,
    )
    found = _by_name(score_attributes(common, name="x"))["alone/kind@5"]
    alone = [row for row, name in enumerate(asked.categories) if not name]
    shares = []
    for row in alone:
        keys = {ATTRIBUTES[a].key for a in range(3, 7) if true[row, a]}
        if keys:
            shares.append(np.mean([ATTRIBUTES[a].key in keys for a in range(3, 7)]))
    assert found.value == pytest.approx(np.mean(shares))  # all four of them are among five


def test_pictures_of_several_things_are_counted_apart(asked):
    found = _by_name(score_attributes(asked, name="x"))
    some = np.flatnonzero(asked.several & np.asarray([not name for name in asked.categories]))
    only = AttributeQueries(
        attributes=ATTRIBUTES,
        score_QA=asked.score_QA[some],
        true_QA=asked.true_QA[some],
        categories=tuple(asked.categories[row] for row in some),
        several=asked.several[some],
    )
    again = _by_name(score_attributes(only, name="x", prior_A=asked.true_QA.mean(axis=0)))
    assert found["several/alone/value"].value == again["alone/value"].value


def test_calibrated_scores_compare_between_keys(asked):
    """Of keys whose scores have other units, the probabilities are alike, and so is the order."""
    units = np.asarray([{"색상": 1.0, "패턴": 50.0, "토스타일": 0.01}[a.key] for a in ATTRIBUTES])
    scaled = AttributeQueries(
        attributes=ATTRIBUTES,
        score_QA=asked.score_QA * units,
        true_QA=asked.true_QA,
        categories=asked.categories,
        several=asked.several,
    )
    plain, other = (
        _by_name(score_attributes(one, name="x", calibration=calibrate(one)))
        for one in (asked, scaled)
    )
    for name, tolerance in (("alone/precision@5", 0.01), ("calibration_error", 1e-3)):
        assert other[name].value == pytest.approx(plain[name].value, abs=tolerance)
    assert plain["calibration_error"].value < 0.03


def test_keys_with_too_few_truths_are_not_calibrated(asked):
    true = asked.true_QA.copy()
    true[9:, 5:] = False
    few = AttributeQueries(
        attributes=ATTRIBUTES,
        score_QA=asked.score_QA,
        true_QA=true,
        categories=asked.categories,
        several=asked.several,
    )
    calibration = calibrate(few)
    assert calibration.keys() == {"색상", "패턴"}
    assert np.isnan(probabilities(few, calibration)[:, 5:]).all()
    assert _by_name(score_attributes(few, name="x", calibration=calibration))


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attributes") / "shop"
    write_shop(folder, train=40, test=4, seed=0, image_size=32, attributes=True, processes=1)
    return open_source(f"{folder}/train-*.tar")


def test_every_row_is_asked_alone_and_by_all_its_categories(shop):
    rows = [described(shop.read(number).record) for number in range(len(shop))]
    attributes = tuple(dict.fromkeys(one for row in rows for one in row.attributes()))
    seen = []

    def scores(images, names):
        seen.extend(names)
        assert all(image.shape == (32, 32, 3) for image in images)
        return np.zeros((len(images), len(attributes)), np.float32)

    asked = ask_attributes(shop, scores, attributes, image_size=32, batch_size=16)
    expected = [name for row in rows for name in ("", *row.categories())]
    assert seen == list(asked.categories) == expected
    at = iter(asked.true_QA)
    for row in rows:
        for name in ("", *row.categories()):
            true = next(at)
            assert {a for a, yes in zip(attributes, true, strict=True) if yes} == set(
                row.attributes(name)
            )
    assert asked.several.any() and not asked.several.all()


def test_rows_that_tell_nothing_are_refused(tmp_path):
    write_shop(tmp_path / "shop", train=4, test=1, seed=0, image_size=32, processes=1)
    source = open_source(f"{tmp_path}/shop/train-*.tar")

    class Bare:
        """The same rows without what they say of their things."""

        name = "bare"

        def __len__(self):
            return len(source)

        def read(self, number):
            import dataclasses

            row = source.read(number)
            record = {k: v for k, v in row.record.items() if k not in ("attributes", "items")}
            return dataclasses.replace(row, record=record)

    with pytest.raises(DataError, match="no record has items"):
        ask_attributes(Bare(), None, ATTRIBUTES, image_size=32, batch_size=4)
