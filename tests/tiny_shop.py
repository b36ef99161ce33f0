"""A handful of rows in a shard, a tokenizer, and the sizes of a CoCa that trains on them."""

import io

import numpy as np
from PIL import Image

from kmm_jax.data.shards import ShardWriter
from kmm_jax.text.tokenizer import Tokenizer

SIZES = (
    "data.image_size=16",
    "task.model.vision.image_size=16",
    "task.model.vision.width=32",
    "task.model.vision.heads=1",
    "task.model.vision.hidden=32",
    "task.model.vision.depth=1",
    "task.model.text.width=32",
    "task.model.text.heads=1",
    "task.model.text.hidden=32",
    "task.model.pooler_heads=1",
    "task.model.embedding=32",
    "global_batch_size=8",
    "duration=2 steps",
)


def record(number):
    return {"image_hash": f"{number:08d}", "title": f"빨간 셔츠 {number}", "query": ["빨간 셔츠"]}


def picture(number=0):
    pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write(folder, rows=24, bad=()):
    """``train-000.tar`` and ``tokenizer/`` in a folder; the images of the rows ``bad`` are none."""
    folder.mkdir(exist_ok=True)
    with ShardWriter(folder) as writer:
        for number in range(rows):
            writer.write(record(number), b"no picture" if number in bad else picture(number))
    Tokenizer.train(["빨간 셔츠"] * 3, vocab_size=300).save(folder / "tokenizer")
    return folder
