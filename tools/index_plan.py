"""What indexes of up to billions of vectors need: rates measured here, plans made of them.

    python -m tools.index_plan                # measures, in some minutes
    python -m tools.index_plan --table-only   # the tables again, from the rates that were kept

The rates come along with the library (``kmm_jax/retrieval/rates.json``), and ``kmm plan index``
plans with them.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kmm_jax.files import write_json
from kmm_jax.retrieval import plan_report, rates
from kmm_jax.retrieval.plan import Host, Plan, plan_index
from kmm_jax.retrieval.settings import IndexSettings
from tools import results

_RATES = Path(rates.__file__).with_name("rates.json")
_DIM = 512
_ROWS = (10**6, 10**7, 10**8, 1_500_000_000)
_HOST = Host(memory=256 * 2**30, cores=32)
_KINDS = {
    "float32, rescored from memory": IndexSettings(),
    "bfloat16, rescored from memory": IndexSettings(dtype="bfloat16"),
    "bfloat16, rescored from disk": IndexSettings(dtype="bfloat16", rescore="mapped"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write rates and tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args(argv)
    kept = results.read("index_plan")
    if not arguments.table_only:
        with tempfile.TemporaryDirectory() as folder:
            found = rates.measure_rates(Path(folder))
        write_json(_RATES, dataclasses.asdict(found))
    plans = [
        (kind, plan_index(rows, _DIM, settings=settings, host=_HOST, rates=rates.kept_rates()))
        for rows in _ROWS
        for kind, settings in _KINDS.items()
    ]
    results.write(
        "index_plan",
        title="Plans: indexes of up to 1.5 billion vectors",
        command="python -m tools.index_plan",
        values={
            "rates": dataclasses.asdict(rates.kept_rates()),
            "plans": [{"kind": kind, **plan_report.as_json(plan)} for kind, plan in plans],
        },
        body=_INTRODUCTION + "\n\n" + _table(plans) + "\n\n" + _largest(plans[-1][1]),
        origin=kept.get("provenance") if arguments.table_only else None,
    )
    return 0


_INTRODUCTION = f"""What `kmm plan index` says of {_DIM} dimensions on hosts of 256 GiB and 32
cores. Bytes are counted from the settings that the library chooses, and held against built indexes
by a test. Times are **extrapolated** from the rates at the end of this page, which were
**measured** on a small index, in seconds of a core: no index of these sizes was built."""


def _table(plans: Sequence[tuple[str, Plan]]) -> str:
    def row(kind: str, plan: Plan) -> tuple[Any, ...]:
        return (
            f"{plan.rows:,}",
            kind,
            f"{plan.shards:,} x {plan.segments:,}",
            f"{plan.disk.total / 1e9:,.1f}",
            f"{plan.memory.total / 1e9:,.1f}",
            f"{plan.build_hours:,.2f}",
            f"{plan.build_core_hours:,.1f}",
            f"{1000 * plan.query_seconds:,.1f}",
            f"{plan.queries_per_second:,.0f}",
        )

    return results.table(
        ("vectors", "kind", "hosts x segments", "GB on disk", "GB in memory", "hours to build",
         "core-hours", "ms of a core a query and host", "queries/s"),
        [row(*each) for each in plans],
    )  # fmt: skip


def _largest(plan: Plan) -> str:
    return "The last of them in full:\n\n```\n" + plan_report.as_text(plan) + "```"


if __name__ == "__main__":
    raise SystemExit(main())
