"""A text of a row as the token sequence that a batch holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from kmm_jax.data.config import DataConfig
from kmm_jax.text.styles import Style, style_of


class SequenceMaker(Protocol):
    """What the data room needs of a tokenizer."""

    def sequences(self, texts: Sequence[str], style: Style | None, length: int, /) -> np.ndarray:
        """``[BOS] [STYLE] text [EOS] [PAD]...`` as int32 (N, length)."""
        ...


def sequence(tokenizer: SequenceMaker, field: str, text: str, config: DataConfig) -> np.ndarray:
    """``text`` as int32 (text_length,), with the style of its field unless that is off."""
    style = style_of(field) if config.styled else None
    return tokenizer.sequences([text], style, config.text_length)[0]
