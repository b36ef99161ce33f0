from __future__ import annotations

import ast
import re
from importlib import resources
from pathlib import Path

import pytest

from kmm_jax.errors import ConfigError, UserError
from kmm_jax.text.classnames import ClassSet, class_set, class_sets, prompts
from kmm_jax.text.templates import check_template, fill, kinds, templates

SETS = [class_set(name) for name in class_sets()]
COLUMNS = {
    "gender": "fashion_genders",
    "masterCategory": "fashion_master_categories",
    "subCategory": "fashion_sub_categories",
    "articleType": "fashion_article_types",
    "baseColour": "fashion_colours",
    "season": "fashion_seasons",
    "usage": "fashion_usage",
}


@pytest.mark.parametrize("classes", SETS, ids=lambda one: one.name)
def test_no_two_classes_share_a_name(classes: ClassSet) -> None:
    for names in (classes.keys, classes.ko, classes.en):
        assert len(names) == len(classes) == len(set(names))
    korean = [*classes.ko, *(word for words in classes.synonyms for word in words)]
    assert len(korean) == len({word.replace(" ", "") for word in korean})


@pytest.mark.parametrize("classes", SETS, ids=lambda one: one.name)
def test_korean_names_are_korean_and_english_names_are_english(classes: ClassSet) -> None:
    for name in classes.ko:
        assert re.fullmatch(r"[가-힣]+( [가-힣]+)*", name), name
    for name in classes.en:
        assert re.fullmatch(r"[A-Za-z][A-Za-z '-]*", name), name
    for word in (word for words in classes.synonyms for word in words):
        assert re.fullmatch(r"7?[가-힣]+( [가-힣]+)*|7부 팬츠", word), word


def test_sets_are_complete() -> None:
    sizes = {one.name: len(one) for one in SETS}
    assert sizes["cifar10"] == 10
    assert sizes["fashion_mnist"] == 10
    assert sizes["cifar100"] == 100
    assert sizes["food101"] == 101
    assert sizes["oxford_flowers102"] == 102
    assert sizes["oxford_iiit_pet"] == 37
    assert sizes["imagenet1k"] == 1000
    assert sizes["fashion_article_types"] == 143
    assert sizes["fashion_colours"] == 46
    assert sizes["fashion_sub_categories"] == 45
    assert sizes["fashion_genders"] == 5


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("imagenet1k", "datasets/imagenet2012/labels.txt"),
        ("food101", "image_classification/food-101_classes.txt"),
    ],
)
def test_labels_are_in_the_order_of_tensorflow_datasets(name: str, file: str) -> None:
    folder = resources.files("tensorflow_datasets")
    labels = folder.joinpath(file).read_text("utf-8").split("\n")
    assert list(class_set(name).keys) == [line.split()[0] for line in labels if line]


@pytest.mark.parametrize(
    ("name", "file", "list_name"),
    [
        ("oxford_iiit_pet", "oxford_iiit_pet", "_LABEL_CLASSES"),
        ("oxford_flowers102", "oxford_flowers102", "_NAMES"),
    ],
)
def test_labels_are_those_listed_in_tensorflow_datasets(
    name: str, file: str, list_name: str
) -> None:
    source = resources.files("tensorflow_datasets").joinpath(
        "datasets", file, f"{file}_dataset_builder.py"
    )
    (labels,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source.read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == list_name
    )
    assert list(class_set(name).keys) == labels


def test_imagenet_is_in_the_order_of_its_labels() -> None:
    """Which is that of the WordNet numbers; homonyms are told apart."""
    imagenet = class_set("imagenet1k")
    assert list(imagenet.keys) == sorted(imagenet.keys)
    assert all(re.fullmatch(r"n\d{8}", key) for key in imagenet.keys)
    for key, name in {
        "n01440764": "텐치",
        "n02012849": "두루미",  # a crane that flies
        "n03126707": "건설용 크레인",  # and one that lifts
        "n02129604": "호랑이",
        "n03793489": "컴퓨터 마우스",
        "n15075141": "두루마리 화장지",
    }.items():
        assert imagenet.ko[imagenet.index(key)] == name


def test_every_value_of_the_real_table_has_a_name(shared_data: Path) -> None:
    table = shared_data / "fashion" / "fashion_products.tsv"
    header, *rows = (line.split("\t") for line in table.read_text("utf-8").splitlines())
    for column, name in COLUMNS.items():
        values = {row[header.index(column)] for row in rows} - {"", "NA"}
        assert values <= set(class_set(name).keys), values - set(class_set(name).keys)


@pytest.mark.parametrize("classes", SETS, ids=lambda one: one.name)
def test_every_prompt_can_be_filled_and_read(classes: ClassSet) -> None:
    for lang in ("ko", "en"):
        of_class = prompts(classes, lang)
        assert len(of_class) == len(classes)
        for name, texts in zip(classes.names(lang), of_class, strict=True):
            assert len(texts) == len(set(texts)) == len(templates(lang, classes.kind))
            assert all(name in text and not re.search("[{}()]", text) for text in texts)


def test_there_are_enough_korean_templates_and_each_is_sound() -> None:
    for kind in kinds():
        for lang in ("ko", "en"):
            lines = templates(lang, kind)
            assert len(lines) == len(set(lines)) >= (12 if lang == "ko" else 4)
            for line in lines:
                check_template(line)


def test_imagenet_has_eighty_korean_sentences_that_agree_with_every_name() -> None:
    """No particle is in doubt (을(를)), and none is doubled."""
    assert len(templates("ko", class_set("imagenet1k").kind)) == 80
    for texts in prompts(class_set("imagenet1k"), "ko"):
        assert not any(re.search(r"\(|이라는라는", text) for text in texts)


def test_particles_follow_the_name() -> None:
    assert fill("{name:을/를} 찍은 사진", "트럭") == "트럭을 찍은 사진"
    assert fill("{name:을/를} 찍은 사진", "비행기") == "비행기를 찍은 사진"
    assert fill("이것은 {name}의 사진이다", "새") == "이것은 새의 사진이다"
    assert fill("{name:으로/로} 만든 {name}", "말") == "말로 만든 말"


@pytest.mark.parametrize(
    "template", ["사진", "{이름} 사진", "{name:을를} 사진", "{name} {", "{name:}", "{name} {color}"]
)
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="template"):
        fill(template, "셔츠")


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        class_set("cifar11")
    with pytest.raises(UserError, match="no class set"):
        class_set("../templates")
    with pytest.raises(UserError, match="no templates of the kind"):
        templates("ko", "fotos")
    with pytest.raises(UserError, match="'Shirts'"):
        class_set("fashion_article_types").index("Shirt")
    with pytest.raises(UserError, match="no class names in 'jp'"):
        class_set("cifar10").names("jp")  # type: ignore[arg-type]
