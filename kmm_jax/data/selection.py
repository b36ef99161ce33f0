"""Some rows of a source, with some of their texts: how data is compared without being copied."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.data.schema import TEXT_FIELDS
from kmm_jax.data.sources import Row, ShardSource
from kmm_jax.errors import DataError
from kmm_jax.files import atomic_directory, write_json

FIELDS = ("title", "query")
_SCORE_OF = {"title": "title_kelip_score", "query": "query_kelip_score"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """Which texts of the rows stay.

    Attributes:
        source: the rows, as ``open_source`` takes them.
        field: the texts that stay, ``title`` or ``query``.
        least: only those of them whose similarity is not below it; None takes all.
    """

    source: str
    field: str
    least: float | None


def agreeing(
    record: Mapping[str, Any], field: str, least: float | None
) -> list[tuple[str, float, float | None]]:
    """(text, count, similarity) of the record's titles or queries that reach ``least``.

    Raises:
        DataError: a threshold is given and the record was not scored.
    """
    if field == "title":
        title = record.get("title")
        found = [(title, 1.0, record.get(_SCORE_OF[field]))] if title else []
    else:
        queries = record.get("query") or []
        counts = record.get("query_count") or [1] * len(queries)
        scores = record.get(_SCORE_OF[field]) or [None] * len(queries)
        found = list(zip(queries, counts, scores, strict=True))
    if least is None:
        return found
    if any(score is None for _, _, score in found):
        raise DataError(
            f"{record['image_hash']} has no {_SCORE_OF[field]}: build the corpus with "
            "similarity.model=PATH"
        )
    return [one for one in found if one[2] is not None and one[2] >= least]


def write_selection(
    folder: Path, selection: Selection, rows_N: np.ndarray, source: ShardSource
) -> None:
    """Keep a selection, whole or not at all; ``selection:FOLDER`` opens it.

    Args:
        rows_N: numbers of the rows in the source.
        source: what ``selection.source`` opens now.
    """
    with atomic_directory(folder) as made:
        np.save(made / "rows.npy", np.asarray(rows_N, np.int64))
        told = dataclasses.asdict(selection) | {"of": len(source), "mark": source.mark()}
        write_json(made / "selection.json", told)


class SelectionSource:
    """The rows a selection names, each with the texts that stay.

    Raises:
        DataError: no selection is there, or its source is not what it was made for any more.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        from kmm_jax.data.sources import open_source

        self.name = f"selection:{os.fspath(folder)}"
        try:
            told = json.loads((Path(folder) / "selection.json").read_text("utf-8"))
            self._rows_N = np.load(Path(folder) / "rows.npy", allow_pickle=False)
            of, mark = told.pop("of"), told.pop("mark")
            self.selection = Selection(**told)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{folder} holds no selection of rows: {error}") from error
        self._source = open_source(self.selection.source)
        if not isinstance(self._source, ShardSource) or self._source.mark() != mark:
            raise DataError(
                f"{self.name} was made of {of:,} rows, and the shards in {self.selection.source} "
                f"({len(self._source):,} rows) have changed since; make it again"
            )

    def __len__(self) -> int:
        return len(self._rows_N)

    def read(self, i: int) -> Row:
        """Row ``i``; its texts of other fields, and those that agree too little, are left out."""
        row = self._source.read(int(self._rows_N[i]))
        field = self.selection.field
        kept = agreeing(row.record, field, self.selection.least)
        others = (*TEXT_FIELDS, "query_count", *_SCORE_OF.values())
        record = {name: value for name, value in row.record.items() if name not in others}
        if field == "title":
            record |= {"title": kept[0][0]} if kept else {}
        else:
            record["query"] = [text for text, _, _ in kept]
            record["query_count"] = [count for _, count, _ in kept]
        return dataclasses.replace(row, record=record)
