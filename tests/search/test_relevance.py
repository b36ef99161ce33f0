"""Judged queries from a file to figures, a fusion that is kept, and searches by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kmm_jax.inference
from kmm_jax.cli import main
from kmm_jax.errors import DataError, UserError
from kmm_jax.evaluation.ranking import ndcg, reciprocal_rank
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.document_view import Query
from kmm_jax.search.documents import document
from kmm_jax.search.judgements import JudgedQuery, read_judgements, write_judgements
from kmm_jax.search.learned_fusion import FILE
from kmm_jax.search.pictures import PictureFolder
from kmm_jax.search.relevance import learn, relevance, search_judged, ways
from tests.search.colors import COLORS, Colors, write_photos

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")

THINGS = ("셔츠", "바지", "모자", "치마", "우산", "양말")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents whose texts name a thing and whose pictures show a colour; judged queries."""
    folder = tmp_path_factory.mktemp("relevance")
    write_photos(folder)
    rows = [(f"{thing}-{name}", thing, name) for thing in THINGS for name in COLORS]
    search = DocumentSearch(folder / "docs", Colors(), notes={"model_path": str(folder)})
    search.put(
        [
            document({"id": id, "title": thing, "images": [{"hash": id, "path": f"{name}.png"}]})
            for id, thing, name in rows
        ],
        PictureFolder(folder),
    )
    queries = []
    for thing in THINGS:
        grades = {id: 3.0 for id, said, _ in rows if said == thing}
        queries.append(JudgedQuery(id=f"t-{thing}", text=thing, grades=grades))
        for name in COLORS:
            both = {id: 3.0 if shown == name else 1.0 for id, said, shown in rows if said == thing}
            queries.append(JudgedQuery(id=f"b-{thing}{name}", text=f"{name} {thing}", grades=both))
    for name in COLORS:
        shown_alike = {id: 3.0 for id, _, shown in rows if shown == name}
        queries.append(JudgedQuery(id=f"i-{name}", image=f"{name}.png", grades=shown_alike))
    alike = {f"바지-{name}": 2.0 for name in COLORS} | {"모자-빨간": 1.0}
    queries.append(JudgedQuery(id="l", like="셔츠-빨간", grades={**alike, "셔츠-빨간": 3.0}))
    write_judgements(folder / "judged.jsonl", queries)
    return folder


def opened(place: Path) -> DocumentSearch:
    return DocumentSearch(place / "docs", Colors())


def test_judged_queries_survive_their_file(place: Path, tmp_path: Path) -> None:
    judged = read_judgements(place / "judged.jsonl")
    extra = JudgedQuery(
        id="x", text="빨간", image="a.png", text_weight=0.25, grades={"a": 0, "b": 1.5},
        about={"asked": {"color": "빨간색"}},
    )  # fmt: skip
    write_judgements(tmp_path / "again.jsonl", [*judged, extra])
    assert read_judgements(tmp_path / "again.jsonl") == [*judged, extra]
    assert [each.kind for each in (judged[0], judged[-1], extra)] == ["text", "image", "both"]
    assert extra.relevant == {"b": 1.5}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "text": "x", "grades": {"d": 1}', "line 2: "),
        ("[]", "line 2: a judged query is an object"),
        ('{"id": "a", "txt": "x", "grades": {"d": 1}}', "did you mean 'text'"),
        ('{"text": "x", "grades": {"d": 1}}', "needs an id"),
        ('{"id": "q", "text": "x", "grades": {"d": 1}}', "the id 'q' stands twice"),
        ('{"id": "a", "grades": {"d": 1}}', "nothing to search for"),
        ('{"id": "a", "text": "x", "grades": {"d": 0}}', "no document has a grade above 0"),
        ('{"id": "a", "text": "x", "grades": {"d": "3"}}', "the grade of 'd' is a number"),
        ('{"id": "a", "text": "x", "grades": {"d": NaN}}', "the grade of 'd' is a number"),
        ('{"id": "a", "text": "x", "grades": ["d"]}', "grades is an object such as"),
        ('{"id": "a", "text": 3, "grades": {"d": 1}}', "text is a text of at most"),
        ('{"id": "a", "text": "x", "text_weight": 2, "grades": {"d": 1}}', "from 0 to 1, found 2"),
        ('{"id": "a", "image": "x", "like": "y", "grades": {"d": 1}}', "give one of them"),
    ],
)
def test_what_is_no_judged_query_is_said(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_text('{"id": "q", "text": "가", "grades": {"d": 1}}\n' + line, "utf-8")
    with pytest.raises(DataError, match=message):
        read_judgements(file)


def test_figures_are_those_of_searches_one_by_one(place: Path) -> None:
    search, judged = opened(place), read_judgements(place / "judged.jsonl")
    pictures = PictureFolder(place)
    found = search_judged(search, judged, pictures.open)
    rankings = ways(found)
    rows = {(row.kind, row.way): row for row in relevance(found, rankings, least=3)}
    for way, asked in (
        ("rrf", {}),
        ("weighted", {"fusion": "weighted"}),
        ("words", {"weights": {"text": 0, "image": 0}}),
        ("image", {"weights": {"text": 0, "words": 0}}),
    ):
        gains, ranks = [], []
        for each in judged:
            image = pictures.open(each.image) if each.image else None
            query = Query(text=each.text, image=image, like=each.like, **asked)  # type: ignore[arg-type]
            ids = [hit.document.id for hit in search.search(query, 18)]
            gains.append(ndcg(ids, each.relevant))
            ranks.append(reciprocal_rank(ids, each.relevant, least=3))
        row = rows["all", way]
        assert (row.ndcg.value, row.mrr.value) == pytest.approx((np.mean(gains), np.mean(ranks)))
        assert row.ndcg.low <= row.ndcg.value <= row.ndcg.high and row.queries == len(judged)
    # Texts name things and pictures show colours; only both together know the answer.
    assert rows["text", "words"].ndcg.value < 1 and rows["image", "image"].ndcg.value > 0.7
    assert ("both", "rrf") not in rows  # no query of this kind
    assert "셔츠-빨간" not in rankings["image"]["l"]


def test_what_is_learned_is_kept_and_searched_with(place: Path) -> None:
    search, judged = opened(place), read_judgements(place / "judged.jsonl")
    asked = Query(text="빨간 우산", fusion="learned")
    before = search.view()
    assert not before.learned
    with pytest.raises(UserError, match="no fusion was learned for these documents"):
        search.search(asked)
    found = search_judged(search, judged, PictureFolder(place).open)
    fusion, rankings = learn(found, "colours")
    rows = {row.way: row for row in relevance(found, rankings) if row.kind == "text"}
    assert rows["learned"].ndcg.value >= max(
        rows[way].ndcg.value for way in ("words", "text", "image", "rrf", "weighted")
    )
    search.learn(fusion)
    view = search.view()
    assert view.learned and view.version != before.version
    hits = search.search(asked, 3)
    assert hits[0].document.id == "우산-빨간"
    assert hits[0].score == pytest.approx(sum(hits[0].parts.values()))
    by_hand = ways(found, fusion)["learned"]["b-우산빨간"]
    assert [hit.document.id for hit in hits] == by_hand[:3]
    # Of a matcher that is not asked nothing is added.
    alone = search.search(Query(text="빨간 우산", fusion="learned", weights={"image": 0}), 3)
    assert all("image" not in hit.parts for hit in alone)
    with pytest.raises(UserError, match="from the scores of model other"):
        search.learn(learn(found, "other")[0])
    (place / "docs" / FILE).write_bytes(b"{")
    with pytest.raises(DataError, match="is damaged"):
        search.search(asked)
    assert search.search(Query(text="우산")) and not search.view().learned
    (place / "docs" / FILE).unlink()


def test_titles_have_their_own_style_where_a_model_tells_styles_apart(tmp_path: Path) -> None:
    asked: list[tuple[Any, Any]] = []

    class Styled(Colors):
        styled = True

        def embed_text(self, texts: Any, style: Any = "query") -> np.ndarray:
            asked.extend((text, style) for text in texts)
            return super().embed_text(texts)

    def nothing(_: Any) -> Image.Image:
        raise AssertionError

    rows = [document({"id": "1", "title": "빨간 셔츠"})]
    search = DocumentSearch(tmp_path / "new", Styled())
    search.put(rows, nothing)
    search.search(Query(text="셔츠"))
    assert asked == [("빨간 셔츠", "prompt"), ("셔츠", "query")]
    # What was made without a style goes on without one.
    DocumentSearch(tmp_path / "old", Colors()).put(rows, nothing)
    asked.clear()
    DocumentSearch(tmp_path / "old", Styled()).put([document({"id": "2", "title": "새"})], nothing)
    assert asked == [("새", "query")]
    plain = DocumentSearch(tmp_path / "plain", Styled())
    plain.encoder.styled = False  # type: ignore[attr-defined]
    again = DocumentSearch(tmp_path / "unstyled", plain.encoder)
    asked.clear()
    again.put(rows, nothing)
    assert asked == [("빨간 셔츠", "query")]


def test_commands_fit_evaluate_and_search(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Colors())
    docs, judged = str(place / "docs"), str(place / "judged.jsonl")
    assert main(["documents", "search", docs, "우산", "--fusion", "learned"]) == 2
    assert "kmm documents fit-fusion" in capsys.readouterr().err
    assert main(["documents", "fit-fusion", docs, judged]) == 0
    told = capsys.readouterr()
    assert "a fusion learned from 28 queries; learned: of queries left out in turn" in told.out
    assert "all (28)" in told.out and "image (4)" in told.out
    assert main(["documents", "search", docs, "빨간 우산", "--fusion", "learned"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[2] == "우산-빨간"
    out = tmp_path / "figures.json"
    assert main(["documents", "evaluate", docs, judged, "--json", str(out), "--least", "3"]) == 0
    assert "learned: as it is" in capsys.readouterr().out
    rows = json.loads(out.read_text("utf-8"))["rows"]
    assert {row["by"] for row in rows} == {"words", "text", "image", "rrf", "weighted", "learned"}
    (place / "docs" / FILE).unlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit-fusion", "none", "judged.jsonl"], "holds no documents"),
        (["evaluate", "docs", "none.jsonl"], "is no file"),
        (["evaluate", "docs", "missing.jsonl"], "query 'm': none.png"),
        (["fit-fusion", "docs", "few.jsonl"], "a fusion is learned from 10 or more"),
        (["evaluate", "docs", "away.jsonl"], "query 'a': ../secret.png"),
    ],
)
def test_what_cannot_work_ends_with_2_and_a_line(
    place: Path,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Colors())
    monkeypatch.chdir(place)
    grades = {"셔츠-빨간": 1.0, "없음": 1.0}
    for name, one in (
        ("missing", JudgedQuery(id="m", image="none.png", grades=grades)),
        ("few", JudgedQuery(id="f", text="셔츠", grades=grades)),
        ("away", JudgedQuery(id="a", image="../secret.png", grades=grades)),
    ):
        write_judgements(place / f"{name}.jsonl", [one])
    assert main(["documents", *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert not (place / "none").exists()
