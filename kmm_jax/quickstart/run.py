"""The quickstart: from nothing to a trained, scored and searched Prompt-CoCa.

Each stage leaves whole files and is not done again; a run that was interrupted goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from kmm_jax.data.images import open_rgb
from kmm_jax.data.sources import Source, open_source
from kmm_jax.errors import UserError
from kmm_jax.evaluation.captions import Mention
from kmm_jax.evaluation.classes import named_classes
from kmm_jax.evaluation.evaluate import Evaluation, Plan, evaluate
from kmm_jax.files import write_json
from kmm_jax.inference.loading import load_model, read
from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.quickstart.figures import draw_confusion, draw_curves
from kmm_jax.quickstart.prepare import Prepared, prepare
from kmm_jax.quickstart.recipes import Recipe, recipe
from kmm_jax.quickstart.report import Captioned, Found, Report, Score, write_report
from kmm_jax.retrieval.compose import compose
from kmm_jax.retrieval.embedding import embed_source
from kmm_jax.retrieval.index import Index
from kmm_jax.retrieval.lookup import RowLookup, caption
from kmm_jax.retrieval.settings import IndexSettings
from kmm_jax.retrieval.store import load_embeddings
from kmm_jax.text.styles import STYLES, style_of
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train

CONFIG = "coca/shop"
_CAPTIONED, _HITS = 12, 8
# Small enough a gallery for brute force; the approximate path is what a user's index takes.
_INDEX = IndexSettings(layout="tree", leaves=16, leaves_to_search=8, reorder=200)


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
    started = time.monotonic()
    chosen, work = recipe(name), output / name
    seconds: dict[str, float] = {}

    with _stage("data", seconds, "1/6 data"):
        prepared = prepare(name, chosen, work, folder=folder)
    experiment = _experiment(chosen, prepared, overrides)
    with _stage("training", seconds, "2/6 training"):
        result = train(experiment, work / "run")
        if result.end != "finished":
            raise UserError("interrupted; the same command continues where it stopped")
        del result
        model = _export(work)
    with _stage("scores", seconds, "3/6 scores"):
        scored = _evaluate(model, prepared, chosen)
    with _stage("embeddings", seconds, "4/6 embeddings and index"):
        source = open_source(prepared.test)
        index, vectors, spans = _index(model, source, prepared, work)
        recall = index.recall(vectors, k=10)
    with _stage("searches", seconds, "5/6 searches"):
        found = _searches(model, index, RowLookup(source, spans), chosen)
    values = _values(scored, chosen, recall=recall, model=model)
    values["seconds_by_stage"] = {stage: round(value, 1) for stage, value in seconds.items()}
    values["seconds"] = round(time.monotonic() - started, 1)
    values["data"] = name
    scores = _scores(values, scored, index)
    with _stage("report", seconds, "6/6 report"):
        report = _report(chosen, values, scores, scored, found, source, work)
        for place in (work, output):
            write_report(place / "report.html", report)
            write_json(place / "results.json", values)
    print(_table(scores))
    return values


def _experiment(chosen: Recipe, prepared: Prepared, overrides: tuple[str, ...]) -> Experiment:
    from kmm_jax.text.tokenizer import Tokenizer

    # A small set of texts has fewer pieces than were asked for; the model needs no more.
    vocabulary = Tokenizer.load(prepared.tokenizer).vocab_size
    given = {
        "data.sources.0.url": prepared.train,
        "tokenizer": str(prepared.tokenizer),
        "task.model.text.vocabulary": str(vocabulary),
        **chosen.overrides,
    }
    return load_experiment(CONFIG, [*(f"{path}={v}" for path, v in given.items()), *overrides])


def _export(work: Path) -> Model:
    folder = work / "model"
    trained = read(work / "run")
    native.save(folder, trained)
    return load_model(folder)


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
) -> tuple[Index, np.ndarray, list[tuple[int, int, int]]]:
    folder = work / "embeddings"
    # Embeddings of an earlier model would be refused; here a newer model replaces them.
    manifest = folder / "manifest.json"
    if folder.exists() and (
        not manifest.is_file()
        or json.loads(manifest.read_text("utf-8")).get("model_hash") != model.hash
    ):
        shutil.rmtree(folder)
    embed_source(model, source, folder, source_url=prepared.test, model_path=str(work / "model"))
    embeddings = load_embeddings(folder)
    index = Index.build(
        work / "index",
        embeddings.ids,
        embeddings.vectors,
        model_hash=model.hash,
        settings=_INDEX,
        metadata={**embeddings.metadata, "spans": embeddings.spans},
    )
    return index, embeddings.vectors, embeddings.spans


def _searches(model: Model, index: Index, lookup: RowLookup, chosen: Recipe) -> list[Found]:
    def picture(id: str, place: int) -> tuple[Image.Image, str]:
        row = lookup.row(id, place)
        assert row is not None, "the index was made of these very rows"
        return open_rgb(row.image, 192), caption(row.record)

    def hits(vector: np.ndarray) -> list[tuple[Image.Image, str, float]]:
        results = index.search(vector, k=_HITS)
        columns = zip(results.ids[0], results.rows[0], results.scores[0], strict=True)
        return [(*picture(id, int(place)), float(score)) for id, place, score in columns]

    found = []
    for text, vector in zip(chosen.searches, model.embed_text(chosen.searches), strict=True):
        found.append(Found(text=text, image=None, hits=hits(vector)))
    for first, change in chosen.composed:
        best = index.search(model.embed_text([first]), k=1)
        image, _ = picture(best.ids[0][0], int(best.rows[0, 0]))
        image_vector = index.vector(best.ids[0][0])
        found.append(Found(text="(사진으로 찾기 · by image)", image=image, hits=hits(image_vector)))
        both = compose(model.embed_text([change])[0], image_vector, text_weight=0.6)
        found.append(Found(text=f"+ “{change}”", image=image, hits=hits(both)))
    return found


def _values(scored: Evaluation, chosen: Recipe, *, recall: float, model: Model) -> dict[str, Any]:
    tables = {table.title: table for table in scored.results.tables}
    main = scored.classified[chosen.classes[0][1]]
    zero_shot = dict(main.table.metrics())
    retrieval = next(t for t in tables.values() if t.task == "retrieval")
    found = dict(retrieval.metrics())

    def direction(name: str) -> dict[str, float]:
        metrics = {f"r{k}": found[f"{name}/r{k}"] for k in (1, 5, 10)}
        chances = {f"chance_r{k}": found[f"{name}/chance_r{k}"] for k in (1, 5, 10)}
        return {**metrics, **chances, "gallery": found.get("gallery", len(scored.rows.rows))}

    return {
        "zero_shot": {
            "top1": zero_shot["query/top1"],
            "chance": zero_shot["query/chance_top1"],
            "label": chosen.classes[0][1],
            "styles": {style: zero_shot[f"{style}/top1"] for style in STYLES},
        },
        "text_to_image": direction("text_to_image"),
        "image_to_text": direction("image_to_text"),
        "scann": {"recall10": recall},
        "evaluation": _plain(scored),
        "model": model.hash,
    }


def _plain(scored: Evaluation) -> list[dict[str, Any]]:
    from kmm_jax.evaluation.report import to_json

    tables: list[dict[str, Any]] = to_json(scored.results)["tables"]
    return tables


def _scores(values: dict[str, Any], scored: Evaluation, index: Index) -> list[Score]:
    scores = []
    for table in scored.results.tables:
        for score in table.scores:
            if not score.share or score.name.endswith(("top5", "macro")):
                continue
            scores.append(
                Score(
                    name=f"{table.title}: {score.name}",
                    value=score.value,
                    chance=score.chance,
                    protocol=table.protocol,
                )
            )
    scores.append(
        Score(
            name="ScaNN recall@10 against exact search",
            value=values["scann"]["recall10"],
            chance=None,
            protocol=f"every picture as a query over {len(index):,}; {index.info()['engine']}",
        )
    )
    return scores


def _report(
    chosen: Recipe,
    values: dict[str, Any],
    scores: list[Score],
    scored: Evaluation,
    found: list[Found],
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
        scores=scores,
        figures=figures,
        captioned=captioned,
        found=found,
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


def _table(scores: list[Score]) -> str:
    width = max(len(score.name) for score in scores)
    lines = [f"\n{'':<{width}}   score  chance"]
    for score in scores:
        chance = "" if score.chance is None else f"{100 * score.chance:6.1f}%"
        lines.append(f"{score.name:<{width}}  {100 * score.value:5.1f}% {chance}")
    return "\n".join(lines)


@contextmanager
def _stage(name: str, seconds: dict[str, float], title: str) -> Iterator[None]:
    print(f"[{title}]", file=sys.stderr, flush=True)
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start
    print(f"[{title}] {seconds[name]:.0f} s", file=sys.stderr, flush=True)
