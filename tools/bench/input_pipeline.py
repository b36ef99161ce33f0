"""The loader's images per second as a share of a bare decode-and-resize loop's, in one run."""

from __future__ import annotations

import contextlib
import io
import itertools
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.data.augment import sides_needed
from kmm_jax.data.config import thread_count
from kmm_jax.data.loader import DataConfig, Loader, SourceConfig
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import ShardSource
from kmm_jax.text.tokenizer import Tokenizer

_PHOTO = (640, 480)
_IMAGE_SIZE = 224
_ROWS = 256
_BATCH = 64
_ROUNDS = 5


def run() -> dict[str, Any]:
    """Time both on the same 256 photos of 640 x 480, in turns; the target is a ratio of 0.8.

    Both use the same number of threads and decode every JPEG at the same reduced scale to 224 px.
    The bare loop holds the bytes in memory and only decodes and resizes. The loader reads shards,
    shuffles, crops and flips at random, draws and tokenises a text, and makes batches.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder))
        config = DataConfig(
            sources=(SourceConfig(url=folder),), image_size=_IMAGE_SIZE, text_length=64
        )
        texts = [f"빨간 체크 셔츠를 입은 사람의 사진 {number}" for number in range(_ROWS)]
        tokenizer = Tokenizer.train(texts, vocab_size=400)
        loader = Loader(config, tokenizer, global_batch_size=_BATCH)
        source = ShardSource(folder)
        encoded = [source.read(row).image for row in range(_ROWS)]
        threads = thread_count(config)
        min_side = sides_needed(_IMAGE_SIZE, config.augment)
        bare, loaded = [], []
        # In turns, so that whatever else the machine does meets both alike.
        for _ in range(_ROUNDS):
            bare.append(_bare(encoded, threads, min_side))
            loaded.append(_loaded(loader))
    ratio = statistics.median(l / b for l, b in zip(loaded, bare, strict=True))  # noqa: E741
    loader_rate, bare_rate = statistics.median(loaded), statistics.median(bare)
    return {
        "value": round(ratio, 3),
        "note": f"{loader_rate:.0f} against {bare_rate:.0f} images/s, {threads} threads, "
        f"{_PHOTO[0]} x {_PHOTO[1]} JPEG to {_IMAGE_SIZE} px",
        "loader_images_per_second": round(loader_rate, 1),
        "bare_images_per_second": round(bare_rate, 1),
        "threads": threads,
    }


def _bare(encoded: list[bytes], threads: int, min_side: int) -> float:
    size = (_IMAGE_SIZE, _IMAGE_SIZE)

    def decode(data: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        scale = min_side / min(image.size)
        image.draft("RGB", (round(image.width * scale), round(image.height * scale)))
        return np.asarray(image.resize(size, Image.Resampling.BICUBIC))

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(decode, encoded):
            pass
        return len(encoded) / (time.perf_counter() - start)


def _loaded(loader: Loader) -> float:
    """In the steady state: as many rows are under way at the end as at the start."""
    with contextlib.closing(loader.batches()) as batches:
        next(batches)
        start = time.perf_counter()
        for _ in itertools.islice(batches, 2 * _ROWS // _BATCH):
            pass
        return 2 * _ROWS / (time.perf_counter() - start)


def write_photos(folder: Path) -> None:
    """Photos of a photo's file size: smooth shapes with grain."""
    width, height = _PHOTO
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    grain = rng.normal(0, 6, (height, width, 3))
    with ShardWriter(folder, shard_rows=64) as writer:
        for number in range(_ROWS):
            a, b, c = rng.uniform(2, 20, 3)
            smooth = np.stack([np.sin(a * x + b * y), np.cos(b * x * y), np.sin(c * (x - y))], -1)
            pixels = np.clip(127 + 110 * smooth + grain, 0, 255).astype(np.uint8)
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "JPEG", quality=88)
            record = {
                "image_hash": f"{number:010d}",
                "title": f"빨간 체크 셔츠를 입은 사람의 사진 {number}",
                "query": ["체크 셔츠", "빨간 셔츠"],
                "query_count": [5, 2],
            }
            writer.write(record, content.getvalue())


if __name__ == "__main__":
    print(run())
