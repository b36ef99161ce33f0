"""Maps of the embedding space: images, texts and both together in two dimensions (slides 3.3).

t-SNE (van der Maaten and Hinton, 2008) or UMAP (arXiv 1802.03426) of each panel's vectors. Such a
map shows which vectors are near each other; how far apart two clusters lie and how large they are
means nothing. So a panel carries measures of the same vectors. ``map_figure`` draws it.

N rows of a group, R of all groups of a panel, E dimensions.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from kmm_jax.errors import ConfigError, DataError, UserError, require

Method = Literal["tsne", "umap"]

PERPLEXITY = 30.0
_NEIGHBOURS = 15  # UMAP's own default
_PACKAGES = {"tsne": "scikit-learn", "umap": "umap-learn"}
_LEAST_POINTS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """Vectors to be shown in one picture.

    Attributes:
        title: above it, such as ``step 40``.
        groups: unit vectors (N, E) by name. ``image``, ``text`` and ``image+text`` have Korean
            names in the legend.
        keys: what the rows are (image hashes), or none.
        labels: a class for each row, which colours it in every group; None for no class; or none.
        measures: figures of these vectors that are written under the panel.

    Raises:
        ConfigError: no group, groups of different dimension, or not as many keys or labels as rows.
        DataError: fewer than 4 vectors.
    """

    title: str
    groups: Mapping[str, np.ndarray]
    keys: tuple[str, ...] = ()
    labels: tuple[str | None, ...] = ()
    measures: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {name: vectors.shape for name, vectors in self.groups.items()}
        sizes = {shape[1] if len(shape) == 2 else -1 for shape in shapes.values()}
        if not shapes or len(sizes) > 1 or -1 in sizes:
            raise ConfigError(
                f"the panel {self.title!r} needs groups of vectors (N, E) with one E, got {shapes}"
            )
        for name, values in (("keys", self.keys), ("labels", self.labels)):
            if values and any(shape[0] != len(values) for shape in shapes.values()):
                raise ConfigError(
                    f"the panel {self.title!r} has {len(values)} {name} for groups of {shapes}"
                )
        points = sum(shape[0] for shape in shapes.values())
        if points < _LEAST_POINTS:
            raise DataError(
                f"a map needs at least {_LEAST_POINTS} vectors, the panel {self.title!r} has "
                f"{points}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Panels with a place for each of their vectors.

    Attributes:
        panels: what is shown.
        places: for each panel, (N, 2) for each of its groups, float32.
        method: how they were found.
        settings: all that the places depend on, besides the vectors.
    """

    panels: tuple[Panel, ...]
    places: tuple[Mapping[str, np.ndarray], ...]
    method: Method
    settings: Mapping[str, Any]


def check_map(*, method: Method, perplexity: float = PERPLEXITY, seed: int = 0) -> None:
    """Refuse what :func:`embedding_map` could not do, before anything is embedded for it.

    Raises:
        UserError: the method's package is not installed (says what to install), or a perplexity or
            a seed that cannot be.
    """
    if not 1 <= perplexity < np.inf:
        raise UserError(f"perplexity must be at least 1, got {perplexity}")
    if not 0 <= seed < 2**32:
        raise UserError(f"seed must be from 0 to {2**32 - 1}, got {seed}")
    if method == "umap":
        require("umap", extra="umap")
    else:
        require("sklearn", extra="analysis")


def embedding_map(
    panels: Sequence[Panel],
    *,
    method: Method = "tsne",
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> EmbeddingMap:
    """Find a place for every vector; each panel is a map of its own.

    The same vectors and seed give the same places, on the same processor and package versions.

    Args:
        perplexity: of t-SNE, about how many neighbours a point keeps; at most a third of the points
            of the smallest panel, so that all panels have the same.
        progress: called with panels done and panels in all.

    Raises:
        UserError: see :func:`check_map`.
        ConfigError: no panel.
    """
    check_map(method=method, perplexity=perplexity, seed=seed)
    if not panels:
        raise ConfigError("a map needs at least one panel")
    fewest = min(sum(map(len, panel.groups.values())) for panel in panels)
    perplexity = min(perplexity, (fewest - 1) / 3)
    neighbours = min(_NEIGHBOURS, fewest - 1)
    places: list[Mapping[str, np.ndarray]] = []
    for number, panel in enumerate(panels, start=1):
        all_RE = np.concatenate(list(panel.groups.values())).astype(np.float32)
        if method == "tsne":
            place_R2 = _tsne(all_RE, perplexity, seed)
        else:
            place_R2 = _umap(all_RE, neighbours, seed)
        ends = np.cumsum([len(vectors) for vectors in panel.groups.values()])[:-1]
        places.append(dict(zip(panel.groups, np.split(place_R2, ends), strict=True)))
        if progress is not None:
            progress(number, len(panels))
    package = _PACKAGES[method]
    settings = {
        **({"perplexity": perplexity} if method == "tsne" else {"neighbours": neighbours}),
        "seed": seed,
        "package": f"{package} {importlib.metadata.version(package)}",
    }
    return EmbeddingMap(
        panels=tuple(panels), places=tuple(places), method=method, settings=settings
    )


def _tsne(all_RE: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # Threads add up the gradient in any order, and t-SNE makes of the last bit another picture.
    with threadpool_limits(limits=1):
        start_R2 = _start(all_RE, seed)
        tsne = TSNE(perplexity=perplexity, init=start_R2, random_state=seed)
        return np.asarray(tsne.fit_transform(all_RE), np.float32)


def _start(all_RE: np.ndarray, seed: int) -> np.ndarray:
    """Where t-SNE begins: the principal components, so that the map keeps the large-scale order.

    They are as small as in scikit-learn (a standard deviation of 1e-4). A hundredth of that is
    noise: it is what a seed changes, and what moves the points of a collapsed model apart.
    """
    centred_RE = all_RE - all_RE.mean(axis=0)
    _, _, axes_KE = np.linalg.svd(centred_RE, full_matrices=False)
    start_R2 = np.zeros((len(all_RE), 2))
    start_R2[:, : min(len(axes_KE), 2)] = centred_RE @ axes_KE[:2].T
    spread = float(start_R2[:, 0].std())
    start_R2 *= 1e-4 / spread if spread > 1e-6 else 0
    start_R2 += np.random.default_rng(seed).normal(scale=1e-6, size=start_R2.shape)
    return start_R2.astype(np.float32)


def _umap(all_RE: np.ndarray, neighbours: int, seed: int) -> np.ndarray:
    umap = require("umap", extra="umap")
    # One thread is what a seed allows; saying so keeps UMAP from warning of it.
    layout = umap.UMAP(
        n_neighbors=neighbours,
        metric="cosine",
        init="spectral" if len(all_RE) > 2 * _NEIGHBOURS else "random",
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(layout.fit_transform(all_RE), np.float32)


def to_json(found: EmbeddingMap) -> dict[str, Any]:
    """Plain JSON values: how the places were found, then each panel's, with keys and labels."""
    return {
        "method": found.method,
        "settings": dict(found.settings),
        "panels": [
            {
                "title": panel.title,
                "measures": dict(panel.measures),
                "keys": list(panel.keys),
                "labels": list(panel.labels),
                "groups": {
                    name: [[round(float(x), 4), round(float(y), 4)] for x, y in place_N2]
                    for name, place_N2 in places.items()
                },
            }
            for panel, places in zip(found.panels, found.places, strict=True)
        ],
    }
