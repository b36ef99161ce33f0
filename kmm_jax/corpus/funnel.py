"""What became of every row, for people: lines while a corpus is built, a table when it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TextIO

_EVERY_SECONDS = 2.0
_OF_STAGE = {
    "pictures": "pictures",
    "documents": "titles of documents",
    "clicks": "queries of clicks",
    "merge": "pictures with their texts",
    "choose": "pictures that are no copies",
    "shards": "rows in shards",
}


class Lines:
    """Progress as lines: stage, share done, rate, time left, what was rejected so far."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._stage = ""
        self._began = self._told = 0.0
        self._last: tuple[str, int, int, dict[str, int]] | None = None

    def progress(self, stage: str, done: int, tasks: int, counts: Mapping[str, int]) -> None:
        """As ``build`` calls it."""
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._began, self._told = stage, now, 0.0
        self._last = stage, done, tasks, dict(counts)
        if now - self._told >= _EVERY_SECONDS or done == tasks:
            self._tell(now)

    def close(self) -> None:
        """Say what was not said yet."""
        if self._last is not None:
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        assert self._last is not None
        stage, done, tasks, counts = self._last
        self._last, self._told = None, now
        taken = max(now - self._began, 1e-6)
        rows = sum(counts.values())
        left = f", {taken / done * (tasks - done):,.0f} s left" if done < tasks else ""
        rejected = ", ".join(
            f"{reason} {count:,}"
            for reason, count in sorted(counts.items(), key=lambda item: -item[1])
            if reason != "kept"
        )
        print(
            f"{stage} {done:,}/{tasks:,} files | {rows:,} rows, {rows / taken:,.0f} a second{left}"
            + (f" | {rejected}" if rejected else ""),
            file=self._out,
            flush=True,
        )


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
