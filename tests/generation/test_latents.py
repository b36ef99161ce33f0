"""Pictures encoded once: what is written, taken up again, refused, and trained on."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from kmm_jax.cli import main
from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import DataConfig, SourceConfig, batch_shapes
from kmm_jax.data.latents import LatentSource, decoded, read_about
from kmm_jax.data.loader import Loader
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import open_source
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.generation.beginning import GeneratorWeights
from kmm_jax.generation.latents import Encoder, autoencoder_at, cache_latents, whole_rows
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.autoencoder import AutoencoderTask, pixels
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.text.clip_bpe import save_clip_folder, train_clip_bpe
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.cached_latents import check_settings, check_weights
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train
from kmm_jax.training.optimizer import AdamW
from kmm_jax.training.sharding import MeshConfig, make_mesh
from kmm_jax.training.state import graph_of
from kmm_jax.training.trained import Trained
from tests.tasks.test_diffusion import LENGTH, VAE, model

ROWS, SIZE = 22, 16
WHOLE = AugmentConfig(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)


def picture(number: int) -> bytes:
    """A square picture, as PNG: what is decoded does not depend on the size wanted."""
    pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def fresh(make: Any) -> Any:
    """The parameters of a module, made in one program."""
    return jax.jit(lambda: nnx.to_pure_dict(nnx.as_pure(nnx.state(make()))))()


def write_autoencoder(folder: Path, *, seed: int = 0) -> Path:
    config = dataclasses.replace(VAE, scaling=0.7, shift=0.1)
    params = fresh(lambda: Autoencoder(config, rngs=nnx.Rngs(seed)))
    folder.mkdir()
    folders.write_autoencoder(folder / "vae", config, params)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 22 pictures with texts, a tokenizer, an autoencoder and its latents."""
    folder = tmp_path_factory.mktemp("latents")
    texts = [f"photo of a red shirt {number}" for number in range(ROWS)]
    with ShardWriter(folder / "pictures", shard_rows=12) as writer:
        for number, text in enumerate(texts):
            writer.write({"image_hash": f"{number:04d}", "query_en": [text]}, picture(number))
    english = train_clip_bpe(texts, 540)
    save_clip_folder(english, folder / "english", length=LENGTH)
    write_autoencoder(folder / "vae")
    assert run(folder, folder / "made", "--mirrored") == 0
    return folder


def run(place: Path, output: Path, *more: str) -> int:
    words = ("latents", str(place / "vae"), str(place / "pictures"), "--output", str(output))
    return main([*words, "--shard-rows", "5", "--batch-size", "4", *more])


def content(folder: Path) -> dict[str, bytes]:
    """What was written; the indexes of shards are made by whoever reads them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".index"}


def data(*urls: str, **changes: Any) -> DataConfig:
    return DataConfig(
        sources=tuple(SourceConfig(url=url) for url in urls),
        image_size=SIZE,
        text_length=LENGTH,
        fields=(("query_en", 1.0),),
        styled=False,
        **{"augment": WHOLE, "threads": 2, **changes},
    )


def batch(config: DataConfig, place: Path, step: int = 0, **shares: int) -> dict[str, np.ndarray]:
    tokenizer = Tokenizer.load(place / "english")
    return Loader(config, tokenizer, global_batch_size=8, **shares).batch(step)


def test_a_row_holds_its_distribution_plain_and_mirrored(place: Path) -> None:
    config, params = autoencoder_at(place / "vae")
    graph = nnx.graphdef(abstract_module(lambda rngs: Autoencoder(config, rngs=rngs)))
    encode = jax.jit(lambda image: nnx.merge(graph, params).posterior(pixels(image)))
    made, pictures = open_source(f"latents:{place / 'made'}"), open_source(place / "pictures")
    assert isinstance(made, LatentSource) and len(made) == ROWS
    about, shards = read_about(place / "made")
    assert [shard["rows"] for shard in shards or ()] == [5, 5, 5, 5, 2]
    for number in (0, 7, ROWS - 1):
        row = made.read(number)
        assert row.record == {**pictures.read(number).record, "image_size": [20, 20]}
        image = Image.open(io.BytesIO(picture(number))).resize((SIZE, SIZE), Image.BICUBIC)
        found = decoded(row.image, about)
        assert found.shape == (2, 2, 8, 8, config.latent_channels)
        for side, seen in enumerate((image, image.transpose(Image.FLIP_LEFT_RIGHT))):
            posterior = encode(np.asarray(seen)[None])
            mean = (posterior.mean[0] - config.shift) * config.scaling
            deviation = np.exp(0.5 * posterior.log_variance[0]) * config.scaling
            # float16 rounds to within 2^-11 of a number.
            np.testing.assert_allclose(found[side, 0], mean, rtol=2**-11, atol=2e-6)
            np.testing.assert_allclose(found[side, 1], deviation, rtol=2**-11 + 1e-5)


@pytest.fixture(scope="module")
def loss(place: Path) -> Any:
    """The loss of a batch of the generator over that autoencoder."""
    vae, params = autoencoder_at(place / "vae")
    whole = dataclasses.replace(model(Tokenizer.load(place / "english").vocab_size), vae=vae)
    task = DiffusionTask(model=whole)
    rng = np.random.default_rng(1)

    def awake(leaf: Any) -> np.ndarray:
        """Neither zeros nor small numbers, which would hide what the UNet sees."""
        inputs = int(np.prod(leaf.shape[:-1]))
        return (rng.normal(0, inputs**-0.5, leaf.shape) + (leaf.ndim == 1)).astype(np.float32)

    fresh_params = jax.tree.map(awake, folders.abstract_params(whole))
    params = jax.device_put({**fresh_params, "vae": params})
    mesh = make_mesh(MeshConfig(data=1))

    @jax.jit
    def of_batch(rows: Any, key: jax.Array) -> jax.Array:
        return task.loss(nnx.merge(graph_of(task), params), rows, key, mesh)[0]

    def found(config: DataConfig, step: int) -> float:
        rows = batch(config, place, step)
        del rows["valid"]
        return float(of_batch(rows, jax.random.key(step)))

    return found


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_means_train_as_the_pictures_do(place: Path, loss: Any, flip: float) -> None:
    augment = dataclasses.replace(WHOLE, flip=flip)
    for step in range(2):
        pictures = data(str(place / "pictures"), augment=augment, sizes=True)
        means = data(f"latents:{place / 'made'}?deviation=0", augment=augment, sizes=True)
        wanted = pytest.approx(loss(pictures, step), rel=1e-3)
        assert loss(means, step) == wanted
        drawn = dataclasses.replace(means, sources=(SourceConfig(url=f"latents:{place / 'made'}"),))
        assert loss(drawn, step) != wanted
        one, other = batch(pictures, place, step), batch(means, place, step)
        assert np.array_equal(one["text"], other["text"])
        assert np.array_equal(one["time_ids"], other["time_ids"])
        assert one["time_ids"].tolist() == [[20, 20, 0, 0, SIZE, SIZE]] * 8


def test_draws_are_of_the_distribution_and_depend_on_the_epoch_alone(place: Path) -> None:
    drawn, means = (data(f"latents:{place / 'made'}{end}") for end in ("", "?deviation=0"))
    assert batch_shapes(drawn, 8)["latents"] == ((8, 8, 8, 4), "float32")
    first, mean = batch(drawn, place), batch(means, place)
    assert first["latents"].dtype == np.float32
    assert np.array_equal(first["text"], mean["text"])
    halves = [batch(drawn, place, process_index=i, process_count=2) for i in range(2)]
    assert np.array_equal(np.concatenate([half["latents"] for half in halves]), first["latents"])
    # Of the two epochs that 44 examples make, every row is drawn twice, and not alike.
    several = [batch(drawn, place, step) for step in range(6)]
    draws = np.concatenate([one["latents"] for one in several])[: 2 * ROWS]
    centres = np.concatenate([batch(means, place, step)["latents"] for step in range(6)])[:44]
    assert len(np.unique(centres.reshape(44, -1), axis=0)) == ROWS
    assert len(np.unique(draws.reshape(44, -1), axis=0)) == 44
    about, _ = read_about(place / "made")
    deviations = np.stack(
        [decoded(open_source(f"latents:{place / 'made'}").read(i).image, about)[0, 1]
         for i in range(ROWS)]
    )  # fmt: skip
    share = np.square(draws - centres).mean() / np.square(deviations.astype(np.float32)).mean()
    assert share == pytest.approx(1.0, abs=0.05)


def experiment(place: Path) -> Experiment:
    vae, _ = autoencoder_at(place / "vae")
    whole = dataclasses.replace(model(Tokenizer.load(place / "english").vocab_size), vae=vae)
    return Experiment(
        name="tiny",
        task=DiffusionTask(model=whole),
        data=data(f"latents:{place / 'made'}"),
        tokenizer=str(place / "english"),
        global_batch_size=8,
        duration="1 steps",
        optimizer=AdamW(warmup="1 steps"),
        mesh=MeshConfig(data=2),
        freeze="vae/.*",
    )


def test_batches_do_not_depend_on_where_reading_began(place: Path) -> None:
    config = data(f"latents:{place / 'made'}")
    loader = Loader(config, Tokenizer.load(place / "english"), global_batch_size=8)
    with contextlib.closing(loader.batches(start_step=3)) as batches:
        late = next(batches)
    assert np.array_equal(late["latents"], batch(config, place, 3)["latents"])


def test_a_run_trains_on_latents_and_none_on_those_of_another(place: Path, tmp_path: Path) -> None:
    config = experiment(place)
    weights = GeneratorWeights(place / "vae", config.task.model)
    result = train(config, tmp_path / "run", initial=weights)
    assert result.step == 1 and np.isfinite(result.metrics["loss"])
    other = GeneratorWeights(write_autoencoder(tmp_path / "other", seed=1), config.task.model)
    with pytest.raises(ConfigError, match=r"made by the autoencoder \w{16}, and this run's is"):
        train(config, tmp_path / "other-run", initial=other)


def test_latents_of_another_model_are_refused(place: Path) -> None:
    task, about = experiment(place).task, read_about(place / "made")[0]
    params = {"vae": autoencoder_at(place / "vae")[1]}
    unet = Trained(names=frozenset({"unet/conv_in/kernel"}))
    check_weights(task, about, params, unet)
    other = dataclasses.replace(about, autoencoder="0" * 16)
    with pytest.raises(ConfigError, match=r"autoencoder 0{16}, and this run's is \w{16}"):
        check_weights(task, other, params, unet)
    for trained in (Trained(), Trained(names=frozenset({"vae/encoder/conv_in/bias"}))):
        with pytest.raises(ConfigError, match=r"must stay as it is; set freeze='vae/\.\*'"):
            check_weights(task, about, params, trained)
    check_settings(task, about)
    vae = task.model.vae
    for changes, message in (
        ({"scaling": 0.5}, r"set task\.model\.vae\.scaling=0\.7"),
        ({"shift": 0.2}, r"set task\.model\.vae\.shift=0\.1"),
        ({"widths": (8, 16, 16)}, r"\(8, 8, 4\), this model's \(4, 4, 4\)"),
    ):
        changed = dataclasses.replace(task.model, vae=dataclasses.replace(vae, **changes))
        with pytest.raises(ConfigError, match=message):
            check_settings(DiffusionTask(model=changed), about)
    with pytest.raises(ConfigError, match="which AutoencoderTask does not take"):
        check_settings(AutoencoderTask(model=vae), about)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 32}, r"set data\.image_size=16"),
        ({"augment": AugmentConfig(hue=0.1)}, r"data\.augment\.hue changes pixels"),
        ({"views": (WHOLE,)}, r"data\.views changes pixels"),
    ],
)
def test_data_that_latents_cannot_give_is_refused(
    place: Path, changes: dict[str, Any], message: str
) -> None:
    config = dataclasses.replace(data(f"latents:{place / 'made'}"), **changes)
    with pytest.raises(ConfigError, match=message):
        Loader(config, Tokenizer.load(place / "english"), global_batch_size=8)


def test_pictures_beside_latents_and_latents_as_pictures_are_refused(place: Path) -> None:
    tokenizer = Tokenizer.load(place / "english")
    both = data(f"latents:{place / 'made'}", str(place / "pictures"))
    with pytest.raises(ConfigError, match=r"has pictures .* beside latents"):
        Loader(both, tokenizer, global_batch_size=8)
    with pytest.raises(DataError, match="named as latents:FOLDER"):
        Loader(data(f"{place / 'made'}/latents-00000.tar"), tokenizer, global_batch_size=8)
    with pytest.raises(ConfigError, match="no option 'deviations'; did you mean 'deviation'"):
        open_source(f"latents:{place / 'made'}?deviations=0")


KILLED = """
import os, signal, sys
from kmm_jax.cli import main
from kmm_jax.generation import latents

encode = latents.Encoder.__call__
calls = 0

def call(self, images):
    global calls
    calls += 1
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(self, images)

latents.Encoder.__call__ = call
main(sys.argv[2:])
"""


def test_killed_in_the_middle_it_ends_as_one_that_was_not(
    place: Path, tmp_path: Path, repository: Path
) -> None:
    words = [
        *("latents", str(place / "vae"), str(place / "pictures"), "--output", str(tmp_path / "k")),
        *("--shard-rows", "5", "--batch-size", "4", "--mirrored"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "3", *words],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    tars = sorted(path.name for path in (tmp_path / "k").glob("*.tar"))
    assert tars == ["latents-00000.tar", "latents-00001.tar"]
    assert list((tmp_path / "k").glob(".*.tmp"))  # the shard in hand
    with pytest.raises(DataError, match="unfinished latents; run kmm latents with the same"):
        open_source(f"latents:{tmp_path / 'k'}")
    before = [(tmp_path / "k" / name).stat().st_mtime_ns for name in tars]
    assert run(place, tmp_path / "k", "--mirrored") == 0
    assert [(tmp_path / "k" / name).stat().st_mtime_ns for name in tars] == before
    assert content(tmp_path / "k") == content(place / "made")


def test_a_truncated_shard_is_refused_and_made_again(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "made", tmp_path / "made", ignore=shutil.ignore_patterns("*.index"))
    shard = tmp_path / "made" / "latents-00002.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    assert whole_rows(shard) is None
    with pytest.raises(DataError, match=r"latents-00002\.tar: truncated tar"):
        open_source(f"latents:{tmp_path / 'made'}")
    assert run(place, tmp_path / "made", "--mirrored") == 0
    assert content(tmp_path / "made") == content(place / "made")


def test_two_processes_make_what_one_does(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, tmp_path / "made", "--mirrored", "--process", "1/2") == 0
    assert "waiting for the shards of other processes" in capsys.readouterr().out
    assert read_about(tmp_path / "made")[1] is None
    assert run(place, tmp_path / "made", "--mirrored", "--process", "0/2") == 0
    assert content(tmp_path / "made") == content(place / "made")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "mirrored is True there and False now"),
        (("--mirrored", "--size", "32"), "size is 16 there and 32 now"),
        (("--mirrored", "--size", "31"), "choose --size 32"),
    ],
)
def test_other_latents_are_not_mixed_in(
    place: Path, more: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, place / "made", *more) == 2
    assert message in capsys.readouterr().err


def test_bad_pictures_are_left_out_up_to_a_limit(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ShardWriter(tmp_path / "pictures") as writer:
        for number in range(6):
            record = {"image_hash": f"{number:04d}", "query_en": ["shirt"]}
            writer.write(record, b"no picture" if number in (2, 5) else picture(number))
    config, params = autoencoder_at(place / "vae")
    encoder = Encoder(config, params, size=SIZE, mirrored=False, batch_size=8)
    source = open_source(tmp_path / "pictures")
    with pytest.raises(DataError, match="2 of the 6 rows"):
        cache_latents(encoder, source, tmp_path / "made")
    # A last shard of nothing but bad rows holds none, and is not named.
    report = cache_latents(encoder, source, tmp_path / "few", shard_rows=5, max_bad_share=0.5)
    assert (report.read, report.bad, report.finished) == (6, 2, True)
    assert len(open_source(f"latents:{tmp_path / 'few'}")) == 4
    assert json.loads((tmp_path / "few" / "about.json").read_text())["shards"] == [
        {"file": "latents-00000.tar", "rows": 4}
    ]
    other = Encoder(
        dataclasses.replace(config, scaling=1.0), params, size=SIZE, mirrored=False, batch_size=8
    )
    with pytest.raises(UserError, match=r"scaling is 0\.7 there and 1\.0 now"):
        cache_latents(other, source, tmp_path / "few", shard_rows=5)
    with pytest.raises(UserError, match="exists and holds no latents"):
        cache_latents(encoder, source, tmp_path / "pictures")
