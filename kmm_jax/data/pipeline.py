"""From sources to an endless, shuffled, weighted sequence of examples, pure in the index."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, Protocol, TypeVar

import grain
import numpy as np
from PIL import Image

from kmm_jax.data.augment import augment, augmented, sides_needed
from kmm_jax.data.bad_rows import BadRowError, BadRows
from kmm_jax.data.config import DataConfig
from kmm_jax.data.images import open_rgb, upright_size
from kmm_jax.data.latents import LatentDraws, LatentSource
from kmm_jax.data.questions import Question, questions
from kmm_jax.data.schema import QUESTIONS, texts
from kmm_jax.data.sources import Row, Source
from kmm_jax.data.statements import STATEMENTS, Described, Statement, described
from kmm_jax.errors import DataError

# Grain's shuffle costs 7 ms a row in a set of 10 and 0.05 ms in one of 1,000 (grain 0.2.18): it
# draws from a range of a fixed least size until a number falls into the set.
_SMALL = 1000

Choice = tuple[str, str | Question | Described, float]
"""A field, one of its texts or questions, or all its items, and its weight within the field."""


_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row made ready: its arrays, one of its texts, questions or statements, where from.

    ``arrays`` are what a batch holds of its picture: ``image``, the augmented image, and with
    ``config.views`` further ones, ``views`` (V, S, S, 3); of a row of latents, ``latents``. With
    ``config.sizes`` there is ``time_ids`` (6,).
    """

    arrays: dict[str, np.ndarray]
    text: str | Question | Statement
    field: str
    source: int
    row: int


@dataclass(frozen=True, kw_only=True)
class GoodRow(Generic[_T]):
    """A row that was read whole: what its image's bytes held, and its texts among those wanted."""

    number: int
    row: Row
    picture: _T
    texts: list[Choice]


class Maker(Protocol):
    """How an example's arrays are made of the bytes of a row."""

    def decode(self, data: bytes, /) -> Any:
        """What is in the bytes; DataError where they cannot be used."""
        ...

    def arrays(self, picture: Any, row: Row, rng: np.random.Generator, /) -> dict[str, np.ndarray]:
        """The example's arrays of what ``decode`` gave of a row; pure but for ``rng``."""
        ...


class Pictures:
    """Images decoded and augmented."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        augments = (config.augment, *config.views)
        self._min_side = max(sides_needed(config.image_size, one) for one in augments)

    def decode(self, data: bytes) -> Image.Image:
        """The picture, as large as its crops need it."""
        return open_rgb(data, self._min_side)

    def arrays(
        self, picture: Image.Image, row: Row, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``image`` (S, S, 3) uint8; ``views`` (V, S, S, 3), ``time_ids`` (6,) where wanted."""
        side = self._config.image_size
        found = augmented(picture, rng, side, self._config.augment)
        arrays = {"image": found.pixels}
        if self._config.views:
            views = [augment(picture, rng, side, one) for one in self._config.views]
            arrays["views"] = np.stack(views)
        if self._config.sizes:
            width, height = upright_size(row.image)
            arrays["time_ids"] = np.asarray([height, width, *found.corner, side, side], np.float32)
        return arrays


def maker_of(config: DataConfig, source: Source) -> Maker:
    """How examples are made of a source's rows."""
    if isinstance(source, LatentSource):
        return LatentDraws(
            about=source.about,
            flip=config.augment.flip,
            deviation=source.deviation,
            sizes=config.sizes,
        )
    return Pictures(config)


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
    decode: Callable[[bytes], _T],
    bad_rows: BadRows,
) -> GoodRow[_T]:
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
            good = read_row(sources[source], number, fields=fields, decode=decode)
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
    source: Source,
    number: int,
    *,
    fields: Sequence[str] | None,
    decode: Callable[[bytes], _T],
) -> GoodRow[_T]:
    """One row, read and decoded.

    Args:
        fields: those whose texts are wanted, at least one of them; with None, a row needs none.
        decode: what the image's bytes hold; DataError where they cannot be used.

    Raises:
        DataError: the row is bad; a :class:`~kmm_jax.data.bad_rows.BadRowError` says which part.
    """
    row = source.read(number)
    every: list[Choice] = [*texts(row.record)]
    every += [(QUESTIONS, question, 1.0) for question in questions(row.record)]
    asked = fields is None or STATEMENTS in fields
    if asked and (items := described(row.record)) is not None:
        every.append((STATEMENTS, items, 1.0))
    wanted = [one for one in every if fields is None or one[0] in fields]
    if fields is not None and not wanted:
        raise BadRowError("text", f"{row.key}: no text in {', '.join(fields)}", key=row.key)
    try:
        picture = decode(row.image)
    except DataError as error:
        raise BadRowError("image", f"{row.key}: {error}", key=row.key) from error
    return GoodRow(number=number, row=row, picture=picture, texts=wanted)


def draw_text(
    choices: Sequence[Choice],
    field_weights: Sequence[tuple[str, float]],
    rng: np.random.Generator,
) -> tuple[str, str | Question | Described]:
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
        self._makers = [maker_of(config, source) for source in sources]

    def __call__(self, address: tuple[int, int], rng: np.random.Generator) -> Example:
        source, row = address
        maker = self._makers[source]
        good = read_good(
            self._sources,
            source,
            row,
            fields=self._fields,
            decode=maker.decode,
            bad_rows=self._bad_rows,
        )
        field, drawn = draw_text(good.texts, self._config.fields, rng)
        text = drawn.draw(rng, alone=self._config.alone) if isinstance(drawn, Described) else drawn
        return Example(
            arrays=maker.arrays(good.picture, good.row, rng),
            text=text,
            field=field,
            source=source,
            row=good.number,
        )
