"""Parts of pictures on the shop: one garment of several is looked for, by whole and by part.

Of each garment of a scene the same type in the same colour and pattern is looked for among pictures
of one garment. The part is the drawn box, or where the model sees the type's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import numpy as np

from kmm_jax.data.boxes import Box
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY
from kmm_jax.evaluation.bootstrap import mean_intervals
from kmm_jax.evaluation.heat import peak
from kmm_jax.retrieval.regions import cropped, located
from tools.composed_queries import Combo, Gallery, draw, recalls

PHRASES: dict[str, Callable[[Combo], str]] = {
    "the type": lambda combo: KINDS[combo[0]].ko,
    "colour, pattern and type": lambda combo: (
        f"{COLOURS_BY_KEY[combo[1]].ko} {PATTERNS_BY_KEY[combo[2]].ko} {KINDS[combo[0]].ko}"
    ),
}
FLOORS = (0.5, 0.7)
WHOLES = (0.0, 0.1, 0.2, 0.3, 0.5)
MARGINS = (0.0, 0.1, 0.2, 0.35)
_CENTRE: Box = (0.25, 0.25, 0.75, 0.75)
_ALL: Box = (0.0, 0.0, 1.0, 1.0)
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
    wholes = model.embed_image(drawn)[[one.scene for one in targets]]

    def parts(boxes: Sequence[Box], margin: float = 0.1) -> np.ndarray:
        return np.asarray(
            model.embed_image(
                cropped(drawn[one.scene], box, margin=margin)
                for one, box in zip(targets, boxes, strict=True)
            )
        )

    boxes = [one.box for one in targets]
    # Of each way of searching, the parts that are tried.
    vectors = {
        "the whole picture": {"": wholes},
        "its middle": {"": parts([_CENTRE] * len(targets))},
    }
    seen: dict[str, dict[str, float]] = {}
    for said, phrase in PHRASES.items():
        texts = [phrase(one.combo) for one in targets]
        heats = np.asarray(model.heat_map([drawn[one.scene] for one in targets], texts))
        found_boxes = {
            f"{floor:g}": [located(heat, (_SIZE, _SIZE), floor=floor) or _ALL for heat in heats]
            for floor in FLOORS
        }
        vectors[f"where the model sees {said}"] = {
            floor: parts(some) for floor, some in found_boxes.items()
        }
        seen[said] = {
            "pointing": _mean(
                _holds(box, peak(heat)) for box, heat in zip(boxes, heats, strict=True)
            ),
            "flat": _mean(np.ptp(heat) == 0 for heat in heats),
            **{
                f"iou_{floor}": _mean(
                    _iou(one, other) for one, other in zip(some, boxes, strict=True)
                )
                for floor, some in found_boxes.items()
            },
        }
    vectors["the drawn box"] = {"": parts(boxes)}
    # Targets of one scene stay together, so that nothing is chosen on a picture it is told of.
    chosen_N = np.asarray([one.scene % 2 == 0 for one in targets])
    groups_N = np.asarray([one.scene for one in targets])[~chosen_N]
    wanted = [one.combo for one in targets]
    rows = {}
    for name, tries in vectors.items():
        wholes_tried = (0.0,) if name == "the whole picture" else WHOLES
        tried = {
            (floor, share): recalls(found, _unit((1 - share) * part + share * wholes), wanted)
            for floor, part in tries.items()
            for share in wholes_tried
        }
        floor, share = max(tried, key=lambda one: float(tried[one][chosen_N].mean()))
        recall = tried[floor, share][~chosen_N]
        low, high = mean_intervals(recall[:, None], groups_N=groups_N)[0]
        rows[name] = {
            "recall": float(recall.mean()), "low": float(low), "high": float(high),
            "whole": share, "floor": floor,
            "recall_of_part_alone": float(tried[floor, 0.0][~chosen_N].mean()),
        }  # fmt: skip
    margins = {
        str(margin): float(recalls(found, parts(boxes, margin), wanted)[chosen_N].mean())
        for margin in MARGINS
    }
    return {
        "scenes": scenes,
        "targets": len(targets),
        "reported": int((~chosen_N).sum()),
        "area": _mean((one[2] - one[0]) * (one[3] - one[1]) for one in boxes),
        "seen": seen,
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


def _mean(values: Iterable[Any]) -> float:
    return float(np.mean(list(values)))


def _holds(box: Box, at: tuple[float, float]) -> bool:
    return box[0] <= at[0] < box[2] and box[1] <= at[1] < box[3]


def _iou(one: Box, other: Box) -> float:
    across = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    down = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    both = across * down
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)
