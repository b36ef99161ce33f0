"""Documents found by their words: against BM25 by its formula, and after every kind of change."""

from __future__ import annotations

import math
import multiprocessing
from pathlib import Path

import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.search.text_index import TextIndex
from kmm_jax.text.morphemes import content_words

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")

TEXTS = {
    "a": "빨간 체크 셔츠",
    "b": "파란 셔츠를 입은 사람, 셔츠가 잘 어울린다",
    "c": "부산 여행에서 먹은 밀면",
    "d": "빨갛게 물든 단풍과 부산 바다",
    "e": "체크무늬 치마",
}


@pytest.fixture
def index(tmp_path: Path) -> TextIndex:
    found = TextIndex.create(tmp_path / "t")
    found.change([(id, {"body": text}) for id, text in TEXTS.items()])
    return found


def bm25(query: str, texts: dict[str, str]) -> dict[str, float]:
    """Robertson's formula, k1 1.2 and b 0.75, with Lucene's idf."""
    words = dict(zip(texts, content_words(list(texts.values())), strict=True))
    mean = sum(map(len, words.values())) / len(words)
    scores = {}
    for id, each in words.items():
        score = 0.0
        for word in dict.fromkeys(content_words([query])[0]):
            holds = sum(word in other for other in words.values())
            if not holds:
                continue
            idf = math.log(1 + (len(words) - holds + 0.5) / (holds + 0.5))
            count = each.count(word)
            score += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(each) / mean))
        if score:
            scores[id] = score
    return scores


@pytest.mark.parametrize("query", ["빨간 셔츠", "부산", "체크 무늬 옷", "셔츠를 입었다"])
def test_scores_are_bm25_over_morphemes(index: TextIndex, query: str) -> None:
    expected = bm25(query, TEXTS)
    found = dict(index.search(query))
    assert found.keys() == expected.keys()
    for id, score in expected.items():
        assert found[id] == pytest.approx(score, rel=1e-4)


def test_forms_and_particles_of_a_word_are_one_word(index: TextIndex) -> None:
    assert {id for id, _ in index.search("빨갛다")} == {"a", "d"}
    assert {id for id, _ in index.search("부산에서는")} == {"c", "d"}
    assert index.search("에서는") == []


def test_fields_have_weights(tmp_path: Path) -> None:
    found = TextIndex.create(tmp_path / "t")
    found.change(
        [("x", {"title": "셔츠", "body": "바지"}), ("y", {"title": "바지", "body": "셔츠"})]
    )
    assert [id for id, _ in found.search("셔츠", weights={"title": 3})] == ["x", "y"]
    assert [id for id, _ in found.search("셔츠", weights={"body": 3})] == ["y", "x"]
    assert [id for id, _ in found.search("셔츠", weights={"body": 0})] == ["x"]


def test_documents_are_replaced_and_go(index: TextIndex) -> None:
    index.change([("a", {"body": "초록 모자"})], delete=["b", "없음"])
    assert index.search("셔츠") == [] and index.search("모자")[0][0] == "a"
    again = TextIndex.open(index.folder)
    assert len(again) == len(index) == 4
    index.change(delete=["a"])
    assert again.search("모자") == []


def _killed_while_changing(folder: str) -> None:
    import os

    found = TextIndex.open(folder)
    writer = found._index.writer(heap_size=64 << 20, num_threads=1)
    writer.delete_documents_by_term("id", "a")
    os.kill(os.getpid(), 9)


def test_a_killed_change_counts_for_nothing(index: TextIndex) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_killed_while_changing, args=(str(index.folder),)
    )
    process.start()
    process.join()
    assert process.exitcode == -9
    assert {id for id, _ in index.search("셔츠")} == {"a", "b"}
    index.change(delete=["a"])
    assert {id for id, _ in index.search("셔츠")} == {"b"}


def test_what_cannot_work_is_said(index: TextIndex, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no field 'titel' here; did you mean 'title'"):
        index.change([("z", {"titel": "셔츠"})])
    with pytest.raises(UserError, match="k must be at least 1"):
        index.search("셔츠", 0)
    with pytest.raises(UserError, match="no field"):
        index.search("셔츠", weights={"name": 1})
    with pytest.raises(UserError, match="choose another folder"):
        TextIndex.create(index.folder)
    with pytest.raises(DataError, match="no text index"):
        TextIndex.open(tmp_path / "none")
    (index.folder / "text.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match="damaged"):
        TextIndex.open(index.folder)
