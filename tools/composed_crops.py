"""Parts of pictures on the shop: one garment of several is looked for, by whole and by part.

Of each garment of a scene the same type in the same colour and pattern is looked for among pictures
of one garment. The part is the drawn box, or where the model sees the type's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from kmm_jax.data.boxes import Box
from kmm_jax.data.shop.vocabulary import KINDS
from kmm_jax.evaluation.bootstrap import mean_intervals
from kmm_jax.retrieval.regions import cropped, located
from tools.composed_queries import Combo, Gallery, draw, recalls

WHOLES = (0.0, 0.1, 0.2, 0.3, 0.5)
MARGINS = (0.0, 0.1, 0.2, 0.35)
_CENTRE: Box = (0.25, 0.25, 0.75, 0.75)
_SIZE = 96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A garment in a picture: which picture, where, and what."""

    scene: int
    box: Box
    combo: Combo


def measure(model: Any, found: Gallery, *, scenes: int) -> dict[str, Any]:
    """Where the model points, and recall@10 by whole, by part and by both together."""
    rng = Random("crops")
    drawn, targets = [], []
    for number in range(scenes):
        combos = _several(found.combos, rng)
        picture = draw(combos, f"scene {number}", size=_SIZE)
        drawn.append(picture.image)
        for combo, (x0, y0, x1, y1) in zip(combos, picture.boxes, strict=True):
            box = (x0 / _SIZE, y0 / _SIZE, x1 / _SIZE, y1 / _SIZE)
            targets.append(Target(scene=number, box=box, combo=combo))
    names = [KINDS[target.combo[0]].ko for target in targets]
    heats = np.asarray(model.heat_map([drawn[one.scene] for one in targets], names))
    seen = [located(heat, (_SIZE, _SIZE)) or (0.0, 0.0, 1.0, 1.0) for heat in heats]
    wholes = model.embed_image(drawn)[[one.scene for one in targets]]

    def parts(boxes: Sequence[Box], margin: float = 0.1) -> np.ndarray:
        return np.asarray(
            model.embed_image(
                cropped(drawn[one.scene], box, margin=margin)
                for one, box in zip(targets, boxes, strict=True)
            )
        )

    boxes = [one.box for one in targets]
    vectors = {
        "the whole picture": wholes,
        "its middle": parts([_CENTRE] * len(targets)),
        "where the model sees the type": parts(seen),
        "the drawn box": parts(boxes),
    }
    # Targets of one scene stay together, so that nothing is chosen on a picture it is told of.
    chosen_N = np.asarray([one.scene % 2 == 0 for one in targets])
    groups_N = np.asarray([one.scene for one in targets])[~chosen_N]
    wanted = [one.combo for one in targets]
    rows = {}
    for name, part in vectors.items():
        choices = (0.0,) if name == "the whole picture" else WHOLES
        tried = {
            share: recalls(found, _unit((1 - share) * part + share * wholes), wanted)
            for share in choices
        }
        best = max(tried, key=lambda share: float(tried[share][chosen_N].mean()))
        recall = tried[best][~chosen_N]
        low, high = mean_intervals(recall[:, None], groups_N=groups_N)[0]
        rows[name] = {
            "recall": float(recall.mean()), "low": float(low), "high": float(high),
            "whole": best, "recall_of_part_alone": float(tried[choices[0]][~chosen_N].mean()),
        }  # fmt: skip
    margins = {
        str(margin): float(recalls(found, parts(boxes, margin), wanted)[chosen_N].mean())
        for margin in MARGINS
    }
    overlaps = np.asarray([_iou(one, other) for one, other in zip(seen, boxes, strict=True)])
    inside = [_holds(box, _middle(one)) for one, box in zip(seen, boxes, strict=True)]
    blind = [_holds(box, (0.5, 0.5)) for box in boxes]
    return {
        "scenes": scenes,
        "targets": len(targets),
        "reported": int((~chosen_N).sum()),
        "pointing": float(np.mean(inside)),
        "pointing_of_the_middle": float(np.mean(blind)),
        "iou": float(overlaps.mean()),
        "rows": rows,
        "margins": margins,
    }


def _several(combos: Sequence[Combo], rng: Random) -> list[Combo]:
    """Two or three garments of different types."""
    chosen: list[Combo] = []
    count = min(rng.choice((2, 3)), len({combo[0] for combo in combos}))
    while len(chosen) < count:
        combo = rng.choice(combos)
        if combo[0] not in {one[0] for one in chosen}:
            chosen.append(combo)
    return chosen


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _holds(box: Box, at: tuple[float, float]) -> bool:
    return box[0] <= at[0] < box[2] and box[1] <= at[1] < box[3]


def _iou(one: Box, other: Box) -> float:
    across = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    both = across * down
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)
