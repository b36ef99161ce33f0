"""Each form of a benchmark, written as its authors publish it and read back."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from kmm_jax.errors import DataError
from kmm_jax.evaluation.suite import published
from kmm_jax.evaluation.suite.forms import CLASS, ClassFolders, NamedByClass, Places, Table
from kmm_jax.evaluation.suite.items import ItemSource, Spread
from kmm_jax.evaluation.suite.korean import SUITE
from kmm_jax.evaluation.suite.sentences import KLUE, PairTable
from kmm_jax.text.classnames import class_set
from tests.evaluation.conftest import COLOURS, jpeg
from tests.evaluation.suite.conftest import write_image, write_tar

RED = COLOURS["red"][1]


def opened(form, places):
    found = form.find(places)
    return {item.key: item for item in found.open().items}


def test_a_folder_is_a_class(tmp_path, places):
    for name in ("n02/a.JPEG", "n01/b.png", "n01/.hidden.jpg", "n01/notes.txt"):
        write_image(tmp_path / "set/val" / name, RED, "PNG" if name.endswith("png") else "JPEG")
    form = ClassFolders(paths=("nowhere", "set/val"))
    assert form.find(Places()) is None
    items = opened(form, places)
    assert {key: item.labels[CLASS] for key, item in items.items()} == {
        "val/n01/b.png": "n01",
        "val/n02/a.JPEG": "n02",
    }
    assert items["val/n02/a.JPEG"].read() == jpeg(RED)
    assert form.find(places).where == "set/val"


def test_numbered_folders_are_places_among_the_classes(tmp_path, places):
    for folder in ("0", "10", "2"):
        write_image(tmp_path / f"v2/{folder}/x.jpeg", RED)
    form = ClassFolders(paths=("v2",), numbered=tuple("abcdefghijk"))
    items = opened(form, places).values()
    assert sorted(item.labels[CLASS] for item in items) == ["a", "c", "k"]
    write_image(tmp_path / "v2/11/x.jpeg", RED)
    with pytest.raises(DataError, match="numbers below 11"):
        opened(form, places)


def test_files_are_named_by_their_class_and_listed(tmp_path, places):
    for name in ("american_bulldog_1.jpg", "american_bulldog_2.jpg", "Bengal_1.jpg"):
        write_image(tmp_path / "pets/images" / name, RED)
    (tmp_path / "pets/annotations").mkdir()
    listed = "#comment\namerican_bulldog_2 1 1 1\nBengal_1 2 1 1\n"
    (tmp_path / "pets/annotations/test.txt").write_text(listed)
    form = NamedByClass(
        paths=("pets/images",),
        key=lambda stem: stem.rpartition("_")[0],
        listed="../annotations/test.txt",
    )
    assert sorted(item.labels[CLASS] for item in opened(form, places).values()) == [
        "Bengal",
        "american_bulldog",
    ]


def test_a_table_beside_a_tar(tmp_path, places):
    table = "file\tsplit\tclass_en\tcaption_en_0\tcaption_en_1\n"
    table += "a.jpg\ttest\tred\tone\ttwo\nb.jpg\ttrain\tblue\tthree\t\n"
    (tmp_path / "photos.tsv").write_text(table, "utf-8")
    form = Table(
        paths=("photos.tsv",),
        labels={CLASS: "class_en"},
        texts={"en": "caption_en", "ko": "caption_ko"},
        only=("split", "test"),
    )
    assert form.find(places) is None  # its images are missing
    write_tar(tmp_path / "photos.tar", {"a.jpg": jpeg(RED), "b.jpg": jpeg(RED)})
    (item,) = opened(form, places).values()
    assert (item.labels, item.texts) == ({CLASS: "red"}, {"en": ("one", "two"), "ko": ()})
    assert item.read() == jpeg(RED)
    (tmp_path / "photos.tsv").write_text("file\tclass_en\na.jpg\n", "utf-8")
    with pytest.raises(DataError, match="line 2: 2 columns expected, 1 found"):
        opened(form, places)


def test_xtd10_pairs_lines_with_images_wherever_they_lie(tmp_path):
    write_image(tmp_path / "images/val2014/b.jpg", RED)
    write_image(tmp_path / "images/train2014/a.jpg", RED)
    (tmp_path / "test_image_names.txt").write_text("a.jpg\nb.jpg\n")
    (tmp_path / "test_1kcaptions_ko.txt").write_text("첫째\n둘째\n", "utf-8")
    items = published.xtd10(tmp_path)
    assert [(item.key, item.texts) for item in items] == [
        ("images/train2014/a.jpg", {"ko": ("첫째",)}),
        ("images/val2014/b.jpg", {"ko": ("둘째",)}),
    ]
    (tmp_path / "test_1kcaptions_en.txt").write_text("one\n")
    with pytest.raises(DataError, match="1 lines for 2 images"):
        published.xtd10(tmp_path)
    (tmp_path / "test_1kcaptions_en.txt").unlink()
    (tmp_path / "images/val2014/b.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 2 images, such as b\.jpg"):
        published.xtd10(tmp_path)


def test_crossmodal_3600(tmp_path):
    write_image(tmp_path / "images/0a1b.jpg", RED)
    row = {"image/key": "0a1b", "ko": {"caption": ["하나", "둘"]}, "en": {"caption": ["one"]}}
    (tmp_path / "captions.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (item,) = published.crossmodal_3600(tmp_path)
    assert item.texts == {"ko": ("하나", "둘"), "en": ("one",)}
    (tmp_path / "captions.jsonl").write_text('{"image/key": "0a1b"\n', "utf-8")
    with pytest.raises(DataError, match="line 1 is none of Crossmodal-3600"):
        published.crossmodal_3600(tmp_path)


def test_karpathys_test_split_with_korean_captions(tmp_path):
    rows = [
        {
            "filename": f"{n}.jpg",
            "cocoid": n,
            "split": split,
            "sentences": [{"raw": f"en {n}"}],
        }
        for n, split in ((7, "test"), (8, "val"), (9, "test"))
    ]
    for n in (7, 9):
        write_image(tmp_path / f"images/val2014/{n}.jpg", RED)
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": rows}))
    korean = [{"id": 7, "caption_ko": ["칠"]}, {"id": 8, "caption_ko": ["팔"]}]
    (tmp_path / "MSCOCO_train_val_Korean.json").write_text(json.dumps(korean), "utf-8")
    found = [item.texts for item in published.coco_korean(tmp_path)]
    assert found == [{"ko": ("칠",), "en": ("en 7",)}, {"ko": (), "en": ("en 9",)}]
    for row in rows:
        del row["cocoid"]
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": rows}))
    (tmp_path / "flickr30k_ko.json").write_text(json.dumps({"9.jpg": ["구", "아홉"]}), "utf-8")
    found = [item.texts["ko"] for item in published.flickr30k_korean(tmp_path)]
    assert found == [(), ("구", "아홉")]


def test_objectnet_accepts_each_class_of_imagenet_and_loses_its_frame(tmp_path):
    keys = class_set("imagenet1k").keys
    mappings = tmp_path / "mappings"
    mappings.mkdir()
    # The words' lines are in an order of their own.
    (mappings / "imagenet_to_label_2012_v2").write_text(
        "analog clock\nbackpack, pack\nwall clock\n"
    )
    (mappings / "pytorch_to_imagenet_2012_id.json").write_text('{"409": 0, "892": 2, "414": 1}')
    (mappings / "objectnet_to_imagenet_1k.json").write_text(
        '{"Alarm clock": "analog clock; wall clock", "Backpack": "backpack, pack"}'
    )
    (mappings / "folder_to_objectnet_label.json").write_text(
        '{"alarm_clock": "Alarm clock", "backpack": "Backpack", "bathrobe": "Bathrobe"}'
    )
    pixels = np.full((12, 10, 3), 80, np.uint8)
    pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = RED, RED, RED, RED
    for folder in ("alarm_clock", "backpack", "bathrobe"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "images" / folder / "x.png")
    clock, backpack = published.objectnet(tmp_path)
    assert clock.labels[CLASS] == f"{keys[409]}|{keys[892]}"
    assert backpack.labels[CLASS] == keys[414]
    inner = np.asarray(Image.open(io.BytesIO(clock.read())))
    assert inner.shape == (8, 6, 3)
    assert (inner == 80).all()


def test_food_and_tiny_imagenet(tmp_path):
    write_image(tmp_path / "images/apple_pie/12.jpg", RED)
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/test.txt").write_text("apple_pie/12\n")
    (item,) = published.food101(tmp_path)
    assert item.labels[CLASS] == "apple_pie"
    assert item.read() == jpeg(RED)
    write_image(tmp_path / "images/val_0.JPEG", RED)
    (tmp_path / "val_annotations.txt").write_text("val_0.JPEG\tn01443537\t0\t32\t44\t62\n")
    (item,) = published.tiny_imagenet(tmp_path)
    assert item.labels[CLASS] == "n01443537"


def test_sentence_pairs(tmp_path, places):
    table = "score\tsentence1\tsentence2\n4.5\t가\t나\n0\t다\t라\n"
    (tmp_path / "sts.tsv").write_text(table, "utf-8")
    form = PairTable(paths=("sts.tsv",), columns={"ko": ("sentence1", "sentence2")})
    pairs = form.find(places).pairs["ko"]
    assert [(pair.one, pair.other, pair.score) for pair in pairs] == [
        ("가", "나", 4.5),
        ("다", "라", 0.0),
    ]
    rows = [{"sentence1": "가", "sentence2": "나", "labels": {"label": 3.7, "real-label": 3.71}}]
    (tmp_path / "klue.json").write_text(json.dumps(rows), "utf-8")
    (pair,) = KLUE(paths=("klue.json",)).find(places).pairs["ko"]
    assert pair.score == 3.7
    (tmp_path / "klue.json").write_text('[{"sentence1": "가"}]', "utf-8")
    with pytest.raises(DataError, match="is not KLUE-STS"):
        KLUE(paths=("klue.json",)).find(places)


def test_a_spread_takes_rows_of_all_the_classes(tmp_path, places):
    for n in range(10):
        write_image(tmp_path / f"set/c{n}/x.jpg", RED)
    source = ClassFolders(paths=("set",)).find(places).open()
    spread = Spread(source, 5)
    assert [spread.read(i).record["labels"][CLASS] for i in range(len(spread))] == [
        "c0",
        "c2",
        "c4",
        "c6",
        "c8",
    ]
    assert len(Spread(source, 99)) == 10
    with pytest.raises(DataError, match="holds no image"):
        ItemSource("empty", [])


def test_every_benchmark_says_what_it_is():
    assert len({benchmark.name for benchmark in SUITE}) == len(SUITE)
    for benchmark in SUITE:
        assert benchmark.get and benchmark.licence and benchmark.tasks and benchmark.layouts
        assert bool(benchmark.forms) != bool(benchmark.pairs)
        for task in benchmark.zero_shot:
            assert len(class_set(task.classes))
