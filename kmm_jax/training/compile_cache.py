"""JAX's cache of compiled programs, kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def use_compile_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX is told where already.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder; ``JAX_ENABLE_COMPILATION_CACHE=0`` turns it
    off. A folder that cannot be written is JAX's to warn about.
    """
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "kmm_jax" / "jax"))
