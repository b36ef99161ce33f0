"""A plan for people, and the same for programs."""

from __future__ import annotations

import dataclasses
from typing import Any

from kmm_jax.planning.fit import Fit
from kmm_jax.planning.memory import USABLE, Memory
from kmm_jax.planning.plan import Plan

_MEMORY = {
    "parameters": "parameters",
    "optimizer": "optimizer state",
    "average": "moving average",
    "gradients": "gradients",
    "weights": "weights cast and gathered for use",
    "activations": "activations",
    "batch": "two batches of input",
}
_DAY = 86_400


def as_text(plan: Plan, fit: Fit | None, least: Fit | None) -> str:
    """What the plan says, in about forty lines."""
    chip, examples = plan.chip, plan.global_batch_size
    each = examples // (plan.mesh["data"] * plan.mesh["fsdp"])
    parts = f" in {plan.accumulate} parts" if plan.accumulate > 1 else ""
    lines = [
        f"{plan.name} on {plan.chips:,} x {chip.name}: {mesh_text(plan.mesh)}",
        f"{plan.steps:,} steps of {examples:,} examples, {each:,} of them on a device{parts}",
        f"{plan.parameters:,} parameters",
        "",
        "Memory of a device, counted",
        *(
            f"  {gigabytes(getattr(plan.memory, name)):>9} GB  {label}"
            for name, label in _MEMORY.items()
            if getattr(plan.memory, name)
        ),
        f"  {gigabytes(plan.memory.total):>9} GB  together, of {gigabytes(USABLE * chip.memory)} "
        f"usable ({gigabytes(chip.memory)} less a tenth): "
        + ("fits" if plan.fits else "DOES NOT FIT"),
        f"  {gigabytes(plan.compiled.temporary):>9} GB  temporary by XLA's analysis of the same "
        "step compiled for CPU",
        " " * 16 + "(bfloat16 computed in float32, attention scores kept: an accelerator needs "
        "less)",
        "",
        "Operations of a device in a step",
        f"  {plan.model_flops / 1e12:>9,.1f} TFLOP of the model (MFU counts these)",
        f"  {plan.executed_flops / 1e12:>9,.1f} TFLOP executed, with recomputation",
        "",
        "Sent by a device in a step",
        *_network(plan),
        "",
        "Time of a step, at the least",
        f"  {plan.time.device:>9.4f} s  the device's own work, {plan.time.of_memory:.4f} s of it "
        "bounded by memory traffic",
        *(
            f"  {seconds:>9.4f} s  network along {axes}"
            for axes, seconds in sorted(plan.time.network.items())
        ),
        f"  {plan.time.overlapped:>9.4f} s  if the network hides behind the work; "
        f"{plan.time.serial:.4f} s if nothing does",
        f"MFU at most {plan.mfu:.1%}; bounded by {plan.time.bound_by}.",
        "",
        f"The whole run: {plan.seconds / _DAY:,.1f} days, "
        f"{plan.seconds / 3600 * plan.chips:,.0f} device-hours at that bound; twice that if half "
        "of it is reached.",
        "",
        _fit_line(plan, fit),
        _least_line(plan, least),
        f"Figures of {chip.name}: {chip.source}.",
    ]
    return "\n".join(lines) + "\n"


def as_json(plan: Plan, fit: Fit | None, least: Fit | None) -> dict[str, Any]:
    """All numbers: bytes, operations, seconds."""
    return {
        "name": plan.name,
        "chip": plan.chip.name,
        "chips": plan.chips,
        "mesh": plan.mesh,
        "global_batch_size": plan.global_batch_size,
        "accumulate": plan.accumulate,
        "steps": plan.steps,
        "parameters": plan.parameters,
        "memory": _memory(plan.memory),
        "memory_usable": USABLE * plan.chip.memory,
        "fits": plan.fits,
        "xla_cpu_temporary": plan.compiled.temporary,
        "model_flops": plan.model_flops,
        "executed_flops": plan.executed_flops,
        "sent": {f"{kind} {axes}": size for (kind, axes), size in sorted(plan.sent.items())},
        "seconds_device": plan.time.device,
        "seconds_of_memory": plan.time.of_memory,
        "seconds_network": dict(sorted(plan.time.network.items())),
        "seconds_overlapped": plan.time.overlapped,
        "seconds_serial": plan.time.serial,
        "mfu_ceiling": plan.mfu,
        "bound_by": plan.time.bound_by,
        "days": plan.seconds / _DAY,
        "device_hours": plan.seconds / 3600 * plan.chips,
        "fitting": None if fit is None else _fit(fit),
        "smallest": None if least is None else _fit(least),
    }


def mesh_text(mesh: dict[str, int]) -> str:
    """``data=32 x fsdp=8 x tensor=1``."""
    return " x ".join(f"{axis}={size}" for axis, size in mesh.items())


def gigabytes(size: float) -> str:
    """Of bytes; 10^9, as data sheets count."""
    return f"{size / 1e9:,.2f}"


def _network(plan: Plan) -> list[str]:
    if not plan.sent:
        return ["          nothing"]
    return [
        f"  {gigabytes(size):>9} GB  {kind} along {axes}"
        for (kind, axes), size in sorted(plan.sent.items(), key=lambda item: -item[1])
    ]


def _fit_line(plan: Plan, fit: Fit | None) -> str:
    if fit is None:
        return f"No mesh of {plan.chips:,} {plan.chip.name} fits; take more chips."
    parts = f", accumulate={fit.accumulate}" if fit.accumulate != plan.accumulate else ""
    return (
        f"Least splitting that fits {plan.chips:,} {plan.chip.name}: {mesh_text(fit.mesh)}{parts} "
        f"({gigabytes(fit.memory.total)} GB)."
    )


def _least_line(plan: Plan, least: Fit | None) -> str:
    if least is None:
        return f"At accumulate={plan.accumulate} no number of {plan.chip.name} fits."
    return (
        f"Fewest {plan.chip.name} at accumulate={plan.accumulate}: {least.chips:,} as "
        f"{mesh_text(least.mesh)} ({gigabytes(least.memory.total)} GB)."
    )


def _memory(memory: Memory) -> dict[str, float]:
    return {**dataclasses.asdict(memory), "total": memory.total}


def _fit(fit: Fit) -> dict[str, Any]:
    return {
        "chips": fit.chips,
        "mesh": fit.mesh,
        "accumulate": fit.accumulate,
        "memory": fit.memory.total,
    }
