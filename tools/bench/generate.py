"""Time the making of pictures, ours and diffusers', into ``docs/results/generate.*``.

python -m tools.bench.generate [CASE ...]

On an accelerator Stable Diffusion 1.5 at 512 pixels, on a processor a reduced model, with random
weights, the same on both sides, which take turns in one process. Rows of other devices stay as
they are.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import UserError
from tools import results
from tools.bench.pictures import cases, sides
from tools.bench.pictures.cases import Case
from tools.bench.pictures.sides import Runner

_MODULE = "tools.bench.generate"
_ROUNDS, _LEAST_ROUNDS, _SECONDS = 15, 3, 90.0

Record = dict[str, Any]


def _theirs(case: Case, folder: Path, *, compiled: bool) -> Runner | None:
    """diffusers, without a compiler where there is none; nothing where it is not installed."""
    try:
        return sides.Theirs(case, folder, compiled=compiled)
    except (UserError, ImportError) as error:
        print(f"{case.name}: ours alone: {error}", file=sys.stderr)
        return None
    except Exception as error:
        if not compiled or "out of memory" in str(error).lower():
            raise
        # A platform without a compiler is measured all the same, and the row says how.
        print(f"{case.name}: without torch.compile: {error}", file=sys.stderr)
        return sides.Theirs(case, folder, compiled=False)


def _timed(runner: Runner) -> tuple[float, float]:
    """Seconds on the wall's clock and on the processors' for a batch."""
    wall, processor = time.perf_counter(), time.process_time()
    runner.pictures()
    return time.perf_counter() - wall, time.process_time() - processor


def measure(case: Case, *, compiled: bool = False) -> list[Record]:
    """A record a side; the first one also has the ratios of diffusers' seconds over ours.

    Args:
        compiled: diffusers by torch.compile, where that works.
    """
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # the first call is timed as well
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        cases.write_model(case, folder)
        found = [sides.Ours(case, folder), _theirs(case, folder, compiled=compiled)]
    runners = [runner for runner in found if runner is not None]
    load, rounds, start = os.getloadavg()[0], [], time.perf_counter()
    while len(rounds) < _LEAST_ROUNDS or (
        len(rounds) < _ROUNDS and time.perf_counter() - start < _SECONDS
    ):
        rounds.append([_timed(runner) for runner in runners])
    records = []
    for number, (side, runner) in enumerate(zip(cases.SIDES, runners, strict=False)):
        seconds = [each[number][0] for each in rounds]
        middle = statistics.median(seconds)
        records.append(
            {
                "case": case.name,
                "side": side,
                "model": case.model,
                "batch": case.batch,
                "pixels": case.side,
                "steps": case.steps,
                "dtype": case.dtype,
                "seconds": seconds,
                "seconds_per_picture": middle / case.batch,
                "flops_per_picture": case.flops_per_picture,
                "threads": sides.threads(),
                "load": load,
                **runner.facts(middle),
            }
        )
    if len(records) == 2:
        for name, clock in (("ratio", 0), ("processor_ratio", 1)):
            records[0][name] = statistics.median(
                second[clock] / first[clock] for first, second in rounds
            )
    return records


def run() -> dict[str, Any]:
    """For `tools.bench`: the median over paired batches of diffusers' seconds over ours.

    Raises:
        UserError: PyTorch or diffusers is not installed.
    """
    case = cases.ON_A_PROCESSOR[0]
    records = measure(case)
    if len(records) < 2:
        raise UserError("diffusers is not here to be timed beside ours")
    ours, theirs = records
    return {
        "value": ours["ratio"],
        "kmm_jax_seconds": ours["seconds"],
        "diffusers_seconds": theirs["seconds"],
        "note": f"{case.steps} guided steps at {case.side} px, one picture, {case.dtype}, "
        f"{ours['threads']} threads",
    }


def _device(record: Record) -> str:
    return str(record["provenance"]["hardware"]["device"])


def _row(ours: Record, theirs: Record | None) -> tuple[Any, ...]:
    share, how = ours["share_of_peak"], [ours["dtype"], f"{ours['threads']} threads"]
    if "ratio" in ours:
        how.append(f"{ours['processor_ratio']:.2f} by processor time, load {ours['load']:.1f}")
    if theirs is not None:
        how.append(f"diffusers: {theirs['how']}")
    return (
        ours["model"],
        ours["batch"],
        ours["pixels"],
        ours["steps"],
        f"{ours['flops_per_picture'] / 1e12:.3g}",
        _device(ours),
        ours["seconds_per_picture"],
        "" if share is None else f"{share:.1%}",
        f"{ours['first_seconds']:.0f}",
        "" if theirs is None else theirs["seconds_per_picture"],
        f"{ours['ratio']:.2f}" if "ratio" in ours else "",
        ours["provenance"]["date"],
        "; ".join(how),
    )


def body(records: Sequence[Record]) -> str:
    """The page's text and table: a row for each case on each device that was measured."""
    pairs: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        pairs.setdefault((record["case"], _device(record)), {})[record["side"]] = record
    rows = [_row(pair["kmm_jax"], pair.get("diffusers")) for pair in pairs.values()]
    columns = [
        "model", "batch", "pixels", "steps", "TFLOP a picture", "device", "seconds a picture",
        "share of peak", "first call, s", "diffusers' seconds a picture", "ours over diffusers",
        "date", "how",
    ]  # fmt: skip
    return (
        "Pictures from prompts, whole: text encoder, guided steps of DDIM, decoder, and pixels on "
        "the host, by both libraries from one folder with random weights. Both take turns in one "
        "process; seconds are medians, *ours over diffusers* is the median of the pairs' ratios of "
        "diffusers' seconds over ours. Where the machine was busy (load above its cores), the "
        "ratio of processor time is the better one. Operations are counted by hand "
        "(`kmm_jax/models/diffusion/flops.py`); the peak is that of dense bfloat16. The first call "
        "compiles. Only what was measured is here: sd15 where there is an accelerator, diffusers "
        "by torch.compile; where there is none the reduced model, of the same make and small "
        "enough for two cores, and PyTorch as it is, with as many threads as XLA."
        "\n\n" + results.table(columns, rows)
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="CASE", help="only these, sd15/4 say")
    names = parser.parse_args(argv).names
    # Both frameworks share a GPU's memory here; JAX would take most of it at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    accelerated = jax.default_backend() != "cpu"
    there = cases.ON_AN_ACCELERATOR if accelerated else cases.ON_A_PROCESSOR
    if unknown := sorted(set(names) - {case.name for case in there}):
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(each.name for each in there)}")
    command = f"python -m {_MODULE}"
    origin = results.provenance(command)
    records: list[Record] = results.read("generate").get("rows", [])
    for case in there:
        if names and case.name not in names:
            continue
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        found = [{**record, "provenance": origin} for record in measure(case, compiled=accelerated)]
        gc.collect()
        device = _device(found[0])
        others = [each for each in records if (each["case"], _device(each)) != (case.name, device)]
        records = others + found
        results.write(
            "generate",
            title="Speed of making pictures",
            command=command,
            values={"rows": records},
            body=body(records),
            origin=origin,
        )
        for record in found:
            print(
                f"{case.name} {record['side']}: {record['seconds_per_picture']:.3f} s a picture",
                file=sys.stderr,
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
