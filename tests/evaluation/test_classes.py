"""Class sets by name, from the shop and from a file."""

import json

import pytest

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.evaluation.classes import Classes, named_classes
from kmm_jax.text.classnames import class_set, prompts


def test_a_set_of_the_library_asks_what_the_text_room_asks():
    found = named_classes("fashion_colours")
    assert found.prompts() == prompts(class_set("fashion_colours"), "ko")
    assert named_classes("cifar10", "en").names == class_set("cifar10").en


@pytest.mark.parametrize(
    ("name", "key", "ko"),
    [
        ("shop_types", "umbrella", "우산"),
        ("shop_colours", "navy", "남색"),
        ("shop_patterns", "dot", "도트무늬"),
    ],
)
def test_the_built_in_shop_has_its_sets(name, key, ko):
    found = named_classes(name)
    assert found.names[found.keys.index(key)] == ko
    assert len(found) >= 8
    with pytest.raises(UserError, match="Korean names only"):
        named_classes(name, "en")


def test_words_are_the_name_and_its_synonyms():
    found = named_classes("shop_types")
    assert found.words()[found.keys.index("shirt")][:2] == ("셔츠", "남방")


def write(path, content):
    path.write_text(
        content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    )
    return str(path)


def test_a_file_of_classes_with_its_own_sentences(tmp_path):
    rows = [["hanbok", "한복", "전통 의상"], ["gat", "갓"]]
    file = write(tmp_path / "한국.json", {"classes": rows, "templates": ["{name:을/를} 찍은 사진"]})
    found = named_classes(file)
    assert found.prompts() == [["한복을 찍은 사진"], ["갓을 찍은 사진"]]
    assert found.words() == [("한복", "전통 의상"), ("갓",)]
    assert found.name == "한국"


def test_a_file_of_classes_with_the_librarys_sentences(tmp_path):
    file = write(tmp_path / "a.json", {"classes": [["gat", "갓"]], "kind": "fashion"})
    assert "갓을 찍은 상품 사진" in named_classes(file).prompts()[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([], "holds no classes"),
        ({"classes": [["gat"]]}, "holds no classes"),
        ({"classes": [["gat", 3]]}, "holds no classes"),
        ({"classes": [["gat", "갓"]]}, '"templates"'),
        ({"classes": [["gat", "갓"]], "kind": "hats"}, '"templates"'),
    ],
)
def test_another_file_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        named_classes(write(tmp_path / "a.json", content))


def test_a_missing_file_and_a_wrong_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        named_classes(str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="did you mean 'shop_types'"):
        named_classes("shop_type")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": (), "names": ()}, "no class"),
        ({"templates": ()}, "no template"),
        ({"names": ("갓",)}, "2 keys but 1 names"),
        ({"synonyms": (("모자",),)}, "2 keys but 1 synonyms"),
        ({"keys": ("a", "a")}, "the key 'a' twice"),
        ({"names": ("갓", "갓")}, "the name '갓' twice"),
        ({"templates": ("사진",)}, r"has no \{name\}"),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused(changes, message):
    whole = {"name": "x", "keys": ("a", "b"), "names": ("갓", "한복"), "templates": ("{name}",)}
    with pytest.raises(ConfigError, match=message):
        Classes(**{**whole, **changes})


def test_only_some_classes_keep_their_order_names_and_synonyms():
    found = named_classes("shop_types").restricted_to({"umbrella", "shirt"})
    assert found.keys == ("shirt", "umbrella")
    assert found.names == ("셔츠", "우산")
    assert found.words()[0][1] == "남방"
    with pytest.raises(ConfigError, match="no class"):
        found.restricted_to({"boots"})
