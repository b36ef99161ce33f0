from __future__ import annotations

import io
import itertools
import json
import logging
import sys
import tarfile
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from kmm_jax.data.datasets import DATASETS, cifar10, is_there, open_rows
from kmm_jax.data.datasets.draws import queries, sentence
from kmm_jax.data.datasets.fashion_wording import Product, patterns, product_texts
from kmm_jax.data.datasets.photos import as_jpeg, measure, split_of
from kmm_jax.data.schema import parse_record
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.text.classnames import class_set

HEADER = (
    "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
    "productDisplayName"
)
SKIRT = Product(
    gender="Women",
    master_category="Apparel",
    sub_category="Bottomwear",
    type="Skirts",
    color="White",
    season="Summer",
    year="2011",
    usage="Casual",
    display_name="Palm Tree Women White Striped Skirt",
)


def picture(number: int, kind: str = "JPEG") -> bytes:
    image = Image.frombytes("RGB", (8, 6), Random(number).randbytes(8 * 6 * 3))
    encoded = io.BytesIO()
    image.save(encoded, kind)
    return encoded.getvalue()


def published_shop(folder: Path, count: int = 60) -> list[str]:
    """``styles.csv`` and ``images`` as the public set has them; odd names carry commas."""
    (folder / "images").mkdir(parents=True)
    lines = [HEADER]
    for i in range(count):
        name = f"Brand{i}, Women White Skirt, M" if i % 2 else f"Brand{i} Women White Skirt"
        lines.append(f"{i},Women,Apparel,Bottomwear,Skirts,White,Summer,2011,Casual,{name}")
        (folder / "images" / f"{i}.jpg").write_bytes(picture(i))
    (folder / "styles.csv").write_text("\r\n".join(lines) + "\r\n", newline="")
    return lines


def packed_shop(folder: Path, lines: list[str], images: Path) -> None:
    """The same products as ``fashion_products.tsv`` and ``fashion_products.tar``."""
    folder.mkdir()
    cells = [line.split(",", 9) for line in lines]
    for row in cells[1:]:
        row[0] += ".jpg"
    cells[0][0] = "file"
    table = "\n".join("\t".join(row) for row in cells) + "\n"
    (folder / "fashion_products.tsv").write_text(table)
    with tarfile.open(folder / "fashion_products.tar", "w") as archive:
        for row in cells[1:]:
            archive.add(images / row[0], row[0])


def test_both_layouts_of_the_shop_give_the_same_rows(tmp_path: Path) -> None:
    lines = published_shop(tmp_path / "a")
    packed_shop(tmp_path / "b", lines, tmp_path / "a" / "images")
    one = list(open_rows("fashion_products", tmp_path / "a"))
    assert one == list(open_rows("fashion_products", tmp_path / "b"))
    assert one == list(open_rows("fashion_products", tmp_path / "a"))
    names = {record["product_name_en"] for record, _ in one}
    assert {"Brand1, Women White Skirt, M", "Brand2 Women White Skirt"} & names


def test_splits_are_disjoint_whole_and_stay_when_the_set_grows(tmp_path: Path) -> None:
    lines = published_shop(tmp_path)
    parts = {
        split: {
            record["image_hash"] for record, _ in open_rows("fashion_products", tmp_path, split)
        }
        for split in ("train", "test")
    }
    assert not parts["train"] & parts["test"]
    assert len(parts["train"]) + len(parts["test"]) == 60 and parts["test"]
    (tmp_path / "styles.csv").write_text("\n".join(lines[:31]) + "\n")
    fewer = {record["image_hash"] for record, _ in open_rows("fashion_products", tmp_path)}
    assert len(fewer) < 31 and fewer <= parts["train"]


def test_a_limit_takes_the_first_rows_of_a_fair_order(tmp_path: Path) -> None:
    published_shop(tmp_path)
    every = list(open_rows("fashion_products", tmp_path))
    assert list(open_rows("fashion_products", tmp_path, limit=7)) == every[:7]
    numbers = [
        int(record["product_name_en"].split("Brand")[1].split(",")[0].split()[0])
        for record, _ in every
    ]
    assert numbers != sorted(numbers)


def test_missing_broken_and_repeated_images_are_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published_shop(tmp_path)
    before = {record["image_hash"] for record, _ in open_rows("fashion_products", tmp_path)}
    images = tmp_path / "images"
    (images / "0.jpg").unlink()
    (images / "1.jpg").write_bytes((images / "1.jpg").read_bytes()[:300])
    (images / "2.jpg").write_bytes(b"no image")
    (images / "3.jpg").write_bytes((images / "4.jpg").read_bytes())
    with caplog.at_level(logging.WARNING):
        left = [
            record["image_hash"]
            for split in ("train", "test")
            for record, _ in open_rows("fashion_products", tmp_path, split)
        ]
    assert len(left) == len(set(left)) == 56
    assert set(left) & before and "unreadable" in caplog.text and "repeated" in caplog.text


def test_a_shop_without_one_readable_image_is_refused(tmp_path: Path) -> None:
    published_shop(tmp_path, count=3)
    for image in (tmp_path / "images").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="not one image could be read"):
        list(open_rows("fashion_products", tmp_path))


def test_a_truncated_archive_and_a_broken_table_are_named(tmp_path: Path) -> None:
    lines = published_shop(tmp_path / "a", count=20)
    packed_shop(tmp_path / "b", lines, tmp_path / "a" / "images")
    archive = tmp_path / "b" / "fashion_products.tar"
    whole = archive.read_bytes()
    for size in (len(whole) // 3, 512 * 7 + 100, 100):
        archive.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"fashion_products\.tar"):
            list(open_rows("fashion_products", tmp_path / "b"))
    (tmp_path / "a" / "styles.csv").write_text("\n".join([*lines, "7,Women,Apparel"]))
    with pytest.raises(DataError, match=r"styles\.csv, line 22: 3 cells of 10"):
        list(open_rows("fashion_products", tmp_path / "a"))
    (tmp_path / "a" / "styles.csv").write_text(lines[0].replace("gender", "sex"))
    with pytest.raises(DataError, match="no column gender"):
        list(open_rows("fashion_products", tmp_path / "a"))


def test_unknown_attributes_stay_unsaid(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    lines = [HEADER]
    for i in range(20):
        lines.append(f'{i},Women,Apparel,Bottomwear,Hoverboots,NA,NA,,NA,"The ""Best"" {i}"')
        (tmp_path / "images" / f"{i}.jpg").write_bytes(picture(i))
    (tmp_path / "styles.csv").write_text("\n".join(lines))
    for record, _ in open_rows("fashion_products", tmp_path):
        assert record["labels"] == {
            "gender": "Women",
            "sub_category": "Bottomwear",
            "master_category": "Apparel",
        }
        assert record["attributes"] == {"종류": "하의", "대상": "여성"}
        assert record["product_name_en"].startswith('The "Best"')
        assert "하의" in record["product_name"] and "NA" not in json.dumps(record)


def test_texts_say_only_what_is_known_and_vary() -> None:
    several = [product_texts(SKIRT, Random(seed), 0.8) for seed in range(300)]
    for texts in several:
        assert "스커트" in texts["product_name"]
        assert 1 <= len(texts["query"]) == len(texts["query_count"]) <= 4
        assert len(set(texts["query"])) == len(texts["query"])
        assert texts["query_count"] == sorted(texts["query_count"], reverse=True)
        assert min(texts["query_count"]) >= 1
        assert texts["category"] == "의류|하의|스커트"
        assert texts["attributes"]["패턴"] == ["줄무늬"]
        said = json.dumps(texts, ensure_ascii=False)
        assert "{" not in texts["title"] + texts["caption"] + texts["product_name"]
        assert not any(word in said for word in ("남성", "검은색", "블랙", "겨울"))
    for field, least in (("product_name", 8), ("caption", 9), ("title", 9)):
        assert len({texts[field] for texts in several}) >= least
    asked = {query for texts in several for query in texts["query"]}
    assert {"흰색 스커트", "여성 스커트", "화이트 치마"} <= asked
    assert "흰색 스커트 한 벌 사진." in {texts["caption"] for texts in several}


def test_a_white_background_is_claimed_only_where_it_is_white() -> None:
    dark = [product_texts(SKIRT, Random(seed), 0.1)["caption"] for seed in range(200)]
    assert not any("배경" in caption for caption in dark)
    light = [product_texts(SKIRT, Random(seed), 0.9)["caption"] for seed in range(200)]
    assert any("흰 배경" in caption for caption in light)


def test_patterns_are_words_and_not_parts_of_words() -> None:
    assert patterns("Men Navy Checked Shirt") == ["체크무늬"]
    assert patterns("Floral Print Top") == ["꽃무늬", "프린트"]
    assert patterns("Checkmate Sprinter Shoes") == []


def test_rows_of_the_real_shop_are_sound(shared_data: Path) -> None:
    rows = list(open_rows("fashion_products", shared_data, "test", limit=120))
    assert rows == list(open_rows("fashion_products", shared_data / "fashion", "test", limit=120))
    info = DATASETS["fashion_products"]
    for record, image in rows:
        assert parse_record(json.dumps(record, ensure_ascii=False).encode()) == record
        assert split_of(record["image_hash"]) == "test"
        assert tuple(record["image_size"]) == Image.open(io.BytesIO(image)).size
        for label, value in record["labels"].items():
            assert value in class_set(info.class_sets[label]).keys
    assert {"type", "color", "gender"} <= rows[0][0]["labels"].keys()
    assert len({record["labels"]["type"] for record, _ in rows}) > 15
    assert len({record["title"] for record, _ in rows}) > 90


def test_the_folder_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published_shop(tmp_path / "fashion", count=12)
    monkeypatch.setenv("KMM_DATA_DIR", str(tmp_path))
    assert next(open_rows("fashion_products"))
    monkeypatch.setenv("KMM_DATA_DIR", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="KMM_DATA_DIR names it"):
        next(open_rows("fashion_products"))
    monkeypatch.delenv("KMM_DATA_DIR")
    with pytest.raises(DataError, match=r"KMM_DATA_DIR(.|\n)*styles\.csv(.|\n)*\.tar"):
        next(open_rows("fashion_products"))
    with pytest.raises(DataError, match="cifar10_train"):
        next(open_rows("cifar10", tmp_path))


def test_wrong_names_are_told_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        open_rows("cifar100")
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        open_rows("cifar10", split="tests")  # type: ignore[arg-type]


def cifar_archive(path: Path, parts: tuple[str, ...] = ("train",), per_class: int = 6) -> None:
    numbers = itertools.count()
    with tarfile.open(path, "w:gz") as archive:
        for part in parts:
            for key in class_set("cifar10").keys:
                for i in range(per_class):
                    content = picture(next(numbers))
                    member = tarfile.TarInfo(f"{part}/{key}/{i:04d}.jpg")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def test_an_archive_and_its_folders_give_the_same_rows(tmp_path: Path) -> None:
    cifar_archive(tmp_path / "cifar10_train.tar.gz")
    packed = list(open_rows("cifar10", tmp_path))
    with tarfile.open(tmp_path / "cifar10_train.tar.gz") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert list(open_rows("cifar10", tmp_path / "out")) == packed
    counts = [r["labels"]["type"] for r, _ in packed]
    assert set(counts) == set(class_set("cifar10").keys)
    assert counts != sorted(counts)
    for record, _ in packed:
        parse_record(json.dumps(record).encode())
        assert record["attributes"]["종류"] in class_set("cifar10").ko
    assert len(packed) + len(list(open_rows("cifar10", tmp_path, "test"))) == 60


def test_a_published_test_part_is_kept(tmp_path: Path) -> None:
    cifar_archive(tmp_path / "cifar10_train.tar.gz", ("train", "test"))
    rows = {split: list(open_rows("cifar10", tmp_path, split)) for split in ("train", "test")}
    assert len(rows["train"]) == len(rows["test"]) == 60
    assert all("://test/" in record["image_url"] for record, _ in rows["test"])


def test_a_truncated_archive_says_how_far_it_went(tmp_path: Path) -> None:
    path = tmp_path / "cifar10_train.tar.gz"
    cifar_archive(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is broken after"):
        next(open_rows("cifar10", tmp_path))
    path.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="broken after 0 images"):
        next(open_rows("cifar10", tmp_path))
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(DataError, match="holds no image"):
        next(open_rows("cifar10", tmp_path))


def test_the_real_archive_is_split_in_ten(shared_data: Path) -> None:
    rows = list(open_rows("cifar10", shared_data, "test", limit=200))
    assert len({record["labels"]["type"] for record, _ in rows}) == 10
    assert all(record["image_size"] == [32, 32] for record, _ in rows)


def fake_tfds(prepare: object) -> ModuleType:
    """The few calls of TensorFlow Datasets that are made, over 40 PNG images."""
    keys = class_set("cifar10").keys
    examples = [{"image": picture(i, "PNG"), "label": i % 10} for i in range(40)]
    builder = SimpleNamespace(
        download_and_prepare=prepare,
        info=SimpleNamespace(
            features={"image": object(), "label": SimpleNamespace(int2str=keys.__getitem__)}
        ),
        as_data_source=lambda split, decoders: examples[:30] if split == "train" else examples[30:],
    )
    module = ModuleType("tensorflow_datasets")
    module.builder = lambda *_, **__: builder  # type: ignore[attr-defined]
    module.decode = SimpleNamespace(SkipDecoding=object)  # type: ignore[attr-defined]
    return module


def test_tensorflow_datasets_is_asked_without_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KMM_DATA_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tfds(lambda: None))
    train, test = (list(open_rows("cifar10", split=split)) for split in ("train", "test"))
    assert (len(train), len(test)) == (30, 10)
    assert all(image.startswith(b"\xff\xd8\xff") for _, image in train)
    assert {record["labels"]["type"] for record, _ in test} == set(class_set("cifar10").keys)


def test_a_failed_download_points_to_the_local_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline() -> None:
        raise ConnectionError("no route to host")

    monkeypatch.delenv("KMM_DATA_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tfds(offline))
    with pytest.raises(DataError, match=r"no route to host.*KMM_DATA_DIR"):
        next(cifar10.rows(None, "train"))


def test_png_becomes_jpeg_and_jpeg_stays_as_it_is() -> None:
    jpeg = picture(5)
    assert as_jpeg(jpeg) is jpeg
    with Image.open(io.BytesIO(as_jpeg(picture(5, "PNG")))) as image:
        assert image.format == "JPEG" and image.size == (8, 6)


def test_the_share_of_white_is_measured_in_pixels() -> None:
    image = Image.new("RGB", (10, 10), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 10, 4))
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    assert measure(encoded.getvalue()) == ((10, 10), 0.6)


def test_draws_leave_out_templates_without_words() -> None:
    assert sentence(Random(0), ("{N} 사진", "{C} {N}"), {"N": "셔츠"}) == "셔츠 사진"
    texts, counts = queries(Random(0), ("{N}", "{C} {N}", "{N}"), {"N": "셔츠"}, 4)
    assert texts == ["셔츠"] and len(counts) == 1


def test_whether_a_set_is_there_is_seen_without_reading_it(tmp_path: Path) -> None:
    assert not is_there("cifar10", tmp_path)
    assert not is_there("fashion_products", tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/cifar10_train.tar.gz").write_bytes(b"no archive")
    (tmp_path / "fashion").mkdir()
    (tmp_path / "fashion/fashion_products.tsv").touch()
    assert is_there("cifar10", tmp_path)
    assert not is_there("fashion_products", tmp_path)  # its images are missing
    (tmp_path / "fashion/fashion_products.tar").touch()
    assert is_there("fashion_products", tmp_path)
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        is_there("cifar", tmp_path)
