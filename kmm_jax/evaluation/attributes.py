"""How well a model names the attributes of things in pictures (slide 3.1).

Each row is asked about the picture alone, and about every category that one of its things falls
under. Q queries, A attributes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kmm_jax.data.config import DataConfig
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.sources import Source
from kmm_jax.data.statements import Attribute, described
from kmm_jax.errors import DataError
from kmm_jax.evaluation.calibration import expected_calibration_error, fit_platt
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.inference.platt import Platt

_NO_TEXT_LENGTH = 4
_TOP = 5
_LEAST_TRUE = 10
_COMMON = 0.9

Scores = Callable[[Sequence[Any], Sequence[str]], np.ndarray]
"""Pictures and a category for each (empty: none) to scores (Q, A)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeQueries:
    """What was asked, what was answered, and what is true.

    Attributes:
        score_QA: of every attribute for every query.
        true_QA: whether it is true of a thing that was asked about.
        categories: asked about; empty for the picture alone.
        several: (Q,) whether the picture shows several things.
    """

    attributes: tuple[Attribute, ...]
    score_QA: np.ndarray
    true_QA: np.ndarray
    categories: tuple[str, ...]
    several: np.ndarray


def ask_attributes(
    source: Source,
    scores: Scores,
    attributes: Sequence[Attribute],
    *,
    image_size: int,
    batch_size: int,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AttributeQueries:
    """Ask about the first ``limit`` rows of a source.

    Raises:
        DataError: no row says anything of its things.
    """
    config = DataConfig(sources=(), image_size=image_size, text_length=_NO_TEXT_LENGTH)
    places = {one: place for place, one in enumerate(attributes)}
    total = len(source) if limit is None else min(limit, len(source))

    def queries() -> Iterator[tuple[np.ndarray, str, np.ndarray, bool]]:
        for batch in evaluation_batches(source, config, batch_size, limit=limit):
            count = int(batch["valid"].sum())
            for row, image in zip(batch["row"][:count], batch["image"], strict=False):
                found = described(source.read(int(row)).record)
                if found is None:
                    continue
                for category in ("", *found.categories()):
                    true_A = np.zeros(len(attributes), bool)
                    true_A[[places[x] for x in found.attributes(category) if x in places]] = True
                    yield image, category, true_A, len(found.items) > 1
            if progress is not None:
                progress(int(batch["row"][count - 1]) + 1, total)

    parts, truths, categories, several = [], [], [], []
    asked = queries()
    while part := list(itertools.islice(asked, batch_size)):
        parts.append(scores([image for image, *_ in part], [name for _, name, *_ in part]))
        truths += [true_A for _, _, true_A, _ in part]
        categories += [name for _, name, *_ in part]
        several += [many for *_, many in part]
    if not parts:
        raise DataError(
            f"{source.name}: no record has items, or category and attributes, to ask about"
        )
    return AttributeQueries(
        attributes=tuple(attributes),
        score_QA=np.concatenate(parts),
        true_QA=np.stack(truths),
        categories=tuple(categories),
        several=np.asarray(several),
    )


def calibrate(asked: AttributeQueries) -> dict[str, Platt]:
    """For each key the probability of its scores, from queries with a category and without.

    Keys with fewer than ten true answers have none.
    """
    keys = np.asarray([one.key for one in asked.attributes])
    found = {}
    for key in dict.fromkeys(keys.tolist()):
        columns = keys == key
        true = asked.true_QA[:, columns].ravel()
        if true.sum() >= _LEAST_TRUE:
            found[key] = fit_platt(asked.score_QA[:, columns].ravel(), true)
    return found


def probabilities(asked: AttributeQueries, calibration: dict[str, Platt]) -> np.ndarray:
    """(Q, A), NaN under keys without calibration."""
    found_QA = np.full(asked.score_QA.shape, np.nan)
    for place, one in enumerate(asked.attributes):
        if one.key in calibration:
            found_QA[:, place] = calibration[one.key].probability(asked.score_QA[:, place])
    return found_QA


def score_attributes(
    asked: AttributeQueries,
    *,
    name: str,
    calibration: dict[str, Platt] | None = None,
    prior_A: np.ndarray | None = None,
) -> Table:
    """Shares of right answers, of pictures alone and with a category; calibration error by key.

    ``value/KEY``: of the queries under which the key has a true value, the share whose highest
    score among the key's values is a true one. ``precision@5``: of the five highest scores of all,
    the share that is true. ``kind@5``: of the five highest under keys that not nearly everything
    has, as it has a colour, the share whose key the things asked about have.

    Args:
        calibration: orders attributes of different keys by probability; by cosine without.
        prior_A: how common each attribute is, for chance: always the commonest.
    """
    order_QA = asked.score_QA if calibration is None else probabilities(asked, calibration)
    order_QA = np.where(np.isnan(order_QA), -np.inf, order_QA)
    prior_A = asked.true_QA.mean(axis=0) if prior_A is None else prior_A
    with_category = np.asarray([bool(one) for one in asked.categories])
    groups = {
        "alone": ~with_category,
        "category": with_category,
        "several/alone": ~with_category & asked.several,
        "several/category": with_category & asked.several,
    }
    scores: list[Score] = []
    for group, rows in groups.items():
        if rows.any():
            scores += _of_group(group, asked, rows, order_QA, prior_A)
    if calibration is not None:
        scores += _errors(asked, calibration)
    return Table(
        task="attributes",
        title="Attributes of things in pictures",
        protocol=(
            f"{len(asked.categories):,} questions about pictures of {name}: each alone, and with "
            "the name of every category that something in it falls under. value: the best value "
            f"of a key is true. precision@{_TOP}: of the {_TOP} best attributes, those that are "
            f"true. kind@{_TOP}: of the {_TOP} best under keys that less than {_COMMON:.0%} of "
            "questions have, those whose key the things asked about have. several: pictures of "
            "several things. chance: the commonest attributes, whatever the picture."
        ),
        scores=tuple(scores),
        facts={"queries": len(asked.categories), "attributes": len(asked.attributes)},
    )


def _of_group(
    group: str,
    asked: AttributeQueries,
    rows: np.ndarray,
    order_QA: np.ndarray,
    prior_A: np.ndarray,
) -> list[Score]:
    keys = np.asarray([one.key for one in asked.attributes])
    true_QA = asked.true_QA[rows]
    kind_QA = np.zeros_like(true_QA)
    for key in dict.fromkeys(keys.tolist()):
        columns = keys == key
        kind_QA[:, columns] = true_QA[:, columns].any(axis=1, keepdims=True)

    def at_top(score_QA: np.ndarray, what_QA: np.ndarray) -> float:
        best_QT = np.argsort(-score_QA, axis=1, kind="stable")[:, :_TOP]
        return float(np.take_along_axis(what_QA, best_QT, axis=1).mean())

    blind_QA = np.broadcast_to(prior_A, true_QA.shape)
    scores = [
        Score(
            name=f"{group}/precision@{_TOP}",
            value=at_top(order_QA[rows], true_QA),
            chance=at_top(blind_QA, true_QA),
        )
    ]
    # A key that nearly everything has says nothing of kinds.
    own_A = kind_QA.mean(axis=0) < _COMMON
    some = kind_QA[:, own_A].any(axis=1)
    if some.any():
        kinds = kind_QA[some][:, own_A]
        scores.append(
            Score(
                name=f"{group}/kind@{_TOP}",
                value=at_top(order_QA[rows][some][:, own_A], kinds),
                chance=at_top(blind_QA[some][:, own_A], kinds),
            )
        )
    values = []
    for key in dict.fromkeys(keys.tolist()):
        columns = np.flatnonzero(keys == key)
        has_one = true_QA[:, columns].any(axis=1)
        if len(columns) < 2 or not has_one.any():
            continue
        truth = true_QA[has_one][:, columns]
        best = asked.score_QA[rows][has_one][:, columns].argmax(axis=1)
        values.append(
            Score(
                name=f"{group}/value/{key}",
                value=float(truth[np.arange(len(best)), best].mean()),
                chance=float(truth[:, prior_A[columns].argmax()].mean()),
            )
        )
    if values:
        mean = [
            float(np.mean([getattr(one, field) for one in values])) for field in ("value", "chance")
        ]
        scores.append(Score(name=f"{group}/value", value=mean[0], chance=mean[1]))
    return scores + values


def _errors(asked: AttributeQueries, calibration: dict[str, Platt]) -> list[Score]:
    """How far probabilities are from truths, by key, and over all that have one."""
    keys = np.asarray([one.key for one in asked.attributes])
    probability_QA = probabilities(asked, calibration)
    known_A = np.asarray([key in calibration for key in keys])
    if not known_A.any():
        return []
    errors = [
        Score(
            name="calibration_error",
            value=expected_calibration_error(
                probability_QA[:, known_A].ravel(), asked.true_QA[:, known_A].ravel()
            ),
        )
    ]
    for key in calibration:
        columns = keys == key
        if columns.any():
            error = expected_calibration_error(
                probability_QA[:, columns].ravel(), asked.true_QA[:, columns].ravel()
            )
            errors.append(Score(name=f"calibration_error/{key}", value=error))
    return errors
