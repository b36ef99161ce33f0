"""Recall and precision of the personal-data rules on generated cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kmm_jax.corpus.text import PERSONAL, Cleaned
from tests.corpus.text.generated import Case


@dataclass
class Scores:
    """Counts by reason; ``wrong`` holds the cases that were missed or found falsely."""

    cases: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[Case, Cleaned]] = field(default_factory=list)

    def recall(self, reason: str | None = None) -> float:
        return _share(self.right, self.cases, reason)

    def precision(self, reason: str | None = None) -> float:
        return _share(self.right, self.found, reason)


def score(cases: Iterable[Case], clean: Callable[[str], Cleaned]) -> Scores:
    """A case is right if its reason is found, exactly where the value stands; every other
    personal-data span is a false one."""
    scores = Scores()
    for case in cases:
        cleaned = clean(case.text)
        spans = [span for span in cleaned.spans if span[2] in PERSONAL]
        expected = (case.start, case.end, case.reason)
        if case.reason is not None:
            scores.cases[case.reason] += 1
        for span in spans:
            scores.found[span[2]] += 1
            scores.right[span[2]] += span == expected
        if spans != ([expected] if case.reason else []):
            scores.wrong.append((case, cleaned))
    return scores


def _share(part: Counter[str], whole: Counter[str], reason: str | None) -> float:
    if reason is None:
        return part.total() / max(whole.total(), 1)
    return part[reason] / max(whole[reason], 1)
