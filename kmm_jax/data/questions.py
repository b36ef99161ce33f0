"""Questions about a row's image, with their answers: the record's field ``questions``.

    "questions": [{"question": "무슨 색이야?", "answer": "빨간색", "kind": "color"}, ...]

``kind`` and ``wording`` are optional: evaluation counts each kind apart, and each wording (such as
those that no training row holds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmm_jax.data.schema import QUESTIONS


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question about an image.

    Attributes:
        kind: what it asks for, such as ``color``.
        wording: which set of wordings it comes from; empty where there is one only.
    """

    question: str
    answer: str
    kind: str = "any"
    wording: str = ""

    def __str__(self) -> str:
        return f"{self.question} {self.answer}"


def questions(record: Mapping[str, Any]) -> list[Question]:
    """The questions of a validated record, in its order; empty where it has none."""
    return [
        Question(
            question=one["question"],
            answer=one["answer"],
            kind=one.get("kind") or "any",
            wording=one.get("wording") or "",
        )
        for one in record.get(QUESTIONS) or ()
    ]
