"""Relevance of document search, by words, titles, images and their fusions; and of its index.

    KMM_DATA_DIR=FOLDER python -m tools.search        # some 25 minutes on two cores at rest
    python -m tools.search --documents 120 --work /tmp/try "duration=1 epochs"     # a try

For the built-in shop, and for real product photos, the demonstration corpus and a model trained as
the quickstart trains it. ``docs/results/search.*`` is written at the end; what is done is not done
again.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.demo.corpus import SHOP, CorpusConfig, make_corpus
from kmm_jax.demo.facts import GRADES
from kmm_jax.demo.products import NAME as PRODUCTS
from kmm_jax.demo.run import index_documents, trained_model
from kmm_jax.errors import UserError
from kmm_jax.evaluation.bootstrap import mean_intervals
from kmm_jax.evaluation.ranking import ranking_scores
from kmm_jax.retrieval.compose import compose
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.document_view import Query
from kmm_jax.search.judgements import JudgedQuery, read_judgements
from kmm_jax.search.learned_fusion import DEPTH, KINDS
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.search.relevance import Ranked, Searched, learn, relevance, search_judged
from tools import results
from tools.search_report import body
from tools.search_sheet import Example, Row, write_examples

_ALL = 3  # the grade of a document that has all that is asked for
_TEXT_WEIGHTS = (0.3, 0.5, 0.7)
_LESS_WEIGHTS = (0.2, 0.35, 0.5)
_TIMED = 60  # searches of each kind
_DRAWN, _SHOWN = ("words", "text", "image", "rrf", "learned"), 7

Composition = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A text's and an image's vector (D,) to the vector that images are compared with."""


def compositions() -> dict[str, dict[str, Composition]]:
    """Ways of searching images with an image and a text, by the queries that they are for.

    Add one here to have it measured.
    """

    def plus(weight: float) -> Composition:
        return lambda text_D, image_D: compose(text_D, image_D, weight)

    def minus(weight: float) -> Composition:
        return lambda text_D, image_D: compose(-text_D, image_D, weight)

    alone: dict[str, Composition] = {
        "the image alone": lambda _, image_D: image_D,
        "the text alone": lambda text_D, _: text_D,
    }
    return {
        "both": {**alone, **{f"image + {weight:g} text": plus(weight) for weight in _TEXT_WEIGHTS}},
        "less": {
            "the image alone": alone["the image alone"],
            **{f"image − {weight:g} text": minus(weight) for weight in _LESS_WEIGHTS},
        },
    }


def measure(
    name: str, work: Path, *, data: Path | None, documents: int | None, overrides: tuple[str, ...]
) -> dict[str, Any]:
    """Everything of one world, with its example sheet for the shop."""
    place = work / name
    config = CorpusConfig(sets=(name,))
    if documents is not None:
        config = dataclasses.replace(config, documents=documents)
    about = make_corpus(place / "corpus", config, data=data)
    path = trained_model((name,), place, folder=data, overrides=overrides)
    from kmm_jax.inference import load

    model = load(path)
    search = index_documents(place / "documents", place / "corpus", model, model_path=str(path))
    judged = read_judgements(place / "corpus" / "judgements.jsonl")
    less = read_judgements(place / "corpus" / "less.jsonl")
    pictures = PictureFolder(place / "corpus")
    found = search_judged(search, judged, pictures.open)
    fusion, rankings = learn(found, model.hash)
    search.learn(fusion)
    if name == SHOP:
        _draw(search, found, rankings, pictures)
    return {
        "corpus": {key: about[key] for key in ("documents_made", "queries", "side", "code")},
        "images": search.view().images,
        "model": model.hash,
        "relevance": [_plain(row) for row in relevance(found, rankings, least=_ALL)],
        "differences": _differences(judged, rankings),
        "learned": _share_of_matchers(fusion, found),
        "composed": {
            "both": _composed(
                search, [one for one in judged if one.kind == "both"], pictures, "both"
            ),
            "less": _composed(search, less, pictures, "less"),
        },
        "latency": _latency(search, judged, pictures),
        "ann": _ann(place, search, model, found, pictures),
    }


def _plain(row: Any) -> dict[str, Any]:
    return {
        "way": row.way,
        "kind": row.kind,
        "queries": row.queries,
        "ndcg@10": list(row.ndcg),
        "mrr": list(row.mrr),
    }


def _differences(
    judged: Sequence[JudgedQuery], rankings: Mapping[str, Ranked]
) -> list[dict[str, Any]]:
    """nDCG@10 of fusions less that of others, query by query, with intervals."""
    rows = []
    for kind in ("all", *KINDS):
        some = {one.id: one.relevant for one in judged if kind in ("all", one.kind)}
        if not some:
            continue
        gains = {way: ranking_scores(ranked, some)["ndcg@10"] for way, ranked in rankings.items()}
        single = max(("words", "text", "image"), key=lambda way: float(gains[way].mean()))
        for way, other in (
            ("rrf", single),
            ("learned", single),
            ("learned", "rrf"),
            ("learned", "weighted"),
        ):
            if way in gains:
                difference_Q1 = (gains[way] - gains[other])[:, None]
                (low, high), *_ = mean_intervals(difference_Q1)
                value = float(difference_Q1.mean())
                rows.append(
                    {
                        "kind": kind,
                        "way": way,
                        "other": other,
                        "value": value,
                        "low": float(low),
                        "high": float(high),
                    }
                )
    return rows


def _share_of_matchers(fusion: Any, found: Sequence[Searched]) -> dict[str, dict[str, float]]:
    """How much of what decides is each matcher's: the spread of its part over candidates."""
    shares: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        spread: dict[str, list[float]] = {}
        for one in found:
            if one.judged.kind == kind:
                for name, rows in fusion.shares(one.rankings, kind).items():
                    spread.setdefault(name, []).append(
                        float(np.std([part for _, part in rows] or [0.0]))
                    )
        means = {name: float(np.mean(values)) for name, values in spread.items()}
        total = sum(means.values()) or 1.0
        shares[kind] = {name: value / total for name, value in means.items()}
    return shares


def _composed(
    search: DocumentSearch, judged: Sequence[JudgedQuery], pictures: PictureFolder, kind: str
) -> list[dict[str, Any]]:
    """Images alone, searched with vectors of a picture and a text."""
    if not judged:
        return []
    view = search.view()
    text_QD = np.stack([search.vector(Query(text=one.text)) for one in judged])
    image_QD = np.stack([search.vector(Query(image=pictures.open(one.image))) for one in judged])
    grades = {one.id: one.relevant for one in judged}
    rows = []
    for name, composition in compositions()[kind].items():
        ranked = {}
        for one, text_D, image_D in zip(judged, text_QD, image_QD, strict=True):
            vector_D = composition(text_D, image_D)
            query = Query(image_vector=vector_D, weights={"words": 0, "text": 0})
            rankings, _ = view.rankings(query, vector_D, DEPTH)
            ranked[one.id] = [id for id, _ in rankings["image"]]
        scores = ranking_scores(ranked, grades, least=_ALL)
        values_QM = np.stack([scores["ndcg@10"], scores["mrr"]], axis=1)
        intervals_M2 = mean_intervals(values_QM)
        ndcg, mrr = (
            [float(value), *map(float, ends)]
            for value, ends in zip(values_QM.mean(axis=0), intervals_M2, strict=True)
        )
        rows.append({"way": name, "queries": len(judged), "ndcg@10": ndcg, "mrr": mrr})
    return rows


def _latency(
    search: DocumentSearch, judged: Sequence[JudgedQuery], pictures: PictureFolder
) -> dict[str, dict[str, float]]:
    """Milliseconds of a search for ten documents, without and with the query's vector."""
    view, found = search.view(), {}
    for kind in KINDS:
        some = [one for one in judged if one.kind == kind][:_TIMED]
        if not some:
            continue
        seconds: list[tuple[float, float]] = []
        for one in some:
            query = one.query(pictures.open)
            fused = dataclasses.replace(query, fusion="learned")
            start = time.perf_counter()
            vector = search.vector(query, view)
            middle = time.perf_counter()
            view.search(fused, vector, 10)
            seconds.append((middle - start, time.perf_counter() - middle))
        # The first ones compile and read from the disk.
        embed, searched = 1e3 * np.asarray(seconds[len(seconds) // 5 :]).T
        found[kind] = {
            "vector_p50": float(np.median(embed)),
            "search_p50": float(np.median(searched)),
            "search_p99": float(np.percentile(searched, 99)),
        }
    return found


def _ann(
    place: Path,
    search: DocumentSearch,
    model: Any,
    found: Sequence[Searched],
    pictures: PictureFolder,
) -> dict[str, Any]:
    """Recall of approximate search over vectors of all training pictures, and its time."""
    from kmm_jax.data.sources import open_source
    from kmm_jax.retrieval.embedding import embed_source
    from kmm_jax.retrieval.index import Index
    from kmm_jax.retrieval.settings import IndexSettings
    from kmm_jax.retrieval.store import load_embeddings

    folder = place / f"embeddings-{model.hash[:12]}"
    url = str(place / "data" / "*" / "train-*.tar")
    embed_source(model, open_source(url), folder, source_url=url)
    embeddings = load_embeddings(folder)
    view = search.view()
    queries_QD = np.stack(
        [search.vector(one.judged.query(pictures.open), view) for one in found]
    ).astype(np.float32)
    rows = []
    for name, settings in (
        ("exact (JAX)", IndexSettings(engine="exact")),
        ("by size", IndexSettings()),
        ("hashed", IndexSettings(layout="hashed")),
        ("tree", IndexSettings(layout="tree")),
    ):
        index = Index.of_embeddings(place / "ann" / name.split()[0], embeddings, settings=settings)
        recall = index.recall(queries_QD, k=10)
        seconds = []
        for query_D in queries_QD:
            start = time.perf_counter()
            index.search(query_D, k=10)
            seconds.append(time.perf_counter() - start)
        timed = 1e3 * np.asarray(seconds[len(seconds) // 5 :])
        rows.append(
            {
                "index": name,
                "engine": index.info()["engine"],
                "layout": index.info()["settings"]["layout"],
                "recall@10": recall,
                "p50": float(np.median(timed)),
                "p99": float(np.percentile(timed, 99)),
            }
        )
    return {"vectors": len(embeddings.ids), "dim": int(queries_QD.shape[1]), "rows": rows}


def _draw(
    search: DocumentSearch,
    found: Sequence[Searched],
    rankings: Mapping[str, Ranked],
    pictures: PictureFolder,
) -> None:
    """Queries of each kind: those in the middle by what the learned fusion makes of them.

    So the sheet shows neither the best nor the worst.
    """
    examples = []
    for kind in KINDS:
        some = [one for one in found if one.judged.kind == kind]
        gains = ranking_scores(
            rankings["learned"], {one.judged.id: one.judged.relevant for one in some}
        )
        order = np.argsort(gains["ndcg@10"], kind="stable")
        # By text alone there is most to see.
        for place in (len(order) // 2, 2 * len(order) // 3)[: 2 if kind == "text" else 1]:
            one = some[order[place]]
            examples.append(_example(search, one, rankings, pictures))
    write_examples(
        results.FOLDER / "search.png",
        examples,
        title="질의별로 먼저 찾은 문서 · what is found first",
    )


def _example(
    search: DocumentSearch,
    one: Searched,
    rankings: Mapping[str, Ranked],
    pictures: PictureFolder,
) -> Example:
    judged = one.judged
    query = judged.query(pictures.open)
    view = search.view()
    vector = search.vector(query, view)
    rows = []
    for way in _DRAWN:
        ids = list(rankings.get(way, {}).get(judged.id, ()))[:_SHOWN]
        if not ids:
            continue
        shown = []
        for id in ids:
            document = view.document(id)
            vectors = view.image_vectors(document)
            best = max(vectors, key=lambda hash: float(vectors[hash] @ vector), default=None)
            image = next((each for each in document.images if each.hash == best), None)
            picture = pictures(image) if image is not None else None
            shown.append((picture, int(judged.grades.get(id, 0))))
        rows.append(Row(way=way, found=shown))
    return Example(text=judged.text, image=query.image, rows=rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, default=Path("runs/search"))
    parser.add_argument("--data", type=Path, help="default: KMM_DATA_DIR; none: the shop alone")
    parser.add_argument("--documents", type=int, help="at most; default: as the demonstration has")
    parser.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help="of the training")
    arguments = parser.parse_args()
    data = arguments.data or Path(os.environ.get("KMM_DATA_DIR") or "none")
    names = (SHOP, PRODUCTS) if data.is_dir() else (SHOP,)
    try:
        worlds = {
            name: measure(
                name,
                arguments.work,
                data=data if name == PRODUCTS else None,
                documents=arguments.documents,
                overrides=tuple(arguments.overrides),
            )
            for name in names
        }
    except UserError as error:
        print(f"search: {error}", file=sys.stderr)
        return 2
    setting = (
        "The demonstration corpus (`kmm demo`): texts leave out much of what pictures show (colour "
        "and pattern are said in words of less than half of the documents, and in other words "
        "than in queries), pictures show nothing of material, season and use, and some names are "
        "a series' alone. Models of 128 dimensions, trained as `make quickstart` trains them on "
        "other pictures; pictures to search with are in no document. Grades follow from what is "
        f"true of the things in a document: {GRADES}. MRR is of the first document of grade 3. "
        f"Each matcher gives its first {DEPTH}. The learned fusion's figures are of queries "
        "left out in turn (five folds)."
    )
    command = ["python -m tools.search"]
    if arguments.documents is not None:
        command.append(f"--documents {arguments.documents}")
    command += [shlex.quote(each) for each in arguments.overrides]
    values = {"worlds": worlds}
    results.write(
        "search",
        title="Relevance of document search",
        command=" ".join(command),
        values=values,
        body=f"{setting}\n\n{body(values)}",
    )
    print(body(values))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
