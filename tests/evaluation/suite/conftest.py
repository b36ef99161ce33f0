"""A data folder of coloured squares in the forms of benchmarks, and a model that sees colours."""

import io
import json
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kmm_jax.evaluation.suite.forms import Places
from tests.evaluation.conftest import COLOURS, KEYS, NAMES, SIZE, jpeg

ENGLISH = tuple(COLOURS)


class Seer:
    """Embeds an image as its nearest colour, a text as the colours it names, in either language."""

    styled, hash, step, path, image_size = False, "seer", None, "seer", SIZE
    config = SimpleNamespace()

    def __init__(self):
        self.calls = 0
        self.palette = np.asarray([rgb for _, rgb in COLOURS.values()], np.float32)

    def embed_pixels(self, pixels):
        self.calls += 1
        mean = pixels.astype(np.float32).mean(axis=(1, 2))
        seen = ((mean[:, None] - self.palette) ** 2).sum(axis=-1).argmin(axis=1)
        return np.eye(len(KEYS), dtype=np.float32)[seen]

    def embed_text(self, texts, style, *, batch_size):
        named = [
            [ko in text or en in text for ko, en in zip(NAMES, ENGLISH, strict=True)]
            for text in texts
        ]
        vectors = np.asarray(named, np.float32) + 1e-3
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def seer():
    return Seer()


@pytest.fixture
def places(tmp_path):
    return Places(folders=(tmp_path,))


@pytest.fixture
def classes_file(tmp_path):
    """The colours as classes, Korean names; the key is the English one."""
    file = tmp_path / "colours.json"
    rows = [[key, name] for key, (name, _) in COLOURS.items()]
    file.write_text(json.dumps({"classes": rows, "templates": ["{name} 사진", "{name}"]}), "utf-8")
    return str(file)


def write_image(path, colour, end="JPEG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    if end == "JPEG":
        path.write_bytes(jpeg(colour))
    else:
        Image.new("RGB", (SIZE, SIZE), colour).save(path, end)


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
