"""Folders of diffusers, made once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import stable_diffusion


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Small Stable Diffusions as diffusers saves them, by their kind."""

    @functools.cache
    def make(kind: str) -> Path:
        place = tmp_path_factory.mktemp(f"diffusers-{kind}")
        stable_diffusion.pipeline(place, kind=kind)
        return place / "model"

    return make


@pytest.fixture(params=["sd1", "sd2", "sdxl"])
def folder(request: Any, made: Callable[[str], Path]) -> Path:
    """One of each kind."""
    return made(request.param)
