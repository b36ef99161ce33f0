"""Statements about things in pictures: from records to batches."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.data.loader import Loader
from kmm_jax.data.schema import validate_record
from kmm_jax.data.shop import write_shop
from kmm_jax.data.statements import KNOWN, TEMPLATES, Attribute, described, text_code
from kmm_jax.errors import ConfigError, DataError

SHOES = {
    "category": "패션잡화|신발|여성구두",
    "attributes": {"토스타일": "라운드 토", "색상": "빨간색"},
}
SKIRT = {"category": "패션의류|여성의류|스커트", "attributes": {"총기장": "미니", "색상": "빨간색"}}
BOTH = {"image_hash": "a", "items": [SHOES, SKIRT]}


def test_the_slides_sentence_has_the_right_particles() -> None:
    assert Attribute(key="토스타일", value="라운드 토").sentence() == (
        "이 상품의 토스타일은 라운드 토입니다"
    )
    assert Attribute(key="소재", value="면").sentence() == "이 상품의 소재는 면입니다"


def test_a_category_chooses_the_items_under_it() -> None:
    found = described(BOTH)
    assert found is not None
    assert found.categories() == (
        *("패션잡화", "신발", "여성구두"),
        *("패션의류", "여성의류", "스커트"),
    )
    assert {one.key for one in found.attributes("신발")} == {"토스타일", "색상"}
    assert {one.key for one in found.attributes("스커트")} == {"총기장", "색상"}
    assert {one.value for one in found.attributes()} == {"라운드 토", "빨간색", "미니"}


def test_a_drawn_statement_is_true_and_knows_what_else_is() -> None:
    found = described(BOTH)
    assert found is not None
    rng = np.random.default_rng(0)
    drawn = [found.draw(rng, alone=0.25) for _ in range(4000)]
    for one in drawn:
        true = found.attributes(one.category)
        assert one.attribute in true
        assert one.known[0] == one.attribute.code
        assert set(one.known) == {each.code for each in true}
        assert one.text in {one.attribute.sentence(template) for template in TEMPLATES}
    asked = collections.Counter(one.category for one in drawn)
    assert asked[""] / len(drawn) == pytest.approx(0.25, abs=0.03)
    assert all(
        asked[level] / len(drawn) == pytest.approx(0.125, abs=0.03) for level in ("신발", "스커트")
    )


def test_a_record_without_items_is_one_item() -> None:
    found = described(
        {"category": ["상의", "티셔츠"], "attributes": {"소재": ["면", "울"], "핏": None}}
    )
    assert found is not None
    (item,) = found.items
    assert item.levels == ("상의", "티셔츠")
    assert [one.value for one in item.attributes] == ["면", "울"]
    assert described({"category": "상의"}) is None


def test_decomposed_hangul_is_the_same_attribute() -> None:
    import unicodedata

    (one,) = described({"attributes": {"색상": "빨간색"}}).items  # type: ignore[union-attr]
    decomposed = unicodedata.normalize("NFD", "빨간색")
    (other,) = described({"attributes": {"색상": decomposed}}).items  # type: ignore[union-attr]
    assert one.attributes[0].code == other.attributes[0].code


def test_codes_are_int32_and_never_zero() -> None:
    codes = {text_code(f"속성 {number}") for number in range(5000)}
    assert 0 not in codes
    assert min(codes) < 0 < max(codes)
    assert all(np.int32(code) == code for code in codes)
    assert len(codes) == 5000


@pytest.mark.parametrize("items", ["신발", [1], [{"category": 3}], [{"attributes": {"a": {}}}]])
def test_items_of_a_wrong_form_are_refused(items: object) -> None:
    with pytest.raises(DataError, match="items must be a list of"):
        validate_record({"image_hash": "a", "items": items})


def test_items_are_enough_for_a_record() -> None:
    assert validate_record(dict(BOTH))["items"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("statements") / "shop"
    write_shop(folder, train=60, test=4, seed=0, image_size=32, attributes=True, processes=1)
    return folder


def _config(shop, **changes):
    values = {"fields": (("statements", 3.0), ("query", 1.0)), **changes}
    return DataConfig(
        sources=(SourceConfig(url=f"{shop}/train-*.tar"),), image_size=32, text_length=24, **values
    )


def test_batches_hold_what_is_asked_stated_and_known(shop, tokenizer) -> None:
    loader = Loader(_config(shop), tokenizer, global_batch_size=40)
    batch = loader.batch(0)
    assert batch["category"].shape == batch["text"].shape == (40, 24)
    assert batch["known"].shape == (40, KNOWN)
    assert (batch["statement"] != 0).all()
    np.testing.assert_array_equal(batch["statement"], batch["known"][:, 0])
    (empty,) = tokenizer.sequences([""], "query", 24)
    alone = (batch["category"] == empty).all(axis=1)
    assert 8 <= alone.sum() <= 32  # queries, and a quarter of the statements
    (again,) = [Loader(_config(shop), tokenizer, global_batch_size=40).batch(0)]
    for name, value in batch.items():
        np.testing.assert_array_equal(value, again[name])


def test_things_of_several_garments_have_attributes_of_their_own(shop) -> None:
    from kmm_jax.data.sources import open_source

    source = open_source(f"{shop}/train-*.tar")
    records = [source.read(number).record for number in range(len(source))]
    several = [record for record in records if len(record["boxes"]) > 1]
    assert several
    for record in several:
        assert len(record["items"]) == len(record["boxes"])
        assert all("색상" in item["attributes"] for item in record["items"])
    with_types = {
        key for record in records for item in record["items"] for key in item["attributes"]
    }
    assert {"토스타일", "총기장", "소매기장"} <= with_types


def test_settings_that_cannot_be_are_refused(shop) -> None:
    with pytest.raises(ConfigError, match="both questions and statements"):
        _config(shop, fields=(("statements", 1.0), ("questions", 1.0)))
    with pytest.raises(ConfigError, match=r"data\.alone is a share"):
        _config(shop, alone=1.5)
