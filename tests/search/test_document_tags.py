"""Tags written into documents in bulk: from vectors, in any order of kills, beside given ones."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.errors import DataError, UserError
from kmm_jax.inference.platt import Platt
from kmm_jax.search import document_tags
from kmm_jax.search.document_search import DocumentSearch, Query
from kmm_jax.search.document_tags import DocumentTagConfig, tag_documents, untag_documents
from kmm_jax.search.documents import document
from kmm_jax.tagging.tagger import Tagger
from tests.search.colors import Colors
from tests.search.test_document_search import DOCUMENTS, doc, picture
from tests.tagging.made import labels

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")


def tagger(**changes: Any) -> Tagger:
    """Red, green and blue by the first three dimensions; everything is plain."""
    kernel = np.zeros((4, 6), np.float32)
    kernel[:3, :3] = 20 * np.eye(3)
    bias = np.asarray([-10, -10, -10, -10, 5, -5], np.float32)
    values: dict[str, Any] = {
        "labels": labels(),
        "kind": "linear",
        "model": Colors.hash,
        "head": {"out.kernel": kernel, "out.bias": bias},
        "calibration": (Platt(slope=1.0, offset=0.0),) * 6,
        "thresholds": np.full(6, 0.5),
        "rows": np.ones(6, np.int64),
    }
    return Tagger(**values | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    DocumentSearch(tmp_path / "s", Colors()).put(DOCUMENTS, picture)
    return tmp_path / "s"


def never(_: Any) -> Image.Image:
    raise AssertionError("a picture was read")


def tags(folder: Path) -> dict[str, dict[str, Any]]:
    """As the store has them."""
    found = DocumentSearch(folder, Colors()).store.get(["1", "2", "3", "4"])
    return {id: dict(each.tags) for id, each in found.items()}


def filtered(folder: Path, **where: Any) -> set[str]:
    """As the indexes have them, of titles and of images."""
    view = DocumentSearch(folder, Colors()).view()
    vector = Colors().embed_text(["빨간 초록 셔츠 옷"])[0]
    found = view.search(Query(text="빨간 초록 셔츠 옷 바다", where=where), vector, 9)
    return {hit.document.id for hit in found.hits}


def test_tags_are_filters_and_facets_and_no_picture_is_read(folder: Path) -> None:
    before = DocumentSearch(folder, Colors())
    vectors = {id: before._images.vector(id) for id in before._images.ids()}
    version = before.view().version
    found = tag_documents(folder, tagger())
    assert (found.documents, found.changed, found.own) == (4, 3, 0)
    assert found.labels == {
        "color": {"빨간색": 2, "녹색": 2},
        "pattern": {"민무늬": 3},
    }
    # Of several images what any shows; without an image nothing; given tags stay.
    assert tags(folder)["2"] == {"color": ("빨간색", "녹색"), "pattern": ("민무늬",)}
    assert tags(folder)["1"]["price"] == 10 and tags(folder)["4"] == {}
    assert filtered(folder, color="녹색") == {"2", "3"}
    assert filtered(folder, color=["빨간색"], price={"lt": 20}) == {"1"}
    after = DocumentSearch(folder, Colors())
    assert after.catch_up(never).documents == 0
    view = after.view()
    assert view.version != version and {"color", "pattern"} <= view.columns.keys()
    answer = view.search(
        Query(text="셔츠"), Colors().embed_text(["셔츠"])[0], 9, facets=("color", "pattern")
    )
    assert answer.facets["color"] == {"빨간색": 2, "녹색": 2}
    for id, vector in vectors.items():
        np.testing.assert_allclose(after._images.vector(id), vector, atol=1e-6)


def test_again_only_what_is_new_is_tagged(folder: Path) -> None:
    tag_documents(folder, tagger())
    told: list[tuple[int, int]] = []
    assert tag_documents(folder, tagger(), tell=lambda *a: told.append(a)).documents == 0
    assert told == []
    search = DocumentSearch(folder, Colors())
    search.put([doc("9", "보라 우산", "파란"), DOCUMENTS[0]], picture)
    # What was put in again as it was keeps its tags.
    assert tags(folder)["1"]["color"] == ("빨간색",)
    found = tag_documents(folder, tagger(), tell=lambda *a: told.append(a))
    assert found.documents == 1 and told == [(1, 1)]
    assert filtered(folder, color="파란색") == {"9"}


def test_tags_go_with_the_images_that_they_were_told_of(folder: Path) -> None:
    tag_documents(folder, tagger())
    search = DocumentSearch(folder, Colors())
    search.put([doc("1", "다른 제목", "빨간"), doc("3", "초록 나무", "파란")], picture)
    assert tags(folder)["1"]["color"] == ("빨간색",) and "price" not in tags(folder)["1"]
    assert "color" not in tags(folder)["3"] and filtered(folder, color="녹색") == {"2"}
    assert tag_documents(folder, tagger()).documents == 1
    assert filtered(folder, color="파란색") == {"3"}
    search = DocumentSearch(folder, Colors())
    search.delete(["3"], picture)
    search.put([doc("3", "새로", "초록")], picture)
    assert "color" not in tags(folder)["3"]


def test_another_tagger_or_another_way_tags_anew(folder: Path) -> None:
    tag_documents(folder, tagger())
    strict = tagger(thresholds=np.asarray([0.5, np.inf, 0.5, 0.5, 0.5, 0.5]))
    assert strict.hash != tagger().hash
    found = tag_documents(folder, strict)
    assert (found.documents, found.changed) == (4, 2)
    assert tags(folder)["2"]["color"] == ("빨간색",) and "color" not in tags(folder)["3"]
    english = DocumentTagConfig(naming="en", names={"color": "색상"})
    assert tag_documents(folder, tagger(), english).documents == 4
    assert tags(folder)["2"] == {"색상": ("red", "green"), "pattern": ("solid",)}
    assert filtered(folder, 색상="green") == {"2", "3"}
    assert untag_documents(folder) == 3
    assert tags(folder)["2"] == {}
    assert not {"색상", "pattern"} & DocumentSearch(folder, Colors()).view().columns.keys()
    assert tag_documents(folder, tagger()).documents == 4


@pytest.mark.parametrize(
    ("images", "expected"),
    [("union", ("빨간색", "녹색")), ("vote", ("녹색",)), ("first", ("빨간색",))],
)
def test_several_images_are_one_tag(folder: Path, images: Any, expected: tuple[str, ...]) -> None:
    several = [{"hash": f"{n}", "path": name} for n, name in enumerate(("빨간", "초록", "초록"))]

    one = document({"id": "1", "title": "셔츠", "images": several})
    DocumentSearch(folder, Colors()).put([one], picture)
    tag_documents(folder, tagger(), DocumentTagConfig(images=images))
    assert tags(folder)["1"]["color"] == expected


def test_a_tag_that_a_document_came_with_stays(folder: Path) -> None:
    given = doc("1", "빨간 셔츠", "빨간", tags={"color": ["와인색"]})
    DocumentSearch(folder, Colors()).put([given], picture)
    found = tag_documents(folder, tagger())
    assert found.own == 1 and tags(folder)["1"]["color"] == ("와인색",)
    assert filtered(folder, color="와인색") == {"1"} and filtered(folder, color="빨간색") == {"2"}
    untag_documents(folder)
    assert tags(folder)["1"]["color"] == ("와인색",)


def test_a_tag_of_another_type_is_refused_and_nothing_is_written(folder: Path) -> None:
    given = doc("1", "빨간 셔츠", "빨간", tags={"color": "와인색"})
    DocumentSearch(folder, Colors()).put([given], picture)
    with pytest.raises(UserError, match=r"tag 'color' of their own, of the type .*--name color="):
        tag_documents(folder, tagger())
    assert tags(folder)["2"] == {}
    tag_documents(folder, tagger(), DocumentTagConfig(names={"color": "색상"}))
    assert tags(folder)["1"] == {"color": "와인색", "색상": ("빨간색",), "pattern": ("민무늬",)}


def test_an_image_that_could_not_be_had_is_no_obstacle(folder: Path) -> None:
    broken = doc("1", "빨간 셔츠", "빨간")
    search = DocumentSearch(folder, Colors())

    images = [{"hash": "x", "path": "missing.png"}, {"hash": "1빨간", "path": "빨간"}]
    search.put([broken, document({"id": "5", "title": "모자", "images": images})], picture)
    assert tag_documents(folder, tagger()).documents == 5
    assert DocumentSearch(folder, Colors()).store.get(["5"])["5"].tags["color"] == ("빨간색",)


def _killed(folder: str, place: str) -> None:
    """Dies between what was noted in the store and what the index is told, or before the first."""
    if place == "index":
        original = DocumentSearch._retag

        def retag(self: Any, documents: Any) -> None:
            original(self, documents[:1])
            os.kill(os.getpid(), 9)

        DocumentSearch._retag = retag  # type: ignore[method-assign]
    else:
        document_tags._tags = lambda *_: os.kill(os.getpid(), 9)  # type: ignore[assignment]
    document_tags._BATCH = 2
    tag_documents(folder, tagger())


@pytest.mark.parametrize("place", ["index", "store"])
def test_killed_in_the_middle_the_same_call_goes_on(folder: Path, place: str) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_killed, args=(str(folder), place)
    )
    process.start()
    process.join()
    assert process.exitcode == -9
    found = tag_documents(folder, tagger())
    # The store had two of them already, whatever the index had.
    assert found.documents == (2 if place == "index" else 4)
    assert filtered(folder, color="녹색") == {"2", "3"}
    assert filtered(folder, color="빨간색") == {"1", "2"}
    assert DocumentSearch(folder, Colors()).catch_up(never).documents == 0


def test_documents_that_wait_for_vectors_come_first(folder: Path) -> None:
    tag_documents(folder, tagger())
    search = DocumentSearch(folder, Colors())
    search.store.put([doc("1", "새 셔츠", "파란"), doc("9", "우산", "파란")])  # and killed
    with pytest.raises(UserError, match="run that again first"):
        tag_documents(folder, tagger())
    # Tags in the store of what the index has not are no sign that it has it.
    search.store.tag("x", {"9": {"color": ("빨간색",)}}, current=search.current)
    search.store.tag("x", {"2": {"color": ("파란색",)}}, current=search.current)
    assert search.catch_up(picture).documents == 3
    assert {"1/1파란", "9/9파란"} <= set(search._images.ids())
    assert filtered(folder, color="파란색") == {"2"} and filtered(folder, color="빨간색") == {"9"}


def test_a_store_of_before_is_taken_over(folder: Path) -> None:
    connection = sqlite3.connect(folder / "documents.sqlite")
    connection.execute("DROP TABLE computed")
    connection.execute("ALTER TABLE documents DROP COLUMN content")
    connection.commit()
    connection.close()
    (folder / "current.json").write_text('{"number": 4}')
    assert tag_documents(folder, tagger()).changed == 3
    assert filtered(folder, color="녹색") == {"2", "3"}


def test_what_cannot_be_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes vectors of the model other"):
        tag_documents(folder, tagger(model="other"))
    with pytest.raises(DataError, match="holds no documents"):
        tag_documents(tmp_path / "none", tagger())
    with pytest.raises(UserError, match="no group 'colour'; did you mean 'color'"):
        tag_documents(folder, tagger(), DocumentTagConfig(names={"colour": "색"}))
    with pytest.raises(UserError, match="the same tag"):
        tag_documents(folder, tagger(), DocumentTagConfig(names={"color": "pattern"}))
    with pytest.raises(UserError, match="cannot be called 'source'"):
        DocumentTagConfig(names={"color": "source"})
    with pytest.raises(UserError, match="no 'all'"):
        DocumentTagConfig(images="all")  # type: ignore[arg-type]
