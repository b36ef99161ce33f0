"""Reference implementations from elsewhere; a test that needs one skips where it is absent."""

from __future__ import annotations

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
