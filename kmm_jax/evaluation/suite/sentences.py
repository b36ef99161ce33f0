"""Pairs of sentences with how alike people find them: KorSTS, KLUE-STS."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kmm_jax.errors import DataError
from kmm_jax.evaluation.suite.forms import Places, json_of, table_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """Two sentences, and how alike people find them, on the benchmark's own scale."""

    one: str
    other: str
    score: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundPairs:
    """Pairs that are there, by language."""

    where: str
    pairs: dict[str, list[Pair]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTable:
    """A tab-separated table with a score and two sentences in one or several languages.

    Attributes:
        paths: tried in turn.
        columns: of each language, the two sentences.
    """

    paths: tuple[str, ...]
    columns: dict[str, tuple[str, str]]
    score: str = "score"

    @property
    def layout(self) -> str:
        """What is looked for."""
        names = [self.score, *(name for pair in self.columns.values() for name in pair)]
        return f"{' or '.join(self.paths)} (columns {', '.join(names)})"

    def find(self, places: Places) -> FoundPairs | None:
        """The pairs of the first table that is there.

        Raises:
            DataError: it is damaged.
        """
        path = places.first(*self.paths)
        if path is None:
            return None
        needed = (self.score, *(name for pair in self.columns.values() for name in pair))
        _, rows = table_rows(path, needed)
        pairs = {
            lang: [
                Pair(one=row[one], other=row[other], score=_number(path, row[self.score]))
                for row in rows
            ]
            for lang, (one, other) in self.columns.items()
        }
        return FoundPairs(where=places.name(path), pairs=pairs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KLUE:
    """KLUE-STS as published (arXiv 2105.09680): a JSON list, the score at ``labels.label``."""

    paths: tuple[str, ...]

    @property
    def layout(self) -> str:
        """What is looked for."""
        return " or ".join(self.paths)

    def find(self, places: Places) -> FoundPairs | None:
        """The pairs of the first file that is there.

        Raises:
            DataError: it is damaged.
        """
        path = places.first(*self.paths)
        if path is None:
            return None
        try:
            pairs = [
                Pair(
                    one=row["sentence1"],
                    other=row["sentence2"],
                    score=float(row["labels"]["label"]),
                )
                for row in json_of(path)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is not KLUE-STS: {error!r}") from error
        return FoundPairs(where=places.name(path), pairs={"ko": pairs})


def _number(path: Path, cell: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise DataError(f"{path}: {cell!r} is no score") from error
