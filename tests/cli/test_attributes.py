"""``kmm attributes``: fit, find and evaluate, with a model of random weights."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from kmm_jax.cli import main
from kmm_jax.cli.attributes import _table
from kmm_jax.data.shop import write_shop
from kmm_jax.data.sources import open_source
from kmm_jax.data.statements import Attribute
from kmm_jax.errors import DataError, UserError
from kmm_jax.inference import load
from kmm_jax.inference.attributes import AttributeSearch, Found, Vocabulary
from kmm_jax.interop import native
from kmm_jax.models.attributes.config import attributes_over
from kmm_jax.models.attributes.modeling import Attributes
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.keys import Keys
from kmm_jax.text.tokenizer import Tokenizer

SIZE = 32


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small shop, a model for it, and the vocabulary that ``fit`` makes."""
    folder = tmp_path_factory.mktemp("attributes")
    shop = {"image_size": SIZE, "attributes": True, "processes": 1}
    write_shop(folder / "shop", train=48, test=12, seed=0, **shop)
    tokenizer = Tokenizer.train(["이 상품의 색상은 빨간색입니다", "신발 치마 셔츠"], vocab_size=300)
    clip = clip_tiny(vocabulary=tokenizer.vocab_size, image_size=SIZE)
    clip = dataclasses.replace(
        clip,
        vision=dataclasses.replace(clip.vision, width=32, depth=1, hidden=64),
        text=dataclasses.replace(clip.text, width=32, depth=1, hidden=64),
        embedding=16,
    )
    config = attributes_over(clip, heads=4)
    module = Attributes(config, rngs=Keys(0))
    module.gate[...] = jax.numpy.ones(32)
    for name, made, of in (("model", module, config), ("clip", CLIP(clip, rngs=Keys(0)), clip)):
        native.save(
            folder / name,
            native.Exported(
                config=of,
                params=nnx.to_pure_dict(nnx.as_pure(nnx.state(made))),
                tokenizer=tokenizer,
                styled=False,
            ),
        )
    row = open_source(f"{folder}/shop/test-*.tar").read(0)
    (folder / "picture.jpg").write_bytes(row.image)
    fit = ["attributes", "fit", str(folder / "model"), f"{folder}/shop/train-*.tar"]
    assert main([*fit, "--output", str(folder / "attributes.json"), "--least", "2"]) == 0
    return folder


def test_fit_tells_which_keys_things_of_a_category_have(place):
    vocabulary = Vocabulary.load(place / "attributes.json")
    assert {"색상", "패턴"} <= set(vocabulary.keys())
    assert "색상" in vocabulary.categories["신발"]
    assert "스커트스타일" not in vocabulary.categories["신발"]
    assert vocabulary.model == load(place / "model").hash
    assert vocabulary.calibration.keys() <= set(vocabulary.keys())
    vocabulary.save(place / "again.json")
    assert Vocabulary.load(place / "again.json") == vocabulary


def test_find_prints_the_slides_table_for_each_category(place, capsys):
    arguments = ["attributes", "find", str(place / "model"), str(place / "picture.jpg")]
    arguments += ["--vocabulary", str(place / "attributes.json"), "--top", "3"]
    assert main([*arguments, "--category", "신발", "--category", "치마", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert [one["category"] for one in answers] == ["신발", "치마"]
    for answer in answers:
        assert len(answer["attributes"]) == 3
        order = [one["probability"] or one["score"] for one in answer["attributes"]]
        assert order == sorted(order, reverse=True)
    assert answers[0]["attributes"] != answers[1]["attributes"]
    assert main(arguments) == 0
    assert "속성 키" in capsys.readouterr().out


def test_a_category_that_was_not_learned_is_told(place, capsys):
    arguments = ["attributes", "find", str(place / "model"), str(place / "picture.jpg")]
    arguments += ["--vocabulary", str(place / "attributes.json"), "--category", "우주선"]
    assert main(arguments) == 0
    assert "no category '우주선' was learned" in capsys.readouterr().err


def test_evaluate_writes_its_page(place, capsys):
    arguments = ["attributes", "evaluate", str(place / "model"), f"{place}/shop/test-*.tar"]
    arguments += ["--vocabulary", str(place / "attributes.json"), "--output", str(place / "page")]
    assert main(arguments) == 0
    found = json.loads((place / "page" / "evaluation.json").read_text("utf-8"))
    scores = found["tables"][0]["scores"]
    assert {"alone/value", "category/value", "category/kind@5"} <= scores.keys()
    assert "category/value" in capsys.readouterr().out


def test_the_vectors_do_not_depend_on_the_batch(place):
    model = load(place / "model")
    source = open_source(f"{place}/shop/test-*.tar")
    images = [source.read(number).image for number in range(5)]
    names = ["신발", "", "치마", "상의", ""]
    whole = model.embed_query(images, names, batch_size=8)
    parts = model.embed_query(images, names, batch_size=2)
    np.testing.assert_allclose(whole, parts, atol=1e-6)
    alone = model.embed_image(images)
    np.testing.assert_allclose(whole[[1, 4]], alone[[1, 4]], atol=1e-6)
    assert np.abs(whole[0] - alone[0]).max() > 1e-3


def test_mistakes_are_told(place, tmp_path):
    vocabulary = Vocabulary.load(place / "attributes.json")
    other = dataclasses.replace(vocabulary, model="0" * 16)
    with pytest.raises(UserError, match="calibrated for the parameters 0000"):
        AttributeSearch(load(place / "model"), other)
    with pytest.raises(UserError, match="clip model, which takes no category"):
        load(place / "clip").embed_query([place / "picture.jpg"], [""])
    (tmp_path / "cut.json").write_bytes((place / "attributes.json").read_bytes()[:100])
    with pytest.raises(DataError, match="is damaged"):
        Vocabulary.load(tmp_path / "cut.json")
    (tmp_path / "wrong.json").write_text('{"format": "kmm_jax attributes 1", "attributes": 3}')
    with pytest.raises(DataError, match="is damaged"):
        Vocabulary.load(tmp_path / "wrong.json")
    with pytest.raises(DataError, match="is not there"):
        Vocabulary.load(tmp_path / "none.json")
    missing = ["attributes", "find", str(place / "model"), str(place / "none.jpg")]
    assert main([*missing, "--vocabulary", str(place / "attributes.json")]) == 2


def test_the_table_stands_straight_beside_hangul(tmp_path):
    found = [
        Found(attribute=Attribute(key="토스타일", value="라운드 토"), score=0.5, probability=0.9),
        Found(attribute=Attribute(key="핏", value="A라인"), score=0.4, probability=0.05),
    ]
    lines = _table(tmp_path / "a.jpg", "신발", found).splitlines()
    assert lines[0].endswith("a.jpg + '신발'")
    assert lines[1] == "  속성 키   속성 값    확률"
    assert lines[2] == "  토스타일  라운드 토  90%"
    assert lines[3] == "  핏        A라인      5%"
