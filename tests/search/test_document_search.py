"""Documents from JSON to a ranking, with an encoder whose vectors are known."""

from __future__ import annotations

import dataclasses
import datetime
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.errors import DataError, UserError
from kmm_jax.search.document_search import DocumentSearch, Query
from kmm_jax.search.document_store import DocumentStore
from kmm_jax.search.documents import DocumentImage, document, read_documents
from kmm_jax.search.fusion import fused
from tests.search.colors import COLORS, Colors

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")


def picture(image: Any) -> Image.Image:
    if image.path == "missing.png":
        raise DataError("no such picture")
    return Image.new("RGB", (4, 4), COLORS[image.path])


def doc(id: str, title: str, *colors: str, **more: Any) -> Any:
    images = [{"hash": f"{id}{color}", "path": color} for color in colors]
    return document({"id": id, "title": title, "images": images, **more})


DOCUMENTS = (
    doc("1", "빨간 셔츠", "빨간", tags={"price": 10, "kind": ["옷", "셔츠"]}, source="shop"),
    doc("2", "어제 산 옷", "초록", "빨간", time="2026-11-30T09:00:00+09:00", source="blog"),
    doc("3", "초록 나무", "초록", tags={"price": 30}, time="2026-11-29T23:00:00"),
    doc("4", "파란 바다와 셔츠", source="blog"),
)


@pytest.fixture
def search(tmp_path: Path) -> DocumentSearch:
    found = DocumentSearch(tmp_path / "s", Colors())
    caught = found.put(DOCUMENTS, picture)
    assert (caught.documents, caught.left_out) == (4, [])
    return found


def ids(hits: Any) -> list[str]:
    return [hit.document.id for hit in hits]


def test_words_titles_and_images_each_find_their_own(search: DocumentSearch) -> None:
    def alone(matcher: str) -> dict[str, float]:
        return {name: float(name == matcher) for name in ("words", "text", "image")}

    assert set(ids(search.search(Query(text="셔츠", weights=alone("words"))))) == {"1", "4"}
    assert ids(search.search(Query(text="빨간", weights=alone("text")), 1)) == ["1"]
    by_image = search.search(Query(text="초록", weights=alone("image")), 2)
    assert set(ids(by_image)) == {"2", "3"}
    # Of a document with several images the one that matches is shown.
    assert {hit.image.path for hit in by_image if hit.image} == {"초록"}
    assert all(hit.parts.keys() == {"image"} for hit in by_image)


def test_text_and_image_together_find_what_has_both(search: DocumentSearch) -> None:
    red = Image.new("RGB", (4, 4), COLORS["빨간"])
    hits = search.search(Query(text="셔츠", image=red), 4)
    assert ids(hits)[0] == "1" and set(hits[0].parts) == {"words", "text", "image"}
    assert hits[0].score == pytest.approx(sum(hits[0].parts.values()))
    only_image = search.search(Query(image=red), 2)
    assert set(ids(only_image)) == {"1", "2"}


def test_what_words_find_shows_its_best_image_however_far_that_is(tmp_path: Path) -> None:
    found = DocumentSearch(tmp_path / "many", Colors())
    many = [doc(f"{number}", "나무", "빨간") for number in range(120)]
    found.put([*many, doc("셔츠", "셔츠", "초록", "파란"), doc("글", "셔츠 글")], picture)
    purple = Image.new("RGB", (4, 4), (255, 0, 60))
    asked = Query(text="빨간 셔츠", image=purple, weights={"words": 9, "text": 0})
    hits = {hit.document.id: hit for hit in found.search(asked, 5)}
    assert hits["셔츠"].image and hits["셔츠"].image.path == "파란"
    assert "image" not in hits["셔츠"].parts and hits["글"].image is None
    only_words = found.search(Query(text="셔츠", weights={"image": 0}), 2)
    assert all(hit.image is None for hit in only_words)


def test_conditions_are_on_tags_source_and_time(search: DocumentSearch) -> None:
    def asked(**where: Any) -> set[str]:
        return set(ids(search.search(Query(text="빨간 초록 셔츠 옷", where=where))))

    assert asked(source="blog") == {"2", "4"}
    assert asked(price={"lt": 20}) == {"1"}
    since = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)
    assert asked(time={"gte": since}) == {"2"}
    assert asked(document=["3"]) == {"3"}


def test_a_tag_that_no_document_with_images_has_is_a_condition_as_any(
    search: DocumentSearch,
) -> None:
    search.put([doc("5", "초록 글", tags={"author": "희"})], picture)
    assert ids(search.search(Query(text="초록", where={"author": "희"}))) == ["5"]
    others = search.search(Query(text="초록", where={"author": {"exists": False}}))
    assert set(ids(others)) == {"1", "2", "3", "4"} and "image" in others[0].parts
    with pytest.raises(UserError, match="no column 'autor'"):
        search.search(Query(text="초록", where={"autor": "희"}))


def test_more_like_a_document_leaves_it_out(search: DocumentSearch) -> None:
    hits = search.search(Query(like="3", weights={"text": 0}), 4)
    assert ids(hits)[0] == "2" and "3" not in ids(hits)
    by_title = search.search(Query(like="4", weights={"image": 0}), 4)  # it has no image
    assert len(by_title) == 3 and "4" not in ids(by_title)
    with pytest.raises(UserError, match="no document '없음'"):
        search.search(Query(like="없음"))
    with pytest.raises(UserError, match="give one of them"):
        Query(like="3", image=Image.new("RGB", (4, 4)))


def test_a_view_stays_as_it_was_and_counts_what_it_finds(search: DocumentSearch) -> None:
    before = search.view()
    assert before.columns.keys() == {"price", "kind", "source", "time"}
    search.put([doc("9", "보라 우산", "파란", source="shop", tags={"kind": ["우산"]})], picture)
    vector = Colors().embed_text(["우산"])[0]
    after = search.view()
    asked = Query(text="우산", where={"source": "shop"})
    facets = ("kind", "source")
    old, new = (view.search(asked, vector, 9, facets=facets) for view in (before, after))
    assert ids(old.hits) == ["1"] and set(ids(new.hits)) == {"1", "9"}
    # Of the source that was asked for, and what of others there is to choose.
    assert old.facets == {"kind": {"옷": 1, "셔츠": 1}, "source": {"blog": 2, "shop": 1, "": 1}}
    assert new.facets["kind"] == {"옷": 1, "셔츠": 1, "우산": 1}
    assert new.facets["source"]["shop"] == 2
    assert before.version != after.version and len(after) == len(before) + 1
    assert before.images + 1 == after.images
    with pytest.raises(UserError, match="no column 'kinds' to count; did you mean 'kind'"):
        after.search(asked, vector, facets=["kinds"])


def test_a_tag_of_several_values_is_each_of_them(search: DocumentSearch) -> None:
    def asked(**where: Any) -> set[str]:
        return set(ids(search.search(Query(text="빨간 초록 셔츠 옷", where=where))))

    assert asked(kind="셔츠") == asked(kind=["모자", "옷"]) == {"1"}
    assert asked(kind="모자") == set() and asked(kind={"ne": "셔츠"}) == {"2", "3", "4"}
    assert asked(kind=None) == {"2", "3", "4"} and asked(kind={"exists": True}, price=30) == set()
    for wrong in ({"lt": "a"}, 3, 1 << 70):
        with pytest.raises(UserError, match="filter 'kind'"):
            asked(kind=wrong)
    with pytest.raises(UserError, match="does not fit"):
        asked(price=1 << 70)


def test_documents_are_replaced_and_go_with_their_images(search: DocumentSearch) -> None:
    search.put([doc("2", "어제 산 옷", "파란")], picture)
    assert search.delete(["3", "없음"], picture) == 1
    again = DocumentSearch(search.folder, Colors())
    for each in (search, again):
        hits = each.search(Query(text="초록"), 9)
        assert set(ids(hits)) <= {"1", "2", "4"}
        assert sorted(each._images.ids()) == ["1/1빨간", "2/2파란"]
    assert search.catch_up(picture).documents == 0
    assert search.put([DOCUMENTS[0]], picture).documents == 0  # as it was


def test_an_image_that_cannot_be_had_leaves_its_document_found_by_text(
    search: DocumentSearch,
) -> None:
    broken = document(
        {"id": "5", "title": "빨간 모자", "images": [{"hash": "x", "path": "missing.png"}]}
    )
    caught = search.put([broken], picture)
    assert caught.left_out == ["5, missing.png: no such picture"]
    assert "5" in ids(search.search(Query(text="모자"), 9))


def test_an_image_that_was_left_out_is_taken_up_when_it_can_be_had(
    search: DocumentSearch,
) -> None:
    def nothing(image: DocumentImage) -> Any:
        raise OSError("the disk is away")

    new = doc("6", "노랑 우산", "파란")
    assert len(search.put([new], nothing).left_out) == 1
    assert "6/6파란" not in search._images.ids()
    # In a process of its own, by a call that is about another document and has no pictures.
    again = DocumentSearch(search.folder, Colors())
    assert again.delete(["3"], nothing) == 1
    caught = DocumentSearch(search.folder, Colors()).catch_up(picture)
    assert (caught.documents, caught.left_out) == (0, [])
    found = DocumentSearch(search.folder, Colors())
    assert "6/6파란" in found._images.ids()
    assert found.catch_up(nothing).left_out == []  # nothing is waited for any more


def test_a_change_of_other_things_keeps_the_images_without_looking_at_them(
    search: DocumentSearch,
) -> None:
    asked = []

    def away(image: DocumentImage) -> Any:
        asked.append(image.hash)
        raise OSError("the disk is away")

    before = {id: search._images.vector(id) for id in search._images.ids()}
    changed = dataclasses.replace(DOCUMENTS[0], title="빨간 딴것", tags={"price": 7})
    assert search.put([changed], away).left_out == []
    assert asked == []
    after = {id: search._images.vector(id) for id in search._images.ids()}
    assert sorted(after) == sorted(before)
    assert all(np.array_equal(before[id], after[id]) for id in before)
    hits = search.search(Query(text="빨간", where={"price": 7}), 1)
    assert ids(hits) == [DOCUMENTS[0].id]


@pytest.mark.parametrize("there", [True, False], ids=["of what is there", "in one change"])
def test_a_tag_of_another_type_is_refused_before_anything_is_put_in(
    search: DocumentSearch, there: bool
) -> None:
    name = "price" if there else "made"
    good, bad = (doc(id, "모자", tags={name: tag}) for id, tag in (("7", 1000), ("8", "1,000원")))
    earlier = "in the documents that are there" if there else "in document '7'"
    message = f"document '8': tag '{name}' is a text .'1,000원'., {earlier} it is a number"
    with pytest.raises(DataError, match=message):
        search.put([bad] if there else [good, bad], picture)
    assert len(search.store) == 4 and search.catch_up(picture).documents == 0
    assert search.put([good, doc("8", "모자", tags={name: 2.5})], picture).documents == 2


def _killed_in_between(folder: str) -> None:
    found = DocumentSearch(folder, Colors())
    found.store.put([doc("9", "보라 우산", "파란")])

    def kill(_: Any) -> Any:
        os.kill(os.getpid(), 9)

    found.catch_up(kill)


def test_what_a_kill_left_undone_is_caught_up(search: DocumentSearch) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_in_between, args=(str(search.folder),)
    )
    process.start()
    process.join()
    assert process.exitcode == -9
    again = DocumentSearch(search.folder, Colors())
    assert again.catch_up(picture).documents == 1
    assert ids(again.search(Query(text="우산"), 1)) == ["9"]
    assert "9/9파란" in again._images.ids()


def test_types_of_what_a_kill_left_undone_count_too(search: DocumentSearch) -> None:
    search.store.put([doc("9", "우산", tags={"made": 2026})])  # and killed
    with pytest.raises(
        DataError, match=r"tag 'made' is a text .'올해'., in the documents that are"
    ):
        search.put([doc("10", "모자", tags={"made": "올해"})], picture)
    assert search.catch_up(picture).documents == 0 and len(search.store) == 5


def test_a_store_tells_what_changed_since(tmp_path: Path) -> None:
    store = DocumentStore(tmp_path / "d.sqlite")
    store.put(DOCUMENTS)
    store.delete(["1"])
    store.put([doc("2", "새 제목")])
    numbers = [change for some in store.after(0, most=2) for change in some]
    assert [(each.number, each.id) for each in numbers] == [(3, "3"), (4, "4"), (5, "1"), (6, "2")]
    assert numbers[2].document is None and numbers[3].document is not None
    assert len(store) == 3 and store.last == 6
    assert DocumentStore(tmp_path / "d.sqlite").get(["4", "1", "2"]).keys() == {"4", "2"}
    assert store.get(["1"]) == {} and store.get(["4"])["4"] == DOCUMENTS[3]
    (tmp_path / "d.sqlite-wal").unlink(missing_ok=True)
    (tmp_path / "bad.sqlite").write_bytes(b"no database" * 999)
    with pytest.raises(DataError, match="damaged"):
        DocumentStore(tmp_path / "bad.sqlite")


def test_rankings_are_fused_by_rank_or_by_score() -> None:
    rankings = {"words": [("a", 9.0), ("b", 3.0)], "image": [("b", 0.5), ("c", 0.4), ("b", 0.1)]}
    by_rank = fused(rankings)
    assert [id for id, _ in by_rank] == ["b", "a", "c"]
    assert by_rank[0][1] == {"words": pytest.approx(1 / 62), "image": pytest.approx(1 / 61)}
    weighted = fused(rankings, how="weighted", weights={"words": 2.0})
    assert weighted[0] == ("a", {"words": 2.0})
    assert weighted[1] == ("b", {"words": 0.0, "image": 1.0})
    with pytest.raises(UserError, match="weights are of words, image"):
        fused(rankings, weights={"text": 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "title is a text, found None"),
        ({"id": ""}, "id has 0 characters; 1 to 512"),
        ({"id": "a\nb"}, "control characters"),
        ({"titel": "x"}, "did you mean 'title'"),
        ({"time": "gestern"}, "time is like 2026"),
        ({"tags": {"price": {"a": 1}}}, "tag 'price' is a text"),
        ({"tags": {"source": "x"}}, "a tag cannot be called 'source'"),
        ({"tags": {"price": 10**30}}, "tag 'price' is no number of 64 bits"),
        ({"tags": {"price": float("nan")}}, "tag 'price' is no number of 64 bits"),
        ({"images": [{"hash": "a", "path": "x\0.png"}]}, "image 0: a path holds no NUL"),
        ({"images": [{"hash": "a/b", "path": "x"}]}, "image 0: a hash holds no '/'"),
        ({"images": "x.jpg"}, "images is a list"),
        ({"images": [{"hash": "a"}]}, "path is a text, found None"),
    ],
)
def test_what_is_no_document_is_said(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    values = {"id": "1", "title": "제목", **change}
    with pytest.raises(DataError, match=message):
        document(values)
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps({"id": "0", "title": "가"}) + "\n\n" + json.dumps(values), "utf-8")
    with pytest.raises(DataError, match="line 3: "):
        list(read_documents(file))


def test_a_query_needs_something(search: DocumentSearch) -> None:
    with pytest.raises(UserError, match="nothing to search for"):
        Query(text="  ")
    with pytest.raises(UserError, match="no matcher 'word'"):
        Query(text="x", weights={"word": 1})
    with pytest.raises(UserError, match="no column 'colour'"):
        search.search(Query(text="x", where={"colour": 1}))


def test_documents_survive_json() -> None:
    for each in DOCUMENTS:
        assert document(json.loads(each.to_json())) == each
    assert document({"id": "1", "title": "각"}).title == "각"
