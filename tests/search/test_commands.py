"""`kmm documents`, from JSON lines to a ranking with reasons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kmm_jax.inference
from kmm_jax.cli import main
from tests.search.colors import COLORS, Colors, write_photos

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Colors())
    (tmp_path / "model").mkdir()
    write_photos(tmp_path / "photos")
    rows = [
        {
            "id": f"{number}",
            "title": f"{name} 셔츠",
            "tags": {"price": number},
            "images": [{"hash": f"h{number}", "path": f"{name}.png"}],
        }
        for number, name in enumerate(COLORS)
    ]
    rows.append({"id": "out", "title": "밖", "images": [{"hash": "x", "path": "../secret.png"}]})
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "d.jsonl").write_text(text, "utf-8")
    return tmp_path


def test_a_file_with_a_tag_of_two_types_is_refused_whole(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(folder / "docs")
    put = ["documents", "add", place, str(folder / "d.jsonl"), "--images", str(folder / "photos")]
    row = {"id": "bad", "title": "모자", "tags": {"price": "1,000"}}
    whole = (folder / "d.jsonl").read_text("utf-8")
    (folder / "d.jsonl").write_text(f"{whole}\n{json.dumps(row)}", "utf-8")
    assert main([*put, "--model", str(folder / "model")]) == 2
    assert "document 'bad': tag 'price' is a text" in capsys.readouterr().err
    (folder / "d.jsonl").write_text(whole, "utf-8")
    assert main([*put, "--model", str(folder / "model")]) == 0
    assert "4 documents, 4 new or changed" in capsys.readouterr().out


def test_documents_come_are_found_and_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, photos = str(folder / "docs"), str(folder / "photos")
    put = ["documents", "add", place, str(folder / "d.jsonl"), "--images", photos]
    assert main(put) == 2 and "say with --model" in capsys.readouterr().err
    assert main([*put, "--model", str(folder / "model")]) == 0
    told = capsys.readouterr()
    assert "4 documents, 4 new or changed, 1 images left out" in told.out
    assert "../secret.png leads out of" in told.err
    assert main(put) == 0
    assert "4 documents, 0 new or changed, 1 images" in capsys.readouterr().out

    assert main(["documents", "search", place, "초록 셔츠", "-k", "2"]) == 0
    first, _ = capsys.readouterr().out.splitlines()
    assert "초록 셔츠" in first and all(name in first for name in ("words", "text", "image"))
    red = ["--image", f"{photos}/빨간.png", "--where", '{"price": {"lt": 2}}', "--json"]
    assert main(["documents", "search", place, *red, "--weight", "text=0"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert [hit["id"] for hit in hits] == ["0", "1"] and hits[0]["image"] == "빨간.png"

    (folder / "hashes.txt").write_text("h1\n", "utf-8")
    assert main(["corpus", "purge", place, "--hashes", str(folder / "hashes.txt")]) == 0
    capsys.readouterr()
    assert main(put) == 0
    told = capsys.readouterr()
    assert "1 images were purged and are taken up no more" in told.err
    assert "4 documents, 0 new or changed" in told.out

    assert main(["documents", "remove", place, "0", "없음"]) == 0
    assert "3 documents, 1 fewer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "none", "셔츠"], "holds no documents"),
        (["add", "none", "none.jsonl"], "is no file"),
        (["search", "docs"], "nothing to search for"),
        (["search", "docs", "x", "--weight", "image"], "write MATCHER=W"),
        (["search", "docs", "x", "--where", "price"], "write COLUMN=VALUE"),
    ],
)
def test_what_cannot_work_ends_with_2_and_a_line(
    folder: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["documents", *words]) == 2
    assert message in capsys.readouterr().err
