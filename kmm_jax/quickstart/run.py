"""The quickstart: from nothing to a trained, scored and searched Prompt-CoCa.

Each stage leaves whole files and is not done again; a run that was interrupted goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kmm_jax.data.images import open_rgb
from kmm_jax.data.sources import Source, open_source
from kmm_jax.evaluation.captions import Mention
from kmm_jax.evaluation.classes import named_classes
from kmm_jax.evaluation.evaluate import Evaluation, Plan, evaluate
from kmm_jax.evaluation.report import Score, Table, to_json
from kmm_jax.files import write_json
from kmm_jax.inference.model import Model
from kmm_jax.quickstart.clock import Clock
from kmm_jax.quickstart.figures import draw_confusion, draw_curves
from kmm_jax.quickstart.model import experiment_of, export, train_whole
from kmm_jax.quickstart.prepare import Prepared, prepare
from kmm_jax.quickstart.recipes import Recipe, recipe
from kmm_jax.quickstart.report import Captioned, Report, write_report
from kmm_jax.retrieval.compose import compose
from kmm_jax.retrieval.embedding import embed_source
from kmm_jax.retrieval.index import Index
from kmm_jax.retrieval.lookup import RowLookup, hits_with_rows
from kmm_jax.retrieval.settings import IndexSettings
from kmm_jax.retrieval.sheet import Hit, Search
from kmm_jax.retrieval.store import load_embeddings
from kmm_jax.text.styles import STYLES, Style, style_of

_CAPTIONED, _HITS = 12, 8
# Small enough a gallery for brute force; the approximate path is what a user's index takes. Texts
# lie apart from all pictures and order the leaves worse than a picture does: with 8 of 16, a barely
# trained model's texts find less than 0.9 of what its pictures find nearly whole.
_INDEX = IndexSettings(layout="tree", leaves=16, leaves_to_search=12, reorder=200)


def quickstart(
    name: str, output: Path, *, folder: Path | None = None, overrides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Run everything; returns what ``output/results.json`` holds.

    Args:
        name: of the data: ``shop``, ``fashion_products`` or ``cifar10``.
        folder: where the real sets lie; by default ``KMM_DATA_DIR``.
        overrides: of the training config, as ``kmm train`` takes them.

    Raises:
        UserError: unknown or missing data, or training was interrupted (the same call continues).
    """
    chosen, work = recipe(name), output / name
    clock = Clock(work / "seconds.json")

    with clock.stage("data", "1/6 data", once=True):
        prepared = prepare(name, chosen, work, folder=folder)
    experiment = experiment_of(chosen.overrides, prepared, overrides)
    with clock.stage("training", "2/6 training", once=True):
        train_whole(experiment, work)
    with clock.stage("scores", "3/6 scores"):
        model = export(work)
        scored = _evaluate(model, prepared, chosen)
    with clock.stage("index", "4/6 embeddings and index"):
        source = open_source(prepared.test)
        index, spans = _index(model, source, prepared, work)
        texts, style = _texts(scored, chosen), style_of(chosen.retrieval)
        # Texts, as people ask; a picture of the index itself would be sure to find its own row.
        recall = index.recall(model.embed_text(texts, style), k=10)
    with clock.stage("searches", "5/6 searches"):
        found = _searches(model, index, RowLookup(source, spans), chosen)
    values = _values(scored, chosen, model)
    values |= {"scann": {"recall10": recall, "engine": index.info()["engine"]}}
    values |= {"data": name, "seconds": clock.total, "seconds_by_stage": clock.seconds}
    tables = [*scored.results.tables, _index_table(recall, index, texts, style)]
    with clock.stage("report", "6/6 report"):
        report = _report(chosen, values, tables, scored, found, source, work)
        for place in (work, output):
            write_report(place / "report.html", report)
            write_json(place / "results.json", values)
    print(_summary(tables))
    return values


def _evaluate(model: Model, prepared: Prepared, chosen: Recipe) -> Evaluation:
    classes = tuple((named_classes(name), label) for name, label in chosen.classes)
    main, label = classes[0]
    plan = Plan(
        classify=classes,
        styles=STYLES,
        candidates="present",
        retrieval=((chosen.retrieval, style_of(chosen.retrieval)), ("query", "query")),
        caption_styles=("prompt",),
        mentions=(Mention(label=label, classes=main),),
    )
    return evaluate(model, prepared.test, plan)


def _index(
    model: Model, source: Source, prepared: Prepared, work: Path
) -> tuple[Index, list[tuple[int, int, int]]]:
    folder = work / "embeddings"
    # Embeddings of an earlier model would be refused; here a newer model replaces them.
    manifest = folder / "manifest.json"
    if folder.exists() and (
        not manifest.is_file()
        or json.loads(manifest.read_text("utf-8")).get("model_hash") != model.hash
    ):
        shutil.rmtree(folder)
    # Absolute, so that `kmm search INDEX` finds model and pictures from any folder.
    url, model_path = str(Path(prepared.test).resolve()), str((work / "model").resolve())
    embed_source(model, source, folder, source_url=url, model_path=model_path)
    embeddings = load_embeddings(folder)
    index = Index.of_embeddings(work / "index", embeddings, settings=_INDEX)
    return index, embeddings.spans


def _texts(scored: Evaluation, chosen: Recipe) -> list[str]:
    """Every distinct held-out text of the retrieval field."""
    of_rows = scored.rows.texts(chosen.retrieval)
    return list(dict.fromkeys(text for texts in of_rows for text in texts))


def _searches(model: Model, index: Index, lookup: RowLookup, chosen: Recipe) -> list[Search]:
    def hits(vector: np.ndarray, k: int = _HITS) -> list[Hit]:
        results = index.search(vector, k=k)
        return hits_with_rows(lookup, results.ids[0], results.rows[0].tolist(), results.scores[0])

    searches = []
    vectors = model.embed_text(chosen.searches)
    for text, vector in zip(chosen.searches, vectors, strict=True):
        searches.append(Search(title=text, hits=hits(vector), note="글로 찾기 · by text"))
    for first, change in chosen.composed:
        best = index.search(model.embed_text([first]), k=1).ids[0][0]
        image_vector = index.vector(best)
        image = hits(image_vector, k=1)[0].image
        searches.append(
            Search(
                title="이 사진과 비슷한 것",
                hits=hits(image_vector),
                query_image=image,
                note="사진으로 찾기 · by image",
            )
        )
        both = compose(model.embed_text([change])[0], image_vector, text_weight=0.6)
        searches.append(
            Search(
                title=f"이 사진 + “{change}”",
                hits=hits(both),
                query_image=image,
                note="사진과 글로 찾기 · by image and text",
            )
        )
    return searches


def _values(scored: Evaluation, chosen: Recipe, model: Model) -> dict[str, Any]:
    tables = {table.title: table for table in scored.results.tables}
    main = scored.classified[chosen.classes[0][1]]
    zero_shot = dict(main.table.metrics())
    retrieval = next(t for t in tables.values() if t.task == "retrieval")
    found = dict(retrieval.metrics())

    def direction(name: str) -> dict[str, float]:
        metrics = {f"r{k}": found[f"{name}/r{k}"] for k in (1, 5, 10)}
        chances = {f"chance_r{k}": found[f"{name}/chance_r{k}"] for k in (1, 5, 10)}
        return {**metrics, **chances, "gallery": found[f"{name}/gallery"]}

    return {
        "zero_shot": {
            "top1": zero_shot["query/top1"],
            "chance": zero_shot["query/chance_top1"],
            "label": chosen.classes[0][1],
            "styles": {style: zero_shot[f"{style}/top1"] for style in STYLES},
        },
        "text_to_image": direction("text_to_image"),
        "image_to_text": direction("image_to_text"),
        "evaluation": to_json(scored.results)["tables"],
        "model": model.hash,
    }


def _index_table(recall: float, index: Index, texts: list[str], style: Style) -> Table:
    engine = index.info()["engine"]
    return Table(
        task="scann",
        title="ScaNN against exact search"
        if engine.startswith("scann")
        else "Exact search alone, without ScaNN",
        protocol=f"{len(texts):,} distinct held-out texts ({style}) as queries over all "
        f"{len(index):,} held-out pictures; the ten found among the exact ten nearest. "
        f"{engine}, {index.info()['settings']}.",
        scores=(Score(name="recall@10", value=recall),),
    )


def _report(
    chosen: Recipe,
    values: dict[str, Any],
    tables: list[Table],
    scored: Evaluation,
    searches: list[Search],
    source: Source,
    work: Path,
) -> Report:
    main = scored.classified[chosen.classes[0][1]]
    style = "query" if "query" in main.styles else next(iter(main.styles))
    device = jax.devices()[0]
    facts = [
        ("data", chosen.title),
        ("model", f"{values['model']} ({work / 'model'})"),
        ("held-out rows", f"{len(scored.rows.rows):,}"),
        (
            "time",
            f"{values['seconds'] / 60:.1f} minutes on {device.device_kind}, {os.cpu_count()} cores",
        ),
    ]
    figures = [
        ("학습 · Training", draw_curves(_metrics(work / "run"), _PANELS)),
        (
            f"혼동 행렬 · Confusion, {chosen.classes[0][1]} (%)",
            draw_confusion(main.styles[style].matrix_CC, main.classes.names),
        ),
    ]
    captions = next(iter(scored.rows.captions.values()))
    captioned = []
    for number in range(min(_CAPTIONED, len(scored.rows.rows))):
        row = source.read(number)
        if row.key != scored.rows.rows[number].key:
            continue
        truth = scored.rows.rows[number].texts.get("caption", ("",))[0]
        captioned.append(
            Captioned(image=open_rgb(row.image, 192), caption=captions[number], truth=truth)
        )
    return Report(
        title=f"kmm_jax quickstart: {chosen.title}",
        facts=facts,
        tables=tables,
        figures=figures,
        captioned=captioned,
        searches=searches,
    )


_PANELS = (
    ("loss", (("contrastive_loss", "contrastive"), ("caption_loss", "caption"))),
    (
        "accuracy within a batch",
        (
            ("image_to_text_accuracy", "image to text"),
            ("text_to_image_accuracy", "text to image"),
            ("token_accuracy", "next token"),
        ),
    ),
)


def _metrics(run: Path) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _summary(tables: list[Table]) -> str:
    """Every share beside its chance, for the terminal."""
    rows = [
        (f"{table.title}: {score.name}", score)
        for table in tables
        for score in table.scores
        if score.share and not score.name.endswith(("top5", "macro"))
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"\n{'':<{width}}   score  chance"]
    for name, score in rows:
        chance = "" if score.chance is None else f"{100 * score.chance:6.1f}%"
        lines.append(f"{name:<{width}}  {100 * score.value:5.1f}% {chance}")
    return "\n".join(lines)
