"""Who scores what next: each rater every picture once, in an order of their own, blind.

What is shown tells nothing of models or similarities, and a picture that several models chose for a
query is scored once. A rater's order follows from the rater's name and the pictures alone: whoever
comes back goes on where they stopped, and pictures that are added later fall in between.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from kmm_jax.errors import DataError
from kmm_jax.evaluation.thumbnail_log import Item, Label, LogWriter, Pick, read_log
from kmm_jax.evaluation.thumbnails import choices
from kmm_jax.evaluation.weighted_kappa import Agreement, agreements


class Task(NamedTuple):
    """A picture to be scored.

    Attributes:
        id: names it on the page and tells nothing.
        path: of the picture.
    """

    id: str
    item: Item
    path: str
    title: str
    excerpt: str


class Progress(NamedTuple):
    """Of one rater."""

    done: int
    total: int


class Session:
    """A file of picks and labels that is being labelled; for several threads.

    Attributes:
        tasks: all pictures, by their id.
    """

    def __init__(self, path: str | os.PathLike[str], picks: Sequence[Pick] = ()) -> None:
        """Open the file, made where it is not there, and add picks that it has not.

        Raises:
            DataError: the file is damaged, there is nothing to label, or picks from which no table
                could be made (``evaluation.thumbnails.choices``).
        """
        before = read_log(path) if Path(path).exists() else None
        known = dict.fromkeys(before.picks if before else ())
        new = [pick for pick in dict.fromkeys(picks) if pick not in known]
        choices([*known, *new])  # before people work on them
        self.tasks: dict[str, Task] = {}
        for pick in (*known, *new):
            if pick.item:
                id = _digest([*pick.item.pair, pick.image])
                task = Task(id, pick.item, pick.path, pick.title, pick.excerpt)
                self.tasks.setdefault(id, task)
        if not self.tasks:
            raise DataError(
                f"{path} holds no pictures to label; name files of them with --picks "
                "(kmm documents thumbnail --picks makes them)"
            )
        self._lock = threading.Lock()
        self._ids = {task.item: id for id, task in self.tasks.items()}
        self._scores: dict[str, dict[Item, int]] = {}
        self._lost: set[str] = set()
        self._said: dict[str, list[str]] = {}  # ids by rater, in the order in which they scored
        for label in before.labels if before else ():
            self._note(label)
        self._writer = LogWriter(path)
        if new:
            self._writer.append(new)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._writer.close()

    def progress(self, rater: str) -> Progress:
        """How far a rater is, of the pictures that can be had."""
        with self._lock:
            done = self._done(rater)
            return Progress(len(done), len(done | (self.tasks.keys() - self._lost)))

    def next(self, rater: str, count: int = 1) -> list[Task]:
        """What a rater scores next, at most ``count``."""
        with self._lock:
            done = self._done(rater)
            left = [id for id in self.tasks if id not in done and id not in self._lost]
        return [self.tasks[id] for id in sorted(left, key=lambda id: _digest([rater, id]))[:count]]

    @property
    def lost(self) -> int:
        """Pictures that could not be had."""
        return len(self._lost)

    def lose(self, id: str) -> None:
        """Ask nobody for a picture any more: it cannot be had, this time."""
        with self._lock:
            self._lost.add(id)

    def score(self, rater: str, id: str, score: int) -> None:
        """Note a score; on the disk when this returns.

        Raises:
            DataError: no such picture.
            OSError: it could not be written; then it does not count.
        """
        if id not in self.tasks:
            raise DataError("no such picture; load the page again")
        self._say(Label(item=self.tasks[id].item, rater=rater, score=score, time=_now()))

    def undo(self, rater: str) -> Task | None:
        """Take back a rater's last score; says of which picture, None where there is none left."""
        with self._lock:
            said = self._said.get(rater)
            last = self.tasks[said[-1]] if said else None
        if last:
            self._say(Label(item=last.item, rater=rater, score=None, time=_now()))
        return last

    def raters(self) -> dict[str, Progress]:
        """How far each rater is."""
        with self._lock:
            names = sorted(self._scores)
        return {name: self.progress(name) for name in names}

    def agreement(self) -> list[Agreement]:
        """Of every two raters."""
        with self._lock:
            return agreements({rater: given for rater, given in self._scores.items() if given})

    def _done(self, rater: str) -> set[str]:
        return {self._ids[item] for item in self._scores.get(rater, ()) if item in self._ids}

    def _say(self, label: Label) -> None:
        with self._lock:
            if label.score is not None:
                before = self._scores.get(label.rater, {}).get(label.item)
                if before == label.score:
                    return  # sent twice
            self._writer.append([label])
            self._note(label)

    def _note(self, label: Label) -> None:
        scores = self._scores.setdefault(label.rater, {})
        said = self._said.setdefault(label.rater, [])
        id = self._ids.get(label.item)
        if id in said:
            said.remove(id)
        if label.score is None:
            scores.pop(label.item, None)
            return
        scores[label.item] = label.score
        if id is not None:
            said.append(id)


def check_rater(name: object) -> str:
    """A rater's name as it is kept.

    Raises:
        DataError: no name.
    """
    text = " ".join(name.split()) if isinstance(name, str) else ""
    if not text or len(text) > 60 or not text.isprintable():
        raise DataError("a rater's name has 1 to 60 characters on one line")
    return text


def _digest(values: Sequence[str]) -> str:
    text = json.dumps(values, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
