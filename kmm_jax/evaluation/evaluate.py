"""A loaded model over one evaluation set: all that was asked for, in one pass over the images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kmm_jax.errors import UserError
from kmm_jax.evaluation import captions, retrieval
from kmm_jax.evaluation.classes import Classes
from kmm_jax.evaluation.dataset import EvaluationSet, read_set
from kmm_jax.evaluation.encoders import from_model, style_name
from kmm_jax.evaluation.report import Results, Table
from kmm_jax.evaluation.zero_shot import Candidates, ZeroShotResult, zero_shot
from kmm_jax.text.styles import Style

if TYPE_CHECKING:
    from kmm_jax.inference.model import Method, Model

_DECODING: Mapping[Method, str] = {
    "greedy": "greedy search",
    "beam": "beam search",
    "nucleus": "nucleus sampling",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure. A model without style tokens answers every style alike, as ``plain``.

    Attributes:
        classify: (classes, label) of each zero-shot task.
        styles: of the zero-shot sentences.
        candidates: choose among all classes, or only those that occur.
        retrieval: (field, style) of each retrieval task.
        caption_field: the texts that captions are held against.
        caption_styles: caption in these styles; none for no captions.
        caption_method: how they are decoded, see :func:`kmm_jax.evaluation.encoders.from_model`.
        mentions: labels whose words are looked for in the captions.
    """

    classify: tuple[tuple[Classes, str], ...] = ()
    styles: tuple[Style | None, ...] = ("query",)
    candidates: Candidates = "all"
    retrieval: tuple[tuple[str, Style | None], ...] = ()
    caption_field: str = "caption"
    caption_styles: tuple[Style | None, ...] = ()
    caption_method: Method = "greedy"
    mentions: tuple[captions.Mention, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The tables, what was read, and each zero-shot result by label (for its matrices)."""

    results: Results
    rows: EvaluationSet
    classified: Mapping[str, ZeroShotResult]


def evaluate(
    model: Model,
    source: str | os.PathLike[str],
    plan: Plan,
    *,
    limit: int | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure what ``plan`` says on the first ``limit`` rows of ``source``.

    Raises:
        UserError: captions are asked of a model that has no decoder.
        DataError: the source cannot be read, or lacks a label or a field the plan names.
    """
    encoder = from_model(model, batch_size=batch_size, caption_method=plan.caption_method)
    if plan.caption_styles and encoder.caption is None:
        raise UserError(f"{model.path} cannot caption; leave captions out or use a CoCa")
    if not model.styled:
        plan = dataclasses.replace(
            plan,
            styles=(None,),
            retrieval=tuple((field, None) for field, _ in plan.retrieval),
            caption_styles=(None,) if plan.caption_styles else (),
        )
    rows = read_set(
        source,
        encoder,
        image_size=model.image_size,
        batch_size=batch_size,
        limit=limit,
        caption_styles=plan.caption_styles,
        vectors=bool(plan.classify or plan.retrieval),
        progress=progress,
    )
    classified = {
        label: zero_shot(
            encoder, rows, classes, label=label, styles=plan.styles, candidates=plan.candidates
        )
        for classes, label in plan.classify
    }
    tables: list[Table] = [result.table for result in classified.values()]
    for field, style in plan.retrieval:
        tables.append(retrieval.retrieval(encoder, rows, field=field, style=style)[0])
    if plan.caption_styles:
        table = captions.score_captions(rows, field=plan.caption_field, mentions=plan.mentions)
        decoded = f"Captions decoded by {_DECODING[plan.caption_method]}: "
        tables.append(dataclasses.replace(table, protocol=decoded + table.protocol))
    about = {
        "model": str(model.path),
        "model_hash": model.hash,
        **({} if model.step is None else {"step": model.step}),
        "source": rows.name,
        "rows": len(rows.rows),
        "bad_rows": rows.bad_rows,
        "image_size": model.image_size,
    }
    return Evaluation(
        results=Results(about=about, tables=tuple(tables)), rows=rows, classified=classified
    )


def confusion_name(label: str, style: Style | None) -> str:
    """The file name of a confusion picture."""
    return f"confusion-{label}-{style_name(style)}.png"
