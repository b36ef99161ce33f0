"""What a reader of prompts makes of them: pictures, and the classifier's verdict."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.data.datasets.fashion_pairs import COLORS, TYPES, Pair
from kmm_jax.data.datasets.fashion_prompts import Look, draw
from kmm_jax.evaluation.bootstrap import intervals
from kmm_jax.evaluation.kernel_distance import kernel_distance
from kmm_jax.files import atomic_write, read_json, write_json
from kmm_jax.generation.loading import load_pipeline
from kmm_jax.generation.request import Request
from kmm_jax.interop.diffusers import folder as folders
from tools.text_to_image.classifier import Classifier
from tools.text_to_image.data import World, pair_name

_BATCH = 40
GUIDANCE, STEPS, SAMPLER = 3.0, 15, "dpmpp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """Prompts in both languages, and what they ask for."""

    pairs: tuple[Pair, ...]
    korean: tuple[str, ...]
    english: tuple[str, ...]
    held_out: np.ndarray

    def prompts(self, language: str) -> tuple[str, ...]:
        """Of one language."""
        return self.korean if language == "ko" else self.english


def asked(world: World, *, each: int, seed: int = 0) -> Asked:
    """``each`` held-out wordings of every held-out pair and of as many trained ones."""
    rng = random.Random(seed)
    trained = [pair for pair in world.trained if world.counts[pair_name(pair)] >= 5]
    pairs = [*world.held_out, *rng.sample(trained, len(world.held_out))]
    rows = [pair for pair in pairs for _ in range(each)]
    looks = [Look(type=type_, color=color) for type_, color in rows]
    return Asked(
        pairs=tuple(rows),
        korean=tuple(draw(rng, look, "ko", "held_out") for look in looks),
        english=tuple(draw(rng, look, "en", "held_out") for look in looks),
        held_out=np.asarray([pair in world.held_out for pair in rows]),
    )


def pictures(
    model: Path,
    prompts: Sequence[str],
    keep: Path,
    *,
    steps: int = STEPS,
    sampler: str = SAMPLER,
    guidance: float = GUIDANCE,
) -> np.ndarray:
    """A picture of each prompt (N, S, S, 3) uint8; the same place has the same noise.

    Made once for the same question to the same model: they are kept in the folder ``keep``.
    """
    asked = (*prompts, steps, sampler, guidance, (model / folders.INDEX).stat().st_mtime_ns)
    name = hashlib.sha256(repr((asked, model.name)).encode()).hexdigest()[:12]
    file = keep / f"{model.name}-{sampler}-{steps}-{name}.npy"
    if not file.is_file():
        made = _pictures(model, prompts, steps, sampler, guidance)
        keep.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as place:
            np.save(place, made)
    return np.load(file, allow_pickle=False)


def _pictures(
    model: Path, prompts: Sequence[str], steps: int, sampler: str, guidance: float
) -> np.ndarray:
    pipeline = load_pipeline(model)
    made = []
    batch = math.ceil(len(prompts) / math.ceil(len(prompts) / _BATCH))
    for start in range(0, len(prompts), batch):
        some = list(prompts[start : start + batch])
        fill = batch - len(some)  # so that one program serves all
        request = Request(
            prompts=(*some, *some[-1:] * fill),
            sampler=sampler,
            steps=steps,
            guidance=guidance,
            seeds=start,
        )
        made.append(pipeline.generate(request).images[: len(some)])
    return np.concatenate(made)


Hits = dict[str, np.ndarray]
"""Of each prompt, (N,) bool: whether ``type``, ``color`` and ``both`` were right."""


def verdict(
    images: np.ndarray, wanted: Asked, judge: Classifier, real: np.ndarray
) -> tuple[dict[str, float], Hits]:
    """Shares of right types and colours, on all prompts and on held-out pairs; kernel distance.

    Args:
        real: features of real photos of the same classifier.
    """
    features, types, colors = judge.read(images)
    right = {
        "type": types == [TYPES.index(type_) for type_, _ in wanted.pairs],
        "color": colors == [COLORS.index(color) for _, color in wanted.pairs],
    }
    right["both"] = right["type"] & right["color"]
    found = {name: float(each.mean()) for name, each in right.items()}
    found |= {
        f"held_out/{name}": float(each[wanted.held_out].mean()) for name, each in right.items()
    }
    return {**found, "kernel_distance": kernel_distance(features, real)}, right


def spread(runs: Sequence[Hits], english: Hits, wanted: Asked) -> dict[str, list[float]]:
    """95 % intervals of a reader's shares, and of those relative to English (``of_english/``).

    Pairs of type and colour are drawn anew, with all their wordings and all runs; runs are not. The
    prompts and noise of English are the same, so both sides of a ratio are drawn together.
    """
    _, groups = np.unique([f"{one} {other}" for one, other in wanted.pairs], return_inverse=True)
    found: dict[str, list[float]] = {}
    for part, rows in (("", np.ones_like(wanted.held_out)), ("held_out/", wanted.held_out)):
        members = [np.flatnonzero(rows & (groups == group)) for group in np.unique(groups[rows])]
        for name in english:
            ours = np.mean([run[name] for run in runs], axis=0)

            def share(drawn: np.ndarray, ours: np.ndarray = ours) -> float:
                return float(ours[np.concatenate([members[one] for one in drawn])].mean())  # noqa: B023

            def ratio(drawn: np.ndarray, share: Any = share, name: str = name) -> float:
                theirs = share(drawn, english[name])
                return float(share(drawn) / theirs) if theirs else float("nan")

            found[f"{part}{name}"] = list(intervals(share, len(members)))
            found[f"of_english/{part}{name}"] = list(intervals(ratio, len(members)))
    return found


def kept(file: Path, measure: Any) -> Any:
    """What ``measure`` gives, measured once."""
    found = read_json(file)
    if found is None:
        found = measure()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, found)
    return found
