"""A trained row, measured: each output of student and teacher, and what is deployed in full."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kmm_jax.evaluation.classes import named_classes
from kmm_jax.evaluation.evaluate import Plan, evaluate
from kmm_jax.evaluation.report import Table as Scores
from kmm_jax.inference.loading import load_model, read
from kmm_jax.models.oner.config import OneRConfig, Scored
from kmm_jax.tables.config import Measures, ZeroShot

if TYPE_CHECKING:
    from kmm_jax.inference.model import Model

Weights = Literal["params", "ema"]

_WHO: Mapping[Weights, str] = {"params": "student", "ema": "teacher"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """One way to use a trained model.

    Attributes:
        weights: the parameters, or the average that was their teacher.
        scored: the head's output that is a vector; None where there is no choice.
    """

    weights: Weights = "params"
    scored: Scored | None = None

    @property
    def name(self) -> str:
        """``student projector``, or ``model`` where there is but one."""
        return "model" if self.scored is None else f"{_WHO[self.weights]} {self.scored}"


def outputs(config: Any, *, taught: bool) -> tuple[Output, ...]:
    """The outputs of a row; the first is what ``kmm_jax.load`` gives."""
    if not isinstance(config, OneRConfig):
        return (Output(),)
    scored: list[Scored] = [config.head.scored]
    if config.head.predictor:
        scored.append("predictor" if scored[0] == "projector" else "projector")
    # The teacher has no predictor of its own: what its average of the student's gives means little.
    return (
        *(Output(scored=one) for one in scored),
        *((Output(weights="ema", scored="projector"),) if taught else ()),
    )


def models(run: Path, config: Any, *, taught: bool) -> Iterator[tuple[Output, Model]]:
    """The model of a run, used in each of these ways."""
    from kmm_jax.inference.model import Model

    made: dict[Scored, Model] = {}
    for output in outputs(config, taught=taught):
        if output.scored is None:
            yield output, load_model(run)
            continue
        exported = read(run, weights=output.weights)
        own = exported.config
        assert isinstance(own, OneRConfig)
        head = dataclasses.replace(own.head, scored=output.scored)
        exported = dataclasses.replace(exported, config=dataclasses.replace(own, head=head))
        if output.scored in made:  # other parameters, and nothing to compile again
            same = made[output.scored]
            yield output, same.with_params(exported.params, hash=exported.hash, step=exported.step)
            continue
        made[output.scored] = Model(
            exported.config,
            exported.params,
            exported.tokenizer,
            styled=exported.styled,
            hash=exported.hash,
            path=run,
            step=exported.step,
        )
        yield output, made[output.scored]


def measure(run: Path, measures: Measures, config: Any, *, taught: bool) -> dict[str, Any]:
    """Scores by output, then by task, then by name.

    Every output is classified with, searched with and has its gap measured; the first one, which is
    deployed, is probed and localises besides.
    """
    found: dict[str, Any] = {}
    for output, model in models(run, config, taught=taught):
        values = _basic(model, measures)
        if not found:
            values |= _deployed(model, measures)
        found[output.name] = values
    return found


def _basic(model: Model, measures: Measures) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for source in dict.fromkeys(one.source for one in measures.zero_shot):
        here = [one for one in measures.zero_shot if one.source == source]
        for candidates, lang in dict.fromkeys((one.candidates, one.lang) for one in here):
            those = [one for one in here if (one.candidates, one.lang) == (candidates, lang)]
            plan = Plan(
                classify=tuple((named_classes(one.classes, one.lang), one.label) for one in those),
                styles=("query",),
                candidates=candidates,
            )
            tables = evaluate(model, source, plan, limit=measures.limit).results.tables
            values |= {
                f"zero_shot/{name_of(one)}": _flat(table)
                for one, table in zip(those, tables, strict=True)
            }
    field = measures.retrieval.field
    plan = Plan(retrieval=((field, "query"),), modality_gap=((field, "query"),))
    found = evaluate(model, measures.retrieval.source, plan, limit=measures.limit)
    for table in found.results.tables:
        values[table.task] = _flat(table)
    return values


def _deployed(model: Model, measures: Measures) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if measures.probe is not None:
        plan = Plan(linear_probe=(measures.probe.label,), knn=(measures.probe.label,))
        found = evaluate(
            model,
            measures.probe.test,
            plan,
            limit=measures.limit,
            train_source=measures.probe.train,
            train_limit=measures.probe.train_limit,
        )
        for table in found.results.tables:
            values[table.task] = _flat(table)
    if measures.boxes is not None:
        plan = Plan(localisation=(("full", "query"),))
        for table in evaluate(model, measures.boxes, plan, limit=measures.limit).results.tables:
            values[table.task] = _flat(table)
    return values


def name_of(one: ZeroShot) -> str:
    """A zero-shot set's short name: its label, and its language where that is not Korean."""
    return one.label if one.lang == "ko" else f"{one.label} ({one.lang})"


def _flat(table: Scores) -> dict[str, Any]:
    return {"protocol": table.protocol, **dict(table.metrics())}
