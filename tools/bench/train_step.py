"""Time training steps on whatever is there, ours and open_clip's, into ``docs/results/speed.*``.

python -m tools.bench.train_step [--resume] [--budget-minutes N] [--models NAME,NAME]

On an accelerator the published sizes run over several batches, each in a process of its own, so
that one that does not fit the memory is a row and not the end. On a processor reduced models run,
both sides in turns in one process. The files are written after each row.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import ConfigError, UserError, nearest
from tools import results
from tools.bench.steps import cases, measure, table
from tools.bench.steps.cases import Case, Side
from tools.bench.steps.measure import Record

_MODULE = "tools.bench.train_step"
_DONE = ("measured", "out of memory")
_CASE_MINUTES = 20.0  # autotuning and torch.compile of the largest models, with room


def run() -> dict[str, Any]:
    """For `tools.bench`: the median over paired steps of PyTorch's seconds over ours, for CLIP.

    Raises:
        UserError: PyTorch or open_clip is not installed.
    """
    case = cases.ON_A_PROCESSOR[0]
    ours, theirs = measure.in_turns(case, cases.SIDES, compiled=False)
    return {
        "value": ours["ratio"],
        "open_clip_seconds": theirs["seconds_per_step"],
        "kmm_jax_seconds": ours["seconds_per_step"],
        "parameters": {"kmm_jax": ours["parameters"], "open_clip": theirs["parameters"]},
        "note": f"batch {case.batch}, {ours['parameters'] / 1e6:.1f}M parameters ours, "
        f"{theirs['parameters'] / 1e6:.1f}M theirs, {ours['dtype']}, without torch.compile",
    }


def _child(words: Sequence[str], minutes: float) -> tuple[Any, str]:
    """What a process of this module wrote, or None and why there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.json"
        command = [sys.executable, "-m", _MODULE, *words, "--into", str(path)]
        # JAX takes three quarters of a GPU's memory by default, PyTorch all it needs.
        environment = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92", **os.environ}
        try:
            code = subprocess.run(
                command, timeout=60 * minutes, check=False, env=environment
            ).returncode
        except subprocess.TimeoutExpired:
            return None, f"not measured (not done in {minutes:.0f} minutes)"
        if path.exists():
            return json.loads(path.read_text("utf-8")), ""
    # The kernel ends what takes more than the machine has.
    return None, "out of memory" if code == -9 else f"failed (exit status {code})"


def _doomed(case: Case, side: Side, records: Sequence[Record], device: str) -> bool:
    """Whether a smaller batch of it was out of memory here already."""
    return any(
        record["model"] == case.model
        and record["side"] == side
        and record["batch"] < case.batch
        and record["status"] == "out of memory"
        and table.device(record) == device
        for record in records
    )


def measure_all(
    planned: Sequence[tuple[Case, tuple[Side, ...]]],
    records: list[Record],
    origin: dict[str, Any],
    *,
    minutes: float,
    resume: bool,
    child: Callable[[Sequence[str], float], tuple[Any, str]] = _child,
    write: Callable[[Sequence[Record]], None],
) -> None:
    """Measure the plan until the time is up, each new record in the place of an earlier one.

    Args:
        planned: a case with the sides that share a process.
        records: those of earlier runs, on any device; the new ones come to them.
        origin: the provenance of rows without a measurement.
        resume: leave what this device measured, or could not for its memory, as it is.
        write: called with all records after each process.
    """
    device, deadline = origin["hardware"]["device"], time.monotonic() + 60 * minutes
    for case, sides in planned:
        earlier = [
            record
            for record in records
            if record["case"] == case.name
            and record["side"] in sides
            and table.device(record) == device
        ]
        done = {record["side"] for record in earlier if record["status"] in _DONE}
        left = (deadline - time.monotonic()) / 60
        if (resume and done == set(sides)) or (left <= 0 and done):
            continue
        found, why = None, "not measured (the time was up)"
        if any(_doomed(case, side, records, device) for side in sides):
            why = "not measured (a smaller batch was out of memory)"
        elif left > 0:
            print(f"{case.name} {' and '.join(sides)} ...", file=sys.stderr, flush=True)
            words = ["--measure", case.name, "--sides", ",".join(sides)]
            found, why = child(words, min(left, _CASE_MINUTES))
        found = found or [
            {**measure.heading(case, side), "status": why, "provenance": origin} for side in sides
        ]
        records[:] = [record for record in records if record not in earlier] + found
        write(records)


def _report(records: Sequence[Record], origin: dict[str, Any], command: str) -> None:
    results.write(
        "speed",
        title="Speed of a training step",
        command=command,
        values={"rows": list(records)},
        body=table.body(records),
        origin=origin,
    )
    last = records[-1]
    speed = last.get("samples_per_second")
    said = last["status"] if speed is None else f"{speed:.1f} samples/s"
    print(f"{last['case']} {last['side']}: {said}", file=sys.stderr, flush=True)


def _plan(accelerated: bool, models: Sequence[str]) -> list[tuple[Case, tuple[Side, ...]]]:
    there = cases.ON_AN_ACCELERATOR if accelerated else cases.ON_A_PROCESSOR
    names = sorted({case.model for case in there})
    if unknown := [name for name in models if name not in names]:
        raise ConfigError(
            f"no model {unknown[0]!r} is timed on this device{nearest(unknown[0], names)}; "
            f"there are {', '.join(names)}"
        )
    chosen = [case for case in there if not models or case.model in models]
    if not accelerated:
        return [(case, cases.sides(case)) for case in chosen]
    # Both frameworks want a GPU's memory for themselves.
    return [(case, (side,)) for case in chosen for side in cases.sides(case)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("--resume", action="store_true", help="leave the rows this device measured")
    parser.add_argument("--budget-minutes", type=float, default=float("inf"), metavar="N")
    parser.add_argument("--models", default="", metavar="NAME,NAME", help="only these")
    parser.add_argument("--measure", metavar="CASE", help=argparse.SUPPRESS)
    parser.add_argument("--sides", help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    given = _arguments()
    command = f"python -m {_MODULE}"
    if given.probe or given.measure:  # a process of its own, started below
        import jax

        if given.probe:
            platform = jax.default_backend()
            found: Any = {"platform": platform, "provenance": results.provenance(command)}
        else:
            sides = tuple(given.sides.split(","))
            found = measure.attempt(cases.case_named(given.measure), sides, command)
        given.into.write_text(json.dumps(found), "utf-8")
        return 0
    # This process never touches the device: JAX would take most of a GPU's memory.
    seen, why = _child(["--probe"], 5)
    if seen is None:
        print(f"the devices cannot be asked: {why}", file=sys.stderr)
        return 1
    origin, accelerated = seen["provenance"], seen["platform"] != "cpu"
    try:
        planned = _plan(accelerated, given.models.split(",") if given.models else [])
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    records = results.read("speed").get("rows", [])
    measure_all(
        planned,
        records,
        origin,
        minutes=given.budget_minutes,
        resume=given.resume,
        write=lambda records: _report(records, origin, command),
    )
    if not accelerated:
        for record in records:
            if "ratio" in record and table.device(record) == origin["hardware"]["device"]:
                print(f"{record['case']}: {record['ratio']:.2f} x open_clip's samples/s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
