"""Stage 4: scores of the pictures that were chosen, a table for each file of pictures.

Scoring is what costs; so a picture is decoded once for all scores, and a score whose settings did
not change is taken from the table of the last build, picture by picture, if there is one.
"""

from __future__ import annotations

import collections
import itertools
import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kmm_jax.corpus import beside, sources, tables
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.jobs import Answer, config_of, settings
from kmm_jax.corpus.join import JOINED
from kmm_jax.corpus.scoring.protocol import Sample, Score, Scorer, Values
from kmm_jax.data.images import decode
from kmm_jax.errors import DataError

VERSION = 2

_BATCH = 64
_GROUP_BATCHES = 32
_TEXTS = "titles", "query", "beside"


def identities(task: dict[str, Any]) -> dict[str, str]:
    """Of each score, something that changes when its values do.

    Args:
        task: the corpus's ``config``.

    Raises:
        ConfigError, DataError: a model, file or package that a score needs is not there.
    """
    return {score.name: tables.digest(score.identity()) for score in config_of(task).scores}


def schema(config: CorpusConfig) -> pa.Schema:
    """The columns of a scored table: those of the chosen rows, the scores, and ``reason``."""
    fields = {field.name: field.type for field in JOINED}
    for score in config.scores:
        fields |= score.columns()
    return pa.schema({**fields, "reason": pa.string()})


def run(task: dict[str, Any]) -> Answer:
    """Score one file's chosen pictures.

    Args:
        task: the ``file``, its ``number`` and ``source``; the ``chosen`` tables; ``identities`` of
            the scores; where to ``write``; the corpus's ``config``.
    """
    config = config_of(task)
    path = Path(task["write"])
    rows = sorted(
        (row for path in task["chosen"] for row in tables.group(Path(path), task["number"])),
        key=lambda row: row["row"],
    )
    source = config.images[task["source"]]
    told_of = [{name: row[name] for name in row if name != "look"} for row in rows]
    # Thresholds change what is scored only where a rejected picture is not scored further.
    lines = [] if config.score_all else [settings(score) for score in config.scores]
    mark = tables.fingerprint(
        task["file"], VERSION, settings(source), task["identities"], told_of, lines
    )
    told = tables.about(path)
    if told.get("fingerprint") == mark:
        return Answer.loads(told["answer"], done_before=True)
    before = _Before(path, config.scores, task["identities"], told.get("identities"))
    batches = [_Batch(rows[start : start + _BATCH], config, before)
               for start in range(0, len(rows), _BATCH)]  # fmt: skip
    places = [place for batch in batches if batch.sides for place in batch.places]
    pictures = sources.pictures_at(source, task["file"], places)
    counts: collections.Counter[str] = collections.Counter()

    def groups() -> Iterator[list[dict[str, Any]]]:
        held: list[dict[str, Any]] = []
        for batch in batches:
            found = batch.scored(pictures)
            counts.update(row["reason"] or "kept" for row in found)
            held += found
            if len(held) >= _BATCH * _GROUP_BATCHES:
                yield held
                held = []
        yield held

    def about() -> dict[str, str]:
        answer = Answer(rows=len(rows), counts=dict(counts))
        return {
            "fingerprint": mark,
            "answer": answer.dumps(),
            "identities": tables.dumps(task["identities"]),
        }

    tables.write(path, schema(config), groups(), about)
    return Answer(rows=len(rows), counts=dict(counts))


class _Batch:
    """Some rows, with what is known of them from before.

    Attributes:
        sides: pixels of the shorter side to decode to, for the scores that have to be made. Each
            has its own, so that a score does not depend on which others are made with it.
        places: of the pictures in their file.
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], config: CorpusConfig, before: _Before
    ) -> None:
        self._rows, self._config, self._identities = rows, config, before.identities
        self._known = [
            {score.name: before.values(score, row) for score in config.scores} for row in rows
        ]
        self.sides = {score.side for score in config.scores if self._unknown(score)}
        self.places = [(row["place"][0], row["place"][1]) for row in rows]

    def scored(self, pictures: Iterator[bytes]) -> list[dict[str, Any]]:
        """The rows with their scores; ``reason`` where a picture could not be decoded after all.

        Args:
            pictures: the next of them are these rows', if there are sides.
        """
        theirs = list(itertools.islice(pictures, len(self._rows))) if self.sides else []
        samples: dict[int, list[Sample | None]] = {
            side: [_sample(row, data, side) for row, data in zip(self._rows, theirs, strict=True)]
            for side in self.sides
        }
        columns = {column: None for score in self._config.scores for column in score.columns()}
        found = [{**row, **columns, "reason": None} for row in self._rows]
        rejected: set[int] = set()
        for score in self._config.scores:
            unknown = [place for place in self._unknown(score) if place not in rejected]
            at = samples.get(score.side, []) if unknown else []
            there = {place: one for place in unknown if (one := at[place]) is not None}
            scorer = loaded(score, self._identities[score.name]) if there else None
            told = scorer.score(list(there.values())) if scorer else []
            for place, values in zip(there, told, strict=True):
                found[place] |= {column: _finite(values[column]) for column in score.columns()}
            for place, known in enumerate(self._known):
                found[place] |= known[score.name] or {}
            for place in unknown:
                if place not in there:
                    found[place]["reason"] = "decode_error"
                    rejected.add(place)
            if not self._config.score_all:
                rejected |= {
                    place
                    for place, row in enumerate(found)
                    if place not in rejected and score.judge(row)[1] is not None
                }
        return found

    def _unknown(self, score: Score) -> list[int]:
        return [place for place, known in enumerate(self._known) if known[score.name] is None]


def _finite(value: Any) -> Any:
    """None for a number that is none, which JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sample(row: Mapping[str, Any], data: bytes, side: int) -> Sample | None:
    try:
        pixels_HWC = decode(data, side)
    except DataError:
        return None
    names, captions = beside.texts(row["beside"])
    return Sample(
        image_hash=row["image_hash"],
        pixels_HWC=pixels_HWC,
        titles=tuple(row["titles"]),
        queries=tuple(row["query"]),
        names=tuple(names),
        captions=tuple(captions),
    )


class _Before:
    """What the table of the last build says of the same pictures by the same scores."""

    def __init__(
        self,
        path: Path,
        scores: Sequence[Score],
        identities: Mapping[str, str],
        earlier: str | None,
    ) -> None:
        self.identities = identities
        was = json.loads(earlier) if earlier is not None else {}
        self._same = {s.name for s in scores if was.get(s.name) == identities[s.name]}
        self._rows: dict[str, dict[str, Any]] = {}
        if self._same:
            for number in range(len(tables.group_rows(path))):
                self._rows |= {row["image_hash"]: row for row in tables.group(path, number)}

    def values(self, score: Score, row: Mapping[str, Any]) -> Values | None:
        """Its values of this row; None where it has to be scored."""
        old = self._rows.get(row["image_hash"]) if score.name in self._same else None
        if old is None or old["reason"] is not None:
            return None
        if score.of_texts and any(old[column] != row[column] for column in _TEXTS):
            return None
        values = {column: old[column] for column in score.columns()}
        # Not scored then, because an earlier score rejected it.
        return None if all(value is None for value in values.values()) else values


_loaded: dict[str, Scorer] = {}
_loading = threading.Lock()


def loaded(score: Score, identity: str) -> Scorer:
    """The scorer, loaded once a process whatever the number of threads that ask for it."""
    key = tables.digest([settings(score), identity])
    with _loading:
        if key not in _loaded:
            _loaded[key] = score.load()
        return _loaded[key]
