"""The built-in shop with all its texts, and runs on it that are done once: for the tools beside."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from kmm_jax.files import read_json, write_json
from kmm_jax.training.experiment import Experiment
from tools import results

VOCABULARY, LENGTH = 2000, 24
# Half of configs/coca/shop.py in width and in batch.
WIDTH, BATCH = 64, 64
FIELDS = ("title", "caption", "product_name", "query", "caption_en", "query_en")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Shards and the tokenizer of everything in them."""

    train: str
    test: str
    tokenizer: str


def data(work: Path, *, train: int, test: int) -> Data:
    """The shop with English texts and questions, drawn at 48 pixels, made once."""
    from kmm_jax.data.shop import write_shop

    folder = work / f"shop-{train}"
    made = write_shop(
        folder, train=train, test=test, seed=0, image_size=48, english=True, questions=True
    )
    tokenizer, note = folder / "tokenizer", folder / "tokenizer_made_from.json"
    wanted = {**made, "vocabulary": VOCABULARY}
    if not tokenizer.is_dir() or read_json(note) != wanted:
        train_tokenizer(folder, VOCABULARY)
        write_json(note, wanted)
    return Data(
        train=str(folder / "train-*.tar"),
        test=str(folder / "test-*.tar"),
        tokenizer=str(tokenizer),
    )


def train_tokenizer(folder: Path, vocabulary: int) -> None:
    """Train ``tokenizer/`` on the texts of a folder's training shards.

    Raises:
        UserError: it could not be.
    """
    from kmm_jax import cli

    words = ["--vocab-size", str(vocabulary), "--output", str(folder / "tokenizer")]
    if cli.main(["tokenizer", "train", str(folder / "train-*.tar"), *words]):
        raise UserError("the tokenizer could not be trained")


def settings(made: Data, *, steps: int, seed: int) -> list[str]:
    """Overrides that fit ``coca/shop`` and what is made of it to this data."""
    return [
        f"data.sources.0.url={made.train}",
        f"tokenizer={made.tokenizer}",
        f"task.model.text.vocabulary={VOCABULARY}",
        f"task.model.text.length={LENGTH}",
        f"data.text_length={LENGTH}",
        f"task.model.vision.width={WIDTH}",
        f"task.model.vision.hidden={4 * WIDTH}",
        f"task.model.vision.heads={WIDTH // 32}",
        f"task.model.text.width={WIDTH}",
        f"task.model.text.hidden={4 * WIDTH}",
        f"task.model.text.heads={WIDTH // 32}",
        f"task.model.pooler_heads={WIDTH // 32}",
        f"task.model.embedding={WIDTH}",
        f"global_batch_size={BATCH}",
        f"duration={steps} steps",
        f"seed={seed}",
        f"data.seed={seed}",
        "checkpoint.every=25%",
        "checkpoint.keep_latest=1",
        "log_every=20 steps",
    ]


def base(made: Data, work: Path, *, steps: int, seed: int) -> Path:
    """A CoCa trained on captions, queries, titles and names of both languages."""
    from kmm_jax.training.config_file import load_experiment

    experiment = load_experiment("coca/shop", settings(made, steps=steps, seed=seed))
    fields = tuple((field, 1.0) for field in FIELDS)
    experiment = dataclasses.replace(
        experiment, name="base", data=dataclasses.replace(experiment.data, fields=fields)
    )
    return trained(experiment, work)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the base of every finetuning is made of, and where."""
    parser.add_argument("--base-steps", type=int, default=1000)
    parser.add_argument("--train", type=int, default=6000, help="rows of the shop")
    parser.add_argument("--test", type=int, default=400, help="held-out rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/asking"))


def trained(
    experiment: Experiment, work: Path, *, initial: Path | None = None, fresh: str | None = None
) -> Path:
    """The run of this very experiment and code, trained unless it is there; it can be interrupted.

    Args:
        initial: whose weights it begins from.
        fresh: regex of the parameters that do not.

    Raises:
        UserError: it was interrupted.
    """
    from kmm_jax.inference.initial import InitialWeights
    from kmm_jax.training.dump import dump
    from kmm_jax.training.loop import train

    said = dump(experiment) + results.source_digest() + (initial.name if initial else "")
    run = work / f"{experiment.name}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
    if read_json(run / "done.json"):
        return run
    print(f"{experiment.name}: {experiment.duration}", file=sys.stderr, flush=True)
    begin = None
    if initial is not None:
        begin = InitialWeights(initial, experiment.task.model, fresh=fresh)
    start = time.perf_counter()
    result = train(experiment, run, initial=begin)
    if result.end != "finished":
        raise UserError("interrupted; the same command continues")
    seconds = time.perf_counter() - start
    write_json(run / "done.json", {"seconds": seconds, **_scalars(result.metrics)})
    return run


def _scalars(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def percent(value: float) -> str:
    """A share in percent, to a place."""
    return f"{100 * value:.1f}"
