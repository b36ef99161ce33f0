"""A plan of an index for people, and the same for programs."""

from __future__ import annotations

import dataclasses
from typing import Any

from kmm_jax.retrieval.plan import Plan
from kmm_jax.retrieval.size import Parts

_PARTS = {
    "vectors": "vectors",
    "hashes": "quantised codes",
    "leaves": "which leaves each is in",
    "centroids": "centroids of partitions and codes",
    "ids": "ids",
    "columns": "metadata columns, ids among them",
}


def as_text(plan: Plan) -> str:
    """What the plan says, in about forty lines."""
    settings, rates, host = plan.settings, plan.rates, plan.host
    beside = (
        f"{settings.leaves:,} leaves, {settings.leaves_to_search:,} searched, "
        if settings.leaves and settings.leaves_to_search
        else ""
    )
    rescored = f"{settings.reorder:,} rescored from {_WHERE[settings.rescore]}"
    lines = [
        f"{plan.rows:,} vectors of {plan.dim:,} dimensions as {settings.dtype}",
        f"{plan.shards:,} shards of {plan.segments:,} segments of {plan.segment_rows:,} vectors",
        f"Each segment: {settings.layout}, {beside}"
        + (rescored if settings.reorder else "every vector compared"),
        "",
        f"{'Bytes of one replica, counted':<40}{'on disk':>12}{'in memory':>14}",
        *(
            f"  {label:<38}{_size(getattr(plan.disk, name)):>12}{_size(held):>14}"
            for name, label in _PARTS.items()
            if (held := getattr(plan.memory, name)) or getattr(plan.disk, name)
        ),
        f"  {'together':<38}{_size(plan.disk.total):>12}{_size(plan.memory.total):>14}",
        *(
            ["  The vectors stay on disk; what memory is left over caches them."]
            if settings.rescore == "mapped" and settings.reorder
            else []
        ),
        "",
        f"Hosts of {_size(host.memory)} and {host.cores} cores",
        f"  {plan.hosts:,} hosts: {plan.shards:,} shards x {plan.replicas:,} replicas",
        f"  {_size(plan.host_memory)} of memory of each in use while it searches, "
        f"{_size(plan.build_memory)} while it builds",
        f"  {_size(plan.disk.total / plan.shards)} on each one's disk; twice that where a new "
        "version is put beside the old one",
        "",
        "Times, extrapolated from what was measured (below)",
        f"  {plan.build_hours:>10,.1f} hours to build, every shard at once on its host; "
        f"{plan.build_core_hours:,.0f} core-hours",
        f"  {plan.open_minutes:>10,.1f} minutes of a core to check a host's files when they are "
        "opened",
        f"  {1000 * plan.query_seconds:>10,.1f} ms of a core of every shard for a query",
        f"  {plan.queries_per_second:>10,.1f} queries/s a replica at 60 % of its cores; "
        f"{plan.queries_per_second * plan.replicas:,.1f} in all",
        *(
            [
                f"  {plan.disk_reads:>10,} reads of a vector from the disk of every shard for a "
                "query, where they are not cached"
            ]
            if plan.disk_reads
            else []
        ),
        "",
        f"Measured: {rates.rows:,} vectors of {rates.dim:,} dimensions on {rates.processor}, "
        f"{rates.date}, ScaNN {rates.versions['scann']}; seconds of a core:",
        *(f"  {getattr(rates, name):>10.2e}  {label}" for name, label in _RATES.items()),
        "Extrapolated: to this size, these hosts' cores and this number of leaves. Not counted: "
        "the network,",
        "reading from slow disks, and the exact comparison behind a narrow filter.",
    ]
    return "\n".join(lines) + "\n"


def as_json(plan: Plan) -> dict[str, Any]:
    """All numbers: bytes, seconds, hours."""

    def parts(each: Parts) -> dict[str, int]:
        return {**dataclasses.asdict(each), "total": each.total}

    found = dataclasses.asdict(plan)
    return found | {
        "disk": parts(plan.disk),
        "memory": parts(plan.memory),
        "hosts": plan.hosts,
        "measured": found["rates"],
        "extrapolated": [
            "build_hours",
            "build_core_hours",
            "open_minutes",
            "query_seconds",
            "queries_per_second",
        ],
    }


_RATES = {
    "distance": "a number compared with a centroid",
    "learnt": "a number of a vector of the sample",
    "number": "a number of a vector built",
    "scanned": "a block of a code scanned",
    "query": "a query and segment, beside the others",
    "mapped": "a number of a vector rescored from disk",
    "checksum": "a byte checked",
}
_WHERE = {"memory": "memory", "mapped": "disk"}


def _size(count: float) -> str:
    """Of bytes, in the largest unit of 1024 that leaves a whole number before the point."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.1f} {unit}" if unit != "B" else f"{count:,.0f} B"
        count /= 1024
    return f"{count:,.2f} TiB"
