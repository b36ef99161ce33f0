"""The page of what was measured: errors of networks and of whole pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools import results

NAME = "stable_diffusion"
_TITLES = {
    "sd15": "Stable Diffusion 1.5, full size",
    "sd21": "Stable Diffusion 2.1, full size",
    "sdxl": "Stable Diffusion XL, UNet and text encoders half as wide",
}
# Relative to the output's scale, in float32.
NETWORK_AIM, PIPELINE_AIM = 2e-5, 1e-4


def write(values: Mapping[str, Any], command: str) -> None:
    """Write the files of what there is."""
    results.write(
        NAME,
        title="Stable Diffusion: the same outputs as diffusers",
        command=command,
        values=values,
        body=body(values),
    )


def _holds(worst: float, aim: float) -> str:
    return f"Aim {aim:.0e}: {'holds' if worst <= aim else '**missed**'}, the worst is {worst:.1e}."


def _networks(cases: Mapping[str, Any]) -> list[str]:
    worst = max(value for case in cases.values() for value in case["errors"].values())
    outputs = list(dict.fromkeys(name for case in cases.values() for name in case["errors"]))

    def cell(case: Mapping[str, Any], output: str) -> str:
        return f"{case['errors'][output]:.1e}" if output in case["errors"] else ""

    def millions(case: Mapping[str, Any]) -> str:
        return " + ".join(f"{count / 1e6:.1f}" for count in case["parameters"].values())

    sides = " x ".join(map(str, next(iter(cases.values()))["latents"]))
    rows = [
        ("parameters (UNet + autoencoder + text), M", *map(millions, cases.values())),
        *((output, *(cell(case, output) for case in cases.values())) for output in outputs),
        (
            "folder written back",
            *(
                "every tensor the same bytes"
                if case["tensors_come_back_equal"]
                else f"**{len(case['differing'])} tensors differ**"
                for case in cases.values()
            ),
        ),
        (
            "measured",
            *(
                f"{case['provenance']['date']} at {case['provenance']['commit']}"
                for case in cases.values()
            ),
        ),
    ]
    return [
        "## Networks",
        "",
        "Models of diffusers and transformers in the published sizes, every parameter at random, "
        "saved by diffusers as a folder, read here, put on the device and written back. The same "
        f"inputs through both in float32, of latents {sides} with a batch of two: largest "
        f"difference relative to the output's largest value. {_holds(worst, NETWORK_AIM)} *One "
        "step* is the whole pipeline with guidance 7.5, from an English and a Korean prompt to "
        "latents. Real weights were not at hand.",
        "",
        results.table(["output", *(_TITLES[name] for name in cases)], rows),
        "",
    ]


def _pipelines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    worst = max(row["latents"] for row in rows)
    return [
        "## Whole pipelines",
        "",
        "Small models of the same make: two prompts, a negative prompt, guidance 7.5 and the same "
        "starting noise through text encoders, sampler and decoder, there and here; LCM's noise "
        "of each step is drawn here for both. *Latents*: largest difference relative to the "
        "largest value. *Pixels*: the most that one differs as a byte, where 1 is a value that "
        f"rounds the other way. {_holds(worst, PIPELINE_AIM)}",
        "",
        results.table(
            ["model", "prediction", "sampler", "class of diffusers", "steps", "latents", "pixels"],
            [
                (
                    row["kind"],
                    row["prediction"],
                    row["sampler"],
                    row["class"],
                    row["steps"],
                    f"{row['latents']:.1e}",
                    row["pixels"],
                )
                for row in rows
            ],
        ),
    ]


def body(values: Mapping[str, Any]) -> str:
    """The page's text and tables."""
    cases = {name: values[name] for name in _TITLES if name in values}
    parts = _networks(cases) if cases else []
    if "pipelines" in values:
        parts += _pipelines(values["pipelines"]["rows"])
    return "\n".join(parts)
