"""The demonstration's tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.generation.grid import sheet
from tools import results

ENGLISH, UNTAUGHT = "English prompt, teacher", "Korean prompt, teacher"
_CHANCE = {"type": 1 / 10, "color": 1 / 8}
_LEAST = 3.0  # times chance: below it English itself proves nothing


def body(values: Mapping[str, Any]) -> str:
    """The page: what was asked, the verdicts, what the UNet saw, steps."""
    parts = [_setting(values), _verdicts(values), _claim(values), _encoders(values)]
    if values.get("steps"):
        parts.append(_steps(values))
    parts.append(_pictures())
    return "\n\n".join(part for part in parts if part)


def _setting(values: Mapping[str, Any]) -> str:
    world, judge = values["world"], values["classifier"]
    return (
        f"A generator of {values['size']} pixels learns from {world['photos']:,} product photos "
        "(Fashion Product Images, MIT) with English texts: ten types in eight colours, "
        f"{len(world['held_out'])} pairs of both held out, each with five photos or more. Korean "
        f"readers learn from parallel texts alone: {world['wordings']:,} wordings of products and "
        f"{world['sentences']:,} general sentences; the UNet is not touched. All prompts below are "
        "in wordings that no reader learned from. Types and colours are told by a classifier "
        f"trained on real photos, itself right of {judge['type']:.1%} of types and "
        f"{judge['color']:.1%} of colours on {judge['photos']} held-out photos; chance is 10 % and "
        "12.5 %. All rows start from the same noise."
    )


def _verdicts(values: Mapping[str, Any]) -> str:
    columns = ["reader", "seeds", "type", "colour", "both", "both, seeds"]
    columns += ["type, held-out pairs", "colour, held-out pairs", "kernel distance"]
    rows = []
    for reader, runs in values["rows"].items():
        spread = values["spread"][reader]

        def cell(name: str, runs: Any = runs, spread: Any = spread) -> str:
            low, high = spread[name]
            return f"{_mean(runs, name):.3f} ({low:.2f} to {high:.2f})"

        row = [reader, len(runs), cell("type"), cell("color"), cell("both")]
        row += [_range([run["both"] for run in runs]), cell("held_out/type")]
        row += [cell("held_out/color"), _spread([run["kernel_distance"] for run in runs])]
        rows.append(row)
    return (
        "## What is on the pictures\n\nIn brackets 95 % intervals over other pairs of type and "
        "colour (bootstrap); beside them the lowest and the highest seed.\n\n"
        + results.table(columns, rows)
    )


def _mean(runs: Sequence[Mapping[str, float]], name: str) -> float:
    return float(np.mean([run[name] for run in runs]))


def _range(found: Sequence[float]) -> str:
    return f"{min(found):.3f} to {max(found):.3f}" if len(found) > 1 else ""


def _spread(found: Sequence[float]) -> str:
    mean = f"{float(np.mean(found)):.3f}"
    return f"{mean} ({_range(found)})" if len(found) > 1 else mean


def _claim(values: Mapping[str, Any]) -> str:
    english = values["rows"][ENGLISH][0]
    least = {name: english[name] / chance for name, chance in _CHANCE.items()}
    if min(least.values()) < _LEAST:
        return (
            "English prompts themselves reach "
            + " and ".join(f"{value:.1f} times chance in {name}" for name, value in least.items())
            + f": below {_LEAST:.0f} times, the comparison proves nothing."
        )
    rows = []
    for reader, runs in values["rows"].items():
        if reader == ENGLISH:
            continue
        row = [reader]
        for name in ("type", "color", "both", "held_out/type", "held_out/color"):
            share = _mean(runs, name) / english[name] if english[name] else float("nan")
            low, high = values["spread"][reader][f"of_english/{name}"]
            row.append(f"{share:.0%} ({low:.0%} to {high:.0%})")
        rows.append(row)
    columns = ["of what English prompts reach", "type", "colour", "both"]
    return results.table([*columns, "type, held-out pairs", "colour, held-out pairs"], rows)


def _encoders(values: Mapping[str, Any]) -> str:
    names = {
        "response/mean": "response error",
        "noise/98": "noise, 98 %",
        "noise/50": "noise, 50 %",
        "noise/10": "noise, 10 %",
        "english/response": "English, response error",
        "first": "first position",
        "retrieval/ko_to_en/r1": "pooled retrieval@1",
    }
    rows = [
        [reader, *(_spread([run[name] for run in runs]) for name in names)]
        for reader, runs in values["encoders"].items()
    ]
    return (
        "## What the UNet sees\n\n"
        "Response: what its cross-attention gathers from Korean by the student against English by "
        "the teacher; 0 is the same, 1 as good as one reading for all prompts. Noise: the error of "
        "its prediction relative to that of an empty prompt, at three noise levels.\n\n"
        + results.table(["reader", *names.values()], rows)
    )


def _steps(values: Mapping[str, Any]) -> str:
    rows = [
        [sampler, steps, found["type"], found["color"], found["kernel_distance"]]
        for sampler, by_steps in values["steps"].items()
        for steps, found in by_steps.items()
    ]
    return (
        "## Steps and quality (slides 4.3)\n\nEnglish prompts, the teacher; the kernel distance is "
        "between the classifier's features of these pictures and of real photos of the same "
        "pairs.\n\n"
        + results.table(["sampler", "steps", "type", "colour", "kernel distance"], rows)
    )


def _pictures() -> str:
    return (
        "## Pictures\n\nEach column is one prompt and one noise, each row a reader.\n\n"
        "![pictures](text_to_image.png)\n\nPooled vectors of the same prompts in both languages, "
        "before and after (slide 4.2):\n\n![t-SNE](text_to_image_map.svg)"
    )


def grid(rows: Mapping[str, np.ndarray], prompts: Sequence[str], *, side: int = 96) -> Image.Image:
    """Readers down, prompts across."""
    images = np.stack(
        [np.stack([_larger(one, side) for one in images]) for images in rows.values()]
    )
    return Image.fromarray(sheet(images, rows=list(rows), columns=list(prompts)))


def _larger(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
