"""Thumbnails of real product photos: from documents over a floor to the slide's table."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.evaluation.floor import calibrate
from kmm_jax.evaluation.thumbnail_log import Item, Label, Log, Pair, Pick
from kmm_jax.evaluation.thumbnails import table
from kmm_jax.search.document_search import DocumentSearch, Query
from kmm_jax.search.documents import document
from kmm_jax.search.thumbnail import Thumbnailer, Thumbnails
from kmm_jax.search.thumbnail_ranking import ThumbnailConfig
from tests.search.colors import Colors

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")

NAMES = {"Red": "빨간", "Green": "초록", "Blue": "파란"}
EACH, DOCUMENTS = 30, 60


class Hues(Colors):
    """Sees by which channel the coloured pixels of a photo stand out."""

    def embed_image(self, images: Any) -> np.ndarray:
        rows = []
        for each in images:
            pixels = np.asarray(each, np.float64).reshape(-1, 3) / 255
            spread = pixels.max(axis=1) - pixels.min(axis=1)
            color = (pixels * spread[:, None]).sum(axis=0) / max(spread.sum(), 1e-9)
            rows.append([*(color - color.min()), 0.1])
        return self._unit(np.asarray(rows))


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> dict[str, tuple[str, Image.Image]]:
    """Shirts of three colours: name to the colour that the shop says and the photo."""
    folder = shared_data / "fashion"
    with (folder / "fashion_products.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    wanted: dict[str, str] = {}
    for color in NAMES:
        of_color = [row["file"] for row in rows if row["baseColour"] == color]
        wanted |= dict.fromkeys(of_color[:EACH], color)
    found = {}
    with tarfile.open(folder / "fashion_products.tar") as tar:
        for member in tar:
            if member.name in wanted:
                data = tar.extractfile(member)
                assert data is not None
                image = Image.open(io.BytesIO(data.read())).convert("RGB").resize((64, 64))
                found[member.name] = (wanted[member.name], image)
    return found


def test_of_real_photos_the_smart_thumbnail_shows_fewer_poor_ones(
    photos: dict[str, tuple[str, Image.Image]], tmp_path: Path
) -> None:
    assert len(photos) == EACH * len(NAMES)
    rng = np.random.default_rng(0)
    names = sorted(photos)
    documents = []
    for number in range(DOCUMENTS):
        images = [
            {"hash": name.replace("/", "-"), "path": name}
            for name in rng.choice(names, size=3, replace=False)
        ]
        documents.append(document({"id": str(number), "title": "옷", "images": images}))
    search = DocumentSearch(tmp_path / "s", Hues())
    search.put(documents, lambda image: photos[image.path][1])

    picks: list[Pick] = []
    labels: list[Label] = []
    choose = Thumbnailer(search, ThumbnailConfig(most_unsafe=1.0, safety=0, quality=0))

    def note(model: str, pair: Pair, found: Thumbnails, wanted: str) -> None:
        (seen,) = found.chosen
        pick = Pick(
            model=model, pair=pair, image=seen.image.hash, similarity=seen.similarity, shown=True
        )
        picks.append(pick)
        score = 4 if photos[seen.image.path][0] == wanted else 2
        labels.append(Label(item=Item(pair, seen.image.hash), rater="shop", score=score))

    for number, each in enumerate(documents):
        wanted = list(NAMES)[number % len(NAMES)]
        query = Query(text=f"{NAMES[wanted]} 옷")
        pair = Pair(query.text, each.id)
        note("ASIS", pair, choose.first(each, query), wanted)
        note("smart", pair, choose.of(each, query, most=1), wanted)

    found = table([Log(picks=tuple(picks), labels=tuple(labels))])
    asis, smart = found.columns
    assert asis.poor.value is not None and smart.poor.value is not None
    # Of three photos at random the first has the colour in a third of documents, one of them in
    # 1 - (2/3)^3 = 70 %.
    assert asis.poor.value == pytest.approx(2 / 3, abs=0.2)
    assert smart.poor.value < 0.6 * asis.poor.value

    # A floor takes most of the others away; raters' queries are only three, so folds are coarse.
    similarity = np.asarray([pick.similarity for pick in picks if pick.model == "smart"])
    poor = np.asarray([label.score == 2 for label in labels[1::2]])
    floor = calibrate(similarity, poor, most_bad=0.1)
    assert floor.bad_share <= 0.1 and floor.shown > 0.3 * DOCUMENTS
    again = Thumbnailer(
        search, ThumbnailConfig(floor=floor.value, most_unsafe=1.0, safety=0, quality=0)
    )
    shown = sum(
        bool(again.of(each, Query(text=pick.pair.query), most=1).chosen)
        for each, pick in zip(documents, picks[1::2], strict=True)
    )
    assert shown == floor.shown
