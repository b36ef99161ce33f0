"""The study as a page: tables, what they come to, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.generation.grid import sheet
from tools import results
from tools.tags.measure import BOTH, CLASSIC, GENERATED, NONE, OVERSAMPLING, WAYS

_AIM = 0.10
_TITLES = {
    "shop": "The shop with a forced long tail",
    "products": "Real colours (Fashion Product Images)",
}
_SAID = {
    NONE: "none: rows as they come",
    OVERSAMPLING: "oversampling: labels drawn alike",
    CLASSIC: "classic: oversampling, with crops and mirror images",
    GENERATED: "generated: oversampling, a share of it generated",
    BOTH: "generated and classic",
}


def body(values: Mapping[str, Any]) -> str:
    """The page, without title and provenance."""
    parts = [
        "A small convolutional tagger of colours and patterns is trained from nothing on "
        "long-tailed rows, in five ways, and tested on rows in which rare labels are about as "
        "common as others. Generated pictures are by our own latent diffusion generator "
        "(autoencoder, text encoder and UNet from nothing), trained on the same training rows and "
        "nothing else, and prompted in Korean with every label on all kinds of clothes, also on "
        "such as no training row of the label shows (보라색 하트무늬 원피스). Which share of a "
        "label's draws they are, whether of every label or of rare ones alone, and whether the "
        "half that an oversampled classifier finds less likely is left out, is chosen on "
        "validation rows: what only rare labels have, such as the look of generated pictures, may "
        "be learned as their sign. The tagger is trained end to end: on top of frozen vectors, "
        "pictures that look new would teach little. In brackets 95 % intervals over test rows "
        f"and {values['seeds']} training seeds (bootstrap, the same draws for all ways); the "
        "generator has one seed."
    ]
    for name, found in values["worlds"].items():
        parts.append(_world(name, found))
    parts.append(
        "## Pictures\n\nTraining pictures of the rarest labels (left) and generated ones (right)."
        "\n\n![pictures](tags.png)"
    )
    return "\n\n".join(parts)


def _world(name: str, found: Mapping[str, Any]) -> str:
    rows = [
        [_SAID[way], *(_with_interval(found["ways"][way][part]) for part in _PARTS)] for way in WAYS
    ]
    shown = [key for key in found["differences"] if key.startswith((GENERATED, CLASSIC))]
    differences = [
        [key.replace(" - ", " over "), *(_points(found["differences"][key][p]) for p in _PARTS)]
        for key in shown
    ]
    labels = [
        [found["labels"][place], found["counts"][place], found["tests"][place]]
        + [found["f1"][way][place] for way in WAYS]
        for place in found["rare"]
    ]
    mixes = [[mix, each["macro_f1"], each["rarest"]] for mix, each in found["mixes"].items()]
    return "\n\n".join(
        [
            f"## {_TITLES[name]}",
            f"{found['said']}. {found['validation']:,} validation and {found['test']:,} test "
            f"pictures; {found['painted']:,} generated, {found['each']} of each label. Chosen on "
            f"validation rows: {found['mix']}.",
            results.table(["way", "accuracy", "macro-F1", "macro-F1, rarest third"], rows),
            verdict(found),
            results.table(
                ["difference, points", "accuracy", "macro-F1", "macro-F1, rarest third"],
                differences,
            ),
            "F1 of the rarest third of labels:",
            results.table(["label", "training", "test", *WAYS], labels),
            "On validation rows, seed 0:",
            results.table(["generated pictures", "macro-F1", "macro-F1, rarest third"], mixes),
        ]
    )


_PARTS = ("accuracy", "macro_f1", "rarest")


def verdict(found: Mapping[str, Any]) -> str:
    """Whether the aim was met: ten points over none, and over oversampling beyond the interval."""
    over_none, low_none, _ = found["differences"][f"{GENERATED} - {NONE}"]["rarest"]
    over, low, _ = found["differences"][f"{GENERATED} - {OVERSAMPLING}"]["rarest"]
    first = "met" if over_none >= _AIM else "missed"
    second = "met" if low > 0 else "missed"
    return (
        f"Aim for the rarest third: {100 * _AIM:.0f} points over none, {first} "
        f"({100 * over_none:+.1f}, at least {100 * low_none:+.1f}); above oversampling beyond the "
        f"interval, {second} ({100 * over:+.1f}, at least {100 * low:+.1f})."
    )


def _with_interval(value: Sequence[float]) -> str:
    middle, low, high = value
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _points(value: Sequence[float]) -> str:
    middle, low, high = (100 * each for each in value)
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def drawing(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]], *, each: int = 6, side: int = 72
) -> Image.Image:
    """A row a label: ``each`` of its training pictures, then as many generated ones."""
    lines = []
    for real, made in rows.values():
        line = [*_some(real, each), *_some(made, each)]
        lines.append(np.stack([_larger(one, side) for one in line]))
    columns = [*("실제" for _ in range(each)), *("생성" for _ in range(each))]
    return Image.fromarray(sheet(np.stack(lines), rows=list(rows), columns=columns))


def _some(images: np.ndarray, count: int) -> list[np.ndarray]:
    """So many of them; grey where there are fewer."""
    empty = np.full((32, 32, 3), 230, np.uint8)
    return [images[n] if n < len(images) else empty for n in range(count)]


def _larger(image: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
