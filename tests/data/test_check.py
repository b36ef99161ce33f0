from __future__ import annotations

import argparse
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from kmm_jax.cli import data as command
from kmm_jax.data.check import check
from kmm_jax.data.fonts import korean_font, korean_font_path, wrap
from kmm_jax.data.sources import open_source
from kmm_jax.errors import UserError
from kmm_jax.text.tokenizer import Tokenizer

from .conftest import CodepointTokenizer, WriteRows, jpeg, record, row_members, write_tar


def kmm_data(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    parsed = parser.parse_args(["data", *map(str, arguments)])
    return int(parsed.run(parsed))


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """Ten rows: one image cut, one record no JSON, one without partner, two duplicates."""
    image, text = row_members(3)
    members = [
        *[member for number in (0, 1, 2) for member in row_members(number)],
        (image[0], image[1][:500]),
        text,
        row_members(4)[0],
        ("0000000004.json", b"{]"),
        row_members(5)[0],
        *row_members(0),
        ("0000000099.jpg", row_members(1)[0][1]),
        ("0000000099.json", row_members(1)[1][1].replace(b"0000000001", b"0000000099")),
        *row_members(6),
        *row_members(7),
    ]
    path = tmp_path / "train-000.tar"
    write_tar(path, members, tarfile.GNU_FORMAT)
    return path


def test_everything_wrong_is_counted(spoiled: Path, tokenizer: CodepointTokenizer) -> None:
    calls: list[int] = []
    report = check(open_source(spoiled), tokenizer=tokenizer, text_length=16, progress=calls.append)
    assert report.rows == 10
    assert report.bad == {"image": 1, "record": 1, "pair": 1}
    assert len(report.bad_rows) == 3
    assert report.bad_rows[0].startswith("row 3: 0000000003: cannot be opened as an image")
    assert (report.duplicate_hashes, report.duplicate_images) == (1, 2)
    summary = report.summary(tokens=16)
    assert summary["texts"] == {"title": 7, "caption": 7, "product_name": 7, "query": 14}
    long = [len(f) + 3 > 16 for f in ("빨간 셔츠 어디서 살까 0", "여성 빨간 셔츠 0")]
    assert summary["truncated_share"]["title"] == float(long[0])
    assert summary["truncated_share"]["product_name"] == float(long[1])
    assert summary["width"] == {"min": 48, "median": 48, "max": 48}
    assert json.dumps(summary)


def test_a_clean_folder_passes_with_both_its_sets(
    write_rows: WriteRows, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rows(range(20))
    write_rows(range(18, 25), prefix="test")
    assert kmm_data("check", folder, "--json", "--no-sample") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["bad_rows"], summary["usable"]) == (27, 0, True)
    assert summary["duplicate_image_bytes"] == 2, "two test rows were trained on"
    assert kmm_data("check", folder, "--no-sample") == 0
    page = capsys.readouterr().out
    assert "usable" in page
    assert "not counted: there is no tokenizer" in page


def test_the_first_batch_is_drawn_and_the_tokenizer_beside_the_set_is_taken(
    write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rows(range(20))
    Tokenizer.train(["빨간 셔츠", "파란 바지"], vocab_size=300).save(folder / "tokenizer")
    monkeypatch.chdir(folder)
    pattern = str(folder / "train-*.tar")
    assert kmm_data("check", pattern, "--image-size", 32, "--text-length", 8) == 0
    page = capsys.readouterr().out
    assert "longer than 8 tokens" in page
    assert "first_batch.png" in page
    with Image.open(folder / "first_batch.png") as picture:
        assert np.asarray(picture).std() > 20


def test_a_spoiled_shard_is_reported_and_exits_with_2(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = tmp_path / "out" / "sample.png"
    assert kmm_data("check", spoiled, "--sample", sample, "--image-size", 64) == 2
    page = capsys.readouterr().out
    for words in ("3 (30.00%)", "1 image", "0000000005.jpg has no", "not JSON", "NOT usable"):
        assert words in page
    with Image.open(sample) as picture:
        assert np.asarray(picture).std() > 20


def test_what_cannot_be_opened_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such"):
        kmm_data("check", tmp_path / "none", "--no-sample")
    cut = tmp_path / "train-000.tar"
    write_tar(cut, row_members(1), tarfile.GNU_FORMAT)
    cut.write_bytes(cut.read_bytes()[:900])
    for name in ("check", "index"):
        with pytest.raises(UserError, match="truncated"):
            kmm_data(name, cut)


def test_indexes_are_built_for_every_shard(
    write_rows: WriteRows, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_rows(range(20))
    assert kmm_data("index", folder) == 0
    assert "3 shards, 20 rows" in capsys.readouterr().out
    assert len(list(folder.glob("*.tar.index"))) == 3


def test_a_known_set_becomes_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kmm_jax.data import datasets

    def open_rows(name: str, folder: Path | None, split: str) -> Iterator[tuple[dict, bytes]]:
        for number in range(30) if split == "train" else range(30, 33):
            yield record(number), jpeg(number)

    monkeypatch.setattr(datasets, "open_rows", open_rows)
    assert kmm_data("shards", "cifar10", "--output", tmp_path, "--limit", 12) == 0
    assert "train-*.tar: 1 shards, 12 rows" in capsys.readouterr().out
    assert open_source(f"{tmp_path}/test-*.tar").read(2).record == record(32)
    with pytest.raises(UserError, match="did you mean 'shop'"):
        kmm_data("shards", "shopp", "--output", tmp_path)


def test_the_korean_font_has_the_letters() -> None:
    assert korean_font_path().name == "NanumGothic.ttf"
    font = korean_font(20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert font.getmask("가").getbbox() != font.getmask("\uffff").getbbox()
    assert bytes(font.getmask("가")) != bytes(font.getmask("힣"))


def test_lines_are_broken_to_the_width() -> None:
    font = korean_font(15)
    text = "빨간 체크 셔츠를 입은 사람 " + "가" * 60
    lines = wrap(text, font, 120, 20)
    assert all(font.getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
