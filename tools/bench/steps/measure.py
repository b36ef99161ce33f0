"""The timing itself, in a process of its own: one case, one side or both in turns."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from kmm_jax.errors import UserError
from tools import results
from tools.bench.steps.cases import Case, Side

# A block of steps ends with a number on the host; shorter ones would time the fetch as well.
_BLOCK_SECONDS, _BLOCKS, _MOST_STEPS = 2.0, 5, 50
_PAIRS, _PAIRS_SECONDS = 9, 90.0
_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Oo]ut of memory|OutOfMemory|std::bad_alloc")

Record = dict[str, Any]


def _build(case: Case, side: Side, *, compiled: bool = True) -> Any:
    if side == "kmm_jax":
        from tools.bench.steps.ours import Ours

        return Ours(case)
    from tools.bench.steps.theirs import Theirs

    if not compiled:
        return Theirs(case, compiled=False)
    try:
        return Theirs(case)
    except (UserError, ImportError):
        raise
    except Exception as error:
        if _OUT_OF_MEMORY.search(str(error)):
            raise
        # A platform without a compiler is measured all the same, and the row says how.
        return Theirs(case, compiled=False)


class _Clocks(NamedTuple):
    """What a step took, on the wall's clock and on the processors'."""

    wall: float
    processor: float


def _timed(runner: Any, count: int) -> _Clocks:
    """A step's share of so many, of which the last one's loss is fetched."""
    wall, processor = time.perf_counter(), time.process_time()
    runner.steps(count)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return _Clocks(wall / count, processor / count)


def _record(case: Case, side: Side, runner: Any, seconds: list[float]) -> Record:
    middle = statistics.median(seconds)
    return {
        **heading(case, side),
        "status": "measured",
        "samples_per_second": case.batch / middle,
        "seconds_per_step": seconds,
        **runner.facts(middle),
    }


def heading(case: Case, side: Side) -> Record:
    """What names a row."""
    return {"case": case.name, "model": case.model, "batch": case.batch, "side": side}


def alone(case: Case, side: Side) -> list[Record]:
    """One side after a warm-up, in blocks of steps."""
    runner = _build(case, side)
    runner.steps(3)
    count = min(max(3, round(_BLOCK_SECONDS / _timed(runner, 3).wall)), _MOST_STEPS)
    return [_record(case, side, runner, [_timed(runner, count).wall for _ in range(_BLOCKS)])]


def in_turns(case: Case, sides: Sequence[Side], *, compiled: bool = True) -> list[Record]:
    """All sides in one process, step by step in turns, so that other work there meets them alike.

    The first record also carries ``ratio``, the median of the pairs' ratios: the second side's
    seconds over the first's; ``processor_ratio``, the same of processor time; and ``load``, the
    processes that wanted to run when it began.
    """
    load = os.getloadavg()[0]
    runners = [_build(case, side, compiled=compiled) for side in sides]
    for runner in runners:
        runner.steps(1)
    rounds: list[list[_Clocks]] = []
    start = time.perf_counter()
    while len(rounds) < 3 or (
        len(rounds) < _PAIRS and time.perf_counter() - start < _PAIRS_SECONDS
    ):
        rounds.append([_timed(runner, 1) for runner in runners])
    records = [
        _record(case, side, runner, [each[number].wall for each in rounds])
        for number, (side, runner) in enumerate(zip(sides, runners, strict=True))
    ]
    if len(sides) == 2:
        records[0] |= {
            "ratio": statistics.median(second.wall / first.wall for first, second in rounds),
            "processor_ratio": statistics.median(
                second.processor / first.processor for first, second in rounds
            ),
            "load": load,
        }
    return records


def attempt(case: Case, sides: Sequence[Side], command: str) -> list[Record]:
    """The records of a case; one that failed says why instead of figures."""
    try:
        records = alone(case, sides[0]) if len(sides) == 1 else in_turns(case, sides)
    except (UserError, ImportError) as error:
        if len(sides) > 1:  # open_clip is not there: ours alone
            return attempt(case, sides[:1], command)
        records = [{**heading(case, sides[0]), "status": f"not measured ({error})"}]
    except Exception as error:
        reason = f"failed ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
        if _OUT_OF_MEMORY.search(f"{type(error).__name__} {error}"):
            reason = "out of memory"
        records = [{**heading(case, side), "status": reason} for side in sides]
    origin = results.provenance(command)
    return [{**record, "provenance": origin} for record in records]
