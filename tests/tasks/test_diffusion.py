"""Generators trained through the one loop: over meshes, from weights, and into use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.errors import ConfigError
from kmm_jax.generation.beginning import GeneratorWeights
from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.request import Request
from kmm_jax.generation.runs import (
    autoencoder_run,
    published_run,
    restored,
    with_measured_scaling,
)
from kmm_jax.generation.student import student_of, student_params
from kmm_jax.generation.teaching import TeacherWeights
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.models.clip.config import TextTowerConfig
from kmm_jax.models.diffusion.config import (
    LatentDiffusionConfig,
    TextEncoderConfig,
    UNetConfig,
    VAEConfig,
)
from kmm_jax.models.diffusion.distillation import Distillation, DistillationConfig
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.autoencoder import AutoencoderTask
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.tasks.text_distillation import TextDistillationTask, Weights
from kmm_jax.text.clip_bpe import save_clip_folder, train_clip_bpe
from kmm_jax.text.extension import extend
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.sharding import MeshConfig
from tests import tiny_shop
from tests.tasks.updates import MESHES, OVER_MESHES, assert_equal, two_updates

PAIRS = (
    ("빨간 셔츠", "red shirt"),
    ("파란 가방", "blue bag"),
    ("흰 신발 사진", "photo of a white shoe"),
)
LENGTH = 12
VAE = VAEConfig(
    widths=(8, 16), layers=1, norm_groups=4, middle_attention=False, scaling=1.0, sample_size=16
)


def model(vocabulary: int) -> LatentDiffusionConfig:
    tower = TextTowerConfig(
        vocabulary=vocabulary,
        length=LENGTH,
        width=32,
        depth=2,
        heads=2,
        hidden=32,
        eos_id=vocabulary - 1,
    )
    return LatentDiffusionConfig(
        texts=(TextEncoderConfig(tower=tower),),
        unet=UNetConfig(
            widths=(16, 32),
            layers=1,
            transformers=(0, 1),
            heads=(2, 2),
            context_width=32,
            norm_groups=8,
            sample_size=8,
        ),
        vae=VAE,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards with English texts, tokenizers of English and with Korean, a table of pairs."""
    folder = tmp_path_factory.mktemp("generator")
    with ShardWriter(folder) as writer:
        for number in range(16):
            _, english = PAIRS[number % len(PAIRS)]
            record = {"image_hash": f"{number:08d}", "query_en": [english]}
            writer.write(record, tiny_shop.picture(number))
    english = train_clip_bpe([en for _, en in PAIRS] * 3, 540)
    save_clip_folder(english, folder / "english", length=LENGTH)
    korean = extend(english, [ko for ko, _ in PAIRS] * 3, new_tokens=20)
    save_clip_folder(korean, folder / "korean", length=LENGTH)
    lines = ["ko\ten", *(f"{ko}\t{en}" for ko, en in PAIRS)]
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def experiment(place: Path, task: Any, **changes: Any) -> Experiment:
    base = Experiment(
        name="tiny",
        task=task,
        data=DataConfig(
            sources=(SourceConfig(url=str(place / "train-*.tar")),),
            image_size=16,
            text_length=LENGTH,
            fields=(("query_en", 1.0),),
            styled=False,
        ),
        tokenizer=str(place / "english"),
        global_batch_size=8,
        duration="3 steps",
        optimizer=AdamW(warmup="1 steps"),
        mesh=MeshConfig(data=1),
    )
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def autoencoder(place: Path) -> Path:
    """A folder with the autoencoder of a run, its scaling measured."""
    run = place / "autoencoder-run"
    train(experiment(place, AutoencoderTask(model=VAE)), run)
    config, params = autoencoder_run(run)
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 16, 16, 3), dtype=np.uint8)
    config = with_measured_scaling(config, params, images)
    (place / "autoencoder").mkdir()
    folders.write_autoencoder(place / "autoencoder" / "vae", config, params)
    return place / "autoencoder"


@pytest.fixture(scope="module")
def generator(place: Path, autoencoder: Path) -> Path:
    """A run of a generator over that autoencoder."""
    config, _ = folders.read_autoencoder(autoencoder / "vae")
    vocabulary = Tokenizer.load(place / "english").vocab_size
    whole = dataclasses.replace(model(vocabulary), vae=config)
    task = DiffusionTask(model=whole, schedule=NoiseSchedule(prediction="v_prediction"))
    run = place / "generator-run"
    train(
        experiment(place, task, freeze="vae/.*", ema=0.9),
        run,
        initial=GeneratorWeights(autoencoder, whole),
    )
    return run


def test_scaled_latents_have_unit_deviation(autoencoder: Path) -> None:
    config, params = folders.read_autoencoder(autoencoder / "vae")
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 16, 16, 3), dtype=np.uint8)
    again = with_measured_scaling(config, params, images)
    assert again.scaling == pytest.approx(config.scaling)
    assert config.scaling != 1.0


def test_a_run_keeps_the_frozen_autoencoder_and_makes_pictures(
    generator: Path, autoencoder: Path, tmp_path: Path
) -> None:
    _, params = folders.read_autoencoder(autoencoder / "vae")
    found = published_run(generator)
    for before, after in zip(
        jax.tree.leaves(params), jax.tree.leaves(found.params["vae"]), strict=True
    ):
        assert np.array_equal(before, after)
    folders.write(tmp_path / "model", found)
    request = Request(prompts=("red shirt",), steps=2, guidance=2.0)
    ours = load_pipeline(generator).generate(request)
    assert ours.images.shape == (1, 16, 16, 3)
    assert np.array_equal(ours.images, load_pipeline(tmp_path / "model").generate(request).images)


def test_a_generator_is_finetuned_from_a_folder(place: Path, generator: Path) -> None:
    found = published_run(generator)
    folder = place / "published"
    folders.write(folder, found)
    vocabulary = found.config.texts[0].tower.vocabulary
    weights = GeneratorWeights(folder, found.config)
    task = DiffusionTask(
        model=found.config, schedule=NoiseSchedule(prediction="v_prediction"), min_snr=5.0
    )
    run = place / "finetuned-run"
    train(experiment(place, task, freeze="(vae|texts)/.*", tokenizer="@init"), run, initial=weights)
    after = published_run(run)
    assert np.array_equal(
        after.params["texts"][0]["tower"]["embedding"]["positions"],
        found.params["texts"][0]["tower"]["embedding"]["positions"],
    )
    kernel = ("unet", "conv_in", "kernel")
    assert not np.array_equal(_at(after.params, kernel), _at(found.params, kernel))
    other = dataclasses.replace(found.config, vae=dataclasses.replace(VAE, scaling=0.5))
    with pytest.raises(ConfigError, match=r"set task\.model\.vae\.scaling="):
        GeneratorWeights(folder, other).params(None)
    wide = model(vocabulary + 7)
    wide = dataclasses.replace(wide, vae=found.config.vae)
    with pytest.raises(ConfigError, match="do not fit this model"):
        GeneratorWeights(folder, wide).params(None)
    with pytest.raises(ConfigError, match="is not that of the weights"):
        GeneratorWeights(folder, found.config).params(place / "korean")


def _at(params: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params[name]
    return params


def test_a_korean_student_leaves_all_but_itself_alone(place: Path, generator: Path) -> None:
    teacher = published_run(generator)
    korean = Tokenizer.load(place / "korean")
    config = DistillationConfig(
        student=student_of(teacher.config.texts[0], korean),
        teacher=teacher.config.texts[0],
        unet=teacher.config.unet,
        queries=8,
        whole_unet=True,
    )
    weights = Weights(pooled=1, position=1, ends=1, response=1, noise=1)
    initial = TeacherWeights(teacher, config, korean, prompts=["red shirt", "blue bag"])
    begun = initial.params(None)
    run = place / "korean-run"
    task = TextDistillationTask(model=config, weights=weights, noise_rows=4)
    result = train(
        experiment(
            place,
            task,
            data=TextPairs(
                files=((str(place / "pairs.tsv"), 1.0),),
                teacher_tokenizer=str(place / "english"),
                text_length=LENGTH,
                empty=0.2,
            ),
            tokenizer=str(place / "korean"),
            freeze="(teacher|responders|unet)/.*",
            optimizer=AdamW(learning_rate=3e-3, warmup="1 steps"),
            duration="20 steps",
        ),
        run,
        initial=initial,
    )
    assert result.metrics["replay_error"] < 1
    assert all(f"{name}_error" in result.metrics for name in ("noise", "response", "first"))

    module = abstract_module(lambda rngs: Distillation(config, rngs=rngs))
    after = restored(run, module)
    for part in ("teacher", "responders", "unet"):
        for before, now in zip(
            jax.tree.leaves(begun[part]), jax.tree.leaves(after[part]), strict=True
        ):
            assert np.array_equal(before, now)
    tokens = ("student", "tower", "embedding", "tokens", "embedding")
    assert not np.array_equal(_at(after, tokens), _at(begun, tokens))


def test_a_student_begins_as_its_teacher_for_english(place: Path, generator: Path) -> None:
    """New rows aside, it has the teacher's weights: English is read as before."""
    teacher = published_run(generator)
    korean = Tokenizer.load(place / "korean")
    config = student_of(teacher.config.texts[0], korean)
    params = student_params(teacher.params["texts"][0], config, korean, teacher.tokenizers[0])
    rows = params["tower"]["embedding"]["tokens"]["embedding"]
    old = teacher.params["texts"][0]["tower"]["embedding"]["tokens"]["embedding"]
    assert np.array_equal(rows[: len(old)], old)
    assert len(rows) == korean.vocab_size > len(old)
    text = "photo of a red shirt"
    assert korean.encode(text) == teacher.tokenizers[0].encode(text)


ROWS = 16


def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    text = rng.integers(2, 60, (ROWS, LENGTH)).astype(np.int32)
    text[:, 0], text[:, 8:] = 1, 63
    return {"image": rng.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8), "text": text}


@OVER_MESHES
def test_two_updates_over_a_mesh_equal_those_of_one_device(mesh: str) -> None:
    task = DiffusionTask(model=model(64))
    alone = two_updates(task, batch(), MeshConfig(data=1))
    assert_equal(two_updates(task, batch(), MESHES[mesh]), alone)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drop_text": 1.0}, "drop_text must lie from 0"),
        (
            {
                "model": dataclasses.replace(
                    model(64), unet=dataclasses.replace(model(64).unet, in_channels=9)
                )
            },
            "inpainting",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(changes: dict[str, Any], message: str) -> None:
    task = DiffusionTask(**{"model": model(64), **changes})
    data = DataConfig(sources=(), image_size=16, text_length=LENGTH, styled=False)
    with pytest.raises(ConfigError, match=message):
        task.check(data=data, vocabulary=None)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text_length": 8}, "a UNet sees every position"),
        ({"image_size": 18}, "does not divide by 4"),
        ({"styled": True}, "set data.styled=false"),
    ],
)
def test_data_that_does_not_fit_is_refused(data: dict[str, Any], message: str) -> None:
    config = {"sources": (), "image_size": 16, "text_length": LENGTH, "styled": False, **data}
    with pytest.raises(ConfigError, match=message):
        DiffusionTask(model=model(64)).check(data=DataConfig(**config), vocabulary=None)


def test_a_share_of_texts_is_emptied() -> None:
    task = DiffusionTask(model=model(64), drop_text=0.5)
    ids = jax.numpy.asarray(batch()["text"])
    dropped = np.asarray(task.dropped(ids, jax.random.key(0)))
    empty = (dropped[:, 1] == 63).sum()
    assert 3 <= empty <= 13
    for before, after in zip(np.asarray(ids), dropped, strict=True):
        if after[1] == 63:
            assert after.tolist() == [1, *[63] * (LENGTH - 1)]
        else:
            assert np.array_equal(before, after)
