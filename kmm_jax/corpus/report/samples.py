"""Pictures and texts to be shown, of each reason a few: those with the smallest hashes.

Pictures that were purged are never among them, nor are texts that may be theirs.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from kmm_jax.corpus import judge, tables
from kmm_jax.corpus.jobs import bucket
from kmm_jax.corpus.report.layout import MOST_FILES, OF_TEXTS, Layout
from kmm_jax.corpus.sampling import Smallest, evenly, text_key
from kmm_jax.corpus.text import TextRules
from kmm_jax.corpus.text.excerpt import Piece, excerpt

MOST = 12
"""Of each reason."""

_PLACE = ("key", "image_hash", "file", "row", "place", "width", "height")
_FACTS = (*_PLACE, "white", "reason", "note", "beside")
_JOINED = (*_PLACE, "perceptual", "white", "beside")
# Copies are alike everywhere; so many buckets are looked into for a sample of them.
_BUCKETS = 4
_KEPT_TEXTS_OF = 512

Row = Mapping[str, Any]


class Pair(NamedTuple):
    """A picture that stays and a copy of it that does not."""

    better: Row
    worse: Row

    @property
    def bits(self) -> int:
        """In which their perceptual hashes differ."""
        return int(self.better["perceptual"] ^ self.worse["perceptual"]).bit_count()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """What to show.

    Attributes:
        pictures: rows by reason; those of ``kept`` have texts and scores.
        copies, near: pairs.
        texts: pieces by (kind of table, decision, reason); decision is keep, mask or reject. None
            where something was purged: whose a text is nobody knows here, as samples are of texts
            before they are joined with pictures.
    """

    pictures: dict[str, list[Row]]
    copies: list[Pair]
    near: list[Pair]
    texts: dict[tuple[str, str, str], list[list[Piece]]] | None


def draw(layout: Layout, rules: TextRules, purged: frozenset[str]) -> Samples:
    """Draw them.

    Args:
        rules: of texts, by which kept ones are looked at once more before they are shown.
        purged: hashes of pictures that are not to be shown.
    """
    pictures = collections.defaultdict[str, Smallest[Row]](lambda: Smallest(MOST))
    for number in evenly(range(len(layout.pictures)), MOST_FILES):
        _offer(pictures, tables.batches(layout.table("facts", number), _FACTS), purged, None)
        judged = layout.table("judged", number)
        for group, kept_as in ((judge.KEPT, "kept"), (judge.REJECTED, None)):
            columns = tables.columns(judged)
            _offer(pictures, tables.batches(judged, columns, [group]), purged, kept_as)
    copies = _copies(layout, purged, pictures)
    return Samples(
        pictures={reason: held.values() for reason, held in sorted(pictures.items()) if len(held)},
        copies=copies,
        near=_near(layout, purged),
        texts=None if purged else _texts(layout, rules),
    )


def _offer(
    pictures: Mapping[str, Smallest[Row]],
    batches: Iterable[pa.RecordBatch],
    purged: frozenset[str],
    kept_as: str | None,
) -> None:
    """Offer each row under its reason; where it has none under ``kept_as``, if there is one."""
    for batch in batches:
        hashes, reasons = (batch.column(name).to_pylist() for name in ("image_hash", "reason"))
        for place, (image_hash, reason) in enumerate(zip(hashes, reasons, strict=True)):
            reason = reason or kept_as
            if reason is not None and image_hash not in purged:
                pictures[reason].offer(image_hash, functools.partial(_row, batch, place))


def _row(batch: pa.RecordBatch, place: int) -> Row:
    found: Row = batch.slice(place, 1).to_pylist()[0]
    return found


def _copies(
    layout: Layout, purged: frozenset[str], pictures: Mapping[str, Smallest[Row]]
) -> list[Pair]:
    """Pairs of the same file; what has no text is offered to ``pictures`` on the way."""
    copies = Smallest[Pair](MOST)
    for number in range(min(_BUCKETS, layout.buckets)):
        merged = layout.table("merged", number)
        with_text = [batch.column(0) for batch in tables.batches(merged, ["image_hash"])]
        stays = pa.chunked_array(with_text, pa.string())
        every = [batch.column(0) for batch in _joined(layout, number, ("image_hash",))]
        hashes = pa.chunked_array(every, pa.string())
        counted = hashes.value_counts()
        several = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
        without = hashes.unique().filter(pc.invert(pc.is_in(hashes.unique(), stays)))
        twice, silent = Smallest[None](MOST), Smallest[None](MOST)
        for smallest, found in ((twice, several), (silent, without)):
            for image_hash in found.to_pylist():
                if image_hash not in purged:
                    smallest.put(image_hash, None)
        wanted = [key for smallest in (twice, silent) for key, _ in smallest]
        rows = collections.defaultdict(list)
        for row in _picked(_joined(layout, number, _JOINED), wanted):
            rows[row["image_hash"]].append(row)
        for of_one in rows.values():
            of_one.sort(key=lambda row: (row["file"], row["row"]))
        for key, _ in twice:
            copies.put(key, Pair(rows[key][0], rows[key][1]))
        for key, _ in silent:
            pictures["no_text"].put(key, {**rows[key][0], "reason": "no_text"})
    return copies.values()


def _joined(layout: Layout, number: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The pictures of one bucket of hashes, copies and all."""
    for table in range(layout.buckets):
        yield from tables.batches(layout.table("joined", table), columns, [number])


def _near(layout: Layout, purged: frozenset[str]) -> list[Pair]:
    pairs = Smallest[tuple[str, str]](MOST)
    dropped = layout.table("dropped", 0)
    for batch in tables.batches(dropped, ["worse", "better"]):
        both = zip(*(batch.column(name).to_pylist() for name in ("worse", "better")), strict=True)
        for worse, better in both:
            if worse not in purged and better not in purged:
                pairs.put(worse, (worse, better))
    hashes = sorted({image_hash for pair in pairs.values() for image_hash in pair})
    by_bucket = collections.defaultdict(list)
    for image_hash in hashes:
        by_bucket[bucket(image_hash, layout.buckets)].append(image_hash)
    rows: dict[str, Row] = {}
    for number, wanted in sorted(by_bucket.items()):
        batches = tables.batches(layout.table("merged", number), _JOINED)
        rows |= {row["image_hash"]: row for row in _picked(batches, wanted)}
    return [
        Pair(rows[better], rows[worse])
        for worse, better in pairs.values()
        if worse in rows and better in rows
    ]


def _picked(batches: Iterable[pa.RecordBatch], hashes: Sequence[str]) -> Iterator[dict[str, Any]]:
    wanted = pa.array(hashes, pa.string())
    for batch in batches:
        yield from batch.filter(pc.is_in(batch.column("image_hash"), wanted)).to_pylist()


def _texts(layout: Layout, rules: TextRules) -> dict[tuple[str, str, str], list[list[Piece]]]:
    found = collections.defaultdict[tuple[str, str, str], Smallest[list[Piece]]](
        lambda: Smallest(MOST)
    )
    kinds = [("beside", len(layout.pictures)), *((of, len(layout.files[of])) for of in OF_TEXTS)]
    for kind, count in kinds:
        for number in evenly(range(count), MOST_FILES):
            table = layout.table(kind, number)
            told = json.loads(tables.about(table).get("samples", "[]"))
            for decision, reason, key, pieces in told:
                found[kind, decision, reason].put(key, [Piece(*piece) for piece in pieces])
            if kind in ("documents", "clicks"):
                for text in _some(table):
                    made = functools.partial(excerpt, text, rules)
                    found[kind, "keep", "kept"].offer(text_key(text), made)
    return {key: held.values() for key, held in sorted(found.items())}


def _some(table: Any) -> list[str]:
    """The first texts of a table; they are in the order of their keys, which says nothing."""
    for batch in tables.batches(table, ["text"]):
        if batch.num_rows:
            return [str(text) for text in batch.column(0).slice(0, _KEPT_TEXTS_OF).to_pylist()]
    return []
