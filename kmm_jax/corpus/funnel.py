"""What became of every row, for people: lines while a corpus is built, a table when it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, TextIO

_EVERY_SECONDS = 2.0
_OF_STAGE = {
    "pictures": "pictures",
    "beside": "texts beside pictures",
    "documents": "titles of documents",
    "clicks": "queries of clicks",
    "products": "texts of products",
    "merge": "pictures with their texts",
    "choose": "pictures that are no copies",
    "judge": "pictures judged by their scores",
    "shards": "rows in shards",
}


class Before(NamedTuple):
    """What of a stage an earlier build had done: it takes no time, and says nothing of the rest."""

    tasks: int
    rows: int


class Lines:
    """Progress as lines: stage, share done, rate, time left, what was rejected so far."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._stage = ""
        self._began = self._told = 0.0
        self._at_first = 0, 0
        self._last: tuple[str, int, int, dict[str, int], Before] | None = None

    def progress(
        self, stage: str, done: int, tasks: int, counts: Mapping[str, int], before: Before
    ) -> None:
        """As ``build`` calls it; the first call of a stage sets its clock."""
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._began, self._told = stage, now, now
            # What ended by now, beside an earlier stage, was not done in the time that is counted.
            self._at_first = done - before.tasks, sum(counts.values()) - before.rows
        self._last = stage, done, tasks, dict(counts), before
        if now - self._told >= _EVERY_SECONDS or done == tasks:
            self._tell(now)

    def close(self) -> None:
        """Say what was not said yet."""
        if self._last is not None:
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        assert self._last is not None
        stage, done, tasks, counts, before = self._last
        self._last, self._told = None, now
        taken = now - self._began
        rows = sum(counts.values())
        worked = done - before.tasks - self._at_first[0]
        fresh = rows - before.rows - self._at_first[1]
        rate = f", {fresh / taken:,.0f} a second" if fresh and taken else ""
        left = f", {_duration(taken / worked * (tasks - done))} left" if worked else ""
        earlier = f" ({before.tasks:,} done before)" if before.tasks else ""
        rejected = ", ".join(
            f"{reason} {count:,}"
            for reason, count in sorted(counts.items(), key=lambda item: -item[1])
            if reason != "kept"
        )
        print(
            f"{stage} {done:,}/{tasks:,} files{earlier} | {rows:,} rows{rate}"
            + (left if done < tasks else "")
            + (f" | {rejected}" if rejected else ""),
            file=self._out,
            flush=True,
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def table(manifest: Mapping[str, Any]) -> str:
    """The funnel: for each stage what went in, what was kept, and every reason with its count."""
    lines = []
    for stage in manifest["stages"]:
        if stage["name"] not in _OF_STAGE:
            continue
        counts = dict(stage["counts"])
        kept = counts.pop("kept", 0)
        lines.append(f"{_OF_STAGE[stage['name']]}: {stage['rows']:,} in, {kept:,} kept")
        lines += [
            f"    {count:>12,}  {reason}"
            for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]
    return "\n".join(lines) + "\n"
