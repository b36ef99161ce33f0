"""Tokenizers of CLIP's kind: one trained from nothing, and the folder that Stable Diffusion has.

Lower-cased bytes, ``</w>`` at the end of words, ``<|startoftext|>`` and ``<|endoftext|>`` around a
text, and the latter again as padding.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer as Backend

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.files import atomic_directory, write_json
from kmm_jax.text.adopted import END, START, byte_letters, openai_bpe
from kmm_jax.text.merges import Word, count_words, learn_merges
from kmm_jax.text.tokenizer import (
    CONFIG_NAME,
    FILE_NAME,
    MERGES_NAME,
    SPECIAL_NAME,
    VOCABULARY_NAME,
    Tokenizer,
    check_replaceable,
)

MINIMUM_VOCABULARY = 2 * 256 + 2
"""Bytes, bytes that end a word, and the two marks."""

TEXT_LENGTH = 77
"""Positions of the text encoders of CLIP and of Stable Diffusion."""


def train_clip_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer of CLIP's kind with at most ``vocab_size`` tokens, learned on ``texts``.

    Tokens are numbered as OpenAI's: bytes, bytes that end a word, merges, start, end. The same
    texts give the same bytes; few distinct texts may give fewer tokens.

    Raises:
        ConfigError: ``vocab_size`` does not even hold the bytes.
        DataError: there is no text.
    """
    if vocab_size < MINIMUM_VOCABULARY:
        raise ConfigError(
            f"vocab_size is {vocab_size}, but bytes and marks are {MINIMUM_VOCABULARY} tokens: "
            "give more, for example 2000"
        )
    steps = Backend.from_str(openai_bpe([]))
    words: dict[Word, int] = {
        (*word[:-1], f"{word[-1]}</w>"): count
        for word, count in count_words(texts, steps.normalizer, steps.pre_tokenizer).items()
    }
    if not words:
        raise DataError("no text to train a tokenizer on: every text given is empty")
    letters = byte_letters()
    merges = learn_merges(
        words,
        vocab_size - MINIMUM_VOCABULARY,
        taken=[*letters, *(f"{letter}</w>" for letter in letters)],
    )
    return Tokenizer(openai_bpe(merges, pad=END))


def save_clip_folder(
    tokenizer: Tokenizer, folder: str | os.PathLike[str], *, length: int = TEXT_LENGTH
) -> None:
    """Write the folder ``tokenizer`` of a Stable Diffusion, whole or not at all.

    :meth:`Tokenizer.load` reads it, and so do ``CLIPTokenizer`` and ``AutoTokenizer`` of
    ``transformers``, from ``tokenizer.json`` or from ``vocab.json`` and ``merges.txt``, with the
    same ids and ``length`` as the longest text. Padding with a letter (the ``!`` of open_clip) is
    said to them as ``<|endoftext|>``, because they would take the letter for a mark wherever it
    stands.

    Raises:
        UserError: the folder holds something else, or ``tokenizer`` is not of CLIP's kind.
    """
    folder = Path(folder)
    check_replaceable(folder)
    backend = Backend.from_str(tokenizer.json)
    content = json.loads(backend.to_str())
    vocabulary = content["model"].get("vocab")
    if (
        content["model"]["type"] != "BPE"
        or content["model"]["end_of_word_suffix"] != "</w>"
        or backend.token_to_id(START) != tokenizer.bos_id
        or backend.token_to_id(END) != tokenizer.eos_id
    ):
        raise UserError(
            f"{tokenizer} is not of CLIP's kind (byte-level BPE, {START} and {END} around a text) "
            "and cannot be written as a CLIPTokenizer; Tokenizer.save writes any"
        )
    special = backend.get_added_tokens_decoder()
    pad = backend.id_to_token(tokenizer.pad_id) if tokenizer.pad_id in special else END
    marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    merges = "".join(f"{left} {right}\n" for left, right in content["model"]["merges"])
    with atomic_directory(folder) as temporary:
        (temporary / FILE_NAME).write_text(tokenizer.json, encoding="utf-8", newline="")
        write_json(temporary / VOCABULARY_NAME, vocabulary)
        (temporary / MERGES_NAME).write_text(
            "#version: 0.2\n" + merges, encoding="utf-8", newline=""
        )
        write_json(
            temporary / CONFIG_NAME,
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": length,
                **marks,
                "do_lower_case": True,
                "add_prefix_space": False,
                "clean_up_tokenization_spaces": False,
            },
        )
        write_json(temporary / SPECIAL_NAME, marks)
