"""Run the benchmarks and write ``docs/results/bench.json`` and ``bench.md``.

python -m tools.bench [NAME ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

from kmm_jax.errors import UserError
from tools import results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is measured, and the value the project promises (None: only reported)."""

    what: str
    aim: str = ""
    met: Callable[[float], bool] | None = None


# In the order in which they run; each is a module here with `run() -> dict`, its figure "value".
BENCHMARKS = {
    "input_pipeline": Benchmark(
        what="loader images/s over a bare decode loop's", aim=">= 0.8", met=lambda x: x >= 0.8
    ),
    "step_overhead": Benchmark(
        what="Python ms a step at 24 scanned layers", aim="<= 2", met=lambda x: x <= 2
    ),
    "caption_decoding": Benchmark(
        what="uncached over cached seconds, 64 tokens", aim=">= 5", met=lambda x: x >= 5
    ),
    "train_step": Benchmark(what="open_clip's seconds a CLIP train step over ours, CPU, float32"),
    "generate": Benchmark(what="diffusers' seconds a picture over ours, CPU, float32"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    values: dict[str, Any] = {k: v for k, v in results.read("bench").items() if k in BENCHMARKS}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            value = importlib.import_module(f"tools.bench.{name}").run()
        except UserError as error:
            print(f"{name}: not run: {error}", file=sys.stderr)
            continue
        # Its own, because the others may be of another day.
        values[name] = {**value, "provenance": results.provenance(f"python -m tools.bench {name}")}
        print(f"{name}: {value}", file=sys.stderr, flush=True)
    rows = []
    for name, benchmark in BENCHMARKS.items():
        if name not in values:
            rows.append((name, benchmark.what, "not run", benchmark.aim, "", "", ""))
            continue
        value = values[name]
        met = "" if benchmark.met is None else "yes" if benchmark.met(value["value"]) else "**no**"
        date, note = value["provenance"]["date"], value.get("note", "")
        rows.append((name, benchmark.what, value["value"], benchmark.aim, met, date, note))
    results.write(
        "bench",
        title="Benchmarks",
        command="make bench",
        values=values,
        body="Ratios within one run; single times on a shared machine say little.\n\n"
        + results.table(["benchmark", "what", "measured", "aim", "met", "date", "how"], rows),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
