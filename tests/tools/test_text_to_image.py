"""The demonstration of slide 4: what it makes of photos, and what its page says."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.datasets.fashion_pairs import COLORS, TYPES
from kmm_jax.data.sources import open_source
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.models.diffusion.distillation import DistillationConfig
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.config_file import load_experiment
from tools.text_to_image import __main__ as command
from tools.text_to_image import data, measure, page, students
from tools.text_to_image.classifier import classifier

_COLUMNS = (
    "file",
    "gender",
    "masterCategory",
    "subCategory",
    "articleType",
    "baseColour",
    "season",
    "year",
    "usage",
    "productDisplayName",
)
_RGB = {name: place * 30 for place, name in enumerate(COLORS)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fashion Product Images of six photos a pair, each of one plain colour."""
    folder = tmp_path_factory.mktemp("photos") / "fashion"
    folder.mkdir()
    with (
        tarfile.open(folder / "fashion_products.tar", "w") as tar,
        (folder / "fashion_products.tsv").open("w", encoding="utf-8", newline="") as table,
    ):
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        for place, (type_, color) in enumerate((t, c) for t in TYPES for c in COLORS):
            for copy in range(6):
                name = f"{place:03d}{copy}.jpg"
                pixels = np.full((24, 24, 3), _RGB[color], np.uint8)
                pixels[: 2 * TYPES.index(type_) + 2, :, 0] = 255
                pixels[copy, :, 1] = 128
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "JPEG", quality=95)
                member = tarfile.TarInfo(name)
                member.size = len(content.getvalue())
                tar.addfile(member, io.BytesIO(content.getvalue()))
                title = f"{color} {type_}"
                writer.writerow(
                    [name, "Women", "M", "S", type_, color, "Summer", "2012", "Casual", title]
                )
    return folder.parent


@pytest.fixture(scope="module")
def world(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> data.World:
    return data.world(tmp_path_factory.mktemp("work"), photos)


def test_held_out_pairs_are_seen_by_nothing_that_learns(world: data.World) -> None:
    assert len(world.held_out) == 16
    assert not set(world.held_out) & set(world.trained)
    assert len(world.sources()) == len(world.trained) == 64
    rows = open_source(world.sources()[0][0])
    assert len(rows) == 6
    type_, _ = world.trained[0]
    assert type_ == "Tshirts"
    prompts = {prompt for row in range(6) for prompt in rows.read(row).record["query_en"]}
    assert len(prompts) > 6
    table = (world.folder / "wordings.tsv").read_text("utf-8").splitlines()
    assert table[0] == "ko\ten"
    assert world.wordings == len(table) - 1 > 1000


def test_english_has_the_same_ids_in_both_tokenizers(world: data.World) -> None:
    text = "a photo of a red t-shirt"
    english, korean = world.tokenizer("english"), world.tokenizer("korean")
    assert english.encode(text) == korean.encode(text)
    assert len(korean.encode("빨간 티셔츠")) < len(english.encode("빨간 티셔츠"))


def test_the_resampler_reads_by_words_of_its_own_in_the_generators_form(
    world: data.World, tmp_path: Path
) -> None:
    words = students.words("resampler", world, tmp_path)
    assert words == students.words("resampler", world, tmp_path) != world.folder / "korean"
    model = load_experiment("diffusion/products").task.model
    own = students.architecture("resampler", model.texts[0], Tokenizer.load(words))
    DistillationConfig(student=own, teacher=model.texts[0], unet=model.unet)
    assert own.pad_id == Tokenizer.load(words).pad_id
    assert 2e6 < sum(leaf.size for leaf in jax.tree.leaves(folders.abstract_text(own))) < 4e6
    assert students.words("response", world, tmp_path) == world.folder / "korean"


def test_prompts_ask_for_held_out_and_trained_pairs_alike(world: data.World) -> None:
    asked = measure.asked(world, each=2)
    assert len(asked.pairs) == len(asked.korean) == len(asked.english) == 64
    assert asked.held_out.sum() == 32
    known = {
        line.split("\t")[0] for line in (world.folder / "wordings.tsv").open("r", encoding="utf-8")
    }
    assert not known & set(asked.korean)


def test_a_classifier_is_made_once_and_says_how_good_it_is(photos: Path, tmp_path: Path) -> None:
    labelled = data.labelled(photos, 16)
    assert labelled.images.shape == (480, 16, 16, 3)
    judge = classifier(labelled, tmp_path, steps=3)
    again = classifier(labelled, tmp_path, steps=3)
    assert again.accuracy == judge.accuracy
    features, types, colors = again.read(labelled.images[:5])
    assert features.shape == (5, 128)
    assert types.shape == colors.shape == (5,)
    assert np.array_equal(features, judge.read(labelled.images[:5])[0])


def values(type_: float, color: float) -> dict:
    def run(scale: float) -> dict[str, float]:
        found = {"type": type_ * scale, "color": color * scale, "both": 0.1, "kernel_distance": 2.0}
        return found | {f"held_out/{name}": value for name, value in found.items()}

    encoder = dict.fromkeys(
        ("response/mean", "noise/98", "noise/50", "noise/10", "english/response", "first"), 0.5
    )
    encoder["retrieval/ko_to_en/r1"] = 0.9
    return {
        "size": 32,
        "world": {"photos": 100, "held_out": [["a", "b"]], "wordings": 9, "sentences": 0},
        "classifier": {"type": 0.9, "color": 0.8, "photos": 20},
        "rows": {
            page.ENGLISH: [run(1.0)],
            page.UNTAUGHT: [run(0.1)],
            "Korean prompt, response": [run(0.9), run(1.0)],
        },
        "spread": {
            name: {f"{one}{other}": [0.5, 0.75] for one in ("", "of_english/") for other in run(1)}
            for name in (page.ENGLISH, page.UNTAUGHT, "Korean prompt, response")
        },
        "encoders": {"Korean prompt, response": [encoder, encoder]},
        "steps": {"ddim": {"4": run(0.5)}},
    }


def test_the_page_compares_with_english_only_where_english_proves_something() -> None:
    text = page.body(values(0.6, 0.5))
    assert "| Korean prompt, response | 95% (50% to 75%) | 95% (50% to 75%) | 100% " in text
    assert "| 0.570 (0.50 to 0.75) | 0.475 (0.50 to 0.75) | 0.100 (0.50 to 0.75) | 0.100 to" in text
    assert "| ddim | 4 | 0.300 | 0.250 | 2.000 |" in text
    weak = page.body(values(0.6, 0.2))
    assert "the comparison proves nothing" in weak
    assert "95%" not in weak


def test_intervals_are_of_pairs_and_of_both_sides_together(world: data.World) -> None:
    asked = measure.asked(world, each=2)
    rng = np.random.default_rng(0)
    english = {"type": rng.random(64) < 0.6}
    same = measure.spread([english, english], english, asked)
    assert same["of_english/type"] == same["of_english/held_out/type"] == [1.0, 1.0]
    low, high = same["type"]
    assert low < english["type"].mean() < high
    wordings = np.repeat(rng.random(32) < 0.6, 2)  # both of a pair are right or wrong together
    low, high = measure.spread([{"type": wordings}], english, asked)["type"]
    deviation = (wordings.mean() * (1 - wordings.mean()) / 32) ** 0.5
    assert abs((high - low) / (2 * 1.96 * deviation) - 1) < 0.15


def test_what_it_cannot_do_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command.main(["--data", str(tmp_path / "none")]) == 2
    assert "--data or KMM_DATA_DIR" in capsys.readouterr().err
    assert command.main(["--data", str(tmp_path), "--objectives", "luck"]) == 2
    assert "no objective 'luck'; there are pooled" in capsys.readouterr().err
