"""The distributions of what a build measured: sizes, lengths of texts, scores.

A pass over its tables, a few columns of a few thousand rows at a time.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kmm_jax.corpus import beside, judge, tables
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.report import layout as layouts
from kmm_jax.corpus.report import scripts
from kmm_jax.corpus.report.distribution import Distribution, Line
from kmm_jax.corpus.report.layout import MOST_FILES, Layout
from kmm_jax.corpus.sampling import evenly
from kmm_jax.corpus.scoring.custom import Custom
from kmm_jax.corpus.scoring.protocol import Score

_TEXTS = ("title", "query", "caption", "product_name")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One distribution with what it is called.

    Attributes:
        of: ``read`` (all pictures whose header could be read), ``scored`` or ``kept``.
    """

    name: str
    of: str
    distribution: Distribution


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What the tables say.

    Attributes:
        measures: in the order in which they are shown.
        scripts: characters of kept texts by script.
        fields: kept pictures that have each field; ``pictures`` is how many there are.
        files, of_files: how many files of pictures were looked at, of how many.
        judged: tells the tables that shards are made of from others.
    """

    measures: tuple[Measure, ...]
    scripts: dict[str, int]
    fields: dict[str, int]
    files: int
    of_files: int
    judged: str


def measure(config: CorpusConfig, layout: Layout) -> Measured:
    """Read the tables of the pictures' files."""
    numbers = range(len(layout.pictures))
    looked_at = evenly(numbers, MOST_FILES)
    sizes, scores, texts = _Sizes(config), _Scores(config.scores), _Texts()
    for number in looked_at:
        sizes.add(tables.batches(layout.table("facts", number), _Sizes.columns))
        scores.add(tables.batches(layout.table("scored", number), list(scores.all)))
        judged = layout.table("judged", number)
        texts.add(tables.batches(judged, _Texts.columns, [judge.KEPT]))
    found = {"read": sizes.all, "scored": scores.all, "kept": texts.all}
    return Measured(
        measures=tuple(
            Measure(name=name, of=of, distribution=distribution)
            for of, distributions in found.items()
            for name, distribution in distributions.items()
        ),
        scripts=dict(texts.scripts),
        fields=dict(texts.fields),
        files=len(looked_at),
        of_files=len(numbers),
        judged=layouts.judged(layout),
    )


def lines_of(scores: Sequence[Score]) -> dict[str, list[Line]]:
    """The thresholds of every column of scores."""
    found: dict[str, list[Line]] = {column: [] for score in scores for column in score.columns()}
    for score in scores:
        if isinstance(score, Custom):  # which may draw two lines in one column
            for column, value in score.least.items():
                found[column].append(Line("least", value))
            for column, value in score.most.items():
                found[column].append(Line("most", value))
            continue
        for column, (side, value) in score.thresholds().items():
            found[column].append(Line("least" if side == "least" else "most", value))
    return found


class _Sizes:
    columns = ("width", "height", "white")

    def __init__(self, config: CorpusConfig) -> None:
        rules = config.image_rules
        self.all = {
            "short_side": Distribution([Line("least", rules.least_side)]),
            "width": Distribution(),
            "height": Distribution(),
            "pixels": Distribution(),
            "aspect": Distribution([Line("most", rules.most_aspect)]),
            "white": Distribution([Line("below", rules.most_white)]),
        }

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            width, height, white = (
                np.asarray(batch.column(name), np.float64) for name in self.columns
            )
            is_read = (width > 0) & (height > 0)
            width, height = width[is_read], height[is_read]
            short = np.minimum(width, height)
            self.all["short_side"].add(short)
            self.all["width"].add(width)
            self.all["height"].add(height)
            self.all["pixels"].add(width * height)
            self.all["aspect"].add(np.maximum(width, height) / short)
            self.all["white"].add(white[white >= 0])


class _Scores:
    def __init__(self, scores: Sequence[Score]) -> None:
        self.all = {column: Distribution(drawn) for column, drawn in lines_of(scores).items()}

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            for name, distribution in self.all.items():
                column = batch.column(name)
                if pa.types.is_list(column.type):
                    column = column.flatten()
                distribution.add(np.asarray(column.drop_null().to_numpy(zero_copy_only=False)))


class _Texts:
    columns = ("titles", "query", "query_count", "beside")

    def __init__(self) -> None:
        names = ("title_characters", "query_characters", "caption_characters", "queries", "clicks")
        self.all = {name: Distribution() for name in names}
        self.scripts: collections.Counter[str] = collections.Counter()
        self.fields: collections.Counter[str] = collections.Counter()

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            rows = batch.to_pylist()
            records = [_record(row) for row in rows]
            self.fields["pictures"] += len(records)
            for record in records:
                self.fields.update(record.keys())
            texts = {
                field: [text for record in records for text in record.get(field, ())]
                for field in _TEXTS
            }
            for of_one in texts.values():
                scripts.count(of_one, self.scripts)
            for field in ("title", "query", "caption"):
                lengths = np.array([len(text) for text in texts[field]])
                self.all[f"{field}_characters"].add(lengths)
            self.all["queries"].add(np.array([len(row["query"]) for row in rows]))
            clicks = [count for row in rows for count in row["query_count"]]
            self.all["clicks"].add(np.array(clicks, np.float64))


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of the row's record; texts are lists."""
    found = {
        field: [value] if isinstance(value, str) else value
        for field, value in beside.fields(row["beside"]).items()
    }
    if row["titles"]:
        found["title"] = row["titles"][:1]
    if row["query"]:
        found["query"] = row["query"]
    return found
