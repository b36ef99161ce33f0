"""Proposed noise words for people: a table, and a page with their pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence

from PIL import Image

from kmm_jax.corpus.noise.propose import Proposal, Proposals
from kmm_jax.data.images import open_rgb
from kmm_jax.data.storage import RandomReader
from kmm_jax.errors import DataError
from kmm_jax.files import atomic_write
from kmm_jax.retrieval.sheet import Hit, Search, write_sheet_html

COLUMNS = ("word", "pictures", "agreement", "z", "alone", "similarity", "noise", "examples")
_HASHES = 3
_SIDE = 320


def write_table(path: str | os.PathLike[str], found: Proposals) -> None:
    """Write the proposals as a TSV, whole or not at all, the likeliest noise first.

    ``examples`` are hashes of a few of the pictures, ``similarity`` is empty without a text model.
    """
    with atomic_write(path, "w") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for one in found.words_found:
            file.write("\t".join(_cells(one)) + "\n")


def write_page(path: str | os.PathLike[str], found: Proposals, shards: Sequence[str]) -> None:
    """Write a page with some pictures of each word, so that a person can judge.

    Raises:
        DataError: a shard changed since it was read.
    """
    reader = RandomReader()
    searches = []
    for one in found.words_found:
        hits = [
            Hit(
                image=_picture(reader.read(shards[each.place.shard], *each.place[1:])),
                caption=each.text,
                score=one.noise,
            )
            for each in one.examples
        ]
        note = (
            f"그림 {one.pictures:,}장, 서로 닮은 정도 {one.agreement:.3f} "
            f"(무작위 {found.chance:.3f}, 보통 낱말 {found.typical:.3f}), z {one.z:.1f}, "
            f"홀로 쓰임 {one.alone:.0%}"
        )
        searches.append(Search(title=one.word, hits=hits, note=note))
    write_sheet_html(path, searches, title="노이즈 낱말 후보", side=160)


def _cells(one: Proposal) -> tuple[str, ...]:
    return (
        one.word,
        str(one.pictures),
        f"{one.agreement:.4f}",
        f"{one.z:.2f}",
        f"{one.alone:.3f}",
        "" if one.similarity is None else f"{one.similarity:.4f}",
        f"{one.noise:.4f}",
        ",".join(each.image_hash for each in one.examples[:_HASHES]),
    )


def _picture(data: bytes) -> Image.Image | None:
    try:
        picture: Image.Image = open_rgb(data, _SIDE)
    except DataError:
        return None
    # All of the page are held at once; only JPEG is decoded small.
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return picture
