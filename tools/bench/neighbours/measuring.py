"""Each engine over its grid, and then all of them in turns; what is measured is kept in a folder.

A file for each thing that was measured: run again, what is there is not measured again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.files import write_json
from kmm_jax.retrieval.settings import IndexSettings
from kmm_jax.retrieval.tuning import Tried, fastest
from tools.bench.neighbours.engines import OURS
from tools.bench.neighbours.vectors import Vectors
from tools.bench.neighbours.worker import Worker

Record = dict[str, Any]
_MORE, _STEPS = 0.0005, 3  # of recall, which so many steps of effort must add
MODES = {
    "one_alone": "one thread, each query by itself",
    "one_batch": "one thread, all queries in one call",
    "all_batch": "all threads, all queries in one call",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """What is tried, and how long.

    Attributes:
        builds: settings of the build, by engine; ours are found by the tuner.
        searches: settings of the search, by engine, the fastest first in each sequence: a sequence
            ends once the highest target is reached, or more effort finds no more.
        our_builds: that the tuner may try.
        tuned_for: the recall that it is asked for; for other targets its index is searched
            otherwise, and not built again.
        targets: recall@10.
        timed: queries asked by themselves for a time.
        rounds: in which all engines take turns.
    """

    builds: Mapping[str, Sequence[Mapping[str, Any]]]
    searches: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
    our_builds: int
    tuned_for: float = 0.95
    targets: tuple[float, ...] = (0.90, 0.95, 0.99)
    timed: int = 250
    rounds: int = 5

    def as_json(self) -> Record:
        """For the page."""
        return dataclasses.asdict(self)


class Measurer:
    """Measures one set of vectors.

    Args:
        work: folder that everything is kept in.
        names: engines, ours among them.
    """

    def __init__(self, vectors: Vectors, work: Path, grid: Grid, names: Sequence[str]) -> None:
        self._vectors, self._work, self._grid, self._names = vectors, work, grid, list(names)

    def measured(self) -> Record:
        """Everything, for `report`."""
        targets: dict[str, dict[str, Record | None]] = {name: {} for name in self._names}
        found: Record = {"vectors": self._vectors.about, "grid": self._grid.as_json()}
        fronts, built = {}, {}
        for name in self._names:
            points, built[name] = self._ours() if name == OURS else self._theirs(name)
            fronts[name] = points
            for target in self._grid.targets:
                targets[name][str(target)] = self._choice(points, target)
        found |= {"points": fronts, "built": built, "chosen": targets}
        found["timed"] = {
            target: self._kept(f"timed-{target}", lambda each=target: self._timed(targets, each))
            for target in map(str, self._grid.targets)
        }
        return found

    def _ours(self) -> tuple[list[Record], list[Record]]:
        folder = self._work / OURS / "index"

        def tune() -> Record:
            self._say("kmm_jax: looking for settings")
            with self._worker(OURS) as worker:
                return worker.ask(
                    "tune",
                    folder=str(folder.with_name("tuning")),
                    wanted=self._grid.tuned_for,
                    builds=self._grid.our_builds,
                )

        tuned = self._kept(f"{OURS}/tuned", tune)
        built = self._kept(f"{OURS}/built", lambda: self._built(OURS, folder, tuned["build"]))
        points: list[Record] = []
        for target in self._grid.targets:

            def retune(wanted: float = target) -> Record:
                self._say(f"kmm_jax: settings of the search for {wanted}")
                with self._worker(OURS) as worker:
                    return worker.ask("target", folder=str(folder), wanted=wanted)

            again = self._kept(f"{OURS}/target-{target}", retune)
            if again["settings"] is None:
                self._say(f"kmm_jax: {again['why']}")
                continue
            place = f"{OURS}/index-{target}"

            def sweep(of: Path = self._work / place) -> Record:
                return self._swept(OURS, of, [[{}]])[0]

            points.append(
                {
                    **self._kept(f"{OURS}/swept-{target}", sweep),
                    "target": target,
                    "folder": place,
                    "build": tuned["build"],
                    "search": again["settings"],
                }
            )
        about = {
            "build": tuned["build"],
            **built,
            "tuning_seconds": tuned["seconds"],
            "tried": tuned["tried"],
        }
        return points, [about]

    def _theirs(self, name: str) -> tuple[list[Record], list[Record]]:
        points, builds = [], []
        for settings in self._grid.builds[name]:
            label = "-".join(str(value) for value in settings.values()).replace(",", "_")
            place = f"{name}/{label}"
            folder = self._work / place
            about = self._kept(
                f"{place}-built",
                lambda to=folder, with_=settings: self._built(name, to, with_),
            )
            swept = self._kept(
                f"{place}-swept",
                lambda of=folder: {"points": self._swept(name, of, self._grid.searches[name])},
            )
            builds.append({"build": dict(settings), **about})
            points += [
                {"folder": place, "build": dict(settings), **each} for each in swept["points"]
            ]
        return points, builds

    def _built(self, name: str, folder: Path, settings: Mapping[str, Any]) -> Record:
        self._say(f"{name}: building with {dict(settings)}")
        shutil.rmtree(folder, ignore_errors=True)
        with self._worker(name) as worker:
            found = worker.ask("build", folder=str(folder), settings=dict(settings))
        files = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
        self._say(f"{name}: built in {found['seconds']:,.0f} s")
        return {**found, "bytes": files}

    def _swept(
        self, name: str, folder: Path, searches: Sequence[Sequence[Mapping[str, Any]]]
    ) -> list[Record]:
        found: list[Record] = []
        highest = max(self._grid.targets)
        with self._worker(name, one=True) as worker:
            worker.ask("load", folder=str(folder))
            for sequence in searches:
                recalls: list[float] = []
                for search in sequence:
                    each = worker.ask(
                        "sweep", settings=dict(search), timed=self._grid.timed, rounds=3
                    )
                    found.append({"search": dict(search), **each})
                    recalls.append(each["recall"])
                    before = recalls[-1 - _STEPS] if len(recalls) > _STEPS else -1.0
                    if each["recall"] - each["error"] >= highest or recalls[-1] <= before + _MORE:
                        break
        best = max(each["recall"] for each in found)
        self._say(f"{name}: {len(found)} searches, recall up to {best:.3f}")
        return found

    def _choice(self, points: Sequence[Record], target: float) -> Record | None:
        """The settings that are timed: by the tuner's own rule, for all engines."""
        for each in points:
            if each.get("target") == target:
                return each
        measured = [each for each in points if "target" not in each]
        tried = [
            Tried(
                # Which of them it is; nothing else is asked of these settings.
                settings=IndexSettings(leaves=number + 1),
                recall=each["recall"],
                error=each["error"],
                seconds=each["seconds"],
            )
            for number, each in enumerate(measured)
        ]
        best = fastest(tried, target)
        return None if best is None else measured[(best.settings.leaves or 1) - 1]

    def _timed(self, chosen: Mapping[str, Mapping[str, Record | None]], target: str) -> Record:
        """All engines in turns, in each mode; and what each takes of memory."""
        there = {name: each[target] for name, each in chosen.items() if each[target] is not None}
        found: Record = {name: {} for name in there}
        for one, modes in ((True, ("one_alone", "one_batch")), (False, ("all_batch",))):
            with contextlib.ExitStack() as stack:
                workers: dict[str, Worker] = {}
                for name, choice in there.items():
                    assert choice is not None
                    worker = stack.enter_context(self._worker(name, one=one))
                    loaded = worker.ask("load", folder=str(self._work / choice["folder"]))
                    if one:
                        settings = choice["search"]
                        memory = worker.ask("memory", settings=settings, before=loaded["before"])
                        recall = worker.ask("recall", settings=settings)
                        found[name] |= {"memory_bytes": memory["bytes"], **recall}
                        found[name]["load_seconds"] = loaded["seconds"]
                    workers[name] = worker
                for mode in modes:
                    self._say(f"{target}: {MODES[mode]}")
                    rounds = list(self._rounds(workers, there, batch=mode != "one_alone"))
                    for name in there:
                        found[name][mode] = _medians(rounds, name)
        load = os.getloadavg()[0]
        return {"engines": found, "load": load}

    def _rounds(
        self, workers: Mapping[str, Worker], chosen: Mapping[str, Any], *, batch: bool
    ) -> Iterator[dict[str, float]]:
        queries = len(self._vectors.asking) if batch else 2 * self._grid.timed
        for _ in range(self._grid.rounds):
            yield {
                name: worker.ask(
                    "time", settings=chosen[name]["search"], batch=batch, queries=queries
                )["seconds"]
                for name, worker in workers.items()
            }

    def _worker(self, name: str, *, one: bool = False) -> Worker:
        return Worker(name, self._vectors.folder, one=one)

    def _kept(self, name: str, measure: Callable[[], Record]) -> Record:
        path = self._work / f"{name}.json"
        if not path.is_file():
            started = time.perf_counter()
            write_json(path, {**measure(), "took": time.perf_counter() - started})
        kept: Record = json.loads(path.read_text("utf-8"))
        return kept

    def _say(self, words: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def _medians(rounds: Sequence[Mapping[str, float]], name: str) -> Record:
    """Queries a second, and how many times ours has of that: medians over the rounds."""
    ratios = [each[name] / each[OURS] for each in rounds if OURS in each]
    return {
        "seconds": [each[name] for each in rounds],
        "queries_per_second": 1 / statistics.median(each[name] for each in rounds),
        "ours_over_it": statistics.median(ratios) if ratios else None,
    }
