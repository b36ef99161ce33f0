"""Thumbnails of documents whose vectors are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.errors import DataError
from kmm_jax.inference import descriptions
from kmm_jax.search.document_search import DocumentSearch, Query
from kmm_jax.search.documents import Document, document
from kmm_jax.search.thumbnail import Known, Thumbnailer
from kmm_jax.search.thumbnail_ranking import ThumbnailConfig
from tests.search.colors import COLORS, Colors

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")

PICTURES = {**COLORS, "노란": (255, 255, 0), "짙은": (0, 150, 0)}


class Careful(Colors):
    """Finds red unsafe, green safe and good, and all else in between."""

    def embed_text(self, texts: Any) -> np.ndarray:
        good = [each for each, _ in descriptions.QUALITY]

        def named(text: str) -> str:
            if text in descriptions.UNSAFE:
                return "빨간"
            return "초록" if text in (*descriptions.SAFE, *good) else text

        return super().embed_text([named(text) for text in texts])


def picture(image: Any) -> Image.Image:
    if image.path == "missing":
        raise DataError("no such picture")
    return Image.new("RGB", (4, 4), PICTURES[image.path])


def doc(id: str, *colors: str) -> Document:
    images = [{"hash": f"{id}{each}", "path": each} for each in colors]
    return document({"id": id, "title": "글", "images": images})


@pytest.fixture
def search(tmp_path: Path) -> DocumentSearch:
    return DocumentSearch(tmp_path / "s", Careful())


def paths(seen: Any) -> list[str]:
    return [each.image.path for each in seen]


def test_the_images_that_fit_a_query_are_chosen_in_order_and_dangerous_ones_never(
    search: DocumentSearch,
) -> None:
    one = doc("1", "파란", "빨간", "초록", "노란", "missing")
    search.put([one], picture)
    found = Thumbnailer(search, ThumbnailConfig(floor=0.5)).of(one, Query(text="초록 빨간"))
    assert paths(found.chosen) == ["노란", "초록"]  # yellow is both
    reasons = {each.image.path: each.reason for each in found.left_out}
    assert reasons == {"파란": "below the floor", "빨간": "unsafe", "missing": "not indexed"}
    vector = search.vector(Query(text="초록 빨간"))
    by_hand = float(Careful().embed_image([picture(one.images[3])])[0] @ vector)
    assert found.chosen[0].similarity == pytest.approx(by_hand, abs=1e-6)
    assert found.chosen[0].score == pytest.approx(sum(found.chosen[0].parts.values()))
    assert found.chosen[1].quality > 0.9 and found.chosen[1].unsafe < 0.1
    assert math.isnan(found.left_out[-1].similarity)


def test_a_picture_or_a_text_and_a_picture_are_queries_too(search: DocumentSearch) -> None:
    one = doc("1", "파란", "초록")
    search.put([one], picture)
    choose = Thumbnailer(search, ThumbnailConfig(quality=0, safety=0))
    blue = Image.new("RGB", (4, 4), COLORS["파란"])
    assert paths(choose.of(one, Query(image=blue), most=1).chosen) == ["파란"]
    both = Query(text="초록", image=blue, text_weight=0.9)
    assert paths(choose.of(one, both, most=1).chosen) == ["초록"]


def test_no_image_above_the_floor_is_no_thumbnail(search: DocumentSearch) -> None:
    one, empty = doc("1", "파란", "노란"), doc("2")
    search.put([one, empty], picture)
    choose = Thumbnailer(search, ThumbnailConfig(floor=0.99))
    found = choose.of(one, Query(text="초록"))
    assert found.chosen == () and paths(found.left_out) == ["노란", "파란"]
    nothing = choose.of(empty, Query(text="초록"))
    assert nothing.chosen == nothing.left_out == ()


def test_what_is_known_of_an_image_counts_before_descriptions(search: DocumentSearch) -> None:
    one = doc("1", "빨간", "초록", "짙은")
    search.put([one], picture)
    known = {"1빨간": Known(unsafe=0.0), "1초록": Known(unsafe=0.9), "1짙은": Known(quality=0.25)}
    found = Thumbnailer(search, known=known).of(one, Query(text="초록"))
    assert paths(found.chosen) == ["짙은", "빨간"] and paths(found.left_out) == ["초록"]
    assert found.chosen[0].quality == 0.25
    with pytest.raises(DataError, match="unsafe goes from 0 to 1"):
        Known(unsafe=2.0)


def test_a_copy_within_a_document_is_one_image_and_documents_do_not_mix(
    search: DocumentSearch,
) -> None:
    images = [{"hash": "x", "path": "초록"}, {"hash": "x", "path": "초록"}]
    one = document({"id": "1", "title": "글", "images": images})
    other = document({"id": "2", "title": "글", "images": [{"hash": "x", "path": "파란"}]})
    search.put([one, other], picture)
    choose = Thumbnailer(search)
    assert paths(choose.of(one, Query(text="초록")).chosen) == ["초록"]
    assert paths(choose.of(other, Query(text="초록")).chosen) == ["파란"]


def test_what_there_was_before_is_the_first_image_whatever_it_is(search: DocumentSearch) -> None:
    one, lost = doc("1", "빨간", "초록"), doc("2", "missing", "초록")
    search.put([one, lost], picture)
    choose = Thumbnailer(search, ThumbnailConfig(floor=0.9))
    found = choose.first(one, Query(text="초록"))
    assert paths(found.chosen) == ["빨간"] and found.chosen[0].similarity < 0.9
    assert choose.first(lost, Query(text="초록")).chosen == ()
