"""The demonstration corpus: its rule of grades, what its texts leave out, the same bytes twice."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from kmm_jax.data.shop.vocabulary import COLOURS_BY_KEY, PATTERNS_BY_KEY
from kmm_jax.demo.corpus import CorpusConfig, make_corpus
from kmm_jax.demo.facts import grade
from kmm_jax.demo.shop import lexicon
from kmm_jax.errors import DataError, UserError
from kmm_jax.search.documents import Document, read_documents
from kmm_jax.search.judgements import read_judgements

CONFIG = CorpusConfig(documents=150, side=32, texts=30, images=12, both=12, less=8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    make_corpus(folder, CONFIG)
    return folder


@pytest.fixture(scope="module")
def documents(corpus: Path) -> list[Document]:
    return list(read_documents(corpus / "documents.jsonl"))


def test_grades_follow_the_rule() -> None:
    asked = {"type": "셔츠", "color": "빨간색", "pattern": "체크무늬"}
    for has in itertools.product((True, False), repeat=3):
        thing = {
            key: value if there else "다른 것"
            for (key, value), there in zip(asked.items(), has, strict=True)
        }
        wanted = 0 if not has[0] else {3: 3, 2: 2, 1: 1}[sum(has)]
        assert grade(asked, [{"type": "모자"}, thing]) == wanted
    assert grade({"type": "셔츠"}, [asked]) == 3
    assert grade({"type": "셔츠", "color": "파란색"}, [asked]) == 1
    assert grade({"color": "빨간색", "pattern": "민무늬"}, [asked]) == 1
    # The best thing counts; a red shirt beside blue trousers are no blue shirt.
    assert (
        grade({"type": "셔츠", "color": "파란색"}, [asked, {"type": "바지", "color": "파란색"}])
        == 1
    )
    assert grade({"type": "셔츠"}, [asked], without={"color": "빨간색"}) == 0
    assert grade({"type": "셔츠"}, [asked, {"type": "셔츠"}], without={"color": "빨간색"}) == 3


def test_texts_leave_out_what_pictures_show(documents: list[Document]) -> None:
    words = lexicon().words

    def said(key: str, one: Document, value: str) -> bool:
        text = f"{one.title} {one.body}"
        return any(name in text for name in words[key][value])

    listings = [one for one in documents if one.source == "상점"]
    shares = {}
    for key, tag in (("color", "color"), ("pattern", "pattern"), ("type", "category")):
        shares[key] = sum(said(key, one, one.tags[tag][0]) for one in listings) / len(listings)  # type: ignore[index]
    assert 0.25 < shares["color"] < 0.65 and 0.15 < shares["pattern"] < 0.65
    assert 0.7 < shares["type"] < 1
    told = [said("material", one, str(one.tags["material"])) for one in listings]
    assert 0.7 < sum(told) / len(told) < 1
    several = [one for one in documents if len(one.images) > 1]
    assert 0.3 < len(several) / len(documents) < 0.9
    assert {len(one.tags["category"]) for one in documents if one.source == "블로그"} <= {2, 3}  # type: ignore[arg-type]


def test_every_grade_is_what_the_tags_say(corpus: Path, documents: list[Document]) -> None:
    of = {one.id: one for one in documents}
    judged = read_judgements(corpus / "judgements.jsonl")
    counts = {kind: sum(one.kind == kind for one in judged) for kind in ("text", "image", "both")}
    assert counts["text"] == 30 and min(counts.values()) >= 4
    names = {"type": "category", "color": "color", "pattern": "pattern"}
    for query in judged:
        asked = {names[key]: value for key, value in query.about["asked"].items() if key in names}
        best = [id for id, value in query.grades.items() if value == 3]
        assert best
        for id in best:
            assert all(value in of[id].tags[tag] for tag, value in asked.items())  # type: ignore[operator]
        # Where nothing but tags is asked for, nothing that has one thing of all of it is missed.
        if len(asked) == len(query.about["asked"]):
            for one in documents:
                single = all(len(one.tags[tag]) == 1 for tag in names.values())  # type: ignore[arg-type]
                if single and all(value in one.tags[tag] for tag, value in asked.items()):  # type: ignore[operator]
                    assert query.grades[one.id] == 3
    for query in read_judgements(corpus / "less.jsonl"):
        gone = query.about["without"]["color"]
        for id, value in query.grades.items():
            assert value and set(of[id].tags["color"]) != {gone}  # type: ignore[arg-type]


def test_pictures_to_search_with_are_in_no_document(
    corpus: Path, documents: list[Document]
) -> None:
    shown = {image.hash for one in documents for image in one.images}
    for image in (image for one in documents for image in one.images):
        data = (corpus / image.path).read_bytes()
        assert hashlib.sha256(data).hexdigest().startswith(image.hash)
    queries = [one for one in read_judgements(corpus / "judgements.jsonl") if one.image]
    for one in queries:
        assert hashlib.sha256((corpus / one.image).read_bytes()).hexdigest()[:20] not in shown
    colors = {name for each in COLOURS_BY_KEY.values() for name in (each.ko, *each.synonyms)}
    patterns = {name for each in PATTERNS_BY_KEY.values() for name in (each.ko, *each.synonyms)}
    assert {one.text for one in queries if one.text} <= colors | patterns


def test_the_same_corpus_has_the_same_bytes_and_is_not_made_twice(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = make_corpus(tmp_path / "again", CONFIG)
    files = sorted(path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "again")
        for path in (tmp_path / "again").rglob("*")
        if path.is_file()
    )
    for path in files:
        assert (corpus / path).read_bytes() == (tmp_path / "again" / path).read_bytes()

    def refuse(*_: Any) -> Any:
        raise AssertionError("made a second time")

    monkeypatch.setattr("kmm_jax.demo.corpus._write_documents", refuse)
    assert make_corpus(corpus, CONFIG) == about == json.loads((corpus / "corpus.json").read_text())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="is no demonstration corpus"):
        make_corpus(tmp_path / "other", CONFIG)
    with pytest.raises(UserError, match="a demonstration is of shop, fashion_products or both"):
        CorpusConfig(sets=("cifar10",))
    with pytest.raises(DataError, match="fashion_products"):
        make_corpus(tmp_path / "real", CorpusConfig(sets=("fashion_products",)), data=tmp_path)


def test_real_products_are_a_world_of_their_own(shared_data: Path, tmp_path: Path) -> None:
    config = CorpusConfig(sets=("fashion_products",), texts=20, images=10, both=10, less=5)
    about = make_corpus(tmp_path / "c", config, data=shared_data)
    assert about["queries"] == {"text": 20, "image": 10, "both": 10, "less": 5}
    documents = list(read_documents(tmp_path / "c" / "documents.jsonl"))
    assert len(documents) > 300 and all(one.id.startswith("product-") for one in documents)
    shown = [image.hash for one in documents for image in one.images]
    assert len(set(shown)) == len(shown)
    judged = read_judgements(tmp_path / "c" / "judgements.jsonl")
    kept = {
        hashlib.sha256((tmp_path / "c" / one.image).read_bytes()).hexdigest()[:20]
        for one in judged
        if one.image
    }
    assert not kept & set(shown)
