"""Generators over the small Stable Diffusions, each made once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

from kmm_jax.generation.pipeline import Pipeline
from kmm_jax.interop.diffusers import folder


@pytest.fixture(scope="session")
def pipeline_of(made: Callable[[str], Path]) -> Callable[..., Pipeline]:
    """A generator by its kind, on so many devices."""

    @functools.cache
    def make(kind: str, devices: int = 1) -> Pipeline:
        found = folder.read(made(kind))
        return Pipeline(
            found.config,
            found.params,
            found.tokenizers,
            found.scheduler,
            zero_empty_negative=found.zero_empty_negative,
            name=kind,
            devices=jax.devices()[:devices],
        )

    return make


@pytest.fixture
def exact() -> Iterator[None]:
    """Products of matrices in full float32, as PyTorch computes them on a processor."""
    with jax.default_matmul_precision("highest"):
        yield
