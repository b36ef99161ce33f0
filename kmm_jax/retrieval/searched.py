"""What can be searched: one collection, a folder of them, or an index on a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.retrieval.collection import Found
from kmm_jax.retrieval.filters import Where


class UnavailableError(UserError):
    """A part of the index does not answer now; the same question may be answered a moment later."""


class Searched(Protocol):
    """Vectors with ids and columns, to be searched and not to be changed.

    ``Collection``, ``Shards`` and ``cluster.ClusterIndex`` are such; what they raise and return is
    described at ``Collection``.
    """

    def __len__(self) -> int: ...

    def __contains__(self, id: str) -> bool: ...

    @property
    def folder(self) -> Path:
        """Where it lies."""
        ...

    @property
    def version(self) -> int | str:
        """Another one after each change that searches here see."""
        ...

    @property
    def model_hash(self) -> str:
        """Of the model whose vectors these are."""
        ...

    @property
    def dim(self) -> int:
        """Of the vectors."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """Notes that it was made with."""
        ...

    @property
    def column_types(self) -> dict[str, str]:
        """Arrow's name of each column's type."""
        ...

    def check_model(self, model_hash: str) -> None:
        """Refuse vectors of another model."""
        ...

    def pinned(self) -> Searched:
        """The same as it is now, as far as it can be held on to."""
        ...

    def search(self, queries: np.ndarray, k: int = 10, *, where: Where | None = None) -> Found:
        """The ``k`` nearest of each query."""
        ...

    def ids(self, *, where: Where | None = None) -> list[str]:
        """The ids of all rows for which ``where`` holds."""
        ...

    def columns(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """What the columns say of each id."""
        ...

    def vector(self, id: str) -> np.ndarray:
        """The unit vector (D,) of an id."""
        ...

    def facet(
        self, column: str, *, where: Where | None = None, ids: Iterable[str] | None = None
    ) -> dict[Any, int]:
        """How many rows have each value of a column."""
        ...
