"""Composed queries on the shop: a picture of which one attribute is to be another.

What is looked for is known: pictures of the same type whose colour, or pattern, is the wanted one
and whose other attribute is that of the query's picture. Half of the queries choose the weight of
each way of asking, the other half is reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.data.shop.backgrounds import BACKGROUNDS
from kmm_jax.data.shop.combinations import allowed
from kmm_jax.data.shop.dyes import INKS
from kmm_jax.data.shop.scene import Picture, Scene, paint
from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, KINDS, PATTERNS_BY_KEY, Garment
from kmm_jax.evaluation.bootstrap import mean_intervals
from kmm_jax.retrieval.compose import Form, combine, compose
from kmm_jax.retrieval.terms import neutral_of

Combo = tuple[str, str, str]  # type, colour, pattern

TASKS = {
    "colour for another": "image − 빨간색 + 파란색",
    "colour named": "image + 파란색",
    "pattern for another": "image − 줄무늬 + 꽃무늬",
    "pattern on plain cloth": "image + 꽃무늬",
}
WEIGHTS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOP = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures to search among, one garment each, and where each combination is.

    Attributes:
        vectors: (N, D).
        places: rows of each combination.
        queries: (Q, D), another picture of each of ``combos``.
    """

    vectors: np.ndarray
    places: dict[Combo, list[int]]
    combos: list[Combo]
    queries: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """A query: the picture's row, what it should lose and get, and what is looked for."""

    row: int
    minus: str | None
    plus: str
    wanted: Combo


def garment(combo: Combo, rng: Random) -> Garment:
    """A garment of a type, colour and pattern; its other attributes are drawn."""
    kind, colour, pattern = combo
    return Garment(
        kind=kind,
        colour=colour,
        pattern=pattern,
        ink=None if pattern == "solid" else rng.choice(INKS[colour]),
        attributes={key: rng.choice(values) for key, values in KINDS[kind].options},
    )


def draw(combos: Sequence[Combo], salt: str, *, size: int) -> Picture:
    """A picture of garments on a background, from names alone."""
    rng = Random(f"composed/{salt}/{combos}")
    garments = tuple(garment(combo, rng) for combo in combos)
    return paint(Scene(garments=garments, background=rng.choice(tuple(BACKGROUNDS))), size, rng)


def gallery(model: Any, *, size: int, kinds: int) -> Gallery:
    """Two pictures of every combination that a training picture may show, and one to ask with."""
    combos = [
        (kind, colour, pattern)
        for kind in list(KINDS)[:kinds]
        for colour in COLOURS_BY_KEY
        for pattern in allowed(kind, colour, "train")
    ]
    rows = [(combo, copy) for combo in combos for copy in range(2)]
    places: dict[Combo, list[int]] = {}
    for number, (combo, _) in enumerate(rows):
        places.setdefault(combo, []).append(number)

    def drawn(some: Sequence[tuple[Combo, Any]]) -> Iterator[Image.Image]:
        return (draw([combo], str(salt), size=size).image for combo, salt in some)

    return Gallery(
        vectors=model.embed_image(drawn(rows)),
        places=places,
        combos=combos,
        queries=model.embed_image(drawn([(combo, "query") for combo in combos])),
    )


def changes(task: str, found: Gallery, seed: int = 0) -> list[Change]:
    """The queries of a task, in an order of their own."""
    rng = Random(f"changes/{task}/{seed}")
    asked = []
    for row, (kind, colour, pattern) in enumerate(found.combos):
        if task.startswith("colour"):
            others = [
                c for c in COLOURS_BY_KEY if c != colour and (kind, c, pattern) in found.places
            ]
            before = colour
        else:
            if task == "pattern on plain cloth" and pattern != "solid":
                continue
            # A pattern is taken away where there is one.
            if task == "pattern for another" and pattern == "solid":
                continue
            others = [
                p
                for p in PATTERNS_BY_KEY
                if p not in (pattern, "solid") and (kind, colour, p) in found.places
            ]
            before = pattern
        if not others:
            continue
        after = rng.choice(others)
        wanted = (kind, after, pattern) if task.startswith("colour") else (kind, colour, after)
        swaps = task.endswith("for another")
        asked.append(Change(row=row, minus=before if swaps else None, plus=after, wanted=wanted))
    rng.shuffle(asked)
    return asked


def measure(model: Any, found: Gallery) -> dict[str, Any]:
    """recall@10 of each task and way of asking, on test queries at the weight of validation."""
    names = {**{k: v.ko for k, v in COLOURS_BY_KEY.items()},
             **{k: v.ko for k, v in PATTERNS_BY_KEY.items()}}  # fmt: skip
    texts = dict(zip(names, model.embed_text(list(names.values())), strict=True))
    neutral = neutral_of(model)
    values: dict[str, Any] = {"gallery": len(found.vectors), "tasks": {}}
    for task in TASKS:
        asked = changes(task, found)
        half = len(asked) // 2
        rows: dict[str, Any] = {}
        for way, (vector_of, choices) in _ways(found, texts, neutral).items():
            tried = [
                (float(_recalls(found, asked[:half], vector_of, w).mean()), w) for w in choices
            ]
            best = max(tried, key=lambda one: one[0])[1]
            recall = _recalls(found, asked[half:], vector_of, best)
            low, high = mean_intervals(recall[:, None])[0]
            rows[way] = {
                "recall": float(recall.mean()), "low": float(low), "high": float(high),
                "weight": best,
            }  # fmt: skip
            if len(choices) > 1 and 1.0 in choices:
                plain = _recalls(found, asked[half:], vector_of, 1.0)
                rows[way]["recall_of_weight_1"] = float(plain.mean())
        values["tasks"][task] = {"queries": len(asked) - half, "rows": rows}
    return values


def _ways(
    found: Gallery, texts: dict[str, np.ndarray], neutral: np.ndarray
) -> dict[str, tuple[Callable[[Change, float], np.ndarray], Sequence[float]]]:
    def summed(change: Change, weight: float, form: Form) -> np.ndarray:
        vectors, weights = [found.queries[change.row], texts[change.plus]], [1.0, weight]
        if change.minus is not None:
            vectors.append(texts[change.minus])
            weights.append(-weight)
        return combine(
            vectors,
            weights,
            are_texts=[False, *(True for _ in vectors[1:])],
            form=form,
            neutral=neutral,
        )

    return {
        "image alone": (lambda change, _: found.queries[change.row], (1.0,)),
        "text alone": (lambda change, _: texts[change.plus], (1.0,)),
        "image and text (compose)": (
            lambda change, share: compose(texts[change.plus], found.queries[change.row], share),
            SHARES,
        ),
        "terms as points": (lambda change, weight: summed(change, weight, "points"), WEIGHTS),
        "terms as directions": (
            lambda change, weight: summed(change, weight, "directions"),
            WEIGHTS,
        ),
    }


def _recalls(
    found: Gallery,
    asked: Sequence[Change],
    vector_of: Callable[[Change, float], np.ndarray],
    weight: float,
) -> np.ndarray:
    """The share of what is looked for among the first ten, of each query (Q,)."""
    queries = np.stack([vector_of(change, weight) for change in asked])
    return recalls(found, queries, [change.wanted for change in asked])


def recalls(found: Gallery, queries: np.ndarray, wanted: Sequence[Combo]) -> np.ndarray:
    """The share of each query's combination among its ten nearest (Q,)."""
    scores = queries @ found.vectors.T
    tops = np.argpartition(-scores, TOP, axis=1)[:, :TOP]
    return np.asarray(
        [
            len(set(found.places[combo]) & set(top.tolist())) / len(found.places[combo])
            for combo, top in zip(wanted, tops, strict=True)
        ]
    )
