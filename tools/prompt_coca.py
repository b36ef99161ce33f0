"""Prompt-CoCa against plain CoCa at equal steps: the figure of slide 3.2, on data at hand.

    python -m tools.prompt_coca                      # shop and fashion_products, three seeds
    python -m tools.prompt_coca --data shop --seeds 0 --steps 50 --output /tmp/try

Names, queries and captions are mixed as in slide 3.2. Both see the same batches; Prompt-CoCa has
the style token in front, plain CoCa has not. Zero-shot types are scored with each style token. Runs
that are done are not done again; ``docs/results/prompt_coca.*`` is written after each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.files import write_json
from tools import results

_STYLES = ("query", "prompt", "shopping")
_SETTING = {"checkpoint.keep_latest": "1", "checkpoint.every": "100%"}


def one_run(data: str, *, styled: bool, seed: int, steps: int, work: Path) -> dict[str, Any]:
    """Train one model and score its zero-shot types; kept as JSON beside the run."""
    from kmm_jax.evaluation.classes import named_classes
    from kmm_jax.evaluation.evaluate import Plan, evaluate
    from kmm_jax.inference.loading import load_model
    from kmm_jax.quickstart.prepare import prepare
    from kmm_jax.quickstart.recipes import recipe
    from kmm_jax.text.styles import STYLES
    from kmm_jax.text.tokenizer import Tokenizer
    from kmm_jax.training.config_file import load_experiment
    from kmm_jax.training.dump import dump
    from kmm_jax.training.loop import train

    chosen = recipe(data)
    prepared = prepare(data, chosen, work / data, folder=None)
    name = f"{'prompt' if styled else 'plain'}-{seed}-{steps}"
    given = {
        "data.sources.0.url": prepared.train,
        "tokenizer": str(prepared.tokenizer),
        "task.model.text.vocabulary": str(Tokenizer.load(prepared.tokenizer).vocab_size),
        **chosen.overrides,
        "duration": f"{steps} steps",
        "data.styled": str(styled).lower(),
        "data.seed": str(seed),
        "seed": str(seed),
        **_SETTING,
    }
    experiment = load_experiment("coca/shop", [f"{k}={v}" for k, v in given.items()])
    # Kept results are of this very experiment and code, or are not taken.
    identity = hashlib.sha256((dump(experiment) + results.source_digest()).encode()).hexdigest()[:8]
    run, kept = work / data / f"{name}-{identity}", work / data / f"{name}-{identity}.json"
    if kept.exists():
        return json.loads(kept.read_text("utf-8"))
    result = train(experiment, run)
    if result.end != "finished":
        raise UserError("interrupted; the same command continues")
    classes, label = chosen.classes[0]
    plan = Plan(
        classify=((named_classes(classes), label),),
        styles=STYLES,
        candidates="present",
        retrieval=(("query", "query"),),
    )
    scored = evaluate(load_model(run), prepared.test, plan)
    tables = {table.task: dict(table.metrics()) for table in scored.results.tables}
    values = {
        "data": data,
        "model": "prompt" if styled else "plain",
        "seed": seed,
        "steps": steps,
        "zero_shot": {
            key: tables["zero_shot"][f"{key}/top1"] for key in (_STYLES if styled else ("plain",))
        },
        "chance": tables["zero_shot"][f"{_STYLES[0] if styled else 'plain'}/chance_top1"],
        "images": tables["zero_shot"]["images"],
        "text_to_image_r5": tables["retrieval"]["text_to_image/r5"],
        "caption_loss": result.metrics["caption_loss"],
    }
    write_json(kept, values)
    shutil.rmtree(run)
    return values


def _mean(values: Sequence[float]) -> str:
    """Mean and, from two values on, the standard deviation between seeds, in percent."""
    mean = 100 * statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}"


# Student's t, 97.5 %, by number of seeds: what a mean must reach, in standard errors.
_STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def _verdict(differences: Sequence[float]) -> str:
    """The mean difference between the models in points, and whether seeds alone could make it.

    A paired t-test at 5 %: both models of a seed saw the same batches.
    """
    mean, count = 100 * statistics.fmean(differences), len(differences)
    if count < 2:
        return f"{mean:+.1f} points; one seed, no verdict."
    error = 100 * statistics.stdev(differences) / math.sqrt(count)
    clear = abs(mean) > _STUDENT.get(count, 2.2) * error
    return f"{mean:+.1f} points over {count} seeds (standard error {error:.1f}): " + (
        "a difference, by a paired t-test at 5 %."
        if clear
        else "no difference that a paired t-test at 5 % would tell from the seeds' noise."
    )


def summary(runs: Sequence[dict[str, Any]]) -> str:
    """The table, and what it says of prompt against plain."""
    rows, sentences = [], []
    for data in dict.fromkeys(run["data"] for run in runs):
        of_data = [run for run in runs if run["data"] == data]
        best: dict[str, list[float]] = {}
        for model, styles in (("plain", ("plain",)), ("prompt", _STYLES)):
            found = [run for run in of_data if run["model"] == model]
            for style in styles if found else ():
                scores = [run["zero_shot"][style] for run in found]
                best[style] = scores
                shown = "none" if style == "plain" else f"[{style.upper()}]"
                r5 = _mean([run["text_to_image_r5"] for run in found])
                rows.append(
                    (
                        data,
                        "CoCa" if model == "plain" else "Prompt-CoCa",
                        shown,
                        _mean(scores),
                        f"{100 * of_data[0]['chance']:.1f}",
                        r5 if style in ("plain", "query") else "",
                        len(found),
                    )
                )
        if "plain" in best and "query" in best:
            pairs = [q - p for p, q in zip(best["plain"], best["query"], strict=False)]
            sentences.append(f"On {data}, [QUERY] minus plain is {_verdict(pairs)}")
    columns = [
        "data",
        "model",
        "style token",
        "zero-shot top-1 %",
        "chance %",
        "T2I R@5 %",
        "seeds",
    ]
    return results.table(columns, rows) + "\n\n" + "\n".join(sentences)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.prompt_coca",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="shop,fashion_products")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--output", type=Path, default=Path("runs/prompt_coca"))
    parser.add_argument(
        "--table-only", action="store_true", help="write the table anew from the runs in the JSON"
    )
    arguments = parser.parse_args()
    if arguments.table_only:
        kept = results.read("prompt_coca")
        if not kept:
            parser.error("there is no docs/results/prompt_coca.json yet")
        arguments.steps = kept["runs"][0]["steps"]
        _write(kept["runs"], arguments, origin=kept["provenance"])
        return 0
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    runs = []
    try:
        for seed in seeds:
            for data in arguments.data.split(","):
                for styled in (True, False):
                    print(f"{data}, seed {seed}, styled {styled}", file=sys.stderr, flush=True)
                    runs.append(
                        one_run(
                            data,
                            styled=styled,
                            seed=seed,
                            steps=arguments.steps,
                            work=arguments.output,
                        )
                    )
                    _write(sorted(runs, key=lambda run: run["data"]), arguments)
    except UserError as error:
        print(f"prompt_coca: {error}", file=sys.stderr)
        return 2
    print(summary(runs))
    return 0


def _write(
    runs: list[dict[str, Any]],
    arguments: argparse.Namespace,
    *,
    origin: dict[str, Any] | None = None,
) -> None:
    setting = (
        f"{arguments.steps} steps of 128 pairs at 32 px, the CoCa of width 128 in "
        "configs/coca/shop.py, titles, captions, product names and queries mixed alike, "
        "the same batches for both. "
        "Zero-shot: garment types that occur among the held-out rows, all templates averaged; "
        "± is the standard deviation between seeds. The slide's figure shows Prompt-CoCa above "
        "plain CoCa on ImageNet-kr at a billion pairs; this is the same comparison, small."
    )
    results.write(
        "prompt_coca",
        title="Prompt-CoCa and plain CoCa",
        command=f"python -m tools.prompt_coca --data {arguments.data} --seeds {arguments.seeds} "
        f"--steps {arguments.steps}",
        values={"runs": runs},
        body=f"{setting}\n\n{summary(runs)}",
        origin=origin,
    )


if __name__ == "__main__":
    raise SystemExit(main())
