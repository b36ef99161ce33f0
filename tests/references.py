"""Reference implementations from elsewhere; a test that needs one skips where it is absent."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from kmm_jax.errors import UserError
from tools.bench.torch_reference import open_clip_module


def open_clip() -> ModuleType:
    """open_clip, or skip with the reason."""
    try:
        return open_clip_module()
    except (UserError, ImportError, RuntimeError) as error:
        pytest.skip(f"open_clip is not usable here: {error}")


def openai_vocabulary() -> Path:
    """The merges of OpenAI's CLIP that open_clip carries, without importing it, or skip."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        pytest.skip("open_clip, which carries the vocabulary of OpenAI's CLIP, is not installed")
    file = Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    if not file.is_file():
        pytest.skip("this open_clip carries no vocabulary")
    return file
