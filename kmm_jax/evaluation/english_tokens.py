"""English as tables of COCO count it: Penn Treebank tokens in lower case, without punctuation."""

from __future__ import annotations

import re

# As pycocoevalcap lists them. It lists brackets too, but as -LRB- and the like, which its
# lower-cased tokens never equal: so there -lrb- is counted as a word, and here.
_REMOVED = frozenset(('"', "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
_BRACKETS = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
}  # fmt: skip
_SAME = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "--", "\u2014": " -- ",
     "\u2026": "...", "£": "#", "€": "$", "½": "1/2", "¼": "1/4", "¾": "3/4"}
)  # fmt: skip
_ENTITIES = re.compile(r"&(amp|lt|gt|quot|apos);")
_ENTITY = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

_ABBREVIATIONS = (
    "mr mrs ms dr prof st jr sr vs etc inc ltd co corp assn bros mt ave blvd rd gen brig col capt "
    "cmdr lt sgt maj sen sens rep gov rev hon jan feb mar apr jun jul aug sep sept oct nov dec wed "
    "colo calif fla wis ph\\.d"
).replace(" ", "|")
# Two words that are written as one.
_JOINED = re.compile(
    r"\b(can)(not)\b|\b(gon|wan|got)(na|ta)\b|\b(lem|gim)(me)\b|(?<!\w)('t)(is|was)\b"
)
_AND = re.compile(r"(?<=\w)&(?=\w)(?<![A-Z]&(?=[A-Z]))")
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))(?!\w)")
_TOKEN = re.compile(
    rf"""
    https?://\S*[\w/] | www\.\S+ | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | -lrb-
    | @\w+
    | (?:[a-z]\.)+[a-z](?:\.|\b)(?:-\w+)*         # u.s., p.m., u.s.-led
    | \b[a-z]\.(?=\s+[a-z]|\d)                   # an initial
    | \b(?:{_ABBREVIATIONS})\.(?!\w)
    | \bno\.(?=\s*\d)
    | n't\b | '(?:s|m|d|ll|re|ve|t)\b | (?<!\w)'\d+s?\b
    | (?:[-+]|(?<!\S)\.)?\d+(?:[.,:/-]\d+)*\w*(?:[-/]\w+)*
    | \w+(?:(?:['./&]|-+)\w+)*
    | \.{{2,}} | -{{2,}} | [?!]+ | \*+ | `` | ''
    | \S
    """,
    re.VERBOSE,
)


def english_tokens(text: str) -> list[str]:
    """The tokens of one text, as pycocoevalcap's ``PTBTokenizer`` gives them.

    That is Stanford's tokenizer in Java; this one follows it in what captions hold: clitics apart
    (``dog 's``, ``does n't``), words with hyphens, slashes and points inside whole, numbers whole,
    abbreviations with their point; then lower case, and punctuation removed. It has not the rest of
    Stanford's rules and lists.
    """
    text = _ENTITIES.sub(lambda found: _ENTITY[found[1]], text).translate(_SAME)
    text = _AND.sub(" & ", text).lower()
    text = _JOINED.sub(lambda found: " ".join(filter(None, found.groups())), text)
    text = _CLITIC.sub(r" \1", text)
    tokens = (_BRACKETS.get(token, token) for token in _TOKEN.findall(text))
    return [token for token in tokens if token not in _REMOVED and set(token) - {"."}]
