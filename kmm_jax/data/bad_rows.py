"""Rows that cannot be used: counted once each, named in a log, and a limit on their share."""

from __future__ import annotations

import collections
import json
import math
import os
import threading
from pathlib import Path
from typing import Literal

from kmm_jax.errors import DataError

Reason = Literal["pair", "record", "text", "image"]
"""``pair``: a member is missing; ``record``: bad JSON or schema; ``text``: none in the wanted
fields; ``image``: cannot be decoded."""

_LEAST_TRIED = 100
_LISTED = 20


class BadRowError(DataError):
    """One row that cannot be used."""

    def __init__(self, reason: Reason, detail: str, *, key: str = "") -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.key = key


class BadRows:
    """The bad rows met so far, of one or several sources; safe to share between threads.

    ``source_rows`` are the names and lengths of the sources. ``max_share`` is the highest share of
    the distinct rows tried that may be bad. It is judged once 100 rows, or all rows, were tried;
    while only part of them were, a margin of three standard deviations guards against stopping a
    run on an unlucky start. With ``max_share`` 0 the first bad row stops. ``log_path`` takes one
    JSON line per bad row; rows already named there, by a run before, are not named again.
    """

    def __init__(
        self,
        source_rows: list[tuple[str, int]],
        *,
        max_share: float,
        log_path: Path | None = None,
    ) -> None:
        self._sources = source_rows
        self._max_share = max_share
        self._total = sum(rows for _, rows in source_rows)
        self._tried = [bytearray(-(-rows // 8)) for _, rows in source_rows]
        self._tried_count = 0
        self._bad: dict[tuple[int, int], tuple[Reason, str]] = {}
        self._log_path = log_path
        self._logged: set[tuple[str, int]] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._bad)

    @property
    def tried(self) -> int:
        """How many distinct rows were tried, good and bad."""
        return self._tried_count

    def is_bad(self, source: int, row: int) -> bool:
        """Whether the row is known to be bad."""
        return (source, row) in self._bad

    def good(self, source: int, row: int) -> None:
        """Count a row that could be used."""
        with self._lock:
            self._try(source, row)
            stop = self._bad and self._tried_count == self._total and self._too_many()
        if stop:
            raise self.error()

    def bad(self, source: int, row: int, error: DataError) -> None:
        """Count a row that could not be used, and why.

        Raises:
            DataError: now there are too many of them; lists the first 20.
        """
        reason: Reason = error.reason if isinstance(error, BadRowError) else "record"
        with self._lock:
            if (source, row) in self._bad:
                return
            self._try(source, row)
            self._bad[source, row] = (reason, str(error))
            self._log(source, row, reason, error)
            stop = self._too_many()
        if stop:
            raise self.error()

    def reasons(self) -> dict[str, int]:
        """How many rows are bad for each reason."""
        with self._lock:
            return dict(collections.Counter(reason for reason, _ in self._bad.values()))

    def metrics(self) -> dict[str, float]:
        """``data/bad_rows`` and, for the reasons met, ``data/bad_rows_<reason>``."""
        counts = {f"data/bad_rows_{reason}": n for reason, n in sorted(self.reasons().items())}
        return {"data/bad_rows": len(self._bad), **counts}

    def listing(self, first: int = _LISTED) -> list[str]:
        """A line for each of the first bad rows, in the order of the sources."""
        with self._lock:
            worst = sorted(self._bad.items())[:first]
        return [
            f"{self._sources[source][0]} row {row}: {detail}"
            for (source, row), (_, detail) in worst
        ]

    def error(self) -> DataError:
        """What to raise when there are too many."""
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(self.reasons().items()))
        lines = self.listing()
        more = f"\n  ... and {len(self) - len(lines)} more" if len(self) > len(lines) else ""
        named = f" All are named in {self._log_path}." if self._log_path else ""
        return DataError(
            f"{len(self)} of the {self._tried_count} rows read are bad ({counts}), "
            f"{len(self) / self._tried_count:.1%}; the limit max_bad_share is "
            f"{self._max_share:.1%}. Mend the data or raise the limit.{named}\n  "
            + "\n  ".join(lines)
            + more
        )

    def _try(self, source: int, row: int) -> None:
        byte, bit = row >> 3, 1 << (row & 7)
        tried = self._tried[source]
        if not tried[byte] & bit:
            tried[byte] |= bit
            self._tried_count += 1

    def _too_many(self) -> bool:
        share, tried = self._max_share, self._tried_count
        if share == 0 or tried == self._total:
            return len(self._bad) > share * tried
        margin = 3 * math.sqrt(tried * share * (1 - share))
        return tried >= _LEAST_TRIED and len(self._bad) > share * tried + margin

    def _log(self, source: int, row: int, reason: Reason, error: DataError) -> None:
        if self._log_path is None:
            return
        if self._logged is None:
            self._logged = _named_in(self._log_path)
        name = self._sources[source][0]
        if (name, row) in self._logged:
            return
        self._logged.add((name, row))
        line = {"source": name, "row": row, "reason": reason, "detail": str(error)}
        if isinstance(error, BadRowError) and error.key:
            line["key"] = error.key
        _append(self._log_path, json.dumps(line, ensure_ascii=False))


def _named_in(path: Path) -> set[tuple[str, int]]:
    """The rows that the log names; a line cut off by a crash is passed over."""
    named = set()
    if path.exists():
        for line in path.read_text("utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                named.add((entry["source"], entry["row"]))
            except (ValueError, KeyError, TypeError):
                continue
    return named


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        # One write, so that lines of several processes do not run into each other.
        os.write(descriptor, (("\n" if cut_off else "") + line + "\n").encode("utf-8", "replace"))
    finally:
        os.close(descriptor)
