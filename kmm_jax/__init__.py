"""Korean multimodal AI in JAX: train, export, retrieve, generate.

``import kmm_jax`` is cheap: it imports neither JAX nor any optional third party. The stable face is

    model = kmm_jax.load("runs/quickstart/shop/model")  # a run or an exported model
    model.embed_text(["빨간 체크 셔츠"]), model.embed_image(images), model.caption(images)
    index = kmm_jax.retrieval.Index.load("runs/quickstart/shop/index")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmm_jax import retrieval as retrieval
    from kmm_jax.inference import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "retrieval"]


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("kmm_jax.inference").load
    if name == "retrieval":
        return importlib.import_module("kmm_jax.retrieval")
    raise AttributeError(f"module 'kmm_jax' has no attribute {name!r}")
