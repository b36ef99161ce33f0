"""A text of a row as the token sequence that a batch holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kmm_jax.data.config import DataConfig, has_questions, has_statements
from kmm_jax.data.questions import Question
from kmm_jax.data.statements import KNOWN, Statement, text_code
from kmm_jax.text.styles import Style, style_of


class SequenceMaker(Protocol):
    """What the data room needs of a tokenizer."""

    def sequences(self, texts: Sequence[str], style: Style | None, length: int, /) -> np.ndarray:
        """``[BOS] [STYLE] text [EOS] [PAD]...`` as int32 (N, length)."""
        ...

    def answered(
        self, questions: Sequence[str], answers: Sequence[str], length: int, /
    ) -> tuple[np.ndarray, np.ndarray]:
        """``[BOS] [QUERY] question [PROMPT] answer [EOS] [PAD]...``, and where the answer is."""
        ...


def sequence(
    tokenizer: SequenceMaker, field: str, text: str | Question | Statement, config: DataConfig
) -> dict[str, np.ndarray]:
    """What a batch holds of a text, by name, each of (text_length,).

    ``text`` is int32, with the style of its field unless that is off. Where the configuration has
    questions, ``target`` is bool: true where a token may be predicted, which in a question's row is
    its answer, and everywhere in a text's. Where it has statements, ``category`` is int32 like
    ``text``, what is asked with the picture, if ``asked`` is true; ``statement``, of (), stands
    for what is stated, and ``known`` (KNOWN,) for all that is known to be true, 0 behind the
    last. A text of another field is then a statement about the picture alone.
    """
    if has_statements(config):
        return _stated(tokenizer, field, text, config)
    assert not isinstance(text, Statement)
    if isinstance(text, Question):
        ids_1L, target_1L = tokenizer.answered([text.question], [text.answer], config.text_length)
        return {"text": ids_1L[0], "target": target_1L[0]}
    style = style_of(field) if config.styled else None
    ids_L = tokenizer.sequences([text], style, config.text_length)[0]
    if has_questions(config):
        return {"text": ids_L, "target": np.ones(ids_L.shape, bool)}
    return {"text": ids_L}


def _stated(
    tokenizer: SequenceMaker, field: str, text: str | Question | Statement, config: DataConfig
) -> dict[str, np.ndarray]:
    assert not isinstance(text, Question)  # DataConfig takes no questions beside statements
    known_A = np.zeros(KNOWN, np.int32)
    if isinstance(text, Statement):
        words, category, codes = text.text, text.category, text.known
    else:
        words, category, codes = text, "", (text_code(text),)
    known_A[: len(codes)] = codes
    style = style_of(field) if config.styled else None
    style_of_category: Style | None = "query" if config.styled else None
    return {
        "text": tokenizer.sequences([words], style, config.text_length)[0],
        "category": tokenizer.sequences([category], style_of_category, config.text_length)[0],
        "asked": np.asarray(bool(category)),
        "statement": np.asarray(codes[0], np.int32),
        "known": known_A,
    }
