"""The generator of a world, trained on its training rows alone, and what it paints of rare labels.

A text encoder and a UNet over a small autoencoder, all from nothing, prompted in Korean.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import SourceConfig
from kmm_jax.data.shards import ShardWriter
from kmm_jax.files import atomic_directory, atomic_write, read_json, write_json
from kmm_jax.generation.beginning import GeneratorWeights
from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.request import Request
from kmm_jax.generation.runs import published_run
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.models.clip.config import TextTowerConfig
from kmm_jax.models.diffusion.config import TextEncoderConfig
from kmm_jax.text.clip_bpe import save_clip_folder, train_clip_bpe
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from tools.generator_runs import Scale, autoencoder, trained
from tools.tags.worlds import SIZE, TRAIN, World

LENGTH = 16
"""Positions of a prompt, marks included."""

_VOCABULARY = 1500
_BATCH = 50
GUIDANCE, STEPS, SAMPLER = 3.0, 12, "dpmpp"
_BESIDE = 10.0  # rows of the whole that count for the types of a label, beside its own


def painter(world: World, work: Path, scale: Scale) -> Path:
    """A folder of diffusers, made once.

    Raises:
        UserError: training was interrupted.
    """
    name = f"{world.name}-generator-{scale.generator_steps}"
    folder = work / name
    if folders.is_folder(folder):
        return folder
    shards = _shards(world, work)
    begin = _autoencoder(world, work, shards, scale)
    config, _ = folders.read_autoencoder(begin / "vae")
    experiment = _here(load_experiment("diffusion/products"), shards, scale.generator_steps)
    vocabulary = len(_tokens(shards))
    task = experiment.task
    tower = TextTowerConfig(
        vocabulary=vocabulary,
        length=LENGTH,
        width=96,
        depth=2,
        heads=4,
        hidden=384,
        eos_id=vocabulary - 1,
    )
    model = dataclasses.replace(task.model, texts=(TextEncoderConfig(tower=tower),), vae=config)
    experiment = dataclasses.replace(
        experiment,
        name=name,
        task=dataclasses.replace(task, model=model),
        data=dataclasses.replace(
            experiment.data, augment=AugmentConfig(scale=(0.9, 1.0), ratio=(0.95, 1.05))
        ),
    )
    run = work / "runs" / experiment.name
    trained(experiment, run, initial=GeneratorWeights(begin, model))
    folders.write(folder, published_run(run))
    return folder


def _tokens(shards: Path) -> dict[str, int]:
    """The vocabulary of the prompts' tokenizer."""
    return dict(read_json(shards / "words" / "vocab.json"))


def _shards(world: World, work: Path) -> Path:
    """Training rows alone, a set of shards for each combination of labels."""
    folder = work / f"{world.name}-shards"
    if (folder / "about.json").is_file():
        return folder
    rows = world.rows(TRAIN)
    with atomic_directory(folder) as place:
        counts: dict[str, int] = {}
        prompts: list[str] = []
        for labels in np.unique(world.labels[rows], axis=0):
            prefix = "-".join(map(str, labels))
            members = rows[(world.labels[rows] == labels).all(axis=1)]
            with ShardWriter(place / "train", prefix=prefix) as writer:
                for row in members:
                    buffer = io.BytesIO()
                    Image.fromarray(world.images[row]).save(
                        buffer, "JPEG", quality=95, subsampling=0
                    )
                    prompt = world.prompt(labels, str(world.types[row]))
                    prompts.append(prompt)
                    writer.write({"image_hash": f"{row:06d}", "query": [prompt]}, buffer.getvalue())
            counts[prefix] = len(members)
        words = sorted({word for prompt in prompts for word in prompt.split()})
        save_clip_folder(
            train_clip_bpe([*words * 3, *prompts], _VOCABULARY), place / "words", length=LENGTH
        )
        write_json(place / "about.json", counts)
    return folder


def _sources(shards: Path) -> tuple[SourceConfig, ...]:
    """Each combination by the root of its rows: what is rare is seen more often than it occurs."""
    counts = read_json(shards / "about.json")
    return tuple(
        SourceConfig(url=str(shards / "train" / f"{prefix}-*.tar"), weight=count**0.5)
        for prefix, count in counts.items()
    )


def _autoencoder(world: World, work: Path, shards: Path, scale: Scale) -> Path:
    name = f"{world.name}-autoencoder-{scale.autoencoder_steps}"
    experiment = load_experiment("diffusion/products_autoencoder")
    # Half as wide as there: encoding is most of what a step of so small a UNet would take.
    model = dataclasses.replace(experiment.task.model, widths=(16, 32))
    experiment = dataclasses.replace(
        _here(experiment, shards, scale.autoencoder_steps),
        name=name,
        task=dataclasses.replace(experiment.task, model=model),
    )
    return autoencoder(experiment, work / "runs" / name, work / name)


def _here(experiment: Experiment, shards: Path, steps: int) -> Experiment:
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(
            experiment.data,
            sources=_sources(shards),
            image_size=SIZE,
            text_length=LENGTH,
            fields=(("query", 1.0),),
        ),
        tokenizer=str(shards / "words"),
        duration=f"{steps} steps",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painted:
    """Pictures of a generator, with the labels that it was asked for.

    Attributes:
        images: (M, S, S, 3) uint8.
        labels: (M, G).
    """

    images: np.ndarray
    labels: np.ndarray


def wanted(world: World, each: int, *, seed: int = 0) -> list[tuple[tuple[int, ...], str]]:
    """Labels and types to paint: every label ``each`` times or more, with any of other groups.

    Types are drawn by how often training rows of the picture's rarest label show them; what they
    never show is drawn as if they stood beside some rows of the whole. So what is asked for is what
    may exist, and is composed of what was seen apart. Labels that training rows lack are left out.
    """
    rng = np.random.default_rng(seed)
    rows = world.rows(TRAIN)
    counts = world.counts()
    names, places = np.unique(world.types[rows], return_inverse=True)
    prior = np.bincount(places) / len(places)
    there = [np.flatnonzero(one) for one in counts]
    total = each * max(len(one) for one in there)
    drawn = [rng.permutation(np.resize(one, total)) for one in there]
    found: list[tuple[tuple[int, ...], str]] = []
    for labels in zip(*(one.tolist() for one in drawn), strict=True):
        rarest = int(np.argmin([one[label] for one, label in zip(counts, labels, strict=True)]))
        own = places[world.labels[rows, rarest] == labels[rarest]]
        shares = np.bincount(own, minlength=len(names)) + _BESIDE * prior
        found.append((labels, str(rng.choice(names, p=shares / shares.sum()))))
    return found


def paint(
    world: World,
    generator: Path,
    asked: Sequence[tuple[tuple[int, ...], str]],
    work: Path,
) -> Painted:
    """A picture of each; kept in parts, so that what was killed goes on."""
    # Kept by what they depend on: another generator or other prompts make others.
    about = (asked, GUIDANCE, STEPS, (generator / folders.INDEX).stat().st_mtime_ns)
    mark = hashlib.sha256(repr(about).encode()).hexdigest()[:12]
    folder = work / f"{world.name}-painted-{mark}"
    pipeline = None
    parts = []
    for start in range(0, len(asked), _BATCH):
        file = folder / f"{start:05d}.npy"
        if not file.is_file():
            pipeline = pipeline or load_pipeline(generator)
            some = asked[start : start + _BATCH]
            prompts = [world.prompt(labels, type_) for labels, type_ in some]
            request = Request(
                prompts=(*prompts, *prompts[-1:] * (_BATCH - len(prompts))),
                sampler=SAMPLER,
                steps=STEPS,
                guidance=GUIDANCE,
                seeds=start,
            )
            images = pipeline.generate(request).images[: len(some)]
            with atomic_write(file) as place:
                np.save(place, np.stack([_small(image) for image in images]))
            print(f"{world.name}: {start + len(some)} of {len(asked)} painted", file=sys.stderr)
        parts.append(np.load(file, allow_pickle=False))
    return Painted(images=np.concatenate(parts), labels=np.asarray([labels for labels, _ in asked]))


def _small(image: np.ndarray) -> np.ndarray:
    """At the study's size, whatever the generator paints at."""
    if image.shape[0] == SIZE:
        return image
    picture = Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(picture)
