"""From sources to an endless, shuffled, weighted sequence of examples, pure in the index."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import grain
import numpy as np
from PIL import Image

from kmm_jax.data.augment import augment, sides_needed
from kmm_jax.data.bad_rows import BadRowError, BadRows
from kmm_jax.data.config import DataConfig
from kmm_jax.data.images import open_rgb
from kmm_jax.data.questions import Question, questions
from kmm_jax.data.schema import QUESTIONS, texts
from kmm_jax.data.sources import Row, Source
from kmm_jax.errors import DataError

# Grain's shuffle costs 7 ms a row in a set of 10 and 0.05 ms in one of 1,000 (grain 0.2.18): it
# draws from a range of a fixed least size until a number falls into the set.
_SMALL = 1000

Choice = tuple[str, str | Question, float]
"""A field, one of its texts or questions, and its weight within the field."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row made ready: the augmented image, one of its texts or questions, where both came from.

    ``views`` are further augmented images of the same picture, one for each of ``config.views``.
    """

    image: np.ndarray
    views: tuple[np.ndarray, ...]
    text: str | Question
    field: str
    source: int
    row: int


@dataclass(frozen=True, kw_only=True)
class GoodRow:
    """A row that was read whole: its picture, and its texts and questions among those wanted."""

    number: int
    row: Row
    picture: Image.Image
    texts: list[Choice]


def examples(
    config: DataConfig, sources: Sequence[Source], bad_rows: BadRows
) -> grain.MapDataset[Example]:
    """The examples by global index; the same for every host, thread and start.

    Every source is shuffled anew for each of its epochs and repeated for ever; the mixture
    interleaves them evenly by weight. Index -> example is pure, so the position in the data is the
    number of the step. A bad row's place is taken by the next good row of the same source.
    """
    seeds = np.random.SeedSequence(config.seed).generate_state(len(sources) + 1).tolist()
    streams = [
        _shuffled(len(source), seed).map(_Address(number))
        for number, (source, seed) in enumerate(zip(sources, seeds[:-1], strict=True))
    ]
    weights = [source.weight for source in config.sources]
    mixture = grain.MapDataset.mix(streams, weights) if len(streams) > 1 else streams[0]
    return mixture.random_map(_Exemplify(config, sources, bad_rows), seed=seeds[-1])


def read_good(
    sources: Sequence[Source],
    source: int,
    row: int,
    *,
    fields: Sequence[str],
    min_side: int,
    bad_rows: BadRows,
) -> GoodRow:
    """Row ``row`` of a source, or the next good one after it, around the end to the start.

    Raises:
        DataError: too many bad rows, or not one good row in the source.
    """
    total = len(sources[source])
    for step in range(total):
        number = (row + step) % total
        if bad_rows.is_bad(source, number):
            continue
        try:
            good = read_row(sources[source], number, fields=fields, min_side=min_side)
        except DataError as error:
            bad_rows.bad(source, number, error)
            continue
        bad_rows.good(source, number)
        return good
    raise DataError(
        f"{sources[source].name}: not one readable row of {total}:\n  "
        + "\n  ".join(bad_rows.listing())
    )


def read_row(
    source: Source, number: int, *, fields: Sequence[str] | None, min_side: int
) -> GoodRow:
    """One row, read and decoded, its shorter side at least ``min_side`` if the image has that.

    ``fields`` are those whose texts are wanted, at least one of them; with None, a row needs none.

    Raises:
        DataError: the row is bad; a :class:`~kmm_jax.data.bad_rows.BadRowError` says which part.
    """
    row = source.read(number)
    every: list[Choice] = [*texts(row.record)]
    every += [(QUESTIONS, question, 1.0) for question in questions(row.record)]
    wanted = [one for one in every if fields is None or one[0] in fields]
    if fields is not None and not wanted:
        raise BadRowError("text", f"{row.key}: no text in {', '.join(fields)}", key=row.key)
    try:
        picture = open_rgb(row.image, min_side)
    except DataError as error:
        raise BadRowError("image", f"{row.key}: {error}", key=row.key) from error
    return GoodRow(number=number, row=row, picture=picture, texts=wanted)


def draw_text(
    choices: Sequence[Choice],
    field_weights: Sequence[tuple[str, float]],
    rng: np.random.Generator,
) -> tuple[str, str | Question]:
    """A field and a text: the field by its weight among those present, then the text by its own."""
    present = {field for field, _, _ in choices}
    fields = [(field, weight) for field, weight in field_weights if field in present]
    field = fields[_draw([weight for _, weight in fields], rng)][0]
    within = [(text, weight) for name, text, weight in choices if name == field]
    return field, within[_draw([weight for _, weight in within], rng)][0]


def _draw(weights: Sequence[float], rng: np.random.Generator) -> int:
    ends = list(accumulate(weights))
    return min(bisect.bisect_right(ends, rng.random() * ends[-1]), len(ends) - 1)


def _shuffled(rows: int, seed: int) -> grain.MapDataset[int]:
    """Row numbers without end, in a new order every epoch."""
    numbers = grain.MapDataset.range(rows)
    if rows < _SMALL:
        return numbers.repeat().map_with_index(_SmallShuffle(rows, seed))
    return numbers.shuffle(seed=seed).repeat()


class _SmallShuffle:
    """Index -> row, by a whole permutation an epoch."""

    def __init__(self, rows: int, seed: int) -> None:
        self._rows = rows
        self._order = functools.lru_cache(maxsize=8)(
            lambda epoch: np.random.default_rng((seed, epoch)).permutation(rows)
        )

    def __call__(self, index: int, _: int) -> int:
        epoch, place = divmod(index, self._rows)
        return int(self._order(epoch)[place])


class _Address:
    """Row number -> (source, row)."""

    def __init__(self, source: int) -> None:
        self._source = source

    def __call__(self, row: int) -> tuple[int, int]:
        return self._source, int(row)


class _Exemplify:
    """(source, row) -> example."""

    def __init__(self, config: DataConfig, sources: Sequence[Source], bad_rows: BadRows) -> None:
        self._config = config
        self._sources = sources
        self._bad_rows = bad_rows
        self._fields = tuple(field for field, _ in config.fields)
        self._min_side = max(
            sides_needed(config.image_size, one) for one in (config.augment, *config.views)
        )

    def __call__(self, address: tuple[int, int], rng: np.random.Generator) -> Example:
        source, row = address
        good = read_good(
            self._sources,
            source,
            row,
            fields=self._fields,
            min_side=self._min_side,
            bad_rows=self._bad_rows,
        )
        field, text = draw_text(good.texts, self._config.fields, rng)
        image, *views = (
            augment(good.picture, rng, self._config.image_size, one)
            for one in (self._config.augment, *self._config.views)
        )
        return Example(
            image=image,
            views=tuple(views),
            text=text,
            field=field,
            source=source,
            row=good.number,
        )
