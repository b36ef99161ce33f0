"""The built-in shop: what is drawn is what is said, and the test split stays unseen."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import unicodedata
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.schema import parse_record, texts, validate_record
from kmm_jax.data.shop import (
    ADJECTIVE_TEMPLATES,
    COLOURS,
    PATTERNS,
    TEMPLATES,
    TYPES,
    ShopConfig,
    generate,
    render_item,
    write_shop,
)
from kmm_jax.data.shop.dyes import INKS
from kmm_jax.data.shop.patterns import cloth
from kmm_jax.data.shop.render import cut_out
from kmm_jax.data.shop.scene import SUPERSAMPLING, Box
from kmm_jax.data.shop.shop import picture_of, scene_of
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment
from kmm_jax.errors import ConfigError, UserError

TRAIN = ShopConfig(items=4000, seed=3, split="train")
TEST = ShopConfig(items=1500, seed=3, split="test")


@pytest.fixture(scope="module")
def items():
    return list(generate(dataclasses.replace(TRAIN, items=500, image_size=64)))


def all_texts(items):
    return [text for item in items for _, text, _ in texts(item.record)]


# One item, one picture


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


# What is shown where


def test_test_combinations_never_occur_in_training():
    def combinations(config):
        return {
            (g.kind, g.colour, g.pattern)
            for index in range(config.items)
            for g in scene_of(config, index).garments
        }

    train = combinations(TRAIN) | combinations(dataclasses.replace(TRAIN, seed=4))
    test = combinations(TEST) | combinations(dataclasses.replace(TEST, seed=4))
    assert len(test) > 500
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


# Boxes


def painted(picture, cutout) -> np.ndarray:
    """The pixels of the final picture that a garment alone covers, wholly or in part."""
    side = picture.image.width * SUPERSAMPLING
    canvas = Image.new("L", (side, side), 0)
    canvas.paste(cutout.mask, cutout.corner, cutout.mask)
    return np.asarray(canvas.reduce(SUPERSAMPLING)) > 0


@pytest.mark.parametrize("size", [33, 64, 96])
def test_boxes_lie_in_the_image_and_bound_the_garment_alone(size):
    config = ShopConfig(items=0, seed=8, split="train", image_size=size, several_share=0.5)
    for index in range(60):
        picture = picture_of(config, index)
        for cutout, (x0, y0, x1, y1) in zip(picture.cutouts, picture.boxes, strict=True):
            assert 0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size
            seen = painted(picture, cutout)
            # No pixel of the garment was cut off by the canvas.
            assert (np.asarray(cutout.mask) > 0).sum() <= seen.sum() * SUPERSAMPLING**2
            ys, xs = np.nonzero(seen)
            assert xs.min() >= x0 and ys.min() >= y0
            assert xs.max() < x1 and ys.max() < y1
            assert max(xs.min() - x0, ys.min() - y0, x1 - 1 - xs.max(), y1 - 1 - ys.max()) <= 1


def test_garments_in_one_picture_do_not_hide_each_other():
    def overlap(a: Box, b: Box) -> float:
        width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
        smaller = min((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
        return width * height / smaller

    config = ShopConfig(items=0, seed=9, split="train", several_share=1.0)
    for index in range(80):
        picture = picture_of(config, index)
        for a, b in itertools.combinations(picture.boxes, 2):
            assert overlap(a, b) < 0.2


def test_a_single_garment_fills_a_good_part_of_the_picture():
    config = ShopConfig(items=0, seed=9, split="train", several_share=0.0)
    for index in range(100):
        ((x0, y0, x1, y1),) = picture_of(config, index).boxes
        assert max(x1 - x0, y1 - y0) >= 0.6 * config.image_size


# Pictures


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE Lab (D65) from sRGB 0 to 255, by the standard's formulas."""
    c = np.asarray(rgb, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array(
        [[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]]
    )
    f = xyz / [0.9505, 1.0, 1.089]
    f = np.where(f > (6 / 29) ** 3, np.cbrt(f), f / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


def nearest_colour(rgb: np.ndarray) -> str:
    keys = list(COLOURS_BY_KEY)
    palette = to_lab(np.array([COLOURS_BY_KEY[key].rgb for key in keys]))
    return keys[int(np.argmin(np.linalg.norm(palette - to_lab(rgb), axis=-1)))]


def test_plain_garments_have_the_colour_they_are_named_by():
    config = ShopConfig(items=0, seed=2, split="train", several_share=0.0)
    right, total = 0, 0
    for index in range(1200):
        (garment,) = scene_of(config, index).garments
        if garment.pattern != "solid":
            continue
        picture = picture_of(config, index)
        inside = painted(picture, picture.cutouts[0])
        colour = np.median(np.asarray(picture.image)[inside], axis=0)
        right += nearest_colour(colour) == garment.colour
        total += 1
    assert total > 150
    assert right / total >= 0.97


@pytest.mark.parametrize("pattern", [key for key, _ in PATTERNS])
def test_pattern_leaves_most_of_the_cloth_in_the_base_colour(pattern):
    base, ink = (200, 30, 40), (250, 250, 250)
    for seed, pitch in itertools.product(range(4), (13.0, 18.0, 26.0)):
        piece = np.asarray(
            cloth(
                pattern,
                (160, 120),
                base=base,
                ink=ink,
                pitch=pitch,
                angle=0.1 * seed,
                rng=Random(seed),
            )
        ).astype(int)
        is_base = np.all(piece == base, axis=-1)
        share = is_base.mean()
        if pattern == "solid":
            assert share == 1.0
        else:
            assert 0.34 < share < 0.92
            assert share > np.all(piece == ink, axis=-1).mean()


def test_ink_never_has_the_colour_of_the_cloth():
    assert set(INKS) == set(COLOURS_BY_KEY)
    for colour, inks in INKS.items():
        for ink in inks:
            distance = to_lab(np.array(COLOURS_BY_KEY[colour].rgb)) - to_lab(
                np.array(COLOURS_BY_KEY[ink].rgb)
            )
            assert np.linalg.norm(distance) > 24, (colour, ink)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_option_changes_the_picture(kind):
    options = dict(KINDS[kind].options)
    default = {key: values[0] for key, values in options.items()}

    def picture(attributes: dict[str, str]) -> bytes:
        garment = Garment(kind=kind, colour="blue", pattern="solid", attributes=attributes)
        return cut_out(garment, (4, 4, 124, 124), Random("a"), tilt=0.0).image.tobytes()

    for key, values in options.items():
        assert len({picture({**default, key: value}) for value in values}) == len(values), key


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_combination_of_options_can_be_drawn(kind):
    names = [key for key, _ in KINDS[kind].options]
    for values in itertools.product(*(values for _, values in KINDS[kind].options)):
        attributes = dict(zip(names, values, strict=True))
        garment = Garment(
            kind=kind, colour="red", pattern="star", ink="white", attributes=attributes
        )
        cutout = cut_out(garment, (3, 5, 80, 70), Random(str(values)))
        x0, y0, x1, y1 = cutout.box
        assert 2 <= x0 < x1 <= 81 and 4 <= y0 < y1 <= 71
        assert max(x1 - x0, y1 - y0) > 40


def test_nearest_outline_tells_the_type_of_unseen_combinations():
    """A bare 1-nearest-neighbour on 16 x 16 silhouettes and edges, at 64 px."""

    def views(split, count):
        config = ShopConfig(items=0, seed=1, split=split, image_size=64, several_share=0.0)
        found, kinds = [], []
        for index in range(count):
            cutout = picture_of(config, index).cutouts[0]
            grey = np.asarray(cutout.image.convert("L").resize((16, 16)), np.float32) / 255
            mask = np.asarray(cutout.mask.resize((16, 16)), np.float32) / 255
            found.append(np.concatenate([3 * mask.ravel(), (grey * mask).ravel()]))
            kinds.append(scene_of(config, index).garments[0].kind)
        return np.array(found), np.array(kinds)

    seen, kinds = views("train", 900)
    unseen, truth = views("test", 220)
    distance = ((unseen[:, None] - seen[None]) ** 2).sum(-1)
    accuracy = (kinds[distance.argmin(1)] == truth).mean()
    assert accuracy > 10 / len(TYPES)


# Words


def test_vocabulary_is_wide_and_unambiguous():
    assert len(TYPES) >= 16 and len(COLOURS) >= 10 and len(PATTERNS) >= 7
    for things in (KINDS, COLOURS_BY_KEY, PATTERNS_BY_KEY):
        names = [name for thing in things.values() for name in (thing.ko, *thing.synonyms)]
        assert len(names) == len(set(names))
        assert all(key == thing.key for key, thing in things.items())
    kinds = [value for kind in KINDS.values() for value in dict(kind.options).get("종류", ())]
    assert not set(kinds) & {kind.ko for kind in KINDS.values()}
    for template in (*TEMPLATES, *ADJECTIVE_TEMPLATES):
        assert "셔츠" in template.format(name="셔츠")
    assert 8 <= len(TEMPLATES) <= 12


def _words() -> list[str]:
    nouns = [n for k in KINDS.values() for n in (k.ko, *k.synonyms)]
    nouns += [value for k in KINDS.values() for value in dict(k.options).get("종류", ())]
    nouns += [f"한 {kind.counter}" for kind in KINDS.values()]
    return sorted(set(nouns), key=len, reverse=True)


def test_particles_fit_the_word_before_them(items):
    """By Unicode arithmetic on the syllable before, apart from the library's own rule."""
    pattern = re.compile(
        rf"(?:{'|'.join(map(re.escape, _words()))})(은|는|이|가|을|를|과|와|으로|로)(?=[ ,.!]|$)"
    )
    checked = Counter()
    for text in all_texts(items):
        for match in pattern.finditer(text):
            particle = match[1]
            syllable = unicodedata.normalize("NFD", text[match.start(1) - 1])
            final = syllable[2] if len(syllable) == 3 else ""
            if particle in ("으로", "로"):
                assert (particle == "로") == (final in ("", "ᆯ")), text
            else:
                assert (particle in "은이을과") == bool(final), text
            checked[particle] += 1
    assert len(checked) == 10 and checked.total() > 300, checked


def test_texts_are_clean_korean(items):
    for text in all_texts(items):
        assert text == unicodedata.normalize("NFC", text).strip()
        assert "  " not in text and "None" not in text and "{" not in text
        assert "(으)로" not in text and not re.search(r"[은이을과]\([는가를와]\)", text)
        assert re.search("[가-힣]", text)
        assert " ," not in text and " ." not in text


def test_wording_varies(items):
    for field, share in (("title", 0.95), ("caption", 0.9), ("product_name", 0.9)):
        assert len({item.record[field] for item in items}) > share * len(items)
    queries = [query for item in items for query in item.record["query"]]
    assert len(set(queries)) > 0.75 * len(queries)
    assert all(len(set(i.record["query"])) == len(i.record["query"]) for i in items)
    assert min(c for i in items for c in i.record["query_count"]) == 1
    assert max(c for i in items for c in i.record["query_count"]) > 50


def test_texts_name_what_is_shown(items):
    def named(text, thing):
        return any(name in text for name in (thing.ko, *thing.synonyms))

    for item in items:
        record = item.record
        for box in record["boxes"]:
            colour, pattern = COLOURS_BY_KEY[box["color"]], PATTERNS_BY_KEY[box["pattern"]]
            for field in ("title", "caption", "product_name"):
                assert named(record[field], colour), (record[field], box)
                if box["pattern"] != "solid":
                    assert named(record[field], pattern), (record[field], box)
        for text in (record["title"], record["caption"], record["product_name"]):
            colours = {box["color"] for box in record["boxes"]}
            for key, colour in COLOURS_BY_KEY.items():
                if key not in colours:
                    assert colour.ko not in text


def test_attributes_say_what_was_drawn(items):
    for index, item in enumerate(items):
        garments = scene_of(TRAIN, index).garments
        attributes = item.record["attributes"]
        if len(garments) > 1:
            assert attributes["색상"] == [COLOURS_BY_KEY[g.colour].ko for g in garments]
        else:
            assert garments[0].attributes.items() <= attributes.items()
            assert attributes["패턴"] == PATTERNS_BY_KEY[garments[0].pattern].ko


# On disk


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                found[f"{shard.name}/{member.name}"] = tar.extractfile(member).read()
    return found


SMALL = {"train": 30, "test": 12, "seed": 1, "image_size": 40}


def test_written_shop_holds_the_generated_items(tmp_path):
    write_shop(tmp_path / "shop", **SMALL)
    found = members(tmp_path / "shop")
    for split in ("train", "test"):
        config = ShopConfig(items=SMALL[split], seed=1, image_size=40, split=split)
        expected = {}
        for item in generate(config):
            name = f"{split}-000.tar/{item.record['image_hash']}"
            assert found.pop(f"{name}.jpg") == item.jpeg
            expected[name] = item.record
        for name, record in expected.items():
            assert json.loads(found.pop(f"{name}.json")) == record
    assert not found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    write_shop(tmp_path / "one", **{**SMALL, "train": 120}, processes=1)
    write_shop(tmp_path / "two", **{**SMALL, "train": 120}, processes=2)
    assert members(tmp_path / "one") == members(tmp_path / "two")
    assert (tmp_path / "one/shop.json").read_bytes() == (tmp_path / "two/shop.json").read_bytes()


def test_a_second_call_draws_nothing(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop", **SMALL)
    monkeypatch.setattr("kmm_jax.data.shop.writing.render_item", None)
    before = (tmp_path / "shop/train-000.tar").stat()
    write_shop(tmp_path / "shop", **SMALL)
    assert (tmp_path / "shop/train-000.tar").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("damage", ["missing", "truncated", "manifest"])
def test_a_damaged_shop_is_drawn_again(tmp_path, damage):
    folder = tmp_path / "shop"
    write_shop(folder, **SMALL)
    whole = members(folder)
    shard = folder / "test-000.tar"
    if damage == "missing":
        shard.unlink()
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:1000])
    else:
        (folder / "shop.json").write_text('{"train": ')
    write_shop(folder, **SMALL)
    assert members(folder) == whole


def test_a_smaller_shop_leaves_no_shard_of_the_larger(tmp_path):
    folder = tmp_path / "shop"
    write_shop(folder, **{**SMALL, "train": 1020, "image_size": 32}, processes=1)
    assert len(list(folder.glob("train-*.tar"))) == 2
    write_shop(folder, **SMALL)
    assert len(list(folder.glob("train-*.tar"))) == 1


def test_other_drawing_code_is_another_shop(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop", **SMALL)
    before = (tmp_path / "shop/shop.json").read_text()
    monkeypatch.setattr("kmm_jax.data.shop.writing._code_version", lambda: "changed")
    write_shop(tmp_path / "shop", **SMALL)
    assert (tmp_path / "shop/shop.json").read_text() != before


def test_files_that_are_no_shop_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("소중한 파일")
    with pytest.raises(UserError, match=r"no shop\.json"):
        write_shop(tmp_path, **SMALL)
    with pytest.raises(UserError, match="is a file"):
        write_shop(tmp_path / "thesis.txt", **SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "소중한 파일"


def test_kill_in_the_middle_leaves_no_folder_and_the_next_run_succeeds(tmp_path):
    folder = tmp_path / "shop"
    program = (
        "import sys; from kmm_jax.data.shop import write_shop\n"
        "write_shop(sys.argv[1], train=3000, test=10, seed=1, image_size=32, processes=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".shop.*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not folder.exists()
    write_shop(folder, **SMALL)
    assert len(members(folder)) == 2 * (SMALL["train"] + SMALL["test"])


def test_a_crash_while_redrawing_keeps_the_old_shop(tmp_path, monkeypatch):
    folder = tmp_path / "shop"
    write_shop(folder, **SMALL)
    whole = members(folder)

    def full_disk(config, index):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kmm_jax.data.shop.writing.render_item", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_shop(folder, **{**SMALL, "seed": 2})
    assert members(folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": -1}, "-1 items"),
        ({"image_size": 8}, "image_size=8"),
        ({"image_size": 5000}, "image_size=5000"),
        ({"split": "validation"}, "'validation'"),
        ({"several_share": 1.5}, r"several_share=1\.5"),
    ],
)
def test_a_shop_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ShopConfig(**{"items": 1, "seed": 0, "split": "train", **change})


def test_no_processes_cannot_draw(tmp_path):
    with pytest.raises(ConfigError, match="0 processes"):
        write_shop(tmp_path / "shop", **SMALL, processes=0)
    assert not list(tmp_path.iterdir())
