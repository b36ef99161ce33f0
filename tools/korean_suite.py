"""The Korean suite over trained models, as ``docs/results/korean_suite.*``; and what it costs.

    KMM_DATA_DIR=FOLDER python -m tools.korean_suite "OneR=runs/oner" "CLIP=runs/clip"

Each benchmark that is there is measured (`kmm eval` does the same for anybody's models). Then
measuring is timed beside bare embedding of the same images, in turns in one process: evaluation
shall cost at most a tenth more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from tools import results

NAME = "korean_suite"
_TIMED, _ROUNDS = "cifar10", 5


def trained(run: Path) -> str:
    """The experiment of a run and its length; empty for an exported model."""
    from kmm_jax.training import run_directory

    if not (run / "checkpoints").is_dir():
        return ""
    experiment = run_directory.read_config(run)["experiment"]
    return f"{experiment['name']}, {experiment['duration']}, seed {experiment['seed']}"


def cost(model: Any, places: Any, *, rounds: int) -> dict[str, Any] | None:
    """Seconds of evaluating a benchmark's images, and of embedding them alone, in turns.

    Both read and decode the images; class names are embedded before, once for all benchmarks. The
    ratio is that of the fastest rounds, for what else a machine does only adds to a round.
    """
    import jax
    import numpy as np

    from kmm_jax.data.config import DataConfig
    from kmm_jax.data.evaluation_reader import evaluation_batches
    from kmm_jax.evaluation.suite.korean import SUITE
    from kmm_jax.evaluation.suite.measure import Measurer

    benchmark = next(one for one in SUITE if one.name == _TIMED)
    part = next((found for form in benchmark.forms if (found := form.find(places))), None)
    if part is None:
        return None
    source, batch = part.open(), 64
    measurer = Measurer(model, places=places, tasks=("zero_shot",), batch_size=batch)
    config = DataConfig(sources=(), image_size=model.image_size, text_length=4)

    def bare() -> None:
        last: list[jax.Array] = []
        for rows in evaluation_batches(source, config, batch):
            last.append(model.embed_pixels(rows["image"]))
            if len(last) > 1:
                np.asarray(last.pop(0))
        np.asarray(last.pop())

    def evaluation() -> None:
        measurer.measure_images(benchmark, source)

    seconds: dict[str, list[float]] = {"embedding": [], "evaluation": []}
    processor: dict[str, list[float]] = {"embedding": [], "evaluation": []}
    for number in range(rounds + 1):
        for name, run in (("embedding", bare), ("evaluation", evaluation)):
            began, worked = time.perf_counter(), time.process_time()
            run()
            if number:  # the first round compiles, and embeds the class names
                seconds[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - worked)
    return {
        "benchmark": _TIMED,
        "images": len(source),
        "seconds": seconds,
        "processor_seconds": processor,
        "ratio": min(seconds["evaluation"]) / min(seconds["embedding"]),
        "processor_ratio": statistics.median(processor["evaluation"])
        / statistics.median(processor["embedding"]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.korean_suite", description=__doc__.splitlines()[0]
    )
    parser.add_argument("models", nargs="+", metavar="TITLE=RUN")
    parser.add_argument("--data", type=Path, help="default: KMM_DATA_DIR")
    parser.add_argument("--work", type=Path, default=Path("runs/korean_suite"))
    parser.add_argument("--only", help="of the suite, only these benchmarks")
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments)
    except UserError as error:
        print(f"korean_suite: {error}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    from kmm_jax import inference
    from kmm_jax.evaluation.suite import page, picture
    from kmm_jax.evaluation.suite import run as suites
    from kmm_jax.evaluation.suite.forms import Places
    from kmm_jax.evaluation.suite.korean import SUITE

    folder = arguments.data or Path(os.environ.get("KMM_DATA_DIR", ""))
    if not folder.is_dir():
        raise UserError("name the folder of benchmarks with --data or KMM_DATA_DIR")
    places = Places(folders=(folder,))
    names = arguments.only.split(",") if arguments.only else None
    wanted = suites.Wanted(benchmarks=suites.chosen(SUITE, names))
    models, origins, timed = [], {}, None
    for one in arguments.models:
        title, equals, path = one.partition("=")
        if not equals:
            raise UserError(f"give each model a title: TITLE=RUN, got {one!r}")
        model = inference.load(path)
        origins[title] = trained(Path(path))
        if timed is None:
            timed = cost(model, places, rounds=_ROUNDS)
        found = suites.run(
            title,
            model,
            wanted,
            places=places,
            kept=arguments.work,
            done=lambda benchmark, measured, title=title: print(  # type: ignore[misc]
                f"{title}: {benchmark.name}, {measured.seconds:.0f} s", file=sys.stderr
            ),
        )
        # Where a run lies on this machine says nothing to a reader.
        found.about["path"] = origins[title]  # type: ignore[index]
        models.append(found)
    drawing = results.FOLDER / f"{NAME}.svg"
    picture.draw(models, wanted.benchmarks, svg=drawing, png=arguments.work / f"{NAME}.png")
    body = page.to_markdown(models, wanted.benchmarks, picture=drawing.name)
    said = [f"- {title}: {origin}" for title, origin in origins.items() if origin]
    if said:
        body += "\n## The models\n\n" + "\n".join(said) + "\n"
    if timed is not None:
        body += "\n## What evaluation costs\n\n" + _cost_said(timed) + "\n"
    results.write(
        NAME,
        title="The Korean suite",
        command="python -m tools.korean_suite " + " ".join(f'"{title}=RUN"' for title in origins),
        values={**page.to_json(models, wanted.benchmarks), "cost": timed},
        body=body,
    )
    return 0


def _cost_said(timed: dict[str, Any]) -> str:
    rounds = len(timed["seconds"]["embedding"])
    return (
        f"{timed['images']:,} images of {timed['benchmark']} read, embedded and classified in two "
        f"languages, against read and embedded alone, {rounds} times in turns: "
        f"{timed['ratio']:.3f} times the seconds (fastest rounds), {timed['processor_ratio']:.3f} "
        "times the processor's (median rounds)."
    )


if __name__ == "__main__":
    raise SystemExit(main())
