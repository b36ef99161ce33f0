"""Korean texts cut into morphemes by the analyser Kiwi (kiwipiepy, extra ``korean``)."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence
from typing import Any

from kmm_jax.errors import require
from kmm_jax.text.normalize import normalize

# Of Kiwi's tags, those of symbols that are punctuation; letters of other scripts (SL, SH), digits
# (SN) and what is neither (SW: an emoticon, a sign of currency) are not.
PUNCTUATION = frozenset({"SF", "SP", "SS", "SSO", "SSC", "SE", "SO", "SB"})

# What a text is about: nouns, verbs and adjectives, roots, determiners, letters, digits, addresses.
# Left out are particles (J), endings (E), affixes (X, but roots), auxiliaries (VX, VC) and signs.
_CONTENT = frozenset(
    {"NNG", "NNP", "NNB", "NR", "NP", "VV", "VA", "XR", "MM", "SL", "SH", "SN"}
    | {"W_URL", "W_EMAIL", "W_HASHTAG", "W_MENTION", "W_SERIAL"}
)


@functools.cache
def analyser() -> Any:
    """The analyser; its model takes seconds to load.

    Raises:
        UserError: kiwipiepy is not installed.
    """
    return require("kiwipiepy", extra="korean").Kiwi()


def version() -> str:
    """Of the installed analyser."""
    return importlib.metadata.version("kiwipiepy")


def tagged(texts: Sequence[str]) -> list[list[tuple[str, str]]]:
    """The morphemes of each text, lower-cased, with their tags; a form holds no space."""
    return [
        # A name of several words is one form, and would be taken for several tokens later.
        [(part, token.tag) for token in tokens for part in token.form.lower().split()]
        for tokens in analyser().tokenize([normalize(text) for text in texts])
    ]


def content_words(texts: Sequence[str]) -> list[list[str]]:
    """What each text is about: its morphemes without particles, endings, affixes and signs.

    ``빨간 체크 셔츠를 입었어요`` gives ``빨갛 체크 셔츠 입``. Of verbs and adjectives the stem is
    left, so that all their forms are one word.
    """
    return [
        [form for form, tag in each if tag.partition("-")[0] in _CONTENT] for each in tagged(texts)
    ]
