"""How long each stage took, kept with the work, so that a second call does not forget the first."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kmm_jax.files import write_json


class Clock:
    """Seconds by stage, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stages: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._stages = json.loads(path.read_text("utf-8"))

    @property
    def seconds(self) -> dict[str, float]:
        """Of each stage so far."""
        return {name: round(stage["seconds"], 1) for name, stage in self._stages.items()}

    @property
    def total(self) -> float:
        """Of all stages so far."""
        return round(sum(stage["seconds"] for stage in self._stages.values()), 1)

    @contextmanager
    def stage(self, name: str, title: str, *, once: bool = False) -> Iterator[None]:
        """Time a stage and say so.

        Args:
            once: its work is kept: parts of it that were interrupted add up, and once it is done,
                finding it done again takes no time.
        """
        print(f"[{title}]", file=sys.stderr, flush=True)
        before = self._stages.get(name, {"seconds": 0.0, "done": False})
        start, done = time.monotonic(), False
        try:
            yield
            done = True
        finally:
            taken = time.monotonic() - start
            if not (once and before["done"]):
                spent = taken + (before["seconds"] if once else 0.0)
                self._stages[name] = {"seconds": spent, "done": done}
                write_json(self._path, self._stages)
            print(f"[{title}] {taken:.0f} s", file=sys.stderr, flush=True)
