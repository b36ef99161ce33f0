"""How texts are cut before their n-grams are counted: a named choice that tables print."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from kmm_jax.errors import ConfigError, nearest
from kmm_jax.evaluation.english_tokens import english_tokens
from kmm_jax.evaluation.ngrams import words
from kmm_jax.text import morphemes

Tokenization = Literal["words", "morphemes", "english"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextCutter:
    """Cuts texts into tokens.

    Attributes:
        says: what it does, as a table's protocol has it.
        cut: texts to the tokens of each.
    """

    name: Tokenization
    says: str
    cut: Callable[[Sequence[str]], list[list[str]]]


def cutter(name: Tokenization) -> TextCutter:
    """The way to cut texts of that name; scores of two ways do not compare.

    ``words``: lower case, between spaces and punctuation; Korean words whole with their particles.
    ``morphemes``: Korean morphemes of the analyser Kiwi, particles and endings as tokens of their
    own, punctuation removed, Latin letters lower-cased. ``english``: as pycocoevalcap cuts English,
    see :func:`english_tokens`.

    Raises:
        ConfigError: no such name.
        UserError: ``morphemes``, and kiwipiepy is not installed.
    """
    if name == "words":
        return TextCutter(
            name=name,
            says="words between spaces and punctuation, no analyser",
            cut=lambda texts: [words(text) for text in texts],
        )
    if name == "english":
        return TextCutter(
            name=name,
            says="English tokens in lower case without punctuation, as COCO's",
            cut=lambda texts: [english_tokens(text) for text in texts],
        )
    if name == "morphemes":
        morphemes.analyser()  # or say now that it is not installed
        return TextCutter(
            name=name,
            says=f"Korean morphemes of kiwipiepy {morphemes.version()} without punctuation",
            cut=lambda texts: [
                [form for form, tag in each if tag not in morphemes.PUNCTUATION]
                for each in morphemes.tagged(texts)
            ],
        )
    raise ConfigError(f"no tokenizer of captions {name!r}{nearest(name, get_args(Tokenization))}")
