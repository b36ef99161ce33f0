"""Ways to meet imbalance, the choice among generated shares, and what each way reaches.

N rows, G groups, C labels of all groups, S seeds, W ways, R resamples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.data.augment import AugmentConfig, augment
from kmm_jax.evaluation.bootstrap import CONFIDENCE, RESAMPLES
from kmm_jax.files import atomic_write
from kmm_jax.tagging.score import f1_of_sums, rarest_third, sums
from tools.tags import classifier
from tools.tags.painter import Painted
from tools.tags.worlds import SIZE, TEST, TRAIN, VALIDATION, World

NONE, OVERSAMPLING, CLASSIC = "none", "oversampling", "classic"
GENERATED, BOTH = "generated", "generated and classic"
WAYS = (NONE, OVERSAMPLING, CLASSIC, GENERATED, BOTH)

_FILTER = (OVERSAMPLING, 0)
"""Way and seed of the classifier that filters generated pictures."""

_AUGMENT = AugmentConfig(scale=(0.6, 1.0), flip=0.5)
"""Crops and mirror images; colours are labels, and are left alone."""

KEPT = 0.5  # of generated pictures, those that the filter lets pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mix:
    """How generated pictures are used.

    Attributes:
        share: of the draws of a label.
        filtered: only the half of each label's that a classifier trained by oversampling finds
            likeliest to be what was asked for. It saw training rows alone.
        everywhere: of every label alike, so that what generated pictures have in common tells
            nothing of labels; otherwise of rare ones alone, in proportion to what they miss of
            ``target`` training rows.
    """

    share: float
    filtered: bool
    everywhere: bool

    def __str__(self) -> str:
        where = "of every label" if self.everywhere else "of rare labels"
        return f"{self.share:.0%} {where}, {'the likelier half' if self.filtered else 'all'}"


MIXES = tuple(
    Mix(share=share, filtered=filtered, everywhere=everywhere)
    for share in (0.3, 0.6)
    for filtered, everywhere in ((True, True), (False, True), (True, False))
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains networks of a world in every way, each once.

    Attributes:
        keep: folder for what they answer.
        target: training rows from which on a label is not rare.
    """

    world: World
    painted: Painted
    keep: Path
    target: int
    steps: int

    def answers(
        self, way: str, seed: int, mix: Mix | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Probabilities by group of validation rows, of test rows, and of generated pictures.

        The last by the classifier that filters them alone; none by others.
        """
        about: list[Any] = [way, mix, self.steps]
        if mix is not None or (way, seed) == _FILTER:
            # Other pictures, other answers.
            about += [self.target, hashlib.sha256(self.painted.images.tobytes()).hexdigest()]
        name = hashlib.sha256(repr(about).encode()).hexdigest()[:12]
        file = self.keep / f"{self.world.name}-{way.replace(' ', '-')}-{seed}-{name}.npz"
        parts = ("validation", "test", "painted")
        groups = range(len(self.world.groups))
        if not file.is_file():
            found = self._trained(way, seed, mix)
            with atomic_write(file) as place:
                np.savez(place, **found)
        with np.load(file, allow_pickle=False) as opened:
            validation, test, painted = (
                [opened[name] for group in groups if (name := f"{part}-{group}") in opened.files]
                for part in parts
            )
        return validation, test, painted

    def _trained(self, way: str, seed: int, mix: Mix | None) -> dict[str, np.ndarray]:
        world = self.world
        rows = world.rows(TRAIN)
        images, labels = world.images[rows], world.labels[rows]
        shares = np.ones(len(rows)) / len(rows) if way == NONE else self._balanced(labels)
        if way in (GENERATED, BOTH):
            assert mix is not None
            images, labels, shares = self._mixed(images, labels, mix)
        sizes = [len(group.keys) for group in world.groups]
        params = classifier.train(
            images,
            labels,
            shares,
            sizes,
            steps=self.steps,
            seed=seed,
            views=_views if way in (CLASSIC, BOTH) else None,
        )
        seen = {
            "validation": world.images[world.rows(VALIDATION)],
            "test": world.images[world.rows(TEST)],
        }
        if (way, seed) == _FILTER:
            seen["painted"] = self.painted.images
        return {
            f"{part}-{group}": found.astype(np.float32)
            for part, pictures in seen.items()
            for group, found in enumerate(classifier.answers(params, pictures, sizes))
        }

    def _balanced(self, labels: np.ndarray) -> np.ndarray:
        """Shares of rows so that the labels of a group are drawn alike."""
        found = np.zeros(len(labels))
        for place, counts in enumerate(self.world.counts()):
            found += 1 / np.maximum(counts, 1)[labels[:, place]]
        return found / found.sum()

    def _mixed(
        self, images: np.ndarray, labels: np.ndarray, mix: Mix
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and generated pictures: labels are drawn alike, a share of them generated."""
        kept = self._passed() if mix.filtered else np.arange(len(self.painted.labels))
        painted = self.painted.labels[kept]
        real, made = np.zeros(len(labels)), np.zeros(len(painted))
        for place, counts in enumerate(self.world.counts()):
            there = np.bincount(painted[:, place], minlength=len(counts))
            rare = 1.0 if mix.everywhere else np.maximum(1 - counts / self.target, 0)
            share = np.where(there > 0, mix.share * rare, 0.0)
            real += ((1 - share) / np.maximum(counts, 1))[labels[:, place]]
            made += (share / np.maximum(there, 1))[painted[:, place]]
        shares = np.concatenate([real, made])
        return (
            np.concatenate([images, self.painted.images[kept]]),
            np.concatenate([labels, painted]),
            shares / shares.sum(),
        )

    def _passed(self) -> np.ndarray:
        """The generated pictures that the filter keeps: the likelier half of each combination."""
        _, _, probabilities = self.answers(*_FILTER)
        return likelier(probabilities, self.painted.labels)


def likelier(probabilities: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The half of each label's pictures that is likeliest what was asked for, by all groups.

    A picture with labels of several groups is compared with those of the same rarest label.
    """
    sure = np.ones(len(labels))
    for place, found in enumerate(probabilities):
        sure = sure * found[np.arange(len(labels)), labels[:, place]]
    counts = [np.bincount(labels[:, place]) for place in range(labels.shape[1])]
    rarity = np.stack([each[labels[:, place]] for place, each in enumerate(counts)], axis=1)
    rarest = rarity.argmin(axis=1)
    keys = [(int(place), int(labels[row, place])) for row, place in enumerate(rarest)]
    kept: list[int] = []
    for key in sorted(set(keys)):
        members = np.asarray([row for row, other in enumerate(keys) if other == key])
        order = members[np.argsort(-sure[members], kind="stable")]
        kept += order[: max(1, round(KEPT * len(order)))].tolist()
    return np.asarray(sorted(kept))


def _views(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.stack([augment(image, rng, SIZE, _AUGMENT) for image in images])


def one_hot(world: World, labels: np.ndarray) -> np.ndarray:
    """Labels (N, G) as flags of all groups' labels (N, C)."""
    parts = [
        labels[:, place, None] == np.arange(len(group.keys))
        for place, group in enumerate(world.groups)
    ]
    return np.concatenate(parts, axis=1)


def given(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """The likeliest label of each group, as flags (N, C)."""
    parts = [found.argmax(axis=1)[:, None] == np.arange(found.shape[1]) for found in probabilities]
    return np.concatenate(parts, axis=1)


def chosen_mix(trainer: Trainer) -> tuple[Mix, dict[str, dict[str, float]]]:
    """The mix of the best macro-F1 on validation rows, seed 0: of all labels and of the rarest.

    Test rows have no part in it.
    """
    world = trainer.world
    truth = one_hot(world, world.labels[world.rows(VALIDATION)])
    rare = rarest_third(np.concatenate(world.counts()))
    found: dict[str, dict[str, float]] = {}
    best, highest = MIXES[0], -1.0
    for mix in MIXES:
        validation, _, _ = trainer.answers(GENERATED, 0, mix)
        by_label = f1_of_sums(sums(truth, given(validation)))[0]
        scores = {"macro_f1": float(by_label.mean()), "rarest": float(by_label[rare].mean())}
        found[str(mix)] = scores
        if sum(scores.values()) > highest:
            best, highest = mix, sum(scores.values())
    return best, found


def measured(trainer: Trainer, mix: Mix, seeds: int) -> dict[str, Any]:
    """Every way with every seed on the test rows, with intervals, alone and against each other."""
    world = trainer.world
    labels = world.labels[world.rows(TEST)]
    truth = one_hot(world, labels)
    counts = np.concatenate(world.counts())
    answered = {
        way: [
            given(trainer.answers(way, seed, mix if way in (GENERATED, BOTH) else None)[1])
            for seed in range(seeds)
        ]
        for way in WAYS
    }
    scores = summary(truth, answered, rarest_third(counts), groups=len(world.groups))
    by_label = {
        way: np.mean([f1_of_sums(sums(truth, one))[0] for one in found], axis=0).tolist()
        for way, found in answered.items()
    }
    return {**scores, "f1": by_label}


def summary(
    truth_NC: np.ndarray,
    answered: Mapping[str, Sequence[np.ndarray]],
    rare: np.ndarray,
    *,
    groups: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy and macro-F1 of all labels and of the rarest, with 95 % intervals.

    Test rows and training seeds are drawn anew together, the same ones for every way, so that
    differences of two ways are of the same rows.

    Args:
        answered: by way, flags (N, C) of each seed.
        rare: numbers of the rarest labels.
    """
    counted = {
        way: np.stack([sums(truth_NC, one) for one in found]) for way, found in answered.items()
    }
    (seeds,) = {len(found) for found in answered.values()}

    def scores(times_N: np.ndarray, seeds_S: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for way, sums_SN3C in counted.items():
            by_label_SC = np.concatenate([f1_of_sums(sums_SN3C[s], times_N) for s in seeds_S])
            right = np.mean([times_N @ sums_SN3C[s][:, 0].sum(axis=1) for s in seeds_S])
            found[way] = np.asarray(
                [
                    right / (groups * times_N.sum()),
                    by_label_SC.mean(),
                    by_label_SC[:, rare].mean(),
                ]
            )
        return found

    rng = np.random.default_rng(seed)
    count = len(truth_NC)
    point = scores(np.ones(count), np.arange(seeds))
    draws = [
        scores(
            np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64),
            rng.integers(seeds, size=seeds),
        )
        for _ in range(RESAMPLES)
    ]
    tail = 50 * (1 - CONFIDENCE)
    names = ("accuracy", "macro_f1", "rarest")

    def told(value: np.ndarray, drawn: Sequence[np.ndarray]) -> dict[str, list[float]]:
        low, high = np.percentile(np.stack(drawn), [tail, 100 - tail], axis=0)
        return {
            name: [float(value[place]), float(low[place]), float(high[place])]
            for place, name in enumerate(names)
        }

    ways = {way: told(point[way], [one[way] for one in draws]) for way in answered}
    over = {
        f"{one} - {other}": told(
            point[one] - point[other], [each[one] - each[other] for each in draws]
        )
        for other, one in itertools.permutations(answered, 2)
        if other in (NONE, OVERSAMPLING, CLASSIC)
        and one in (OVERSAMPLING, CLASSIC, GENERATED, BOTH)
    }
    per_seed = {
        way: [float(scores(np.ones(count), np.asarray([one]))[way][2]) for one in range(seeds)]
        for way in answered
    }
    return {"ways": ways, "differences": over, "rarest_by_seed": per_seed}
