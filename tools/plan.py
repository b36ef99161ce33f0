"""What the published CoCas need on 8 to 2,048 chips, and on which mesh: a scaling study.

    python -m tools.plan                                   # about half an hour on two cores
    python -m tools.plan --models coca/base --chips 8,64   # a part of it
    python -m tools.plan --table-only                      # the tables and the plot again

For each config, number of chips and shape of the mesh the real training step is compiled for that
many devices, its collectives are counted, and rooflines give the time it must take. Where a batch
does not fit an H100's memory it is computed in as few parts (`accumulate`) as do. What is planned
is kept and not planned again; ``docs/results/plan.*`` is written after each config.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tools import results

MODELS = ("coca/base", "coca/large", "coca/2b")
CHIPS = (8, 32, 128, 512, 2048)
# Fast axes inside a node of eight; `data` takes what is left.
SHAPES = {
    "data": {"fsdp": 1, "tensor": 1},
    "fsdp=8": {"fsdp": 8, "tensor": 1},
    "fsdp=all": {"fsdp": 0, "tensor": 1},
    "fsdp=4 tensor=2": {"fsdp": 4, "tensor": 2},
    "tensor=8": {"fsdp": 1, "tensor": 8},
}
BASE = "h100"
# What plans are made of: with any of it they change.
_ROOMS = (
    *(f"kmm_jax/{room}" for room in ("planning", "training", "tasks", "models", "losses")),
    "configs",
)
COMPARED = 256  # chips, on which every kind is planned


def main(argv: Sequence[str] | None = None) -> int:
    """Plan what is not planned yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=_words, default=MODELS)
    parser.add_argument("--chips", type=lambda text: tuple(map(int, _words(text))), default=CHIPS)
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args(argv)
    kept = results.read("plan")
    rows = {_key(row): row for row in kept.get("plans", ())}
    if arguments.table_only:
        _write(rows.values(), kept["source"], kept["provenance"])
        return 0
    source = results.source_digest(_ROOMS)
    if kept and kept.get("source") != source:
        print("the source has changed since: planning all again", file=sys.stderr)
        rows = {}
    from kmm_jax.planning.step import fake_devices

    fake_devices(max(*arguments.chips, COMPARED))
    for model in arguments.models:
        for chips in arguments.chips:
            for shape in SHAPES:
                _plan(rows, model, chips, shape)
        for shape in ("data", "fsdp=8"):
            _plan(rows, model, COMPARED, shape, every_chip=True)
        _write(rows.values(), source, None)
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["config"], row["chips"], row["shape"], row["chip"]


def _plan(
    rows: dict[tuple[Any, ...], dict[str, Any]],
    model: str,
    chips: int,
    shape: str,
    *,
    every_chip: bool = False,
) -> None:
    """Add the plans of one mesh: on the H100, or on every kind of chip."""
    from kmm_jax.planning import report
    from kmm_jax.planning.fit import Fitter
    from kmm_jax.planning.plan import plan
    from kmm_jax.planning.step import per_example_memory
    from kmm_jax.training.chips import CHIPS as KINDS
    from kmm_jax.training.config_file import load_experiment

    kinds = list(KINDS) if every_chip else [BASE]
    if all((model, chips, shape, kind) in rows for kind in kinds):
        return
    sizes = dict(SHAPES[shape])
    sizes["fsdp"] = sizes["fsdp"] or chips
    if chips % (sizes["fsdp"] * sizes["tensor"]):
        return
    experiment = load_experiment(model, [])
    sizes["data"] = chips // sizes["fsdp"] // sizes["tensor"]
    experiment = dataclasses.replace(experiment, mesh=dataclasses.replace(experiment.mesh, **sizes))
    compiled: dict[int, Any] = {}
    for kind in kinds:
        chip = KINDS[kind]
        per_example = per_example_memory(experiment, flash_attention=chip.flash_attention)
        fitter = Fitter.of(experiment, chip, per_example)
        fit = fitter.fewest_parts(sizes)
        parts = fit.accumulate if fit is not None else experiment.accumulate
        row: dict[str, Any] = {"config": model, "chips": chips, "shape": shape, "chip": kind}
        if fit is None:
            rows[_key(row)] = row | {"fits": False, "refusal": fitter.refusal(sizes)}
            continue
        divided = dataclasses.replace(experiment, accumulate=parts)
        made = plan(divided, chip, chips, compiled=compiled.get(parts))
        compiled[parts] = made.compiled
        rows[_key(row)] = row | report.as_json(made, None, None) | {"chips": chips, "chip": kind}
        print(f"{model} {chips} x {kind} {shape}: {made.time.serial:.3f} s", file=sys.stderr)


def _write(rows: Iterable[dict[str, Any]], source: str, origin: dict[str, Any] | None) -> None:
    rows = sorted(rows, key=lambda row: (_order(row["config"]), row["chips"], row["chip"]))
    body = [_INTRODUCTION]
    for model in dict.fromkeys(row["config"] for row in rows):
        own = [row for row in rows if row["config"] == model]
        base = [row for row in own if row["chip"] == BASE]
        counts = sorted({row["chips"] for row in base})
        body += [
            f"## {model}",
            "On H100, at each number of chips the shape whose step is shortest:\n\n"
            + _best_table([best(base, count) for count in counts]),
            "Bytes a device sends in a step, and the share of the step that is its own work if "
            "nothing overlaps (if the network hides behind the work):\n\n"
            + _shape_table(base, counts),
            f"On {COMPARED} chips of every kind:\n\n"
            + _kind_table([row for row in own if row["chips"] == COMPARED]),
        ]
    values = {"source": source, "plans": rows}
    command = "python -m tools.plan"
    _plot(rows, results.FOLDER / "plan.svg")
    results.write(
        "plan",
        title="Plans: CoCa on 8 to 2,048 chips",
        command=command,
        values=values,
        body="\n\n".join(body),
        origin=origin,
    )


_INTRODUCTION = """What `kmm plan` says of the published CoCa configs (65,536 examples a step), by
compiling their real step for so many devices. Times are rooflines, which no run goes below: every
kernel at the peak of the matrix units or of memory, every collective at the links' full rate.
Memory is the analytic count; XLA's is that of the step compiled for CPU, which computes bfloat16 in
float32 and keeps attention scores. No accelerator was at hand to measure against. What follows from
the tables: [docs/scaling.md](../scaling.md).

![Share of a step that is the device's own work, by number of chips](plan.svg)"""


def _order(config: str) -> int:
    return MODELS.index(config) if config in MODELS else len(MODELS)


def best(rows: Iterable[dict[str, Any]], chips: int) -> dict[str, Any]:
    """Of the shapes on so many chips, the one that takes the shortest step if nothing overlaps."""
    own = [row for row in rows if row["chips"] == chips]
    fitting = [row for row in own if row["fits"]]
    return min(fitting, key=lambda row: row["seconds_serial"]) if fitting else own[0]


def _best_table(rows: Sequence[dict[str, Any]]) -> str:
    columns = (
        "chips", "mesh", "accumulate", "GB counted", "GB temporary (XLA, CPU)", "TFLOP executed",
        "GB sent", "step s, overlapped to serial", "MFU at most", "bound by", "days",
        "device-hours",
    )  # fmt: skip
    return results.table(
        columns,
        [
            (
                f"{row['chips']:,}",
                row["shape"],
                row["accumulate"],
                f"{row['memory']['total'] / 1e9:.1f}",
                f"{row['xla_cpu_temporary'] / 1e9:.1f}",
                f"{row['executed_flops'] / 1e12:,.1f}",
                f"{sum(row['sent'].values()) / 1e9:.2f}",
                f"{row['seconds_overlapped']:.3f} to {row['seconds_serial']:.3f}",
                f"{row['mfu_ceiling']:.1%}",
                row["bound_by"],
                f"{row['days']:,.1f}",
                f"{row['device_hours']:,.0f}",
            )
            if row["fits"]
            else (f"{row['chips']:,}", "does not fit", *[""] * (len(columns) - 2))
            for row in rows
        ],
    )


def _shape_table(rows: Sequence[dict[str, Any]], counts: Sequence[int]) -> str:
    found = {(row["shape"], row["chips"]): row for row in rows}

    def cell(shape: str, count: int) -> str:
        row = found.get((shape, count))
        if row is None:
            return ""
        if not row["fits"]:
            return "does not divide" if row["refusal"] else "does not fit"
        sent, alone = sum(row["sent"].values()) / 1e9, row["seconds_device"]
        parts = f", {row['accumulate']} parts" if row["accumulate"] > 1 else ""
        return (
            f"{sent:,.2f} GB, {alone / row['seconds_serial']:.1%} "
            f"({alone / row['seconds_overlapped']:.1%}){parts}"
        )

    return results.table(
        ("mesh", *(f"{count:,} chips" for count in counts)),
        [(shape, *(cell(shape, count) for count in counts)) for shape in SHAPES],
    )


def _kind_table(rows: Sequence[dict[str, Any]]) -> str:
    kinds = dict.fromkeys(row["chip"] for row in rows)
    chosen = [best([row for row in rows if row["chip"] == kind], COMPARED) for kind in kinds]
    return results.table(
        ("chip", "mesh", "accumulate", "GB counted", "step s, overlapped to serial",
         "MFU at most", "bound by", "days", "device-hours"),
        [
            (
                row["chip"],
                row["shape"],
                row["accumulate"],
                f"{row['memory']['total'] / 1e9:.1f}",
                f"{row['seconds_overlapped']:.3f} to {row['seconds_serial']:.3f}",
                f"{row['mfu_ceiling']:.1%}",
                row["bound_by"],
                f"{row['days']:,.1f}",
                f"{row['device_hours']:,.0f}",
            )
            if row["fits"]
            else (row["chip"], "does not fit", *[""] * 7)
            for row in chosen
        ],
    )  # fmt: skip


def _plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    from kmm_jax.files import atomic_write

    models = [model for model in MODELS if any(row["config"] == model for row in rows)]
    figure, axes = pyplot.subplots(
        1,
        len(models),
        figsize=(4.2 * len(models), 3.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for place, model in zip(axes[0], models, strict=True):
        for shape in SHAPES:
            line = [
                (row["chips"], row["seconds_device"] / row["seconds_serial"])
                for row in rows
                if (row["config"], row["shape"], row["chip"]) == (model, shape, BASE)
                and row["fits"]
            ]
            place.plot(*zip(*sorted(line), strict=True), marker="o", label=shape) if line else None
        place.set(title=model, xscale="log", xlabel="H100s", ylim=(0, 1.02))
        place.set_xticks(sorted({row["chips"] for row in rows}), minor=False)
        place.xaxis.set_major_formatter("{x:,.0f}")
        place.minorticks_off()
        place.grid(alpha=0.3)
    axes[0][0].set_ylabel("own work / step, nothing overlapping")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
