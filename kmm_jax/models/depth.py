"""How deep in its tower each parameter lies, for learning rates that fall with depth.

A tower is one stack of layers, or several that follow each other. What comes before the first layer
of a tower (embeddings, positions, class tokens, stems and their norms) lies at 0; layer number i,
from 1, at i; everything behind the last layer, and what belongs to no tower, is a head. Towers of
different depth are counted each by its own, as finetuning of MAE and BEiT does for one tower
(arXiv 2111.06377, table 9; arXiv 2106.08254).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Where a tower has several stacks, their order; elsewhere there is one.
_ORDER = ("unimodal", "multimodal")

_INPUT = re.compile(
    r"(.*/)?(patch_embedding|positions|class_embedding|cls_embedding|tokens|types|pre_norm"
    r"|input_norm|masking/vector)(/.*)?"
)
_LAYER = re.compile(r"(?P<tower>.*/)?(?P<stack>[^/]+)/layers/.*|layers/.*")


def heights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """How many steps below the heads each parameter lies: 0 for a head, 1 for the last layer.

    Args:
        shapes: of every parameter, by its path (``vision/blocks/layers/mlp/up/kernel``).

    Returns:
        By path, one number; for parameters of a stack one for each layer, the first layer first.
    """
    towers: dict[str, dict[str, int]] = {}  # the depth of each stack, by tower
    for path, shape in shapes.items():
        if match := _LAYER.fullmatch(path):
            towers.setdefault(match["tower"] or "", {})[match["stack"] or ""] = shape[0]
    whole = {tower: sum(stacks.values()) for tower, stacks in towers.items()}
    found = {}
    for path in shapes:
        if match := _LAYER.fullmatch(path):
            stacks, stack = towers[match["tower"] or ""], match["stack"] or ""
            behind = sum(depth for other, depth in stacks.items() if _rank(other) > _rank(stack))
            found[path] = tuple(behind + number for number in range(stacks[stack], 0, -1))
        elif _INPUT.fullmatch(path) and (tower := _tower_of(path, whole)) is not None:
            found[path] = (whole[tower] + 1,)
        else:
            found[path] = (0,)
    return found


def _rank(stack: str) -> int:
    return _ORDER.index(stack) if stack in _ORDER else 0


def _tower_of(path: str, towers: Mapping[str, int]) -> str | None:
    """The innermost tower that a parameter beside its layers belongs to."""
    return max((tower for tower in towers if path.startswith(tower)), key=len, default=None)
