"""A text of a row as the token sequence that a batch holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kmm_jax.data.config import DataConfig, has_questions
from kmm_jax.data.questions import Question
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
    tokenizer: SequenceMaker, field: str, text: str | Question, config: DataConfig
) -> dict[str, np.ndarray]:
    """What a batch holds of a text, by name, each of (text_length,).

    ``text`` is int32, with the style of its field unless that is off. Where the configuration has
    questions, ``target`` is bool: true where a token may be predicted, which in a question's row is
    its answer, and everywhere in a text's.
    """
    if isinstance(text, Question):
        ids_1L, target_1L = tokenizer.answered([text.question], [text.answer], config.text_length)
        return {"text": ids_1L[0], "target": target_1L[0]}
    style = style_of(field) if config.styled else None
    ids_L = tokenizer.sequences([text], style, config.text_length)[0]
    if has_questions(config):
        return {"text": ids_L, "target": np.ones(ids_L.shape, bool)}
    return {"text": ids_L}
