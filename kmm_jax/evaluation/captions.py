"""Captions against the texts of their records: BLEU, ROUGE-L, CIDEr-D, chrF, mentions and more."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kmm_jax.errors import ConfigError, UserError
from kmm_jax.evaluation.caption_metrics import METRICS, caption_metrics
from kmm_jax.evaluation.caption_tokens import Tokenization, cutter
from kmm_jax.evaluation.classes import Classes, named_classes
from kmm_jax.evaluation.dataset import EvaluationData, EvaluationSet, check_data, encode
from kmm_jax.evaluation.encoders import Functions, style_name
from kmm_jax.evaluation.java_metrics import JAVA_METRICS, missing
from kmm_jax.evaluation.mentions import finder, mention_rates
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.evaluation.zero_shot import truths
from kmm_jax.text.styles import Style


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mention:
    """Count captions that name the true class of a label, by the words of these classes."""

    label: str
    classes: str | Classes


def score_texts(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = METRICS,
    tokenizer: Tokenization = "words",
) -> dict[str, float]:
    """Each metric over all captions; arguments and errors as of :func:`caption_metrics`."""
    found = caption_metrics(captions, references, metrics=metrics, tokenizer=tokenizer)
    return {name: statistics.corpus() for name, statistics in found.items()}


def score_captions(
    rows: EvaluationSet,
    *,
    field: str,
    mentions: Sequence[Mention] = (),
    metrics: Sequence[str] = METRICS,
    tokenizer: Tokenization = "words",
) -> Table:
    """Score the set's captions, in each style they were made in, against the texts in ``field``.

    Chance of the metrics is the same captions dealt to other rows (one fixed shuffle); chance of a
    mention is the exact mean over all dealings.

    Args:
        metrics: of :func:`caption_metrics`; of METEOR and SPICE, what is not there to measure them
            with is said instead.
        tokenizer: how texts are cut.

    Raises:
        ConfigError: no such field, metric or tokenizer, or the set holds no captions.
        UserError: the tokenizer needs a package that is not installed.
        DataError: no row has a text in the field, or none carries a label of ``mentions``.
    """
    if not rows.captions:
        raise ConfigError(
            f"no captions were made of {rows.name}; name the styles to caption in, and use a model "
            "that captions (configs/coca)"
        )
    every = rows.texts(field)
    which = [row for row, texts in enumerate(every) if texts]
    references = [every[row] for row in which]
    dealt = np.random.default_rng(0).permutation(len(which))
    scores: list[Score] = []
    unmeasured: dict[str, str] = {}
    for style, captions in rows.captions.items():
        found = [captions[row] for row in which]
        real, lacking = _measured(found, references, metrics, tokenizer)
        shuffled, _ = _measured([found[i] for i in dealt], references, tuple(real), tokenizer)
        unmeasured |= lacking
        scores += [
            Score(
                name=f"{style_name(style)}/{metric}",
                value=value,
                chance=shuffled.get(metric),
                share=metric != "cider_d",
            )
            for metric, value in real.items()
        ]
        scores += [_mentioned(rows, captions, style, mention) for mention in mentions]
    left_out = len(rows.rows) - len(which)
    return Table(
        task="captions",
        title=f"Captions: {field}",
        protocol=(
            f"{len(which):,} images of {rows.name}"
            + (f" ({left_out:,} without a {field} left out)" if left_out else "")
            + f" against all their {field} texts; tokenizer {tokenizer}: {cutter(tokenizer).says}; "
            "bleu, rouge_l and cider_d (0 to 10) as pycocoevalcap's Bleu, Rouge and CIDEr, with "
            "frequencies of these references; chrf: chrF2; exact: equal to a reference. "
            "chance: the same captions dealt to other images."
            + "".join(f" {name}: not measured: {why}." for name, why in unmeasured.items())
        ),
        scores=tuple(scores),
        facts={"images": len(which)},
    )


def _measured(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    tokenizer: Tokenization,
) -> tuple[dict[str, float], dict[str, str]]:
    """The scores, and why METEOR or SPICE could not be measured: no figure is lost for theirs."""
    own = [name for name in metrics if name not in JAVA_METRICS]
    scores = score_texts(captions, references, metrics=own, tokenizer=tokenizer)
    unmeasured: dict[str, str] = {}
    for name in (name for name in JAVA_METRICS if name in metrics):
        try:
            scores |= score_texts(captions, references, metrics=(name,), tokenizer=tokenizer)
        except ConfigError:
            raise
        except UserError as error:
            unmeasured[name] = missing(name) or str(error)
    return scores, unmeasured


def _mentioned(
    rows: EvaluationSet, captions: Sequence[str], style: Style | None, mention: Mention
) -> Score:
    classes = mention.classes
    if isinstance(classes, str):
        classes = named_classes(classes)
    which, truth_N = truths(rows, classes, mention.label)
    find = finder(classes.words())
    share, chance = mention_rates([find(captions[row]) for row in which], truth_N)
    return Score(name=f"{style_name(style)}/mentions_{mention.label}", value=share, chance=chance)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionEvaluator:
    """Captions while a model trains; yields nothing if the task gives no function ``caption``.

    Yields ``<name>/<style>/bleu4`` and so on (:func:`score_captions`), chance and counts included.

    Attributes:
        every: a duration (``"20%"``, ``"1000 steps"``).
        data: the evaluation set, and what the model takes.
        field: the record's field that captions are held against.
        styles: each is captioned and reported; ``(None,)`` for a model without style tokens.
        mentions: labels whose words are looked for in the captions.
        tokenizer: how texts are cut before they are counted.
    """

    name: str = "captions"
    every: str = "20%"
    data: EvaluationData
    field: str = "caption"
    styles: tuple[Style | None, ...] = ("prompt",)
    mentions: tuple[Mention, ...] = ()
    tokenizer: Tokenization = "words"

    def check(self) -> None:
        """Refuse a field that there is not or no row of the data has, and a missing analyser."""
        cutter(self.tokenizer)
        check_data(self.data, lambda rows: rows.texts(self.field))

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, caption, and yield (name, value)."""
        if "caption" not in functions:
            return
        _, rows = encode(self.data, functions, params, caption_styles=self.styles, vectors=False)
        table = score_captions(
            rows, field=self.field, mentions=self.mentions, tokenizer=self.tokenizer
        )
        for name, value in table.metrics():
            yield f"{self.name}/{name}", value
