"""How a tokenizer is made: a byte-fallback BPE that no text, Korean or other, can defeat.

Text is normalised, a space is put in front, and it is cut into words (each with the space before
it), numbers and single marks. The space stays a space inside the pieces: a stand-in such as
U+2581 could not be told from the same character in somebody's text. Characters too rare for a piece
of their own are written as their UTF-8 bytes, ``<0x00>`` to ``<0xFF>``.

Letters and marks are never in one piece, so no merge can spell ``<0x41>`` or ``[EOS]``: what
somebody types cannot become a byte token or a special token.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, repeat

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.text.merges import count_words
from kmm_jax.text.normalize import INVISIBLE, SPACES

SPECIAL_TOKENS = ("[PAD]", "[BOS]", "[EOS]", "[CLS]", "[PROMPT]", "[QUERY]", "[SHOPPING]")
"""The special tokens; their position is their id."""

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))

_FIXED = len(SPECIAL_TOKENS) + len(BYTE_TOKENS)

MINIMUM_VOCABULARY = 300
"""The special and byte tokens, and a few pieces: less is a mistake in the number."""

_WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^ \p{L}\p{M}\p{N}]| "

# A character seen once teaches nothing about its own embedding; its bytes are shared.
_MINIMUM_COUNT = 2


def train_backend(texts: Iterable[str], vocab_size: int) -> Backend:
    """A byte-fallback BPE with at most ``vocab_size`` tokens; the same texts give the same bytes.

    Memory grows with the number of distinct words, not with the number of texts.

    Raises:
        ConfigError: ``vocab_size`` leaves no room for pieces.
        DataError: there is no text.
    """
    if vocab_size < MINIMUM_VOCABULARY:
        raise ConfigError(
            f"vocab_size is {vocab_size}, but {_FIXED} tokens are taken ({len(SPECIAL_TOKENS)} "
            f"special, 256 bytes): give at least {MINIMUM_VOCABULARY}, for example 8000"
        )
    words = count_words(texts, _normalizer(), _pre_tokenizer())
    if not words:
        raise DataError("no text to train a tokenizer on: every text given is empty")
    model = _train_model(words, vocab_size)
    return _pipeline(models.BPE(vocab=model[0], merges=model[1], byte_fallback=True))


def _alphabet(words: Counter[str], budget: int) -> list[str]:
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    frequent = [item for item in counts.items() if item[1] >= _MINIMUM_COUNT]
    # Ties are broken by code point: the trainer's own limit breaks them by chance.
    frequent.sort(key=lambda item: (-item[1], item[0]))
    return sorted(character for character, _ in frequent[:budget])


def _train_model(
    words: Counter[str], vocab_size: int
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    # Single characters take at most half of what is free, so that merges always have room.
    alphabet = _alphabet(words, (vocab_size - _FIXED) // 2)
    bare = Backend(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MINIMUM_COUNT,
        show_progress=False,
        special_tokens=[*SPECIAL_TOKENS, *BYTE_TOKENS],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
    )
    # The words are cut already and the backend here has no steps of its own: one text, one word.
    bare.train_from_iterator(
        chain.from_iterable(repeat(word, count) for word, count in sorted(words.items())), trainer
    )
    model = json.loads(bare.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def _pipeline(model: models.BPE) -> Backend:
    backend = Backend(model)
    backend.normalizer = _normalizer()
    backend.pre_tokenizer = _pre_tokenizer()
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # Only these are special; were the bytes special too, decoding would drop them.
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return backend


def _normalizer() -> normalizers.Normalizer:
    """The steps of :func:`kmm_jax.text.normalize.normalize`, then one space in front."""
    return normalizers.Sequence(
        [
            normalizers.Replace(Regex(f"[{_backend_class(INVISIBLE)}]"), ""),
            normalizers.NFC(),
            normalizers.Replace(Regex(f"[{_backend_class(SPACES)}]+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),
        ]
    )


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(_WORDS), "isolated")


def _backend_class(ranges: Sequence[tuple[int, int]]) -> str:
    return "".join(f"\\x{{{low:X}}}-\\x{{{high:X}}}" for low, high in ranges)
