"""SDXL trained: its loss is diffusers', and what a run made goes back into a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.data.shards import ShardWriter
from kmm_jax.errors import ConfigError
from kmm_jax.generation.beginning import GeneratorWeights
from kmm_jax.generation.runs import published_run
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.losses.diffusion import spread_steps
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.sharding import MeshConfig
from kmm_jax.training.state import graph_of
from tests import tiny_shop
from tests.stable_diffusion import SCHEDULER, TEXTS, diffusers

ROWS, LENGTH = 4, 20


@pytest.fixture(scope="module")
def made(stable_diffusion_of: Callable[[str], Any]) -> Any:
    """A small SDXL of diffusers, saved."""
    return stable_diffusion_of("sdxl")


@pytest.fixture(scope="module")
def found(made: Any) -> folders.Published:
    """What is read of it."""
    return folders.read(made.folder)


def task_for(found: folders.Published, **changes: Any) -> DiffusionTask:
    pad_id = found.tokenizers[1].pad_id
    base = DiffusionTask(model=found.config, zero_dropped=True, second_pad_id=pad_id)
    return dataclasses.replace(base, **changes)


def rows(found: folders.Published) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [[40, 30, 3, 0, 16, 16], [16, 16, 0, 0, 16, 16]] * (ROWS // 2)
    return {
        "latents": rng.normal(size=(ROWS, 8, 8, 4)).astype(np.float32),
        "text": found.tokenizers[0].sequences(TEXTS[:ROWS], None, LENGTH),
        "time_ids": np.asarray(sizes, np.float32),
    }


def by_diffusers(
    pipeline: Any, batch: dict[str, np.ndarray], key: jax.Array, *, drop: float, pad_id: int
) -> float:
    """The loss by the networks and the scheduler of diffusers, from the same random numbers."""
    import torch

    noise_key, step_key, drop_key = jax.random.split(key, 3)
    shape = batch["latents"].shape
    noise = _torch(jax.random.normal(noise_key, shape, jnp.float32)).permute(0, 3, 1, 2)
    steps = _torch(spread_steps(step_key, ROWS, 1000)).long()
    kept_B1 = _torch(~jax.random.bernoulli(drop_key, drop, (ROWS, 1))).float()
    ids, eos_id = batch["text"], int(batch["text"].max())
    second = ids.copy()
    for row, start in zip(second, np.argmax(ids == eos_id, axis=1), strict=True):
        row[start + 1 :] = pad_id
    noisy = (
        diffusers()
        .DDPMScheduler(
            **{name: SCHEDULER[name] for name in ("beta_schedule", "beta_start", "beta_end")},
            num_train_timesteps=1000,
        )
        .add_noise(_torch(batch["latents"]).permute(0, 3, 1, 2), noise, steps)
    )
    with torch.no_grad():
        one = pipeline.text_encoder(_torch(ids).long(), output_hidden_states=True)
        two = pipeline.text_encoder_2(_torch(second).long(), output_hidden_states=True)
        context = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        predicted = pipeline.unet(
            noisy,
            steps,
            context * kept_B1[..., None],
            added_cond_kwargs={
                "text_embeds": two.text_embeds * kept_B1,
                "time_ids": _torch(batch["time_ids"]),
            },
        ).sample
    return float(torch.nn.functional.mse_loss(predicted, noise))


def _torch(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.array(array))


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_the_loss_is_that_of_diffusers(made: Any, found: folders.Published, drop: float) -> None:
    batch, key = rows(found), jax.random.key(3)
    task = task_for(found, drop_text=drop, second_pad_id=0)
    graph = graph_of(task)

    @jax.jit
    def loss(params: Any, batch: Any) -> jax.Array:
        return task.loss(nnx.merge(graph, params), batch, key, None)[0]  # type: ignore[arg-type]

    ours = float(loss(found.params, batch))
    theirs = by_diffusers(made.pipeline, batch, key, drop=drop, pad_id=0)
    assert ours == pytest.approx(theirs, rel=2e-5)
    if drop:
        return
    # Without sizes in the batch, pictures are of the size they are trained in.
    whole = {**batch, "time_ids": np.asarray([[16, 16, 0, 0, 16, 16]] * ROWS, np.float32)}
    unsaid = {name: value for name, value in batch.items() if name != "time_ids"}
    assert float(loss(found.params, unsaid)) == float(loss(found.params, whole))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards with English texts."""
    folder = tmp_path_factory.mktemp("sdxl")
    with ShardWriter(folder) as writer:
        for number in range(8):
            record = {"image_hash": f"{number:08d}", "query_en": [TEXTS[number % 3]]}
            writer.write(record, tiny_shop.picture(number))
    return folder


def experiment(place: Path, task: DiffusionTask) -> Experiment:
    return Experiment(
        name="tiny-sdxl",
        task=task,
        data=DataConfig(
            sources=(SourceConfig(url=str(place)),),
            image_size=16,
            text_length=LENGTH,
            fields=(("query_en", 1.0),),
            styled=False,
            sizes=True,
        ),
        tokenizer="@init",
        global_batch_size=4,
        duration="1 steps",
        optimizer=AdamW(learning_rate=1e-3, warmup="1 steps"),
        mesh=MeshConfig(data=2),
        freeze="(vae|texts)/.*",
    )


@pytest.mark.slow
def test_a_run_begins_from_a_folder_and_goes_back_into_one(
    made: Any, found: folders.Published, place: Path, tmp_path: Path
) -> None:
    task = task_for(found)
    weights = GeneratorWeights(made.folder, found.config, task=task)
    result = train(experiment(place, task), tmp_path / "run", initial=weights)
    assert result.step == 1 and np.isfinite(result.metrics["loss"])
    folders.write(tmp_path / "model", published_run(tmp_path / "run"))
    again = folders.read(tmp_path / "model")
    assert again.tokenizers == found.tokenizers
    assert again.zero_empty_negative
    for part in ("texts", "vae"):
        for one, other in zip(
            jax.tree.leaves(found.params[part]), jax.tree.leaves(again.params[part]), strict=True
        ):
            assert np.array_equal(one, other)
    trained = again.params["unet"]["add_embedding"]["linear_1"]["kernel"]
    assert not np.array_equal(trained, found.params["unet"]["add_embedding"]["linear_1"]["kernel"])
    # diffusers reads what was written.
    unet = diffusers().UNet2DConditionModel.from_pretrained(tmp_path / "model" / "unet")
    theirs = unet.add_embedding.linear_1.weight.detach().numpy()
    np.testing.assert_array_equal(theirs.T, trained)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"second_pad_id": 0}, r"set task\.second_pad_id=531"),
        ({"zero_dropped": False}, r"guided away from zeros; set task\.zero_dropped=true"),
    ],
)
def test_texts_are_read_and_taken_away_as_the_weights_do(
    made: Any, found: folders.Published, changes: dict[str, Any], message: str
) -> None:
    task = task_for(found, **changes)
    with pytest.raises(ConfigError, match=message):
        GeneratorWeights(made.folder, found.config, task=task).params(None)


def test_a_unet_that_is_told_other_numbers_is_refused(found: folders.Published) -> None:
    unet = dataclasses.replace(found.config.unet, time_ids=5)
    task = task_for(found, model=dataclasses.replace(found.config, unet=unet))
    data = DataConfig(sources=(), image_size=16, text_length=LENGTH, styled=False)
    with pytest.raises(ConfigError, match="told 5 numbers about a picture"):
        task.check(data=data, vocabulary=None)
