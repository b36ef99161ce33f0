"""The study of imbalance: its worlds, what is painted, how shares are drawn, its intervals."""

from __future__ import annotations

import csv
import dataclasses
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.shop.combinations import held_out
from kmm_jax.data.shop.shop import ShopConfig, scene_of
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError
from kmm_jax.tagging.score import f1
from tests.tools.test_text_to_image import _COLUMNS
from tools.tags import measure, page, painter, worlds
from tools.tags.__main__ import main
from tools.tags.worlds import TEST, TRAIN, UNUSED, VALIDATION, World


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> World:
    return worlds.shop(tmp_path_factory.mktemp("shop"), rows=150)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of three colours, the rarest with 45 photos, and one that is too rare."""
    folder = tmp_path_factory.mktemp("photos") / "fashion"
    folder.mkdir()
    counts = {"Black": 90, "Red": 60, "Tan": 45, "Teal": 9}
    with (
        tarfile.open(folder / "fashion_products.tar", "w") as tar,
        (folder / "fashion_products.tsv").open("w", encoding="utf-8", newline="") as table,
    ):
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        for color, count in counts.items():
            for copy in range(count):
                name = f"{color}{copy}.jpg"
                pixels = np.full((32, 32, 3), len(color) * 40, np.uint8)
                # Of the first ten photos of a colour all are the same picture.
                pixels[:, :16, 0] = max(copy, 10) * 2
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "JPEG", quality=100)
                member = tarfile.TarInfo(name)
                member.size = len(content.getvalue())
                tar.addfile(member, io.BytesIO(content.getvalue()))
                kind = ("Tshirts", "Shirts")[copy % 2]
                writer.writerow(
                    [name, "Men", "Apparel", "S", kind, color, "", "", "", f"{color} {kind}"]
                )
    return folder.parent


def test_the_shop_has_a_long_tail_and_tests_all_labels_alike(shop: World) -> None:
    for counts, ratio in zip(shop.counts(), (40, 20), strict=True):
        assert counts.sum() == 150 and (np.diff(counts) <= 1).all()
        assert counts[0] / max(counts[-1], 1) > ratio / 3
    for counts in shop.counts(TEST):
        assert counts.min() > 0.6 * counts.mean()
    assert len(shop.rows(VALIDATION)) == 2 * 11 * 14
    assert shop.prompt((12, 7), "우산") == "보라색 하트무늬 우산"
    # No training row shows what a test row shows.
    config = ShopConfig(items=0, seed=0, split="test", several_share=0.0)
    for index in range(50):
        (only,) = scene_of(config, index).garments
        assert only.pattern in held_out(only.kind, only.colour)


def test_the_shop_is_made_once_and_always_the_same(tmp_path: Path, shop: World) -> None:
    again = worlds.shop(tmp_path, rows=150)
    np.testing.assert_array_equal(again.images, shop.images)
    before = next(tmp_path.glob("*.npz")).stat().st_mtime_ns
    worlds.shop(tmp_path, rows=150)
    assert next(tmp_path.glob("*.npz")).stat().st_mtime_ns == before


def test_products_are_tested_apart_and_no_copy_is_learned(photos: Path, tmp_path: Path) -> None:
    world = worlds.products(tmp_path, photos)
    (group,) = world.groups
    assert group.keys == ("Black", "Red", "Tan") and group.names == ("검은색", "빨간색", "황갈색")
    pictures = {
        part: {image.tobytes() for image in world.images[world.rows(part)]}
        for part in (TRAIN, VALIDATION, TEST)
    }
    assert not pictures[TRAIN] & (pictures[TEST] | pictures[VALIDATION])
    assert not pictures[VALIDATION] & pictures[TEST]
    assert (world.parts == UNUSED).sum() >= 9
    assert set(world.types) == {"티셔츠", "셔츠"}
    few = worlds.products(tmp_path, photos, rows=20)
    assert len(few.rows(TRAIN)) <= 20 and len(few.rows(TEST)) == len(world.rows(TEST))
    with pytest.raises(DataError, match="fashion_products"):
        worlds.products(tmp_path, tmp_path / "none")


def test_generators_see_training_rows_alone(shop: World, tmp_path: Path) -> None:
    shards = painter._shards(shop, tmp_path)
    seen = set()
    for source in painter._sources(shards):
        rows = open_source(source.url)
        assert source.weight == len(rows) ** 0.5
        seen |= {int(rows.read(number).key) for number in range(len(rows))}
    assert seen == set(shop.rows(TRAIN).tolist())
    assert len(painter._tokens(shards)) > 600


def test_every_label_is_painted_on_what_may_exist(shop: World) -> None:
    asked = painter.wanted(shop, 6)
    labels = np.asarray([one for one, _ in asked])
    for place, counts in enumerate(shop.counts()):
        made = np.bincount(labels[:, place], minlength=len(counts))
        assert (made[counts > 0] >= 6).all() and not made[counts == 0].any()
    assert {type_ for _, type_ in asked} <= set(shop.types[shop.rows(TRAIN)])
    assert asked == painter.wanted(shop, 6)
    # A rare colour is asked for on more things than it was seen on.
    rare = int(np.flatnonzero(shop.counts()[0]).max())
    own = set(shop.types[shop.rows(TRAIN)][shop.labels[shop.rows(TRAIN), 0] == rare])
    assert {type_ for (color, _), type_ in painter.wanted(shop, 30) if color == rare} - own


def test_the_likelier_half_of_each_label_passes() -> None:
    labels = np.asarray([[0], [0], [0], [0], [1], [1]])
    sure = np.asarray([[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.4, 0.6], [0.9, 0.1], [0.3, 0.7]])
    assert measure.likelier([sure], labels).tolist() == [0, 2, 5]


@pytest.fixture(scope="module")
def trainer(shop: World, tmp_path_factory: pytest.TempPathFactory) -> measure.Trainer:
    asked = painter.wanted(shop, 3)
    rng = np.random.default_rng(0)
    painted = painter.Painted(
        images=rng.integers(0, 255, (len(asked), 32, 32, 3), dtype=np.uint8),
        labels=np.asarray([labels for labels, _ in asked]),
    )
    small = dataclasses.replace(
        shop,
        images=shop.images[:700],
        labels=shop.labels[:700],
        types=shop.types[:700],
        parts=shop.parts[:700],
    )
    # Training rows are the last of all: without them there is nothing to learn.
    parts = small.parts.copy()
    parts[-300:] = TRAIN
    return measure.Trainer(
        world=dataclasses.replace(small, parts=parts),
        painted=painted,
        keep=tmp_path_factory.mktemp("answers"),
        target=40,
        steps=2,
    )


def test_labels_are_drawn_alike_and_rare_ones_partly_generated(trainer: measure.Trainer) -> None:
    world = trainer.world
    rows = world.rows(TRAIN)
    labels = world.labels[rows]
    balanced = trainer._balanced(labels)
    assert balanced.sum() == pytest.approx(1)
    images, mixed, shares = trainer._mixed(
        world.images[rows], labels, measure.Mix(share=0.8, filtered=False, everywhere=False)
    )
    assert len(images) == len(mixed) == len(shares) and shares.sum() == pytest.approx(1)
    assert 0 < shares[len(rows) :].sum() < 0.8
    # The rarest label that is there gives way most.
    given_way = shares[: len(rows)] / balanced
    rarest = min((c for c in world.counts()[0] if c), default=0)
    rare = world.counts()[0][labels[:, 0]] == rarest
    assert rarest < 40 and given_way[rare].mean() < given_way[~rare].mean()
    for share in (0.0, 0.6):
        mix = measure.Mix(share=share, filtered=False, everywhere=True)
        shares = trainer._mixed(world.images[rows], labels, mix)[2]
        # Of every label the same share: real rows stand to each other as by oversampling.
        np.testing.assert_allclose(shares[: len(rows)], (1 - share) * balanced)
        assert shares[len(rows) :].sum() == pytest.approx(share)


def test_what_was_trained_is_not_trained_again(
    trainer: measure.Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mix, scores = measure.chosen_mix(trainer)
    assert str(mix) in scores and len(scores) == len(measure.MIXES)
    best = max(scores.values(), key=lambda one: sum(one.values()))
    assert sum(scores[str(mix)].values()) == sum(best.values())
    monkeypatch.setattr(measure.classifier, "train", None)
    assert measure.chosen_mix(trainer)[0] == mix
    validation, test, painted = trainer.answers(measure.OVERSAMPLING, 0)
    assert len(painted[0]) == len(trainer.painted.labels)
    np.testing.assert_allclose(test[1].sum(axis=1), 1, atol=1e-5)
    assert len(validation[0]) == len(trainer.world.rows(VALIDATION))


def _answered(right: float, rng: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """Answers of which a share is right, the others anything."""
    labels = truth.argmax(axis=1)
    other = rng.integers(truth.shape[1], size=len(labels))
    found = np.where(rng.random(len(labels)) < right, labels, other)
    return found[:, None] == np.arange(truth.shape[1])


def test_intervals_are_of_rows_and_seeds_and_differences_of_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    truth = np.eye(6, dtype=bool)[np.arange(240) % 6]
    shares = {"none": 0.3, "oversampling": 0.5, "classic": 0.5, "generated": 0.8}
    answered = {
        way: [_answered(right, rng, truth) for _ in range(3)] for way, right in shares.items()
    }
    answered[measure.BOTH] = answered["generated"]
    rare = np.asarray([1, 4])
    found = measure.summary(truth, answered, rare, groups=1)
    for way, runs in answered.items():
        by_label = np.asarray([f1(truth, one) for one in runs])
        value, low, high = found["ways"][way]["rarest"]
        assert value == pytest.approx(by_label[:, rare].mean()) and low < value < high
        accuracy = np.mean([(one & truth).any(axis=1).mean() for one in runs])
        assert found["ways"][way]["accuracy"][0] == pytest.approx(accuracy)
    over = found["differences"]["generated - oversampling"]["macro_f1"]
    ways = found["ways"]
    assert over[0] == pytest.approx(
        ways["generated"]["macro_f1"][0] - ways["oversampling"]["macro_f1"][0]
    )
    assert over[1] > 0
    same = found["differences"]["generated and classic - oversampling"]["macro_f1"]
    assert same == over
    assert "met (+" in page.verdict(found) and "missed" not in page.verdict(found)


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--worlds", "moon", "--work", str(tmp_path)]) == 2
    assert "no world 'moon'; there are shop, products" in capsys.readouterr().err
    assert main(["--worlds", "shop", "--generator", "sea=x", "--work", str(tmp_path)]) == 2
    assert "none of shop" in capsys.readouterr().err
