"""Localisation: whether a phrase's heat-map lies where the thing stands.

The talk shows heat-maps (slides 3.3) and gives no figure for them; these are the usual ones.

B boxes, F floors, G patches along a side, S pixels along a side.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kmm_jax.data.config import DataConfig
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.images import upright_size
from kmm_jax.data.sources import Source, open_source
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.box_targets import Phrase, Target, targets_of
from kmm_jax.evaluation.dataset import EvaluationData, encoder_for
from kmm_jax.evaluation.encoders import Encoder, Functions, style_name
from kmm_jax.evaluation.heat import cells_within, enlarge, outstanding
from kmm_jax.evaluation.report import Score, Table
from kmm_jax.text.styles import Style

FLOORS = tuple(share / 20 for share in range(1, 20))
"""What is marked for ``iou``: where a map gets so far from its minimum to its maximum."""

_CALLED: Mapping[Phrase, str] = {"full": "colour, pattern and type", "type": "type alone"}
# Localisation takes its own texts and not those of the batches; this is the least a config may say.
_NO_TEXT_LENGTH = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxScores:
    """What each box got, float64 (B,), ``iou`` (B, F).

    Attributes:
        pointing: 1 if the maximum, the centre of its patch, lies in the box, with no tolerance; of
            several equal maxima the share that does (arXiv 1608.00507).
        iou: of the box and the pixels marked at each of ``FLOORS``.
        energy: share of the map, as far as it is above its minimum, within the box (arXiv
            1910.01279). Cosines have no zero that means "irrelevant", so the minimum stands for it.
        centre: 1 if the picture's centre lies in the box.
        ceiling: 1 if the centre of some patch does, so that the grid can point there at all.
        area: share of the picture in the box: the pointing of a uniformly random point.
        flat: share of the pixels in the box: ``iou`` and ``energy`` of a flat map.
    """

    pointing: np.ndarray
    iou: np.ndarray
    energy: np.ndarray
    centre: np.ndarray
    ceiling: np.ndarray
    area: np.ndarray
    flat: np.ndarray


def score_boxes(heat_BGG: np.ndarray, box_B4: np.ndarray, size: int) -> BoxScores:
    """Hold heat-maps against boxes.

    Args:
        box_B4: x0, y0, x1, y1 in shares of the side, within [0, 1]; each holds a pixel's centre.
        size: the maps are enlarged to so many pixels a side for ``iou`` and ``energy``.

    Raises:
        ValueError: not one box a map.
    """
    if len(heat_BGG) != len(box_B4):
        raise ValueError(f"{len(heat_BGG)} heat-maps for {len(box_B4)} boxes")
    box_B4 = np.asarray(box_B4, np.float64)
    x0, y0, x1, y1 = box_B4.T
    maximal_BGG = heat_BGG == heat_BGG.max(axis=(1, 2), keepdims=True)
    patch_BGG = cells_within(box_B4, heat_BGG.shape[-1])
    heat_BSS = enlarge(heat_BGG, size)
    pixel_BSS = cells_within(box_B4, size)
    above_BSS = heat_BSS - heat_BSS.min(axis=(1, 2), keepdims=True)
    # A flat map has nothing above its minimum; it is as much within the box as without.
    above_BSS[~above_BSS.any(axis=(1, 2))] = 1
    return BoxScores(
        pointing=_sums(maximal_BGG & patch_BGG) / _sums(maximal_BGG),
        iou=np.stack([_iou(outstanding(heat_BSS, floor), pixel_BSS) for floor in FLOORS], axis=1),
        energy=_sums(above_BSS * pixel_BSS) / _sums(above_BSS),
        centre=((x0 <= 0.5) & (x1 > 0.5) & (y0 <= 0.5) & (y1 > 0.5)).astype(np.float64),
        ceiling=np.asarray(patch_BGG.any(axis=(1, 2)), np.float64),
        area=(x1 - x0) * (y1 - y0),
        flat=_sums(pixel_BSS) / size**2,
    )


def _iou(one_BSS: np.ndarray, other_BSS: np.ndarray) -> np.ndarray:
    return _sums(one_BSS & other_BSS) / _sums(one_BSS | other_BSS)


def _sums(values_BSS: np.ndarray) -> np.ndarray:
    return values_BSS.sum(axis=(1, 2), dtype=np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Localised:
    """Every target of a set with its scores, side by side."""

    targets: tuple[Target, ...]
    scores: BoxScores


def localisation(
    encoder: Encoder,
    source: str | os.PathLike[str],
    *,
    image_size: int,
    batch_size: int,
    phrase: Phrase = "full",
    style: Style | None = "query",
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Table, Localised]:
    """Look for what the boxes of a set name, one phrase at a time.

    Args:
        source: what :func:`kmm_jax.data.sources.open_source` takes; its first ``limit`` rows.
        image_size: side of the central square crop, pixels.
        batch_size: of pictures read, and of pairs of a picture and a phrase, the last filled up.
        phrase, style: how things are called.
        progress: called with rows read so far and rows in all.

    Raises:
        DataError: no row has a box that can be looked for, a box is none, or the heat-maps are NaN.
        ConfigError: the model makes no heat-maps.
    """
    if encoder.heat_map is None:
        raise ConfigError("this model makes no heat-maps: its task has no function heat_map")
    opened = open_source(source)
    total = len(opened) if limit is None else min(limit, len(opened))
    config = DataConfig(sources=(), image_size=image_size, text_length=_NO_TEXT_LENGTH)
    waiting: list[tuple[np.ndarray, Target]] = []
    parts: list[BoxScores] = []
    found: list[Target] = []
    pictures = ambiguous = outside = grid = 0

    def look(pairs: Sequence[tuple[np.ndarray, Target]]) -> int:
        """The score of at most a batch of pairs; returns the side of the grid."""
        filled = [*pairs, *[pairs[-1]] * (batch_size - len(pairs))]
        pixels_BHWC = np.stack([pixels for pixels, _ in filled])
        assert encoder.heat_map is not None
        heat_BGG = encoder.heat_map(pixels_BHWC, [one.phrase for _, one in filled], style)
        boxes_B4 = np.asarray([one.box for _, one in pairs])
        parts.append(score_boxes(heat_BGG[: len(pairs)], boxes_B4, image_size))
        found.extend(one for _, one in pairs)
        return heat_BGG.shape[-1]

    for batch in evaluation_batches(opened, config, batch_size, limit=limit):
        numbers = batch["row"][batch["valid"]]
        for number, pixels in zip(numbers, batch["image"], strict=False):
            row = opened.read(int(number))
            of_row = targets_of(
                row.record, upright_size(row.image), phrase=phrase, image_size=image_size
            )
            pictures += bool(of_row.found)
            ambiguous += of_row.ambiguous
            outside += of_row.outside
            waiting += [(pixels, one) for one in of_row.found]
        while len(waiting) >= batch_size:
            grid, waiting = look(waiting[:batch_size]), waiting[batch_size:]
        if progress is not None:
            progress(int(numbers[-1]) + 1, total)
    if waiting:
        grid = look(waiting)
    if not found:
        raise _no_boxes(opened)
    localised = Localised(targets=tuple(found), scores=_joined(parts))
    left_out = [
        f"{count:,} {which}"
        for count, which in ((ambiguous, "of names that occur twice"), (outside, "cropped away"))
        if count
    ]
    about = (
        f"{len(found):,} boxes in {pictures:,} pictures of {opened.name}"
        + (f" ({' and '.join(left_out)} left out)" if left_out else "")
        + f", looked for by {_CALLED[phrase]} in the style {style_name(style)}, "
        f"on heat-maps of {grid} x {grid} patches"
    )
    return _table(localised, about=about, title=f"Localisation: {phrase}"), localised


def _joined(parts: Sequence[BoxScores]) -> BoxScores:
    names = [field.name for field in dataclasses.fields(BoxScores)]
    return BoxScores(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )


def _no_boxes(opened: Source) -> DataError:
    return DataError(
        f"{opened.name}: no record has a box to look for, of a name that no other box of its "
        'picture has, such as "boxes": [{"box": [x0, y0, x1, y1], "phrase": "빨간 셔츠"}]'
    )


def _table(localised: Localised, *, about: str, title: str) -> Table:
    several_B = np.asarray([one.several for one in localised.targets])
    groups = {"all": np.ones_like(several_B), "several": several_B}
    best = int(localised.scores.iou.mean(axis=0).argmax())
    return Table(
        task="localisation",
        title=title,
        protocol=(
            f"{about}. pointing: the centre of the highest patch lies in the box, no tolerance; "
            "iou: of the box and the pixels that get iou_floor of the way from the map's minimum "
            f"to its maximum, of {FLOORS[0]:.0%} to {FLOORS[-1]:.0%} the best for the model over "
            "these boxes (arXiv 2007.04178); energy: share of the map above its minimum within "
            "the box. chance: a random point and a flat map, exactly. centre: pointing at the "
            "picture's centre; blind: at the middle of any of the picture's things, whatever the "
            "phrase; ceiling: at the best patch; errors_gone: the part of the centre's errors that "
            "pointing does not make. several: only pictures of several things, where neither "
            "guess is good."
        ),
        scores=(
            *(
                score
                for group, which_B in groups.items()
                if which_B.any()
                for score in _scores(group, localised, which_B, best)
            ),
            Score(name="iou_floor", value=FLOORS[best]),
        ),
        facts={"boxes": len(several_B), "boxes_of_several": int(several_B.sum())},
    )


def _scores(group: str, localised: Localised, which_B: np.ndarray, best: int) -> Iterator[Score]:
    scores = localised.scores

    def mean(values_B: np.ndarray) -> float:
        return float(values_B[which_B].mean())

    pointing, centre = mean(scores.pointing), mean(scores.centre)
    area, flat = mean(scores.area), mean(scores.flat)
    yield Score(name=f"{group}/pointing", value=pointing, chance=area)
    yield Score(name=f"{group}/centre", value=centre, chance=area)
    blind_B = np.asarray([one.blind for one in localised.targets])
    yield Score(name=f"{group}/blind", value=mean(blind_B), chance=area)
    yield Score(name=f"{group}/ceiling", value=mean(scores.ceiling))
    if centre < 1:
        yield Score(name=f"{group}/errors_gone", value=(pointing - centre) / (1 - centre))
    yield Score(name=f"{group}/iou", value=mean(scores.iou[:, best]), chance=flat)
    yield Score(name=f"{group}/energy", value=mean(scores.energy), chance=flat)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalisationEvaluator:
    """Localisation while a model trains; yields nothing if the task gives no function ``heat_map``.

    Yields ``<name>/several/pointing`` and so on (:func:`localisation`), chance and counts included.

    Attributes:
        every: a duration (``"20%"``, ``"1000 steps"``).
        data: the evaluation set, and what the model takes.
        phrase, style: how things are called; no style for a model trained without style tokens.
    """

    name: str = "localisation"
    every: str = "20%"
    data: EvaluationData
    phrase: Phrase = "full"
    style: Style | None = "query"

    def check(self) -> None:
        """Refuse data of which no row has a box that can be looked for."""
        from kmm_jax.text.tokenizer import Tokenizer

        Tokenizer.load(self.data.tokenizer)
        opened = open_source(self.data.source)
        for number in range(min(self.data.limit or len(opened), len(opened))):
            try:
                row = opened.read(number)
                picture = upright_size(row.image)
            except DataError:
                continue  # bad rows are counted when the set is read whole
            size = self.data.image_size
            if targets_of(row.record, picture, phrase=self.phrase, image_size=size).found:
                return
        raise _no_boxes(opened)

    def run(self, functions: Functions, params: Any) -> Iterator[tuple[str, float]]:
        """Read the set, look for its boxes, and yield (name, value)."""
        if "heat_map" not in functions:
            return
        data = self.data
        encoder = encoder_for(data, functions, params)
        table, _ = localisation(
            encoder,
            data.source,
            image_size=data.image_size,
            batch_size=data.batch_size,
            phrase=self.phrase,
            style=self.style,
            limit=data.limit,
        )
        for name, value in table.metrics():
            yield f"{self.name}/{name}", value
