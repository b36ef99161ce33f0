"""Small rows, shards of them, and a tokenizer that needs no training."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.shards import ShardWriter

COLOURS = ("빨간", "파란", "노란", "초록", "검은")
GARMENTS = ("셔츠", "치마", "바지", "코트", "모자", "가방", "신발")


class CodepointTokenizer:
    """Gives every letter its own number; style tokens as in the real one."""

    def sequences(self, texts: Sequence[str], style: str | None, length: int) -> np.ndarray:
        ids = np.zeros((len(texts), length), np.int32)
        for row, text in enumerate(texts):
            styled = {"prompt": [4], "query": [5], "shopping": [6], None: []}[style]
            one = [1, *styled, *(7 + ord(letter) for letter in text)][: length - 1]
            one.append(2)
            ids[row, : len(one)] = one
        return ids

    def truncates(self, text: str, style: str | None, length: int) -> bool:
        return len(text) + 2 + (style is not None) > length

    @staticmethod
    def read(ids: np.ndarray) -> str:
        return "".join(chr(number - 7) for number in ids.tolist() if number > 6)


@pytest.fixture
def tokenizer() -> CodepointTokenizer:
    return CodepointTokenizer()


def jpeg(number: int, size: tuple[int, int] = (48, 40)) -> bytes:
    """A smooth picture that only ``number`` has."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [127 + 120 * np.sin(7 * x * (1 + k) + 5 * y + number * (k + 1)) for k in range(3)]
    content = io.BytesIO()
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


def record(number: int, **more: Any) -> dict[str, Any]:
    name = f"{COLOURS[number % 5]} {GARMENTS[number % 7]}"
    return {
        "image_hash": f"{number:010d}",
        "title": f"{name} 어디서 살까 {number}",
        "caption": f"{name}를 찍은 사진 {number}",
        "product_name": f"여성 {name} {number}",
        "query": [f"{name} {number}", name],
        "query_count": [5, 2],
        "title_kelip_score": None,
        **more,
    }


WriteRows = Callable[..., Path]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Write rows ``numbers`` as shards into a folder; ``broken`` images are cut in half."""

    def write(
        numbers: Sequence[int],
        *,
        folder: str = "shards",
        prefix: str = "train",
        shard_rows: int = 8,
        broken: Sequence[int] = (),
    ) -> Path:
        with ShardWriter(tmp_path / folder, prefix=prefix, shard_rows=shard_rows) as writer:
            for number in numbers:
                image = jpeg(number)
                writer.write(
                    record(number), image[: len(image) // 2] if number in broken else image
                )
        return tmp_path / folder

    return write


@pytest.fixture
def bucket(write_rows: WriteRows) -> Iterator[str]:
    """Twenty rows in three shards at a URL."""
    memory = fsspec.filesystem("memory")
    for path in write_rows(range(20)).iterdir():
        memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], format: int) -> None:
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def row_members(number: int, key: str | None = None) -> list[tuple[str, bytes]]:
    key = key or f"{number:010d}"
    return [
        (f"{key}.jpg", jpeg(number)),
        (f"{key}.json", json.dumps(record(number), ensure_ascii=False).encode()),
    ]
