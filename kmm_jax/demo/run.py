"""The demonstration from nothing to a page: model, corpus, documents, fusion, service.

    OUTPUT/SETS/data, run, model   the small model's training (``--model`` takes another)
    OUTPUT/SETS/corpus             documents, pictures and judged queries (`corpus`)
    OUTPUT/SETS/documents          what kmm serve serves
    OUTPUT/SETS/demo.json          written last: with it, the next call serves at once

Each stage leaves whole files and is not done again; what was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kmm_jax.data.datasets import is_there
from kmm_jax.demo.corpus import SHOP, CorpusConfig, make_corpus, to_text
from kmm_jax.demo.products import NAME as PRODUCTS
from kmm_jax.errors import DataError
from kmm_jax.files import read_json, write_json
from kmm_jax.quickstart import recipes
from kmm_jax.quickstart.clock import Clock
from kmm_jax.retrieval.collection import Collection
from kmm_jax.search.document_search import DocumentSearch, Encoder
from kmm_jax.search.documents import read_documents
from kmm_jax.search.judgements import JudgedQuery, read_judgements
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.search.relevance import Ranked, Relevance, learn, relevance, search_judged

_TOGETHER = {
    "duration": "14 epochs",
    "data.text_length": "20",
    "task.model.text.length": "20",
}
"""Of the training of one model for several sets."""
_TOGETHER_VOCABULARY = 2000
_AT_A_TIME = 500
_GOOD = 0.7  # nDCG of what people are told to try
_ALL = 3  # the grade of a document with all that is asked for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Try:
    """Something to try on the page.

    Attributes:
        text: to write, or empty.
        picture: file to drop on it; None for none.
    """

    text: str
    picture: Path | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
    """A demonstration that can be served.

    Attributes:
        model: where the model lies.
        documents: the folder that is searched.
        pictures: where paths of its images begin.
        tries: by text, by image and by both, of those kinds that there are.
    """

    model: str
    documents: Path
    pictures: Path
    tries: tuple[Try, ...]


def sets_of(folder: Path | None) -> tuple[str, ...]:
    """The shop, and real photos where ``folder`` or ``KMM_DATA_DIR`` has them.

    Raises:
        DataError: ``folder`` is named and has none.
    """
    place = folder or Path(os.environ.get("KMM_DATA_DIR") or "")
    if str(place) == ".":
        return (SHOP,)
    if place.is_dir() and is_there(PRODUCTS, place):
        return SHOP, PRODUCTS
    if folder is not None:
        raise DataError(f"{folder} holds no {PRODUCTS}; see kmm data --help for its layouts")
    print(f"KMM_DATA_DIR={place} holds no {PRODUCTS}: the shop alone", file=sys.stderr)
    return (SHOP,)


def build_demo(
    output: Path,
    *,
    model: str | None = None,
    folder: Path | None = None,
    config: CorpusConfig | None = None,
    overrides: tuple[str, ...] = (),
) -> Demo:
    """Make what is not there yet.

    Args:
        model: a run or an exported model in the place of the small one that is trained.
        folder: where real photos lie; by default ``KMM_DATA_DIR``, if there.
        config: of the corpus; by default of all sets that are there.
        overrides: of the training, as ``kmm train`` takes them.

    Raises:
        UserError: training was interrupted (the same call continues), or a folder is in the way.
    """
    config = config or CorpusConfig(sets=sets_of(folder))
    work = output / "-".join(config.sets)
    corpus, documents, done = work / "corpus", work / "documents", work / "demo.json"
    clock = Clock(work / "seconds.json")
    with clock.stage("corpus", "1/4 corpus", once=True):
        about = make_corpus(corpus, config, data=folder)
        print(f"  {to_text(about)}", file=sys.stderr)
    wanted = {"corpus": _digest(about), "model": model, "overrides": list(overrides)}
    known = read_json(done)
    if not (isinstance(known, dict) and known.get("wanted") == wanted and documents.is_dir()):
        with clock.stage("model", "2/4 model (the longest)", once=True):
            path = model or str(
                trained_model(config.sets, work, folder=folder, overrides=overrides)
            )
        with clock.stage("documents", "3/4 documents and index", once=True):
            from kmm_jax.inference import load

            search = index_documents(documents, corpus, load(path), model_path=path)
        with clock.stage("fusion", "4/4 fusion", once=True):
            judged = read_judgements(corpus / "judgements.jsonl")
            rows, rankings = learn_from(search, judged, corpus)
            print(_summary(rows), file=sys.stderr)
        tries = _tries(judged, rankings)
        known = {"wanted": wanted, "path": str(Path(path).resolve()), "tries": tries}
        write_json(done, known)
    return Demo(
        model=known["path"],
        documents=documents,
        pictures=corpus,
        tries=tuple(
            Try(text=one["text"], picture=corpus / one["picture"] if one["picture"] else None)
            for one in known["tries"]
        ),
    )


def trained_model(
    sets: tuple[str, ...],
    work: Path,
    *,
    folder: Path | None = None,
    overrides: tuple[str, ...] = (),
) -> Path:
    """The quickstart's small model, trained on these sets in ``work`` unless it is there.

    Raises:
        UserError: it was interrupted; the same call continues.
    """
    from kmm_jax.quickstart.model import experiment_of, export, train_whole
    from kmm_jax.quickstart.prepare import prepare_together

    chosen = {name: recipes.recipe(name) for name in sets}
    one = chosen[sets[0]] if len(sets) == 1 else None
    prepared = prepare_together(
        chosen, work, folder=folder, vocabulary=one.vocabulary if one else _TOGETHER_VOCABULARY
    )
    experiment = experiment_of(one.overrides if one else _TOGETHER, prepared, overrides)
    train_whole(experiment, work)
    export(work)
    return work / "model"


def index_documents(
    folder: Path, corpus: Path, encoder: Encoder, *, model_path: str
) -> DocumentSearch:
    """The corpus's documents in a folder, by this model; what is there of another is replaced."""
    notes = {
        "model_path": str(Path(model_path).resolve()),
        "demonstration": _digest(read_json(corpus / "corpus.json")),
    }
    if folder.exists() and not _belongs(folder, encoder.hash, notes):
        shutil.rmtree(folder)
    search = DocumentSearch(folder, encoder, notes=notes)
    reader = read_documents(corpus / "documents.jsonl")
    while some := list(itertools.islice(reader, _AT_A_TIME)):
        search.store.put(some)
    search.catch_up(PictureFolder(corpus))
    return search


def learn_from(
    search: DocumentSearch, judged: list[JudgedQuery], corpus: Path
) -> tuple[list[Relevance], dict[str, Ranked]]:
    """Keep a fusion learned from judged queries; figures and rankings of queries left out."""
    found = search_judged(search, judged, PictureFolder(corpus).open)
    fusion, rankings = learn(found, search.encoder.hash)
    search.learn(fusion)
    return relevance(found, rankings, least=_ALL), rankings


def serve_demo(demo: Demo, *, port: int) -> None:
    """Serve it on this machine until told to stop, and say what to try.

    Raises:
        UserError: the port is taken.
    """
    from kmm_jax.inference import load
    from kmm_jax.serving.app import build
    from kmm_jax.serving.keys import Keys
    from kmm_jax.serving.server import address_of, listening, server
    from kmm_jax.serving.settings import Settings
    from kmm_jax.serving.telemetry import set_up_logs
    from kmm_jax.training.compile_cache import use_compile_cache

    settings = Settings(port=port)
    with listening(settings, Keys({})) as opened:
        use_compile_cache()
        app = build(demo.documents, load(demo.model), settings=settings, pictures=demo.pictures)
        set_up_logs()
        print(told(demo, address_of(opened, settings)), flush=True)
        # Ctrl-C reaches the server, which ends in order and then raises it again.
        with contextlib.suppress(KeyboardInterrupt):
            server(app).run(sockets=[opened])
        print("끝냈습니다. 같은 명령으로 바로 다시 열립니다.", file=sys.stderr)


def told(demo: Demo, address: str) -> str:
    """Where the page is and what to try there."""
    lines = ["", f"  검색 페이지 · search page: {address}", "", "  해 보세요:"]
    for one in demo.tries:
        if one.picture is None:
            lines.append(f"   · 글로: “{one.text}”  {address}?q={quote(one.text)}")
        elif not one.text:
            lines.append(f"   · 사진으로: {one.picture} 파일을 페이지에 끌어다 놓기")
        else:
            lines.append(f"   · 사진과 글로: {one.picture} 파일을 놓고 “{one.text}” 쓰기")
    return "\n".join([*lines, "", "  끝내려면 Ctrl-C", ""])


def _tries(judged: list[JudgedQuery], rankings: dict[str, Ranked]) -> list[dict[str, str]]:
    """A query of each kind that is answered well, or the first of it."""
    from kmm_jax.evaluation.ranking import ndcg

    ranked = rankings.get("learned", rankings["rrf"])
    found: dict[str, JudgedQuery] = {}
    for wanted in (_GOOD, 0.0):
        for one in judged:
            if one.kind not in found and ndcg(ranked.get(one.id, ()), one.relevant) >= wanted:
                found[one.kind] = one
    kinds = ("text", "image", "both")
    return [
        {"text": found[kind].text, "picture": found[kind].image} for kind in kinds if kind in found
    ]


def _summary(rows: list[Relevance]) -> str:
    """nDCG@10 of all queries by each way, in a line."""
    figures = (f"{row.way} {100 * row.ndcg.value:.0f}" for row in rows if row.kind == "all")
    return f"  nDCG@10 over {rows[0].queries} judged queries: {', '.join(figures)}"


def _belongs(folder: Path, model_hash: str, notes: dict[str, Any]) -> bool:
    try:
        titles = Collection.open(folder / "titles", engine="exact")
    except DataError:
        return False
    kept = titles.metadata.get("demonstration")
    return titles.model_hash == model_hash and kept == notes["demonstration"]


def _digest(about: Any) -> str:
    text = json.dumps(about, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
