"""Every metric of captions by its name: its statistics, for a score or for resamples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kmm_jax.errors import ConfigError, nearest
from kmm_jax.evaluation.bleu import bleu_statistics
from kmm_jax.evaluation.caption_statistics import Statistics, Tokens, mean_of
from kmm_jax.evaluation.caption_tokens import Tokenization, cutter
from kmm_jax.evaluation.chrf import chrf_statistics
from kmm_jax.evaluation.cider import cider_d_statistics
from kmm_jax.evaluation.java_metrics import JAVA_METRICS, java_statistics
from kmm_jax.evaluation.rouge import rouge_l_statistics
from kmm_jax.text.normalize import normalize

_BLEU = ("bleu1", "bleu2", "bleu3", "bleu4")
METRICS = (*_BLEU, "rouge_l", "cider_d", "chrf", "exact")
"""What is measured wherever this library runs; ``JAVA_METRICS`` are the others."""

_OF_TOKENS: dict[str, Callable[[Sequence[Tokens], Sequence[Sequence[Tokens]]], Statistics]] = {
    "rouge_l": rouge_l_statistics,
    "cider_d": cider_d_statistics,
}


def caption_metrics(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    metrics: Sequence[str] = METRICS,
    tokenizer: Tokenization = "words",
) -> dict[str, Statistics]:
    """The statistics of each metric; ``corpus`` of one is its score, ``resampled`` that of many.

    ``bleu1`` to ``bleu4``, ``rouge_l`` and ``cider_d`` (0 to 10) are pycocoevalcap's Bleu, Rouge
    and CIDEr of the tokens; ``chrf`` and ``exact`` (equal to a reference, normalised) take texts as
    they are; ``meteor`` and ``spice`` see :func:`java_statistics`.

    Args:
        references: at least one text for each caption.
        tokenizer: how texts are cut, see :func:`kmm_jax.evaluation.caption_tokens.cutter`.

    Raises:
        ValueError: no caption, not one entry per caption, or a caption without a reference.
        ConfigError: no such metric or tokenizer; METEOR or SPICE of another language than English.
        UserError: what a metric or the tokenizer needs is not installed.
    """
    if not captions or len(captions) != len(references) or not all(references):
        raise ValueError("give at least one caption, and at least one reference for each")
    known = (*METRICS, *JAVA_METRICS)
    for name in metrics:
        if name not in known:
            raise ConfigError(f"no metric of captions {name!r}{nearest(name, known)}")
        if name in JAVA_METRICS and tokenizer != "english":
            raise ConfigError(f"{name} knows English alone; take the tokenizer english with it")
    found: dict[str, Statistics] = {}
    if set(metrics) - {"chrf", "exact"}:
        cut = cutter(tokenizer).cut
        ours = cut(captions)
        flat = iter(cut([text for texts in references for text in texts]))
        theirs = [[next(flat) for _ in texts] for texts in references]
        if set(metrics) & set(_BLEU):
            found |= zip(_BLEU, bleu_statistics(ours, theirs), strict=True)
        for name, statistics in _OF_TOKENS.items():
            if name in metrics:
                found[name] = statistics(ours, theirs)
        for java in JAVA_METRICS:
            if java in metrics:
                found[java] = java_statistics(java, ours, theirs)
    if "chrf" in metrics:
        found["chrf"] = chrf_statistics(captions, references)
    if "exact" in metrics:
        found["exact"] = _exact(captions, references)
    return {name: found[name] for name in metrics}


def _exact(captions: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
    return mean_of(
        [
            float(normalize(caption) in {normalize(text) for text in texts})
            for caption, texts in zip(captions, references, strict=True)
        ]
    )
