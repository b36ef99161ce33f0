"""Captions and queries by finetuning (slide 3.2), and what it does to retrieval, at hand's size.

    python -m tools.caption_tuning                               # about 10 minutes on one core
    python -m tools.caption_tuning --base-steps 60 --steps 20 --train 600 --test 120   # a try

A CoCa is trained on the built-in shop's texts of both languages, then finetuned on captions and on
queries, in Korean and in English, with the captioning loss alone and with the contrastive loss kept
beside it. Before and after stand retrieval, zero-shot types, captions and queries. Runs that are
done are not done again; ``docs/results/caption_tuning.*`` is written after each.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.files import read_json, write_json
from tools import results, shop_runs

# (field that is finetuned on, contrastive weight)
ROWS = tuple(
    (field, weight)
    for field in ("caption", "caption_en", "query", "query_en")
    for weight in (0.0, 1.0)
)


def measure(run: Path, base: Path, test: str) -> dict[str, Any]:
    """Everything measured of one model; kept beside it.

    Queries are ranked by the text encoder of the base for all models alike: a finetuned model's own
    would be judged by what finetuning left of it.
    """
    from kmm_jax.evaluation.classes import named_classes
    from kmm_jax.evaluation.evaluate import Plan, evaluate
    from kmm_jax.evaluation.queries import score_queries
    from kmm_jax.inference.loading import load_model

    kept = run / "measured.json"
    if found := read_json(kept):
        return found
    plan = Plan(
        classify=((named_classes("shop_types"), "type"),),
        styles=("query",),
        retrieval=(("query", "query"), ("query_en", "query")),
        caption_styles=("prompt",),
        caption_field="caption",
        queries=("query", "query_en"),
    )
    scored = evaluate(load_model(run), test, plan)
    tables: dict[str, dict[str, float]] = {}
    for table in scored.results.tables:
        field = table.title.partition(": ")[2]
        name = f"{table.task}/{field}" if table.task in ("retrieval", "captions") else table.task
        if table.task != "queries":
            tables[name] = dict(table.metrics())
    english = Plan(caption_styles=("prompt",), caption_field="caption_en")
    (table,) = evaluate(load_model(run), test, english).results.tables
    tables["captions/caption_en"] = dict(table.metrics())
    judge = load_model(base)
    for field in ("query", "query_en"):
        table = score_queries(
            scored.rows, lambda texts: judge.embed_text(texts, "query"), style="query", field=field
        )
        tables[f"queries/{field}"] = dict(table.metrics())
    rows = scored.rows
    values = {
        "measured": tables,
        "examples": [
            {
                "caption": rows.captions["prompt"][row],
                "query": rows.captions["query"][row],
                "true_caption": rows.rows[row].texts["caption"][0],
                "true_query": list(rows.rows[row].texts["query"]),
            }
            for row in range(4)
        ],
    }
    write_json(kept, values)
    return values


def finetune(
    base: Path,
    made: shop_runs.Data,
    *,
    field: str,
    weight: float,
    steps: int,
    seed: int,
    work: Path,
) -> Path:
    """The base finetuned on one field, as the recipes do it at their size."""
    from kmm_jax.data.augment import AugmentConfig
    from kmm_jax.training.config_file import load_experiment

    experiment = load_experiment("coca/shop", shop_runs.settings(made, steps=steps, seed=seed))
    kept = "kept" if weight else "alone"
    experiment = dataclasses.replace(
        experiment,
        name=f"{field}-{kept}",
        task=dataclasses.replace(experiment.task, contrastive_weight=weight),
        data=dataclasses.replace(
            experiment.data,
            fields=((field, 1.0),),
            augment=AugmentConfig(scale=(0.8, 1.0)),
        ),
        optimizer=dataclasses.replace(experiment.optimizer, learning_rate=5e-4, warmup="10%"),
    )
    return shop_runs.trained(experiment, work, initial=base)


def _row(name: str, how: str, values: Mapping[str, Any], language: str) -> tuple[str, ...]:
    end = "_en" if language == "English" else ""
    of = values["measured"]
    queries, captions = of[f"queries/query{end}"], of[f"captions/caption{end}"]
    retrieval = of[f"retrieval/query{end}"]
    percent = shop_runs.percent
    return (
        name,
        how,
        language,
        percent(retrieval["text_to_image/r5"]),
        percent(retrieval["image_to_text/r5"]),
        percent(of["zero_shot"]["query/top1"]),
        f"{captions['prompt/cider_d']:.2f}",
        f"{captions['prompt/bleu4']:.3f}",
        percent(queries["exact"]),
        percent(queries["nearest/r1"]),
        f"{queries['nearest/median_rank']:.0f}",
    )


_COLUMNS = (
    "finetuned on",
    "contrastive loss",
    "measured in",
    "T2I R@5 %",
    "I2T R@5 %",
    "zero-shot type %",
    "CIDEr-D",
    "BLEU-4",
    "query exact %",
    "query nearest R@1 %",
    "its median rank",
)
_LANGUAGE = {"caption": "Korean", "query": "Korean", "caption_en": "English", "query_en": "English"}


def body(runs: Sequence[Mapping[str, Any]]) -> str:
    """The tables, and what they say of retrieval."""
    by_name = {run["name"]: run for run in runs}
    base = by_name["base"]
    rows = [_row("nothing (base)", "", base, language) for language in ("Korean", "English")]
    for field, weight in ROWS:
        name = f"{field}-{'kept' if weight else 'alone'}"
        if name in by_name:
            how = "kept, weight 1" if weight else "off"
            rows.append(_row(f"`{field}`", how, by_name[name], _LANGUAGE[field]))
    parts = [results.table(_COLUMNS, rows), ""]
    of = base["measured"]
    retrieval, queries = of["retrieval/query"], of["queries/query"]
    parts += [
        f"Chance: T2I R@5 {shop_runs.percent(retrieval['text_to_image/chance_r5'])} %, "
        f"I2T R@5 {shop_runs.percent(retrieval['image_to_text/chance_r5'])} %, zero-shot "
        f"{shop_runs.percent(of['zero_shot']['query/chance_top1'])} %; of queries, the same dealt "
        "to other records, in Korean: "
        + "; ".join(
            f"{name} exact {shop_runs.percent(run['measured']['queries/query']['chance_exact'])} %"
            f", nearest R@1 "
            f"{shop_runs.percent(run['measured']['queries/query']['nearest/chance_r1'])} %"
            for name, run in by_name.items()
            if name in ("base", "query-alone", "query-kept")
        )
        + f"; {queries['gallery']:,.0f} distinct queries.",
        "",
        *_said(by_name),
        "",
        "The first held-out pictures:",
        "",
        results.table(
            ("a person's caption", "base", "finetuned", "a person's query", "base", "finetuned"),
            [
                (
                    one["true_caption"],
                    one["caption"],
                    _example(by_name, "caption-kept", row, "caption"),
                    one["true_query"][0],
                    one["query"],
                    _example(by_name, "query-kept", row, "query"),
                )
                for row, one in enumerate(base["examples"])
            ],
        ),
    ]
    return "\n".join(parts)


def _example(by_name: Mapping[str, Any], name: str, row: int, what: str) -> str:
    return by_name[name]["examples"][row][what] if name in by_name else ""


def _said(by_name: Mapping[str, Any]) -> list[str]:
    """How much of the base's retrieval each pair of finetunings leaves."""
    lines = []
    for field, language in _LANGUAGE.items():
        end = "_en" if language == "English" else ""
        pair = [by_name.get(f"{field}-{how}") for how in ("alone", "kept")]
        if not all(pair):
            continue
        before, alone, kept = (
            run["measured"][f"retrieval/query{end}"]["text_to_image/r5"]
            for run in (by_name["base"], *pair)
        )
        lines.append(
            f"- On `{field}`: text-to-image R@5 goes from {shop_runs.percent(before)} % to "
            f"{shop_runs.percent(alone)} % with the captioning loss alone, and to "
            f"{shop_runs.percent(kept)} % with the contrastive loss kept."
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.caption_tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=100, help="of each finetuning")
    shop_runs.add_arguments(parser)
    arguments = parser.parse_args()
    work = arguments.work
    try:
        made = shop_runs.data(work, train=arguments.train, test=arguments.test)
        base = shop_runs.base(made, work, steps=arguments.base_steps, seed=arguments.seed)
        runs = [{"name": "base", **measure(base, base, made.test)}]
        for field, weight in ROWS:
            run = finetune(
                base,
                made,
                field=field,
                weight=weight,
                steps=arguments.steps,
                seed=arguments.seed,
                work=work,
            )
            name = f"{field}-{'kept' if weight else 'alone'}"
            runs.append({"name": name, **measure(run, base, made.test)})
            _write(runs, arguments)
    except UserError as error:
        print(f"caption_tuning: {error}", file=sys.stderr)
        return 2
    print(body(runs))
    return 0


def _write(runs: Sequence[Mapping[str, Any]], arguments: argparse.Namespace) -> None:
    setting = (
        f"A CoCa of width {shop_runs.WIDTH} at 32 px, {arguments.base_steps} steps of "
        f"{shop_runs.BATCH} pairs of the shop's Korean and English texts, then {arguments.steps} "
        "steps on one field alone: learning rate 5e-4 after 1e-3, captioning loss of weight 2, "
        f"contrastive loss off or of weight 1. {arguments.test} held-out pictures, "
        "of combinations never seen in training; one seed. T2I and I2T: retrieval by the records' "
        "queries, among these pictures. "
        "CIDEr-D (0 to 10) and BLEU-4 of greedy captions against the one caption of each record. "
        "A query is right (exact) if it is one of its record's; nearest: as a text it ranks all "
        "distinct queries of the set, and R@1 is the share whose record's own come first, by the "
        "text encoder of the base for every model."
    )
    results.write(
        "caption_tuning",
        title="Captions and queries by finetuning, and what it does to retrieval",
        command=f"python -m tools.caption_tuning --base-steps {arguments.base_steps} "
        f"--steps {arguments.steps} --train {arguments.train} --test {arguments.test} "
        f"--seed {arguments.seed}",
        values={"runs": list(runs)},
        body=f"{setting}\n\n{body(runs)}",
    )


if __name__ == "__main__":
    raise SystemExit(main())
