"""Answers to questions about images: how many are right, by kind and by wording (slide 5.4).

What a question gives away without its image is measured beside: the same questions are asked of
other records' images.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kmm_jax.data.config import DataConfig
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.questions import Question, questions
from kmm_jax.data.schema import QUESTIONS
from kmm_jax.data.sources import open_source
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.dataset import EvaluationData, EvaluationSet, check_data, encoder_for
from kmm_jax.evaluation.encoders import Encoder, Functions
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.text.normalize import normalize

# Questions bring their own texts; this is the least a config may say.
_NO_TEXT_LENGTH = 4
OTHER = "other_image"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """A question with its true answer, the answer given, and the one given for another image."""

    question: Question
    given: str
    given_other: str


def ask_questions(
    source: str | os.PathLike[str],
    encoder: Encoder,
    *,
    image_size: int,
    batch_size: int,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Answered]:
    """Ask every question of the first ``limit`` rows, of its own image and of another.

    The other image is that of the row before in the source (before the first: the last row of the
    first batch), so a source whose neighbours are alike should be shuffled.

    Raises:
        ConfigError: the encoder does not answer.
        DataError: fewer than two readable rows, or no question in any.
    """
    if encoder.answer is None:
        raise ConfigError("this model cannot answer; use a CoCa (configs/coca/shop_vqa.py)")
    opened = open_source(source)
    total = len(opened) if limit is None else min(limit, len(opened))
    config = DataConfig(sources=(), image_size=image_size, text_length=_NO_TEXT_LENGTH)

    def rows() -> Iterator[tuple[Question, np.ndarray, np.ndarray]]:
        before: np.ndarray | None = None
        for batch in evaluation_batches(opened, config, max(batch_size, 2), limit=limit):
            count = int(batch["valid"].sum())
            images = batch["image"][:count]
            if before is None and count < 2:
                raise DataError(f"{opened.name}: one image has no other to ask of; give two rows")
            others = [images[-1] if before is None else before, *images[:-1]]
            before = images[-1]
            for row, image, other in zip(batch["row"], images, others, strict=False):
                for question in questions(opened.read(int(row)).record):
                    yield question, image, other
            if progress is not None:
                progress(int(batch["row"][count - 1]) + 1, total)

    found: list[Answered] = []
    asked = rows()
    while part := list(itertools.islice(asked, batch_size)):
        full = part + part[-1:] * (batch_size - len(part))
        words = [question.question for question, _, _ in full]
        given = encoder.answer(np.stack([image for _, image, _ in full]), words)
        given_other = encoder.answer(np.stack([other for _, _, other in full]), words)
        found += [
            Answered(question=question, given=answer, given_other=other)
            for (question, _, _), answer, other in zip(part, given, given_other, strict=False)
        ]
    if not found:
        raise DataError(f"{opened.name}: no record has {QUESTIONS}")
    return found


def score_answers(answered: Sequence[Answered], *, name: str) -> Table:
    """The share of right answers of each wording and kind, and of all kinds of a wording.

    An answer is right if it equals the true one, normalised. Chance is the commonest answer of each
    kind and wording among these questions, known beforehand.
    """
    groups: dict[tuple[str, str], list[Answered]] = collections.defaultdict(list)
    for one in answered:
        groups[one.question.wording, one.question.kind].append(one)
    scores: list[Score] = []
    for wording in sorted({wording for wording, _ in groups}, key=lambda name: name != "training"):
        kinds = {kind: found for (name, kind), found in groups.items() if name == wording}
        majority = {kind: _majority(found) for kind, found in kinds.items()}
        together = [one for found in kinds.values() for one in found]
        prefix = f"{wording}/" if wording else ""
        if len(kinds) > 1:
            most = sum(majority[kind] * len(found) for kind, found in kinds.items())
            scores += _scores(f"{prefix}all", together, most / len(together))
        for kind, found in kinds.items():
            scores += _scores(f"{prefix}{kind}", found, majority[kind])
    return Table(
        task=QUESTIONS,
        title="Questions about images",
        protocol=(
            f"{len(answered):,} questions about images of {name}, answered by greedy search; an "
            "answer is right if it equals the true one, normalised. chance: the commonest answer "
            f"of each kind, for all its questions. {OTHER}: the same questions asked of another "
            "record's image, which is what a question alone gives away."
        ),
        scores=tuple(scores),
        facts={"questions": len(answered)},
    )


def _scores(name: str, found: Sequence[Answered], chance: float) -> list[Score]:
    return [
        Score(
            name=name,
            value=_share(one.given == one.question.answer for one in _normal(found)),
            chance=chance,
        ),
        Score(
            name=f"{name}/{OTHER}",
            value=_share(one.given_other == one.question.answer for one in _normal(found)),
            chance=chance,
        ),
    ]


def _normal(found: Sequence[Answered]) -> Iterator[Answered]:
    for one in found:
        yield Answered(
            question=dataclasses.replace(one.question, answer=normalize(one.question.answer)),
            given=normalize(one.given),
            given_other=normalize(one.given_other),
        )


def _share(right: Iterator[bool]) -> float:
    every = list(right)
    return sum(every) / len(every)


def _majority(found: Sequence[Answered]) -> float:
    counts = collections.Counter(normalize(one.question.answer) for one in found)
    return counts.most_common(1)[0][1] / len(found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionEvaluator:
    """Right answers while a model trains; yields nothing if the task gives no function ``answer``.

    Yields ``<name>/<wording>/<kind>`` and so on (:func:`score_answers`).

    Attributes:
        every: a duration (``"20%"``, ``"1000 steps"``).
        data: the evaluation set, and what the model takes.
    """

    name: str = "questions"
    every: str = "20%"
    data: EvaluationData

    def check(self) -> None:
        """Refuse data in which no row has a question."""
        check_data(self.data, _with_questions)

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, ask, and yield (name, value)."""
        if "answer" not in functions:
            return
        data = self.data
        encoder = encoder_for(data, functions, params)
        answered = ask_questions(
            data.source,
            encoder,
            image_size=data.image_size,
            batch_size=data.batch_size,
            limit=data.limit,
        )
        for name, value in score_answers(answered, name=data.source).metrics():
            yield f"{self.name}/{name}", value


def _with_questions(rows: EvaluationSet) -> None:
    if not any(row.questions for row in rows.rows):
        raise DataError(f"{rows.name}: no record has {QUESTIONS}")
