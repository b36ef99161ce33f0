"""A little shop of plainly coloured pictures, and a make-believe model that sees their colour."""

import io

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from kmm_jax.data.config import DataConfig, SourceConfig
from kmm_jax.data.shards import ShardWriter
from kmm_jax.evaluation.dataset import EvaluationData
from kmm_jax.evaluation.encoders import from_functions
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.tasks.coca import CoCaTask
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training import run_directory
from kmm_jax.training.checkpoint import Checkpoints
from kmm_jax.training.checkpoint_config import CheckpointConfig
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.run_place import RunPlace
from kmm_jax.training.state import TrainState
from tests.tiny_models import tiny_coca

COLOURS = {
    "red": ("빨간색", (220, 20, 20)),
    "green": ("초록색", (20, 200, 20)),
    "blue": ("파란색", (20, 20, 220)),
    "yellow": ("노란색", (230, 220, 20)),
    "white": ("흰색", (250, 250, 250)),
    "black": ("검은색", (5, 5, 5)),
}
KEYS = tuple(COLOURS)
NAMES = tuple(name for name, _ in COLOURS.values())
ROWS, SIZE, LENGTH, BATCH = 22, 16, 24, 8


def jpeg(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def record(i):
    key = KEYS[i % len(KEYS)]
    name = COLOURS[key][0]
    made = {
        "image_hash": f"image{i:03d}",
        "caption": f"{name} 옷을 찍은 사진",
        "product_name": f"{name} 상품 {i}번",
        "query": [f"{name} 옷", f"{name} 의류"],
        "query_count": [3, 1],
        "labels": {"color": key, "number": str(i)},
    }
    if i == ROWS - 1:
        del made["labels"]  # as scenes with several garments
    return made


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, prefix="test", shard_rows=10) as writer:
        for i in range(ROWS):
            writer.write(record(i), jpeg(COLOURS[KEYS[i % len(KEYS)]][1]))
    return str(folder / "test-*.tar")


@pytest.fixture(scope="session")
def train_shards(tmp_path_factory):
    """Other rows than those of ``shards``, in slightly other colours."""
    folder = tmp_path_factory.mktemp("train_shards")
    noise = np.random.default_rng(0)
    with ShardWriter(folder, prefix="train") as writer:
        for i in range(100):
            made = record(i % (ROWS - 1)) | {"image_hash": f"train{i:03d}"}
            colour = np.asarray(COLOURS[made["labels"]["color"]][1]) + noise.integers(-5, 6, 3)
            writer.write(made, jpeg(tuple(int(c) for c in colour.clip(0, 255))))
    return str(folder / "train-*.tar")


@pytest.fixture(scope="session")
def tokenizer():
    texts = [text for i in range(ROWS) for text in (record(i)["caption"], *record(i)["query"])]
    return Tokenizer.train(texts * 3, vocab_size=400)


class Eye:
    """Functions as the loop gives them: the colour nearest to an image's mean, or named in a text.

    ``shapes`` are those of all the batches it was called with.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.shapes = {"image": set(), "text": set()}
        self.palette = np.asarray([rgb for _, rgb in COLOURS.values()], np.float32)

    def functions(self):
        return {
            "encode_image": self.image,
            "encode_text": self.text,
            "caption": self.caption,
        }

    def image(self, params, batch):
        self.shapes["image"].add(batch["image"].shape)
        return params * np.eye(len(KEYS), dtype=np.float32)[self.see(batch["image"])]

    def see(self, pixels):
        mean = pixels.astype(np.float32).mean(axis=(1, 2))
        return ((mean[:, None] - self.palette) ** 2).sum(axis=-1).argmin(axis=1)

    def text(self, params, batch):
        self.shapes["text"].add(batch["text"].shape)
        texts = [self.tokenizer.decode(row) for row in batch["text"]]
        named = [[name in text for name in NAMES] for text in texts]
        vectors = np.asarray(named, np.float32)
        return params * vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)

    def caption(self, params, batch):
        prompt = batch["prompt"].tolist()
        rows = np.zeros((len(batch["image"]), 32), np.int32)
        for row, seen in zip(rows, self.see(batch["image"]), strict=True):
            text = self.tokenizer.encode(f"{NAMES[seen]} 옷을 찍은 사진")
            ids = [*prompt, *text, self.tokenizer.eos_id, 9, 9]  # what follows [EOS] is no caption
            row[: len(ids)] = ids
        return rows


@pytest.fixture
def eye(tokenizer):
    return Eye(tokenizer)


@pytest.fixture
def encoder(eye, tokenizer):
    return from_functions(
        eye.functions(), np.float32(1), tokenizer, text_length=LENGTH, batch_size=BATCH
    )


@pytest.fixture(scope="session")
def data(shards, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    tokenizer.save(folder)
    return EvaluationData(
        source=shards,
        tokenizer=str(folder),
        image_size=SIZE,
        text_length=LENGTH,
        batch_size=BATCH,
    )


@pytest.fixture(scope="session")
def exported(tokenizer):
    """A real CoCa, untrained."""
    config = tiny_coca(image_size=SIZE, vocabulary=tokenizer.vocab_size, length=LENGTH)
    params = nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    return native.Exported(
        config=config, params=nnx.to_pure_dict(params), tokenizer=tokenizer, styled=True
    )


@pytest.fixture(scope="session")
def model_folder(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "exported"
    native.save(folder, exported)
    return str(folder)


@pytest.fixture(scope="session")
def run_folder(exported, tmp_path_factory):
    """A run with checkpoints of steps 4 and 30, the later parameters twice the earlier ones."""
    folder = tmp_path_factory.mktemp("run")
    exported.tokenizer.save(folder / "tokenizer")
    experiment = Experiment(
        name="run",
        task=CoCaTask(model=exported.config),
        data=DataConfig(sources=(SourceConfig(url="none"),), image_size=SIZE, text_length=LENGTH),
        tokenizer=str(folder / "tokenizer"),
        global_batch_size=8,
        duration="30 steps",
    )
    where = folder / "run"
    run_directory.write(experiment, RunPlace(where), folder / "tokenizer" / "tokenizer.json")
    checkpoints = Checkpoints(where, CheckpointConfig())
    for step, times in ((4, 1), (30, 2)):
        params = jax.device_put(jax.tree.map(lambda x, by=times: x * by, exported.params))
        state = TrainState(
            step=jax.numpy.int32(step), params=params, opt_state={"m": params}, ema=None
        )
        checkpoints.save(step, state, {})
    checkpoints.close()
    return str(where)
