"""A student that reads by an XLM-RoBERTa of its own: begun, taught, published and used."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.data.pair_loader import PairLoader
from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.errors import ConfigError, UserError
from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.request import Request
from kmm_jax.generation.runs import restored
from kmm_jax.generation.student import first_params, resampled_student_of
from kmm_jax.generation.teaching import teacher_weights
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.interop.families.xlm_roberta import tower_about, tower_rules
from kmm_jax.interop.names import put
from kmm_jax.interop.weights import write_weights
from kmm_jax.losses.text_distillation import ends_error, first_end
from kmm_jax.models.clip.config import XLMRobertaConfig
from kmm_jax.models.diffusion.config import ResampledTextEncoderConfig
from kmm_jax.models.diffusion.distillation import Distillation, DistillationConfig
from kmm_jax.models.diffusion.modeling import LatentDiffusion
from kmm_jax.models.diffusion.text_encoders import text_encoder
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.text_distillation import OBJECTIVES, TextDistillationTask, Weights
from kmm_jax.text.adopted import adopt
from kmm_jax.text.clip_bpe import save_clip_folder, train_clip_bpe
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.sharding import MeshConfig
from tests import stable_diffusion
from tests.tasks.test_diffusion import LENGTH, PAIRS, model
from tests.tasks.updates import MESHES, OVER_MESHES, assert_equal, two_updates
from tools import export_checkpoint
from tools.parity import unigram

OWN = 10
"""Tokens of a text as the student reads it, fewer than the teacher's ``LENGTH``."""

STUDENT = ResampledTextEncoderConfig(
    tower=XLMRobertaConfig(
        vocabulary=64, length=OWN, width=16, depth=2, heads=2, hidden=32, positions=20
    ),
    positions=LENGTH,
    width=32,
    depth=1,
    heads=2,
    hidden=32,
)


def numbers(module: Any) -> Any:
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.as_pure(nnx.state(module))))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, pairs of texts, and an XLM-RoBERTa with a head as Hugging Face has it."""
    folder = tmp_path_factory.mktemp("resampled")
    english = train_clip_bpe([en for _, en in PAIRS] * 3, 540)
    save_clip_folder(english, folder / "english", length=LENGTH)
    lines = ["ko\ten", *(f"{ko}\t{en}" for ko, en in PAIRS)]
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    config = model(english.vocab_size)
    teacher = Published(
        config=config,
        params=numbers(LatentDiffusion(config, rngs=nnx.Rngs(0))),
        tokenizers=(english,),
        scheduler={"_class_name": "DDIMScheduler", **stable_diffusion.SCHEDULER},
    )
    folders.write(folder / "teacher", teacher)
    unigram.write(folder / "roberta", [text for pair in PAIRS for text in pair])
    own = Tokenizer(adopt(folder / "roberta"))
    student = resampled_student_of(config.texts[0], own, STUDENT)
    tower = numbers(text_encoder(student, rngs=nnx.Rngs(3)))["tower"]
    tensors = dict(put(tower_rules("roberta.", "tower"), folders.flatten_lazily({"tower": tower})))
    tensors["lm_head.bias"] = np.zeros(student.vocabulary, np.float32)
    write_weights(folder / "roberta", tensors.items())
    about = json.dumps(tower_about(student.tower, own))
    (folder / "roberta" / "config.json").write_text(about, "utf-8")
    return folder


def experiment(place: Path, weights: Weights, **changes: Any) -> Experiment:
    teacher = folders.read(place / "teacher")
    own = Tokenizer(adopt(place / "roberta"))
    config = DistillationConfig(
        student=resampled_student_of(teacher.config.texts[0], own, STUDENT),
        teacher=teacher.config.texts[0],
        unet=teacher.config.unet,
        queries=8,
        whole_unet=True,
    )
    task = TextDistillationTask(
        model=config, weights=weights, student_weights=str(place / "roberta")
    )
    base = Experiment(
        name="tiny",
        task=task,
        data=TextPairs(
            files=((str(place / "pairs.tsv"), 1.0),),
            teacher_tokenizer=str(place / "english"),
            text_length=OWN,
            teacher_length=LENGTH,
            empty=0.2,
        ),
        tokenizer="@init",
        global_batch_size=8,
        duration="12 steps",
        optimizer=AdamW(learning_rate=3e-3, warmup="1 steps"),
        mesh=MeshConfig(data=1),
        freeze="(teacher|responders|unet)/.*",
    )
    return dataclasses.replace(base, **changes)


def test_it_begins_with_a_tower_is_taught_published_and_used(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Weights(**dict.fromkeys(OBJECTIVES, 1.0))
    tried = experiment(place, weights)
    initial = teacher_weights(place / "teacher", tried)
    begun = initial.params(None)
    teacher = folders.read(place / "teacher").params["texts"][0]
    assert begun["student"].keys() == {"norm", "tower"}, "queries and their layers begin afresh"
    assert np.array_equal(begun["student"]["norm"]["scale"], teacher["tower"]["norm"]["scale"])
    run = tmp_path / "run"
    result = train(tried, run, initial=initial)
    assert all(np.isfinite(result.metrics[f"{name}_error"]) for name in OBJECTIVES)
    config = tried.task.model
    after = restored(run, abstract_module(lambda rngs: Distillation(config, rngs=rngs)))
    for part in ("teacher", "responders", "unet"):
        for before, now in zip(
            jax.tree.leaves(begun[part]), jax.tree.leaves(after[part]), strict=True
        ):
            assert np.array_equal(before, now)
    words = ("embedding", "tokens", "embedding")
    change = np.abs(
        _at(after["student"]["tower"], words) - _at(begun["student"]["tower"], words)
    ).max()
    assert 0 < change < 0.2, "it went on from the weights it was given"
    assert Tokenizer.load(run / "tokenizer") == Tokenizer(adopt(place / "roberta"))

    options = ["--to", "diffusers", "--teacher", str(place / "teacher")]
    assert export_checkpoint.main([str(run), "--output", str(tmp_path / "out"), *options]) == 0
    assert "written" in capsys.readouterr().out
    found = folders.read(tmp_path / "out")
    assert found.config.texts[0] == config.student
    for before, now in zip(
        jax.tree.leaves(after["student"]), jax.tree.leaves(found.params["texts"][0]), strict=True
    ):
        assert np.array_equal(before, now)
    request = Request(prompts=("빨간 셔츠", "파란 가방"), steps=1, guidance=1.0)
    pipeline = load_pipeline(tmp_path / "out")
    one, other = pipeline.generate(dataclasses.replace(request, seeds=(3, 3))).latents
    assert np.abs(one - other).max() > 1e-6
    with pytest.raises(UserError, match=r"skip \(--clip-skip\) is 1; .* 0 to 0 layers"):
        pipeline.generate(dataclasses.replace(request, skip=1))


def _at(params: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params[name]
    return params


def test_each_tokenizer_fills_up_with_its_own_padding_to_its_own_length(place: Path) -> None:
    tried = experiment(place, Weights())
    own, english = Tokenizer(adopt(place / "roberta")), Tokenizer.load(place / "english")
    batch = PairLoader(tried.data, own, global_batch_size=8).batch(0)
    shapes = {name: (array.shape, str(array.dtype)) for name, array in batch.items()}
    assert shapes == tried.data.batch_shapes(8)
    assert {name: array.shape[1] for name, array in batch.items()} == {
        "korean": OWN,
        "english": OWN,
        "teacher": LENGTH,
    }
    for name, tokenizer in (("korean", own), ("english", own), ("teacher", english)):
        for row in batch[name]:
            end = int(np.argmax(row == tokenizer.eos_id))
            assert row[0] == tokenizer.bos_id and end > 0
            assert (row[end + 1 :] == tokenizer.pad_id).all()
    assert own.pad_id != english.pad_id


def batch(rows: int = 16) -> dict[str, np.ndarray]:
    """Texts of several lengths in both languages; the marks are 0, 2, 1 and 62, 63, 63."""
    rng = np.random.default_rng(0)

    def texts(length: int, *, marks: tuple[int, int, int], least: int) -> np.ndarray:
        ids = rng.integers(least, 60, (rows, length)).astype(np.int32)
        ids[:, 0] = marks[0]
        for row, end in zip(ids, rng.integers(2, length, rows), strict=True):
            row[end], row[end + 1 :] = marks[1], marks[2]
        return ids

    own = {name: texts(OWN, marks=(0, 2, 1), least=4) for name in ("korean", "english")}
    return {**own, "teacher": texts(LENGTH, marks=(62, 63, 63), least=0)}


def tiny_task(**weights: float) -> TextDistillationTask:
    whole = model(64)
    config = DistillationConfig(student=STUDENT, teacher=whole.texts[0], unet=whole.unet, queries=4)
    return TextDistillationTask(model=config, weights=Weights(**weights))


def test_its_texts_end_where_its_teachers_do() -> None:
    task = tiny_task(ends=1.0, replay=0.0, first=0.0)
    module, rows = task.init(jax.random.key(0)), batch(4)
    loss, metrics = task.loss(module, rows, jax.random.key(1), None)
    end_B = first_end(rows["teacher"], 63)
    expected = ends_error(
        module.student(jnp.asarray(rows["korean"])).hidden,
        module.teacher(jnp.asarray(rows["teacher"])).hidden,
        end_B,
        end_B,
    )
    assert np.isclose(loss, expected, rtol=1e-5) and np.isclose(metrics["ends_error"], expected)
    assert len(set(np.asarray(end_B).tolist())) > 1


@OVER_MESHES
def test_two_updates_over_a_mesh_equal_those_of_one_device(mesh: str) -> None:
    task = tiny_task(pooled=1.0, position=1.0, ends=1.0, response=1.0)
    alone = two_updates(task, batch(), MeshConfig(data=1))
    assert_equal(two_updates(task, batch(), MESHES[mesh]), alone)


def test_data_that_does_not_fit_is_refused(place: Path) -> None:
    tried = experiment(place, Weights(ends=1.0))
    task, data = tried.task, tried.data
    task.check(data=data, vocabulary=30)
    for changed, said in (
        ({"text_length": LENGTH}, f"text_length={LENGTH}, but the student takes {OWN}"),
        ({"teacher_length": None}, f"set data.teacher_length={LENGTH}"),
    ):
        with pytest.raises(ConfigError, match=said):
            task.check(data=dataclasses.replace(data, **changed), vocabulary=30)
    config = task.model
    projected = dataclasses.replace(config.student, projection=7)
    resampled = dataclasses.replace(
        config, teacher=config.student, student=dataclasses.replace(config.student)
    )
    alike = dataclasses.replace(data, teacher_length=None)
    for changed_config, given, weights, said in (
        (
            dataclasses.replace(config, student=projected),
            data,
            Weights(pooled=1.0),
            "vectors of one width: student.projection is 7",
        ),
        (resampled, alike, Weights(ends=1.0), r"set task\.weights\.ends=0"),
    ):
        changed_task = dataclasses.replace(task, model=changed_config, weights=weights)
        with pytest.raises(ConfigError, match=said):
            changed_task.check(data=given, vocabulary=None)


def begun(place: Path, **changes: Any) -> Any:
    """What a student begins with, after changes of the task's fields or of the student's."""
    tried = experiment(place, Weights())
    tokenizer = changes.pop("tokenizer", "@init")
    if student := changes.pop("student", None):
        changes["model"] = dataclasses.replace(tried.task.model, student=student)
    tried = dataclasses.replace(
        tried, task=dataclasses.replace(tried.task, **changes), tokenizer=tokenizer
    )
    return teacher_weights(place / "teacher", tried).params(None)


def test_weights_and_tokenizers_that_do_not_fit_are_refused(place: Path) -> None:
    student = experiment(place, Weights()).task.model.student
    wide = dataclasses.replace(student.tower, hidden=48, positions=24)
    with pytest.raises(
        ConfigError, match=r"set task\.model\.student\.tower\.hidden=32 .*positions=20"
    ):
        begun(place, student=dataclasses.replace(student, tower=wide))
    moved = dataclasses.replace(student, eos_id=5)
    with pytest.raises(ConfigError, match=r"set task\.model\.student\.tower\.pad_id=1 .*eos_id=2"):
        begun(place, student=moved)
    with pytest.raises(ConfigError, match="takes those of XLMRobertaModel"):
        begun(place, student_weights=str(_clip(place)), tokenizer=str(place / "roberta-words"))
    with pytest.raises(ConfigError, match="@init is that of"):
        begun(place, student_weights=None)
    causal = folders.read(place / "teacher").config.texts[0]
    with pytest.raises(ConfigError, match=r"set task\.student_weights=none"):
        begun(place, student=causal)


def _clip(place: Path) -> Path:
    """Weights of another family, and the student's tokenizer as a folder of its own."""
    folder = place / "other"
    folder.mkdir()
    names = ("vision_model.embeddings.class_embedding", "logit_scale")
    write_weights(folder, [(name, np.zeros(1, np.float32)) for name in names])
    Tokenizer(adopt(place / "roberta")).save(place / "roberta-words")
    return folder


def test_without_weights_the_tower_begins_afresh(place: Path) -> None:
    student, own = experiment(place, Weights()).task.model.student, adopt(place / "roberta")
    found = first_params(student, folders.read(place / "teacher"), Tokenizer(own))
    assert found.keys() == {"norm"}
