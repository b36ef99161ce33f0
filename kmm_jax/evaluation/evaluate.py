"""A loaded model over one evaluation set: all that was asked for, in one pass over the images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kmm_jax.data.sources import open_source
from kmm_jax.errors import UserError
from kmm_jax.evaluation import captions, localisation, modality_gap, queries, retrieval
from kmm_jax.evaluation.box_targets import Phrase
from kmm_jax.evaluation.caption_metrics import METRICS
from kmm_jax.evaluation.caption_tokens import Tokenization, cutter
from kmm_jax.evaluation.classes import Classes
from kmm_jax.evaluation.dataset import EvaluationSet, read_set
from kmm_jax.evaluation.encoders import from_model
from kmm_jax.evaluation.java_metrics import JAVA_METRICS
from kmm_jax.evaluation.knn import knn
from kmm_jax.evaluation.labelled import Classified, labelled_rows
from kmm_jax.evaluation.probe import linear_probe
from kmm_jax.evaluation.questions import ask_questions, score_answers
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
        modality_gap: (field, style) of each modality gap.
        linear_probe, knn: the labels that a classifier learns from other rows' vectors.
        localisation: (what a thing is called by, style) of each localisation task.
        caption_field: the texts that captions are held against.
        caption_styles: caption in these styles; none for no captions.
        caption_method: how they are decoded, see :func:`kmm_jax.evaluation.encoders.from_model`.
        caption_tokenizer: how they and their references are cut; ``english`` asks for METEOR and
            SPICE as well.
        mentions: labels whose words are looked for in the captions.
        queries: the fields of queries that those made of the images are held against.
        questions: ask the records' questions.
    """

    classify: tuple[tuple[Classes, str], ...] = ()
    styles: tuple[Style | None, ...] = ("query",)
    candidates: Candidates = "all"
    retrieval: tuple[tuple[str, Style | None], ...] = ()
    modality_gap: tuple[tuple[str, Style | None], ...] = ()
    linear_probe: tuple[str, ...] = ()
    knn: tuple[str, ...] = ()
    localisation: tuple[tuple[Phrase, Style | None], ...] = ()
    caption_field: str = "caption"
    caption_styles: tuple[Style | None, ...] = ()
    caption_method: Method = "greedy"
    caption_tokenizer: Tokenization = "words"
    mentions: tuple[captions.Mention, ...] = ()
    queries: tuple[str, ...] = ()
    questions: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The tables, what was read, and the results behind them (for their matrices).

    Attributes:
        classified: each zero-shot result by label.
        learned: each learned classifier's by its task and label.
    """

    results: Results
    rows: EvaluationSet
    classified: Mapping[str, ZeroShotResult]
    learned: Mapping[tuple[str, str], Classified]


def evaluate(
    model: Model,
    source: str | os.PathLike[str],
    plan: Plan,
    *,
    limit: int | None = None,
    train_source: str | os.PathLike[str] | None = None,
    train_limit: int | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure what ``plan`` says on the first ``limit`` rows of ``source``.

    Args:
        train_source, train_limit: where, and from how many first rows, ``plan.linear_probe`` and
            ``plan.knn`` learn.

    Raises:
        UserError: captions, queries or answers are asked of a model that has no decoder, or a
            learned classifier is asked for without a ``train_source``.
        DataError: the source cannot be read, or lacks a label or a field the plan names.
    """
    encoder = from_model(model, batch_size=batch_size, caption_method=plan.caption_method)
    for name, asked in (
        ("captions", plan.caption_styles),
        ("queries", plan.queries),
        ("questions", plan.questions),
    ):
        if asked and encoder.caption is None:
            raise UserError(f"{model.path} cannot caption; leave {name} out or use a CoCa")
    if plan.caption_styles:
        cutter(plan.caption_tokenizer)  # a missing analyser is said before pictures are captioned
    if train_source is None and (plan.linear_probe or plan.knn):
        raise UserError("linear_probe and knn learn from a source of their own; give train_source")
    if train_source is not None:
        open_source(train_source)  # one that is not there is refused before pictures are embedded
    if not model.styled:
        plan = dataclasses.replace(
            plan,
            styles=(None,),
            retrieval=tuple((field, None) for field, _ in plan.retrieval),
            modality_gap=tuple((field, None) for field, _ in plan.modality_gap),
            localisation=tuple((phrase, None) for phrase, _ in plan.localisation),
            caption_styles=(None,) if plan.caption_styles else (),
        )
    query_style: Style | None = "query" if model.styled else None
    made_in = (*plan.caption_styles, *((query_style,) if plan.queries else ()))
    rows = read_set(
        source,
        encoder,
        image_size=model.image_size,
        batch_size=batch_size,
        limit=limit,
        caption_styles=made_in,
        vectors=bool(
            plan.classify or plan.retrieval or plan.modality_gap or plan.linear_probe or plan.knn
        ),
        progress=progress,
    )
    trained = None
    if train_source is not None:
        for label in (*plan.linear_probe, *plan.knn):
            rows.labels(label)
        trained = read_set(
            train_source,
            encoder,
            image_size=model.image_size,
            batch_size=batch_size,
            limit=train_limit,
            progress=progress,
        )
    classified = {
        label: zero_shot(
            encoder, rows, classes, label=label, styles=plan.styles, candidates=plan.candidates
        )
        for classes, label in plan.classify
    }
    learned = _learned(trained, rows, plan) if trained is not None else {}
    tables: list[Table] = [result.table for result in classified.values()]
    tables += [result.table for result in learned.values()]
    for field, style in plan.retrieval:
        tables.append(retrieval.retrieval(encoder, rows, field=field, style=style)[0])
    for field, style in plan.modality_gap:
        tables.append(modality_gap.gap_table(encoder, rows, field=field, style=style)[0])
    for phrase, style in plan.localisation:
        table, _ = localisation.localisation(
            encoder,
            source,
            image_size=model.image_size,
            batch_size=batch_size,
            phrase=phrase,
            style=style,
            limit=limit,
            progress=progress,
        )
        tables.append(table)
    if plan.caption_styles:
        captioned = dataclasses.replace(
            rows, captions={style: rows.captions[style] for style in plan.caption_styles}
        )
        table = captions.score_captions(
            captioned,
            field=plan.caption_field,
            mentions=plan.mentions,
            metrics=(*METRICS, *JAVA_METRICS) if plan.caption_tokenizer == "english" else METRICS,
            tokenizer=plan.caption_tokenizer,
        )
        decoded = f"Captions decoded by {_DECODING[plan.caption_method]}: "
        tables.append(dataclasses.replace(table, protocol=decoded + table.protocol))
    for field in plan.queries:
        tables.append(
            queries.score_queries(
                rows, lambda texts: encoder.text(texts, query_style), style=query_style, field=field
            )
        )
    if plan.questions:
        answered = ask_questions(
            source,
            encoder,
            image_size=model.image_size,
            batch_size=batch_size,
            limit=limit,
            progress=progress,
        )
        tables.append(score_answers(answered, name=rows.name))
    about = {
        "model": str(model.path),
        "model_hash": model.hash,
        **({} if model.step is None else {"step": model.step}),
        "source": rows.name,
        "rows": len(rows.rows),
        "bad_rows": rows.bad_rows,
        "image_size": model.image_size,
    }
    if trained is not None:
        about |= {
            "train_source": trained.name,
            "train_rows": len(trained.rows),
            "train_bad_rows": trained.bad_rows,
        }
    return Evaluation(
        results=Results(about=about, tables=tuple(tables)),
        rows=rows,
        classified=classified,
        learned=learned,
    )


def _learned(
    trained: EvaluationSet, rows: EvaluationSet, plan: Plan
) -> dict[tuple[str, str], Classified]:
    found: dict[tuple[str, str], Classified] = {}
    methods = (("linear_probe", linear_probe, plan.linear_probe), ("knn", knn, plan.knn))
    for task, method, labels in methods:
        for label in labels:
            those = labelled_rows(trained, rows, label)
            found[task, label] = method(
                those.train_NE,
                those.train_labels,
                those.test_ME,
                those.test_labels,
                label=label,
                said=those.said,
            )
    return found


def confusion_name(label: str, answered: str) -> str:
    """The file name of a confusion picture; ``answered`` is a style's name or a learned task."""
    return f"confusion-{label}-{answered}.png"
