"""Vectors with labels that can be learned, and a label set of two groups for them."""

from __future__ import annotations

import numpy as np

from kmm_jax.tagging.labels import Group, Label, LabelSet
from kmm_jax.tagging.rows import LabelledVectors

COLORS = ("빨간색", "녹색", "파란색", "보라색")


def labels(*, several: bool = True) -> LabelSet:
    """Three colours that rows have and one that none has; two patterns, of which a row has one."""

    def label(key: str, name: str) -> Label:
        return Label(key=key, ko=name, en=key)

    return LabelSet(
        description="",
        groups=(
            Group(
                key="color",
                ko="색상",
                en="colour",
                several=several,
                fields=("color",),
                templates={"ko": ("{name} 옷", "{name} 의류")},
                labels=tuple(
                    label(key, name)
                    for key, name in zip(("red", "green", "blue", "purple"), COLORS, strict=True)
                ),
            ),
            Group(
                key="pattern",
                ko="무늬",
                en="pattern",
                several=False,
                fields=("pattern",),
                templates={"ko": ("{name} 의류",)},
                labels=(label("solid", "민무늬"), label("floral", "꽃무늬")),
            ),
        ),
    )


def rows(count: int = 240, *, seed: int = 0, noise: float = 0.15) -> LabelledVectors:
    """Each dimension is a label's; of a third of the rows nothing is said of the pattern."""
    rng = np.random.default_rng(seed)
    true_NC = np.zeros((count, 6), bool)
    true_NC[:, :3] = rng.random((count, 3)) < (0.5, 0.3, 0.15)
    true_NC[:, 0] |= ~true_NC[:, :3].any(axis=1)
    floral_N = rng.random(count) < 0.3
    true_NC[:, 4], true_NC[:, 5] = ~floral_N, floral_N
    vectors_ND = true_NC @ np.eye(6, 8) + rng.normal(0, noise, (count, 8))
    known_NC = np.ones((count, 6), bool)
    known_NC[::3, 4:] = False
    return LabelledVectors(
        name="made",
        vectors_ND=(vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype("f4"),
        true_NC=true_NC & known_NC,
        known_NC=known_NC,
    )
