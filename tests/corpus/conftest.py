"""A small raw shop with dirt, and the corpus built of it, once for all tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import CorpusConfig
from tools import dirty_shop


class Built(NamedTuple):
    raw: Path
    config: CorpusConfig
    folder: Path
    manifest: dict[str, Any]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """120 pictures in three files, shards of 40."""
    folder = tmp_path_factory.mktemp("corpus")
    config = dirty_shop.write(folder / "raw", items=120, seed=5, image_size=232, files=3)
    config = dataclasses.replace(config, shard_rows=40)
    return Built(folder / "raw", config, folder / "out", build(config, folder / "out"))
