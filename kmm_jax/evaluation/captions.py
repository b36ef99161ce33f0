"""Captions against the texts of their records: BLEU-4, CIDEr-D, chrF, exact matches, mentions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.evaluation.bleu import bleu
from kmm_jax.evaluation.chrf import chrf
from kmm_jax.evaluation.cider import cider_d
from kmm_jax.evaluation.classes import Classes, named_classes
from kmm_jax.evaluation.dataset import EvaluationData, EvaluationSet, check_data, encode
from kmm_jax.evaluation.encoders import Functions, style_name
from kmm_jax.evaluation.mentions import finder, mention_rates
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.evaluation.zero_shot import truths
from kmm_jax.text.normalize import normalize
from kmm_jax.text.styles import Style

_METRICS = ("bleu4", "cider_d", "chrf", "exact")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mention:
    """Count captions that name the true class of a label, by the words of these classes."""

    label: str
    classes: str | Classes


def score_texts(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """``bleu4``, ``cider_d`` (0 to 10), ``chrf`` and ``exact`` (equal to a reference, normalised).

    Args:
        references: at least one text for each caption.

    Raises:
        ValueError: no caption, not one entry per caption, or a caption without a reference.
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError("give at least one caption, and at least one reference for each")
    equal = [
        normalize(caption) in {normalize(text) for text in texts}
        for caption, texts in zip(captions, references, strict=True)
    ]
    return {
        "bleu4": bleu(captions, references),
        "cider_d": cider_d(captions, references),
        "chrf": chrf(captions, references),
        "exact": sum(equal) / len(equal),
    }


def score_captions(rows: EvaluationSet, *, field: str, mentions: Sequence[Mention] = ()) -> Table:
    """Score the set's captions, in each style they were made in, against the texts in ``field``.

    Chance of the four metrics is the same captions dealt to other rows (one fixed shuffle); chance
    of a mention is the exact mean over all dealings.

    Raises:
        ConfigError: no such field, or the set holds no captions.
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
    for style, captions in rows.captions.items():
        found = [captions[row] for row in which]
        real = score_texts(found, references)
        shuffled = score_texts([found[i] for i in dealt], references)
        scores += [
            Score(
                name=f"{style_name(style)}/{metric}",
                value=real[metric],
                chance=shuffled[metric],
                share=metric != "cider_d",
            )
            for metric in _METRICS
        ]
        scores += [_mentioned(rows, captions, style, mention) for mention in mentions]
    left_out = len(rows.rows) - len(which)
    return Table(
        task="captions",
        title=f"Captions: {field}",
        protocol=(
            f"{len(which):,} images of {rows.name}"
            + (f" ({left_out:,} without a {field} left out)" if left_out else "")
            + f" against all their {field} texts; words between spaces and punctuation, no "
            "analyser; bleu4: corpus, unsmoothed; cider_d: 0 to 10, frequencies of these "
            "references; chrf: chrF2; exact: equal to a reference. chance: the same captions dealt "
            "to other images."
        ),
        scores=tuple(scores),
        facts={"images": len(which)},
    )


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
    """

    name: str = "captions"
    every: str = "20%"
    data: EvaluationData
    field: str = "caption"
    styles: tuple[Style | None, ...] = ("prompt",)
    mentions: tuple[Mention, ...] = ()

    def check(self) -> None:
        """Refuse a field that there is not, or that no row of the data has."""
        check_data(self.data, lambda rows: rows.texts(self.field))

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, caption, and yield (name, value)."""
        if "caption" not in functions:
            return
        _, rows = encode(self.data, functions, params, caption_styles=self.styles, vectors=False)
        table = score_captions(rows, field=self.field, mentions=self.mentions)
        for name, value in table.metrics():
            yield f"{self.name}/{name}", value
