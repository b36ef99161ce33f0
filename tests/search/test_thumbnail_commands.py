"""From documents to the slide's table: `kmm documents thumbnail`, `label` and `eval thumbnail`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import kmm_jax.inference
from kmm_jax.cli import main
from kmm_jax.evaluation.thumbnail_log import read_log
from tests.conftest import REPOSITORY
from tests.search.colors import COLORS, Colors, write_photos

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents with the picture of another's colour first, and one without pictures."""
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Colors())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    names = list(COLORS)
    write_photos(tmp_path / "photos")
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        images = [
            {"hash": f"h{each}", "path": f"{each}.png", "caption": f"{each} 사진"}
            for each in (names[number - 1], name)
        ]
        rows.append({"id": name, "title": f"{name} 셔츠", "body": "본문" * 200, "images": images})
    rows.append({"id": "글", "title": "글만 있는 셔츠"})
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "d.jsonl").write_text(text, "utf-8")
    pairs = [{"query": f"{name} 셔츠", "document": name} for name in names]
    pairs += [{"query": "파란 셔츠", "document": "글"}]
    pairs += [{"query": "", "query_image": "빨간.png", "document": "빨간"}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), "utf-8")
    assert (
        main(["documents", "add", "docs", "d.jsonl", "--images", "photos", "--model", "model"]) == 0
    )
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 0
    return capsys.readouterr().out


THUMBNAIL = ("documents", "thumbnail", "docs")


def test_the_images_of_documents_are_chosen_said_and_drawn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run(capsys, *THUMBNAIL, "초록 셔츠", "-k", "4", "--floor", "0.9")
    lines = told.splitlines()
    assert lines[0] == "초록  초록 셔츠" and re.match(
        r" +1  1\.000  초록\.png  \(similarity", lines[1]
    )
    assert "left out: 1 below the floor" in told
    assert "no picture: 2 below the floor" in told  # of 빨간, which has no green one
    assert "no picture: the document has none" in told

    found = json.loads(
        run(capsys, *THUMBNAIL, "초록 셔츠", "--document", "파란", "--floor", "0.9", "--json")
    )["documents"]
    assert [image["path"] for image in found[0]["images"]] == ["초록.png"]
    assert found[0]["left_out"][0]["reason"] == "below the floor"
    first = run(capsys, *THUMBNAIL, "초록 셔츠", "--document", "초록", "--as-is")
    assert "빨간.png" in first

    red = ("--image", "photos/빨간.png", "--images", "photos", "-k", "3", "--floor", "0.9")
    for name in ("sheet.html", "sheet.png"):
        run(capsys, *THUMBNAIL, *red, "--sheet", name)
    page = (folder / "sheet.html").read_text("utf-8")
    # One chosen in each document with red in it, and the query above each of three.
    assert page.count("data:image/jpeg") == 3 + 2 and "빨간 사진" in page
    assert "제외: 유사도 미달 1" in page
    assert Image.open(folder / "sheet.png").width > 200
    none = ("--images", "photos", "--floor", "1", "--sheet", "none.png", "--document", "글")
    assert "no picture: the document has none" in run(capsys, *THUMBNAIL, "초록", *none)
    assert not (folder / "none.png").exists()


def test_what_is_known_of_images_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"image_hash": "h초록", "unsafe_score": 0.9},
        {"image_hash": "h빨간", "unsafe_score": 0},
    ]
    rows += [{"image_hash": "h파란", "unsafe_score": 0.1, "watermark_score": 0.75}]
    (folder / "s.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    asked = (*THUMBNAIL, "초록", "--scores", "s.jsonl", "--json", "--document")
    (found,) = json.loads(run(capsys, *asked, "초록"))["documents"]
    assert [image["path"] for image in found["images"]] == ["빨간.png"]
    assert found["left_out"][0]["reason"] == "unsafe"
    (found,) = json.loads(run(capsys, *asked, "파란"))["documents"]
    assert found["images"][0]["quality"] == 0.25


def _label(folder: Path, score: dict[str, int], *picks: str) -> None:
    """Serve the page as a user does, score what it shows, and end it by Ctrl-C."""
    code = "from kmm_jax.cli import main; raise SystemExit(main())"
    words = ["label", "thumbnail", str(folder / "labels.jsonl"), "--port", "0"]
    words += ["--images", str(folder / "photos")]
    words += [word for name in picks for word in ("--picks", str(folder / name))]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        (url,) = re.findall(r"http://\S+/", process.stdout.readline())
        second = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=REPOSITORY, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (
            second.returncode == 2 and "labels.jsonl is being labelled by process" in second.stderr
        )

        def ask(path: str, body: Any = None) -> Any:
            data = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(
                f"{url}{path}", data, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)

        state = ask("api/next?rater=kim")
        while task := state["task"]:
            value = score.get(task["query"] or "image", 3)
            state = ask("api/score", {"rater": "kim", "id": task["id"], "score": value})
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 0
    assert "kim: " in rest and "scored" in rest


def test_models_are_labelled_blind_and_stand_in_the_slides_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = ("--pairs", "pairs.jsonl", "--images", "photos", "--picks")
    assert "ASIS shows a picture for 4 of 5 pairs" in run(
        capsys, *THUMBNAIL, *many, "asis.jsonl", "--as-is"
    )
    assert "smart shows a picture for 4 of 5 pairs" in run(
        capsys, *THUMBNAIL, *many, "smart.jsonl", "--title", "smart", "--floor", "0.9"
    )
    log = read_log(folder / "smart.jsonl")
    assert [pick.path for pick in log.picks] == ["빨간.png", "초록.png", "파란.png", "", "빨간.png"]
    assert len(log.picks[0].excerpt) == 300 and log.picks[4].pair.query_image == "빨간.png"
    # The picks of one are pairs for another.
    run(
        capsys, *THUMBNAIL, "--pairs", "smart.jsonl", "--images", "photos", "--picks", "again.jsonl"
    )
    assert [pick.pair for pick in read_log(folder / "again.jsonl").picks] == [
        pick.pair for pick in log.picks
    ]

    _label(folder, {}, "asis.jsonl", "smart.jsonl")
    labels = read_log(folder / "labels.jsonl")
    assert len(labels.picks) == 10 and len(labels.labels) == 8
    table = run(capsys, "eval", "thumbnail", "labels.jsonl", "--output", "out")
    assert "| | ASIS | smart |" in table
    assert "| Image_score > 2 | 4 (100.0%)" in table and "kim (8)" in table
    written = json.loads((folder / "out" / "thumbnail.json").read_text("utf-8"))
    assert [each["model"] for each in written["columns"]] == ["ASIS", "smart"]
    assert (folder / "out" / "thumbnail.md").read_text("utf-8") in table

    with_floor = run(
        capsys, "eval", "thumbnail", "labels.jsonl", "--most-bad", "0.1", "--output", "out"
    )
    assert "smart: `--floor 0.99" in with_floor or "smart: `--floor 1.0" in with_floor


def test_queries_of_a_file_are_searched_and_their_documents_picked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "q.txt").write_text("초록  셔츠\n\n빨간 셔츠\n초록 셔츠\n", "utf-8")
    run(capsys, *THUMBNAIL, "--queries", "q.txt", "-k", "2", "--picks", "p.jsonl")
    picks = read_log(folder / "p.jsonl").picks
    assert [(pick.pair.query, pick.model) for pick in picks] == [
        ("초록 셔츠", "docs"), ("초록 셔츠", "docs"), ("빨간 셔츠", "docs"), ("빨간 셔츠", "docs"),
    ]  # fmt: skip
    assert picks[0].pair.document == "초록" and picks[0].path == "초록.png"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*THUMBNAIL, "x", "--picks", "p.jsonl"], "--picks takes its queries from"),
        ([*THUMBNAIL, "--pairs", "pairs.jsonl"], "--picks takes its queries from"),
        ([*THUMBNAIL, "x", "--sheet", "a.gif", "--images", "photos"], "must end in .png or .html"),
        ([*THUMBNAIL, "x", "--sheet", "a.png"], "say with --images"),
        ([*THUMBNAIL, "x", "--most", "0"], "--most must be at least 1"),
        ([*THUMBNAIL, "x", "--floor", "2"], "floor is a cosine"),
        ([*THUMBNAIL, "x", "--document", "없음"], "holds no document '없음' among its 4"),
        ([*THUMBNAIL], "nothing to search for"),
        ([*THUMBNAIL, "x", "--scores", "pairs.jsonl"], "line 1 is no object with image_hash"),
        ([*THUMBNAIL, "--pairs", "none", "--picks", "p"], "none is no file"),
        ([*THUMBNAIL, "--queries", "d", "--picks", "p"], "--queries d is no file"),
        ([*THUMBNAIL, "--pairs", "pairs.jsonl", "--picks", "p"], "query_image 빨간.png: no folder"),
        ([*THUMBNAIL, "--pairs", "pairs.jsonl", "--images", "photos", "--picks", "p",
          "--title", "a\nb"], "model is a name on one line"),
        (["label", "thumbnail", "l", "--images", "photos"], "no model's choices"),
        (["label", "thumbnail", "l", "--images", "none"], "--images none is no folder"),
        (["label", "thumbnail", "photos", "--images", "photos"], "photos is a folder; name a file"),
        (["label", "thumbnail", "l", "--images", "photos", "--picks", "d.jsonl"], "line 1: kind"),
        (["eval", "thumbnail"], "name at least one file of labels"),
        (["eval", "thumbnail", "none"], "none is no file"),
        (["eval", "thumbnail", "none", "--sure", "0.9"], "say with --most-bad"),
        (["eval", "model", "--most-bad", "0.1"], "are of kmm eval thumbnail"),
    ],
)  # fmt: skip
def test_what_cannot_work_ends_with_2_and_a_line(
    words: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not {"p", "p.jsonl", "l", "a.png"} & set(os.listdir(folder))
