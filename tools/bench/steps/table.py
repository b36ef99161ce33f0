"""`docs/results/speed.md` from the records of the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools import results
from tools.bench.steps.cases import ON_A_PROCESSOR, ON_AN_ACCELERATOR, Case

Record = Mapping[str, Any]

_COLUMNS = (
    "model",
    "batch",
    "device",
    "samples/s",
    "MFU",
    "peak memory, GB",
    "planned: peak, GB; step / measured",
    "compile, s",
    "open_clip samples/s",
    "ours over open_clip",
    "date",
    "how",
)
_FULL_NOT_MEASURED = "not measured (no accelerator)"


def device(record: Record) -> str:
    """What a record was measured on, in words."""
    return str(record["provenance"]["hardware"]["device"])


def ratio(ours: Record, theirs: Record | None) -> float | None:
    """Our samples a second over open_clip's: of the pairs where they took turns."""
    if theirs is None or "measured" not in (ours["status"], theirs["status"]):
        return None
    if "ratio" in ours:
        return float(ours["ratio"])
    if ours["status"] == theirs["status"] == "measured":
        return float(ours["samples_per_second"] / theirs["samples_per_second"])
    return None


def _pairs(records: Sequence[Record]) -> dict[tuple[str, str], dict[str, Record]]:
    """(case, device) -> side -> record."""
    found: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records:
        found.setdefault((record["case"], device(record)), {})[record["side"]] = record
    return found


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _model(case: Case, size: int | None) -> str:
    name = case.model + (", q, k, v apart" if case.apart else "")
    return name if size is None else f"{name} ({size / 1e6:.0f}M)"


def _planned(ours: Record) -> str:
    """The planner's memory, and its roofline as a share of the time measured."""
    if "planned_bytes" not in ours:
        return ""
    measured = ours["batch"] / ours["samples_per_second"]
    return f"{ours['planned_bytes'] / 1e9:.2f}; {ours['planned_seconds'] / measured:.2f}"


def _row(case: Case, where: str, sides: Mapping[str, Record]) -> tuple[str, ...]:
    ours, theirs = sides.get("kmm_jax"), sides.get("open_clip")
    first = ours or theirs
    assert first is not None
    measured = ours is not None and ours["status"] == "measured"
    how = [] if ours is None or not measured else [ours["dtype"]]
    if measured and ours is not None:
        how.append(f"memory by {ours['peak_bytes_by']}")
    if ours is not None and "ratio" in ours:
        how.append(f"{ours['processor_ratio']:.2f} by processor time, load {ours['load']:.1f}")
    if theirs is not None and theirs["status"] == "measured":
        how.append("open_clip: " + theirs["how"])
    return (
        _model(case, ours["parameters"] if measured and ours is not None else None),
        str(case.batch),
        where,
        "not run"
        if ours is None
        else f"{ours['samples_per_second']:.1f}"
        if measured
        else ours["status"],
        _number(ours["mfu"], "{:.1%}") if measured and ours is not None else "",
        _number(ours["peak_bytes"] / 1e9, "{:.2f}") if measured and ours is not None else "",
        _planned(ours) if measured and ours is not None else "",
        _number(ours["compile_seconds"], "{:.0f}") if measured and ours is not None else "",
        ""
        if theirs is None
        else f"{theirs['samples_per_second']:.1f}"
        if theirs["status"] == "measured"
        else theirs["status"],
        _number(ratio(ours, theirs) if ours is not None else None, "{:.2f}"),
        first["provenance"]["date"],
        "; ".join(how),
    )


def body(records: Sequence[Record]) -> str:
    """The page: what is aimed at, then every case that was or should be measured."""
    pairs = _pairs(records)
    rows = []
    for case in (*ON_AN_ACCELERATOR, *ON_A_PROCESSOR):
        found = [(where, sides) for (name, where), sides in pairs.items() if name == case.name]
        for where, sides in found:
            rows.append(_row(case, where, sides))
        if not found and case in ON_AN_ACCELERATOR:
            rows.append(
                (
                    _model(case, None),
                    str(case.batch),
                    "",
                    _FULL_NOT_MEASURED,
                    *[""] * (len(_COLUMNS) - 4),
                )
            )
    return "\n\n".join(
        (
            "One training step on one device: forward, losses, backward, gradient clipping (ours) "
            "and AdamW, with a batch from the host each time. Parameters are float32; the full "
            "sizes compute in bfloat16.",
            results.table(("aim", "on", "measured", "met"), _aims(pairs)),
            results.table(_COLUMNS, rows),
            "open_clip's CLIP has the same sizes. Its CoCa has the same image encoder and unimodal "
            "layers, and as many of its costlier multimodal layers as make the FLOPs an example "
            "equal. MFU counts three forward passes of matrix products. The reduced models are of "
            "the same make, small enough for two cores, in float32; there both take turns step by "
            "step and the ratio is the median of the pairs. Where the machine was busy (load above "
            "its cores), the ratio of processor time is the better one. Memory by XLA's analysis "
            "is what the compiled step needs at once, that by the device what was in use at most. "
            "Planned is what `kmm plan` says of the same step: its count of the peak, and its "
            "roofline, which a step cannot beat, over the time measured.",
        )
    )


def _aims(pairs: Mapping[tuple[str, str], Mapping[str, Record]]) -> list[tuple[str, ...]]:
    h200 = [sides for (_, where), sides in pairs.items() if "H200" in where]
    large = [
        sides["kmm_jax"]["mfu"]
        for sides in h200
        if sides.get("kmm_jax", {}).get("model") == "coca-large"
        and sides["kmm_jax"].get("mfu") is not None
    ]
    ratios = [
        found
        for sides in h200
        if "kmm_jax" in sides
        and (found := ratio(sides["kmm_jax"], sides.get("open_clip"))) is not None
    ]

    def row(aim: str, value: float | None, least: float, form: str) -> tuple[str, ...]:
        if value is None:
            return aim, "H200", "not measured (no H200)", ""
        return aim, "H200", form.format(value), "yes" if value >= least else "**no**"

    return [
        row("MFU of CoCa-Large >= 50 %", max(large, default=None), 0.5, "{:.1%}"),
        row(
            "samples/s >= 1.3 x open_clip's, at every size",
            min(ratios, default=None),
            1.3,
            "{:.2f}",
        ),
    ]
