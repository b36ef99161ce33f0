"""How an index searches, and the settings that fit a number of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from kmm_jax.errors import ConfigError, nearest

Engine = Literal["auto", "scann", "exact"]
Layout = Literal["auto", "brute_force", "hashed", "tree"]
VectorType = Literal["float32", "bfloat16"]
Rescore = Literal["memory", "mapped"]

# ScaNN's own rules of thumb (docs/algorithms.md of google-research/scann).
_BRUTE_FORCE_BELOW = 20_000
HASHED_BELOW = 100_000

# Asymmetric hashing learns 16 centres a block; it cannot learn them from fewer vectors.
_LEAST_HASHED = 16


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """Settings of an index; None and ``"auto"`` are chosen by its size.

    Attributes:
        engine: ScaNN where it runs, else exact search in JAX; or one of them by force.
        layout: ``brute_force`` compares with every vector; ``hashed`` with every vector's
            asymmetric hash; ``tree`` with the hashes in the nearest leaves of a k-means partition
            with spilling (SOAR, arXiv 2404.00774). By size: below 20,000 rows, below 100,000, else.
        leaves: of the tree, by default the square root of the rows.
        leaves_to_search: for each query, by default twice the square root of the leaves, at least
            10 and at most a tenth of them or 10. How many it takes grows slowly with their number.
        reorder: how many of the best by hash are scored again with the vectors themselves.
        dims_per_block: dimensions hashed together.
        anisotropic_threshold: of the score-aware quantisation (arXiv 1908.10396).
        soar_lambda: weight of SOAR's orthogonality.
        training_rows: vectors, at most, from which partition and hashes are learnt.
        dtype: of the vectors on disk. ``bfloat16`` takes half the bytes and moves a cosine of
            unit vectors by 2**-9 at the very most; scores are float32 all the same.
        rescore: where the vectors of the best by hash come from: ``memory``, where ScaNN holds all
            of them, or ``mapped``, from the memory-mapped file, where ScaNN holds hashes alone.
        recall: recall@10 that is wanted. When the index is built, ``leaves_to_search`` and
            ``reorder`` are then measured: of what reaches it, the fastest is kept. One of them that
            is given stays as it is. None: both by size.

    Raises:
        ConfigError: a value that cannot work.
    """

    engine: Engine = "auto"
    layout: Layout = "auto"
    leaves: int | None = None
    leaves_to_search: int | None = None
    reorder: int | None = None
    dims_per_block: int = 2
    anisotropic_threshold: float = 0.2
    soar_lambda: float = 1.5
    training_rows: int = 100_000
    dtype: VectorType = "float32"
    rescore: Rescore = "memory"
    recall: float | None = None

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, object], ...] = (
            ("engine", Engine),
            ("layout", Layout),
            ("dtype", VectorType),
            ("rescore", Rescore),
        )
        for name, literal in choices:
            value, valid = getattr(self, name), get_args(literal)
            if value not in valid:
                raise ConfigError(f"index {name} {value!r} does not exist{nearest(value, valid)}")
        counts = ("leaves", "leaves_to_search", "reorder", "dims_per_block", "training_rows")
        for name in counts:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"index {name} must be at least 1, found {value}")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise ConfigError(
                f"index recall must be above 0 and at most 1, found {self.recall}; 0.95, say, lets "
                "19 of the 20 nearest be found"
            )


def for_rows(settings: IndexSettings, rows: int) -> IndexSettings:
    """``settings`` with everything but the engine chosen for an index of ``rows`` vectors.

    Raises:
        ConfigError: the layout needs more vectors.
    """
    layout = settings.layout
    if layout == "auto":
        layout = (
            "brute_force"
            if rows < _BRUTE_FORCE_BELOW
            else "hashed"
            if rows < HASHED_BELOW
            else "tree"
        )
    if layout == "brute_force":
        return replace(settings, layout=layout, leaves=None, leaves_to_search=None, reorder=None)
    if rows < _LEAST_HASHED:
        raise ConfigError(
            f"the index layout {layout!r} needs at least {_LEAST_HASHED} vectors, found {rows}; "
            "leave the layout to 'auto'"
        )
    reorder = min(settings.reorder or 200, rows)
    if layout == "hashed":
        return replace(settings, layout=layout, leaves=None, leaves_to_search=None, reorder=reorder)
    leaves = min(settings.leaves or round(math.sqrt(rows)), rows)
    return replace(
        settings,
        layout=layout,
        leaves=leaves,
        leaves_to_search=min(settings.leaves_to_search or _leaves_to_search(leaves), leaves),
        reorder=reorder,
    )


def _leaves_to_search(leaves: int) -> int:
    return max(10, min(math.ceil(leaves / 10), math.ceil(2 * math.sqrt(leaves))))
