"""What a score is: the settings of one, and the scorer they load.

A configuration names scores as frozen dataclasses (``Ocr``, ``Watermark``, ``Safety``,
``Similarity``, ``Custom``), each in a file of its own. Adding a kind means one more such class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

Values = Mapping[str, Any]
"""Column -> score: a number, a list with one for each text, or None where there is none."""


class Sample(NamedTuple):
    """A picture with its texts, as scorers see it.

    Attributes:
        pixels_HWC: uint8 RGB, upright; the shorter side at least the ``side`` of the scorer where
            the picture has as many pixels.
        titles, queries: cleaned, the most frequent first.
        names, captions: of the product, one at most; and those beside the picture. Cleaned.
    """

    image_hash: str
    pixels_HWC: np.ndarray
    titles: tuple[str, ...]
    queries: tuple[str, ...]
    names: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


class Scorer(Protocol):
    """Loaded once a process, called from several threads."""

    def score(self, samples: Sequence[Sample]) -> list[Values]:
        """One for each sample; rounded, so that the order of a sum does not show."""
        ...


class Score(Protocol):
    """The settings of a score and its thresholds: a frozen dataclass that JSON can hold."""

    @property
    def name(self) -> str:
        """Unique in a corpus; said in messages."""
        ...

    @property
    def side(self) -> int:
        """Pixels of the shorter side that the scorer looks at."""
        ...

    @property
    def of_texts(self) -> bool:
        """Whether it depends on the texts beside the picture, and not on the picture alone."""
        ...

    def columns(self) -> dict[str, pa.DataType]:
        """The columns it fills, named as in the shards' records (slide 2.3).

        Numbers are float64: as float32, 0.4 would stand in a record as 0.4000000059604645.
        """
        ...

    def identity(self) -> Any:
        """All that its values depend on, thresholds left out; something JSON can hold.

        Raises:
            ConfigError: a file or package it needs is not there; says what to do.
        """
        ...

    def load(self) -> Scorer:
        """The scorer; takes its time."""
        ...

    def judge(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """The row as it stays, and the reason for which it does not.

        Args:
            row: with the columns of this score, ``titles``, ``query`` and their counts, ``beside``
                (see the module of that name). A score of texts may take some of them out.
        """
        ...

    def thresholds(self) -> dict[str, tuple[str, float]]:
        """For the report: column -> (``most`` or ``least``, where the line is drawn)."""
        ...
