"""Korean for a byte-level BPE that was made for English, such as OpenAI's CLIP.

To such a tokenizer a Hangul syllable is its three bytes. New merges are appended to its own, and
their pieces to its vocabulary: what the old merges do happens first and as before, and every new
piece holds bytes that only Hangul is written with, so all other text keeps the ids that a model was
trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer as Backend

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.text.adopted import byte_letters
from kmm_jax.text.merges import Word, count_words, learn_merges
from kmm_jax.text.tokenizer import Tokenizer

_END_OF_WORD = "</w>"
_HANGUL = re.compile("[가-힣ㄱ-ㅎㅏ-ㅣ]+")

# What begins a character of U+AC00 to U+D7FF (syllables, and a few old jamo), or is one of the
# letters ㄱ to ㆎ. A piece without any of it could also be the middle of a Chinese character.
_BYTES_OF_HANGUL = re.compile(
    rb"[\xeb-\xed]|\xea[\xb0-\xbf]|\xe3(?:\x84[\xb1-\xbf]|\x85|\x86[\x80-\x8e])"
)


def extend(tokenizer: Tokenizer, texts: Iterable[str], *, new_tokens: int) -> Tokenizer:
    """``tokenizer`` with at most ``new_tokens`` more, learned on the Hangul words of ``texts``.

    Ids go on after the highest there is; marks, and all text without Hangul, keep theirs. The same
    texts give the same bytes. Few distinct words may give fewer tokens.

    Raises:
        ConfigError: ``new_tokens`` is not positive.
        DataError: the texts hold no word in Hangul that occurs twice.
        UserError: ``tokenizer`` is no byte-level BPE that marks the ends of words.
    """
    if new_tokens < 1:
        raise ConfigError(f"new_tokens is {new_tokens}; give how many to add, for example 16000")
    file = _file(tokenizer)
    vocabulary: dict[str, int] = file["model"]["vocab"]
    merges = learn_merges(
        _hangul_words(Backend.from_str(json.dumps(file)), texts),
        new_tokens,
        taken=vocabulary,
        allowed=_only_in_hangul,
    )
    if not merges:
        raise DataError(
            "the texts hold no word in Hangul, or each only once: nothing can be learned from "
            "them; give Korean texts, some thousands of lines at least"
        )
    highest = max([*vocabulary.values(), *(token["id"] for token in file["added_tokens"])])
    for number, (left, right) in enumerate(merges, start=highest + 1):
        vocabulary[left + right] = number
    file["model"]["merges"] += [list(pair) for pair in merges]
    return Tokenizer(str(Backend.from_str(json.dumps(file)).to_str(pretty=True)))


def parts(extended: Tokenizer, base: Tokenizer) -> dict[int, tuple[int, ...]]:
    """Each id that ``extended`` has beyond ``base``, with the ids of ``base`` that it stands for.

    The mean of their embeddings is where the embedding of a new token begins well.

    Raises:
        UserError: ``extended`` was not made from ``base``.
    """
    old, new = _file(base)["model"], _file(extended)["model"]
    count = len(old["merges"])
    if new["merges"][:count] != old["merges"] or not old["vocab"].items() <= new["vocab"].items():
        raise UserError(f"{extended} was not made from {base}: their first ids and merges differ")
    known: dict[str, tuple[int, ...]] = {piece: (number,) for piece, number in old["vocab"].items()}
    for left, right in new["merges"][count:]:
        known[left + right] = known[left] + known[right]
    return {
        number: known[piece] for piece, number in new["vocab"].items() if piece not in old["vocab"]
    }


def _file(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``tokenizer.json`` in the form that the backend writes today."""
    file: dict[str, Any] = json.loads(Backend.from_str(tokenizer.json).to_str())
    model = file["model"]
    if (
        model["type"] != "BPE"
        or model["end_of_word_suffix"] != _END_OF_WORD
        or not tokenizer.byte_level
    ):
        raise UserError(
            f"{tokenizer} is no byte-level BPE that ends words with {_END_OF_WORD}, as CLIP's is: "
            "only such a tokenizer can be extended; for others train one with "
            "`kmm tokenizer train`"
        )
    return file


def _hangul_words(backend: Backend, texts: Iterable[str]) -> dict[Word, int]:
    """The words of ``texts`` in Hangul alone, as the tokenizer cuts them so far."""
    words = count_words(texts, backend.normalizer, backend.pre_tokenizer)
    return {
        tuple(token.value for token in backend.model.tokenize(word)): count
        for word, count in words.items()
        if _HANGUL.fullmatch(_bytes(word).decode("utf-8", "replace"))
    }


def _only_in_hangul(piece: str) -> bool:
    return _BYTES_OF_HANGUL.search(_bytes(piece.removesuffix(_END_OF_WORD))) is not None


def _bytes(piece: str) -> bytes:
    letters = byte_letters()
    return bytes(letters[letter] for letter in piece)
