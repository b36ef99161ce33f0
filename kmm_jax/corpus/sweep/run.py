"""Train the same model at each threshold on equally many rows, and compare their zero-shot scores.

OUTPUT/selections/NAME   which rows
OUTPUT/runs/NAME         the run, until it is scored
OUTPUT/scored/NAME.json  what it scored; a second call trains only what is missing
OUTPUT/sweep.json, sweep.html
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.corpus import tables
from kmm_jax.corpus.sweep.page import write_page
from kmm_jax.corpus.sweep.scan import BINS, Scanned, default_thresholds, scan
from kmm_jax.data.config import DataConfig
from kmm_jax.data.selection import FIELDS, Selection, agreeing, write_selection
from kmm_jax.data.sources import ShardSource, open_source
from kmm_jax.errors import ConfigError, DataError, UserError, nearest
from kmm_jax.evaluation.evaluate import Plan, evaluate
from kmm_jax.files import read_json, write_json
from kmm_jax.inference import load
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.dump import dump
from kmm_jax.training.loop import train

# Texts for the tokenizer; more of them change few of its words.
_TOKENIZER_TEXTS = 1_000_000
_SETTING = ("checkpoint.keep_latest=1", "checkpoint.every=100%")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is compared.

    Attributes:
        shards: scored and not yet filtered.
        test: rows with labels, never trained on.
        plan: the zero-shot task; its first class set decides.
        fields: texts to train on, ``title`` and ``query`` apart from each other.
        thresholds: None among them takes all texts; without any, they come from the spread.
        rows: to train on at each; None takes as many as the scarcest has.
        seeds: trainings at each threshold.
        config, overrides: what is trained.
        tokenizer: its folder; None trains one on the texts.
        vocabulary: of the tokenizer to be trained.
    """

    shards: str
    test: str
    plan: Plan
    fields: tuple[str, ...] = FIELDS
    thresholds: tuple[float | None, ...] = ()
    rows: int | None = None
    seeds: int = 1
    config: str = "clip/sweep"
    overrides: tuple[str, ...] = ()
    tokenizer: str | None = None
    vocabulary: int = 32_000

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.fields) - set(FIELDS)):
            raise ConfigError(f"fields are of {', '.join(FIELDS)}, got {unknown[0]!r}")
        if any(least is not None and not math.isfinite(least) for least in self.thresholds):
            raise ConfigError(f"a threshold is no number: {self.thresholds}")
        if not self.plan.classify:
            raise ConfigError("a sweep needs a class set and the label that names the class")
        if self.seeds < 1 or (self.rows is not None and self.rows < 1):
            raise ConfigError("seeds and rows must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """One point of a curve.

    Attributes:
        available: rows there would be at this threshold.
        top1: zero-shot accuracy of each seed; empty where rows were too few.
    """

    field: str
    least: float | None
    available: int
    top1: tuple[float, ...] = ()


Say = Callable[[str], None]


def sweep(settings: Sweep, output: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Train and score whatever is missing, write ``sweep.json`` and the page; returns the former.

    Raises:
        DataError: the shards have no similarities, or no labels; or too few rows pass.
        UserError: training was interrupted; the same call continues.
    """
    source = open_source(settings.shards)
    if not isinstance(source, ShardSource):
        raise DataError(f"{settings.shards}: a sweep reads shards, as kmm corpus build writes them")
    scanned = scan(source, settings.fields, lambda at, of: say(f"records {at:,}/{of:,}"))
    thresholds = settings.thresholds or default_thresholds(scanned)
    conditions = [
        Condition(field=field, least=least, available=scanned[field].available(least))
        for field in settings.fields
        for least in thresholds
    ]
    some = [condition.available for condition in conditions if condition.available]
    rows = settings.rows or min(some, default=1)
    if not any(condition.available >= rows > 0 for condition in conditions):
        raise DataError(
            f"no threshold leaves {max(rows, 1):,} rows; the most is "
            f"{max(condition.available for condition in conditions):,}"
        )
    asked = _test_mark(settings)
    load_experiment(settings.config, [*_SETTING, *settings.overrides])  # a mistake shows now
    tokenizer = _tokenizer(settings, source, output)
    done: list[Condition] = []
    for number, condition in enumerate(conditions):
        if condition.available < rows:
            done.append(condition)
            continue
        scores = []
        for seed in range(settings.seeds):
            say(f"{number + 1}/{len(conditions)}: {_shown(condition)}, {rows:,} rows, seed {seed}")
            chosen_N = scanned[condition.field].rows(condition.least, rows, seed)
            scores.append(
                _one(settings, condition, chosen_N, source, seed, tokenizer, asked, output)
            )
            say(f"  zero-shot {scores[-1]:.1%}")
        done.append(dataclasses.replace(condition, top1=tuple(scores)))
    result = _result(settings, scanned, done, rows, source)
    write_json(output / "sweep.json", result)
    write_page(output / "sweep.html", result)
    return result


def _one(
    settings: Sweep,
    condition: Condition,
    rows_N: np.ndarray,
    source: ShardSource,
    seed: int,
    tokenizer: Path,
    asked: str,
    output: Path,
) -> float:
    """The zero-shot accuracy at one threshold with one seed."""
    selection = Selection(source=settings.shards, field=condition.field, least=condition.least)
    words = Tokenizer.load(tokenizer)
    # Kept results are of these rows, this training and this test, or are not taken.
    chosen = [dataclasses.asdict(selection), source.mark(), rows_N.tolist()]
    rows_mark = tables.digest([*chosen, words.fingerprint])
    name = f"{condition.field}-{'all' if condition.least is None else condition.least}-{seed}"
    folder = output / "selections" / f"{name}-{rows_mark[:8]}"
    experiment = load_experiment(
        settings.config,
        [
            f"data.sources.0.url=selection:{folder}",
            f"tokenizer={tokenizer}",
            f"task.model.text.vocabulary={words.vocab_size}",
            f"data.seed={seed}",
            f"seed={seed}",
            *_SETTING,
            *settings.overrides,
        ],
    )
    fields = ((condition.field, 1.0),)
    assert isinstance(experiment.data, DataConfig)  # the sweep's own configuration says so
    experiment = dataclasses.replace(
        experiment, data=dataclasses.replace(experiment.data, fields=fields)
    )
    mark = tables.digest([dump(experiment), rows_mark, asked])[:8]
    kept = output / "scored" / f"{name}-{mark}.json"
    if (found := read_json(kept)) is not None:
        return float(found["top1"])
    if not folder.exists():
        write_selection(folder, selection, rows_N, source)
    run = output / "runs" / f"{name}-{mark}"
    if train(experiment, run).end != "finished":
        raise UserError("interrupted; the same command continues")
    scored = evaluate(load(run), settings.test, settings.plan)
    label = settings.plan.classify[0][1]
    top1 = next(iter(scored.classified[label].styles.values())).top1
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, {"top1": top1, "experiment": experiment.name, "rows": len(rows_N)})
    shutil.rmtree(run)
    return top1


def _test_mark(settings: Sweep) -> str:
    """Of what is asked of each model, and the rows it is asked about.

    Raises:
        DataError: the test rows cannot be read, or the first has no such label.
    """
    test = open_source(settings.test)
    classes, label = settings.plan.classify[0]
    labels = test.read(0).record.get("labels") or {}
    if label not in labels:
        raise DataError(
            f"{settings.test}: the first row has no label {label!r}"
            + nearest(label, map(str, labels))
        )
    of_rows = test.mark() if isinstance(test, ShardSource) else [test.name, len(test)]
    plan = [
        classes.keys,
        classes.prompts(),
        label,
        settings.plan.candidates,
        settings.plan.styles,
    ]
    return tables.digest([of_rows, plan])


def _tokenizer(settings: Sweep, source: ShardSource, output: Path) -> Path:
    if settings.tokenizer is not None:
        return Path(settings.tokenizer)
    made_of = [source.mark(), settings.fields, settings.vocabulary]
    folder = output / f"tokenizer-{tables.digest(made_of)[:8]}"
    if not (folder / "tokenizer.json").is_file():
        texts = _texts(source, settings.fields)
        Tokenizer.train(texts, vocab_size=settings.vocabulary).save(folder)
    return folder


def _texts(source: ShardSource, fields: Sequence[str]) -> Iterator[str]:
    """Of rows spread evenly over the source."""
    step = max(1, len(source) // _TOKENIZER_TEXTS)
    for number in range(0, len(source), step):
        try:
            record = source.record(number)
        except DataError:
            continue
        for field in fields:
            yield from (text for text, _, _ in agreeing(record, field, None))


def _result(
    settings: Sweep,
    scanned: Mapping[str, Scanned],
    conditions: Sequence[Condition],
    rows: int,
    source: ShardSource,
) -> dict[str, Any]:
    trained = [condition for condition in conditions if condition.top1]
    best = max(trained, key=lambda condition: statistics.fmean(condition.top1))
    tested = len(open_source(settings.test))
    margin = _margin(best, tested)
    close = [c for c in trained if c.field == best.field
             and statistics.fmean(c.top1) >= statistics.fmean(best.top1) - margin]  # fmt: skip
    loosest = min(close, key=lambda c: -math.inf if c.least is None else c.least)
    return {
        "shards": settings.shards,
        "source_rows": len(source),
        "rows": rows,
        "seeds": settings.seeds,
        "config": settings.config,
        "test": settings.test,
        "test_rows": tested,
        "classes": settings.plan.classify[0][0].name,
        "conditions": [dataclasses.asdict(condition) for condition in conditions],
        "histograms": {
            field: {"bins": BINS, "counts": of_field.counts_B.tolist()}
            for field, of_field in scanned.items()
        },
        "best": {"field": best.field, "least": best.least, "top1": statistics.fmean(best.top1)},
        "margin": margin,
        "loosest_as_good": {"least": loosest.least, "available": loosest.available},
        "by_field": {
            field: max(statistics.fmean(c.top1) for c in trained if c.field == field)
            for field in settings.fields
            if any(c.field == field for c in trained)
        },
    }


def _margin(best: Condition, tested: int) -> float:
    """Two standard errors of the best score's mean: of its seeds, or of the test rows if one."""
    mean = statistics.fmean(best.top1)
    if len(best.top1) > 1:
        return 2 * statistics.stdev(best.top1) / math.sqrt(len(best.top1))
    return 2 * math.sqrt(max(mean * (1 - mean), 1e-9) / max(tested, 1))


def _shown(condition: Condition) -> str:
    least = "all" if condition.least is None else f"similarity >= {condition.least}"
    return f"{condition.field}, {least}"
