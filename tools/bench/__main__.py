"""Run the benchmarks and write ``docs/results/bench.json`` and ``bench.md``.

python -m tools.bench [NAME ...]
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from tools import results

# Module -> (what is compared, the value the project promises); each runs in this process, in order.
BENCHMARKS = {
    "input_pipeline": ("loader images/s over a bare decode loop's", ">= 0.8"),
    "step_overhead": ("Python ms a step at 24 scanned layers", "<= 2.0"),
    "caption_decoding": ("uncached over cached seconds, 64 tokens", ">= 5.0"),
    "train_step": ("open_clip seconds a train step over ours, CLIP, CPU", "(reported)"),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all by default")
    names = parser.parse_args().names or list(BENCHMARKS)
    values: dict[str, Any] = {k: v for k, v in results.read("bench").items() if k in BENCHMARKS}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        values[name] = importlib.import_module(f"tools.bench.{name}").run()
        print(f"{name}: {values[name]}", file=sys.stderr, flush=True)
    rows = [
        (name, BENCHMARKS[name][0], value["value"], BENCHMARKS[name][1], value.get("note", ""))
        for name, value in values.items()
    ]
    results.write(
        "bench",
        title="Benchmarks",
        command=f"make bench ({' '.join(['python -m tools.bench', *parser.parse_args().names])})",
        values=values,
        body="Ratios within one run; single times on a shared machine say little.\n\n"
        + results.table(["benchmark", "what", "measured", "aim", "note"], rows),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
