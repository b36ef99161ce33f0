"""From vectors to a searched index: the embedding store, the index, contact sheets."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmm_jax.retrieval.collection import Collection as Collection
    from kmm_jax.retrieval.index import Index as Index
    from kmm_jax.retrieval.index import Results as Results
    from kmm_jax.retrieval.settings import IndexSettings as IndexSettings
    from kmm_jax.retrieval.store import Embeddings as Embeddings
    from kmm_jax.retrieval.store import export_embeddings as export_embeddings
    from kmm_jax.retrieval.store import load_embeddings as load_embeddings

_HOMES = {
    "Collection": "collection",
    "Index": "index",
    "Results": "index",
    "IndexSettings": "settings",
    "Embeddings": "store",
    "export_embeddings": "store",
    "load_embeddings": "store",
}
__all__ = [
    "Collection",
    "Embeddings",
    "Index",
    "IndexSettings",
    "Results",
    "export_embeddings",
    "load_embeddings",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"kmm_jax.retrieval.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'kmm_jax.retrieval' has no attribute {name!r}")
