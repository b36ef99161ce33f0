"""The engines, each as its own users call it: queries in, ids and scores out.

All search unit vectors by inner product. Ids of the others are kept in a list of Python, which is
the fastest there is; ours come out of the index.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import UserError, require
from tools.bench.neighbours.vectors import K, Vectors, id_of

Search = Callable[[np.ndarray], list[list[str]]]
Settings = Mapping[str, Any]

OURS = "kmm_jax"
NAMES = {
    OURS: "kmm_jax (ScaNN)",
    "faiss_hnsw": "faiss HNSW",
    "faiss_ivfpq": "faiss IVF-PQ, refined",
    "hnswlib": "hnswlib",
}
_IDS, _DIM = "ids.txt", "dim.txt"
SAMPLE_A_LIST = 50  # vectors to learn from; faiss warns below 39, and takes 256 at most


def missing(engine: str) -> str | None:
    """Why an engine does not run here; None if it does."""
    module = {OURS: "scann", "hnswlib": "hnswlib"}.get(engine, "faiss")
    try:
        require(module, extra="ann")
    except Exception as error:
        return str(error)
    return None


def versions() -> dict[str, str]:
    """Of the libraries that are compared, as far as they are here."""
    found = {}
    for package in ("scann", "faiss-cpu", "hnswlib"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def tune(vectors: Vectors, folder: Path, wanted: float, builds: int | None) -> dict[str, Any]:
    """What our tuner finds: the settings of the build, and all that it tried."""
    from kmm_jax.retrieval import Index, IndexSettings
    from kmm_jax.retrieval.learning import Tuning

    def told(best: Any) -> None:
        print(f"kmm_jax: {best.as_json()}", file=sys.stderr, flush=True)

    index = Index.build(
        folder,
        [id_of(row) for row in range(len(vectors.rows))],
        vectors.rows,
        model_hash="bench",
        settings=IndexSettings(recall=wanted),
        tuning=Tuning(
            queries=np.asarray(vectors.choosing), thorough=True, builds=builds, told=told
        ),
    )
    info = index.info()
    names = ("layout", "leaves", "dims_per_block", "anisotropic_threshold")
    found = {name: info["settings"][name] for name in names}
    shutil.rmtree(folder)
    return {"build": found, "tried": (info["tuning"] or {}).get("tried", [])}


def build(engine: str, vectors: Vectors, folder: Path, settings: Settings) -> None:
    """Write an index of the vectors into a new folder."""
    if engine == OURS:
        from kmm_jax.retrieval import Index, IndexSettings

        ids = [id_of(row) for row in range(len(vectors.rows))]
        Index.build(
            folder,
            ids,
            vectors.rows,
            model_hash="bench",
            settings=IndexSettings(engine="scann", **settings),
        )
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _IDS).write_text(
        "\n".join(id_of(row) for row in range(len(vectors.rows))), encoding="ascii"
    )
    dim = vectors.rows.shape[1]
    if engine == "hnswlib":
        import hnswlib

        index = hnswlib.Index(space="ip", dim=dim)
        index.init_index(
            max_elements=len(vectors.rows),
            M=settings["M"],
            ef_construction=settings["ef_construction"],
        )
        index.add_items(np.asarray(vectors.rows))
        index.save_index(str(folder / "index"))
        (folder / _DIM).write_text(str(dim), encoding="ascii")  # which its file does not tell
        return
    import faiss

    rows = np.ascontiguousarray(vectors.rows)
    if engine == "faiss_hnsw":
        index = faiss.IndexHNSWFlat(dim, settings["M"], faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings["ef_construction"]
    else:
        made = f"IVF{settings['lists']},{settings['code']},RFlat"
        index = faiss.index_factory(dim, made, faiss.METRIC_INNER_PRODUCT)
        sample = min(len(rows), SAMPLE_A_LIST * max(settings["lists"], 256))
        chosen = np.random.default_rng(0).choice(len(rows), sample, replace=False)
        index.train(rows[np.sort(chosen)])
    index.add(rows)
    faiss.write_index(index, str(folder / "index"))


def recall_target(folder: Path, vectors: Vectors, wanted: float) -> dict[str, Any]:
    """Our index once more in ``FOLDER-0.95``, say, as it is searched for that recall.

    What was learnt is the same file on the disk.
    """
    from kmm_jax.retrieval import Index

    place = folder.with_name(f"{folder.name}-{wanted}")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, copy_function=_linked)
    index = Index.load(place, engine="scann")
    try:
        index.retune(wanted, np.asarray(vectors.choosing))
    except UserError as error:
        return {"settings": None, "tried": [], "why": str(error)}
    info = index.info()
    return {
        "settings": {name: info["settings"][name] for name in ("leaves_to_search", "reorder")},
        "tried": info["tuning"]["tried"],
    }


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def load(engine: str, folder: Path, threads: int) -> Callable[[Settings], Search]:
    """An index from its folder; what it returns makes a search with settings of the search."""
    if engine == OURS:
        return _load_ours(folder)
    return (_load_hnswlib if engine == "hnswlib" else _load_faiss)(folder, threads)


def _load_ours(folder: Path) -> Callable[[Settings], Search]:
    from kmm_jax.retrieval import Index

    index = Index.load(folder, engine="scann")
    return lambda settings: lambda queries: index.search(queries, K).ids


def _load_hnswlib(folder: Path, threads: int) -> Callable[[Settings], Search]:
    import hnswlib

    ids = (folder / _IDS).read_text("ascii").split("\n")
    index = hnswlib.Index(space="ip", dim=int((folder / _DIM).read_text("ascii")))
    index.load_index(str(folder / "index"))
    index.set_num_threads(threads)

    def searching(settings: Settings) -> Search:
        index.set_ef(settings["ef"])

        def search(queries: np.ndarray) -> list[list[str]]:
            labels, _ = index.knn_query(queries, K)
            return [[ids[row] for row in rows] for rows in labels.tolist()]

        return search

    return searching


def _load_faiss(folder: Path, threads: int) -> Callable[[Settings], Search]:
    import faiss

    faiss.omp_set_num_threads(threads)
    ids = (folder / _IDS).read_text("ascii").split("\n")
    index = faiss.read_index(str(folder / "index"))

    def searching(settings: Settings) -> Search:
        if "ef" in settings:
            index.hnsw.efSearch = settings["ef"]
        else:
            index.k_factor = settings["k_factor"]
            faiss.extract_index_ivf(index).nprobe = settings["probes"]

        def search(queries: np.ndarray) -> list[list[str]]:
            _, labels = index.search(np.atleast_2d(queries), K)
            return [[ids[row] for row in rows] for rows in labels.tolist()]

        return search

    return searching
