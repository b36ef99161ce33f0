"""``kmm tokenizer`` and ``kmm classnames``, called as a person calls them."""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import pytest

from kmm_jax.cli import classnames, tokenizer
from kmm_jax.errors import DataError, UserError
from kmm_jax.text.tokenizer import Tokenizer
from tests import references

LINES = ["흰색 셔츠", "검은색 바지", "빨간 체크 스커트"] * 20


def kmm(*words: str | Path) -> int:
    root = argparse.ArgumentParser()
    commands = root.add_subparsers()
    tokenizer.add(commands)
    classnames.add(commands)
    arguments = root.parse_args([str(word) for word in words])
    return int(arguments.run(arguments))


def test_training_from_lines_tables_and_gzip_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, table, packed = tmp_path / "a.txt", tmp_path / "b.tsv", tmp_path / "c.tsv.gz"
    plain.write_text("\r\n".join(LINES) + "\n\n", encoding="utf-8-sig", newline="")
    rows = "".join(f"{i}\t{line}\n" for i, line in enumerate(LINES))
    table.write_text("id\tname\n" + rows, encoding="utf-8")
    packed.write_bytes(gzip.compress(table.read_bytes()))
    expected = Tokenizer.train(LINES, vocab_size=400)
    for source in (plain, table, packed):
        args = ("tokenizer", "train", source, "--vocab-size", "400", "--column", "name")
        assert kmm(*args, "--output", tmp_path / "t") == 0
        assert Tokenizer.load(tmp_path / "t") == expected
    output = capsys.readouterr()
    assert "60 texts" in output.err and "the texts hold no more" in output.out


def test_shards_are_read_as_the_rows_they_hold(tmp_path: Path) -> None:
    shards = pytest.importorskip("kmm_jax.data.shards")
    with shards.ShardWriter(tmp_path / "shards", prefix="train") as writer:
        for i, line in enumerate(LINES):
            writer.write({"image_hash": f"{i:04d}", "caption": line}, b"\xff\xd8\xff")
    assert kmm("tokenizer", "train", tmp_path / "shards", "--output", tmp_path / "t") == 0
    assert Tokenizer.load(tmp_path / "t") == Tokenizer.train(LINES, vocab_size=8000)


def test_showing_prints_pieces_ids_and_the_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Tokenizer.train(LINES, vocab_size=400).save(tmp_path / "t")
    assert kmm("tokenizer", "show", tmp_path / "t", "흰색 셔츠!") == 0
    output = capsys.readouterr().out
    assert "▁흰색" in output and "▁셔츠" in output and "<0x21>" in output
    assert output.endswith("back to text: 흰색 셔츠!\n")


def test_bad_inputs_are_refused_with_their_place(tmp_path: Path) -> None:
    out = ("--output", tmp_path / "t")
    table = tmp_path / "b.tsv"
    table.write_text("id\tname\n1\t셔츠\n2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"--column \(id, name\)"):
        kmm("tokenizer", "train", table, *out)
    with pytest.raises(DataError, match="did you mean 'name'"):
        kmm("tokenizer", "train", table, "--column", "nam", *out)
    with pytest.raises(DataError, match="1 of 2 cells"):
        kmm("tokenizer", "train", table, "--column", "name", *out)
    (tmp_path / "k.txt").write_bytes("셔츠\n".encode() + "셔츠".encode("cp949"))
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        kmm("tokenizer", "train", tmp_path / "k.txt", *out)
    whole = gzip.compress("\n".join(f"{i} 셔츠 {i * i}" for i in range(999)).encode())
    (tmp_path / "z.txt.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="broken after line"):
        kmm("tokenizer", "train", tmp_path / "z.txt.gz", *out)
    assert not (tmp_path / "t").exists()


def test_a_models_folder_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("weights")
    (tmp_path / "a.txt").write_text("셔츠")
    with pytest.raises(UserError, match="holds more than a tokenizer"):
        kmm("tokenizer", "train", tmp_path / "a.txt", "--output", tmp_path)


def test_a_clips_tokenizer_is_extended_from_a_file_and_from_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = references.openai_vocabulary()
    table = tmp_path / "pairs.tsv"
    rows = "".join(f"{line}\ta shirt\n" for line in LINES)
    table.write_text("ko\ten\n" + rows, encoding="utf-8")
    words = ("--texts", table, "--column", "ko", "--new-tokens", "40")
    assert kmm("tokenizer", "extend", base, *words, "--output", tmp_path / "one") == 0
    output = capsys.readouterr()
    assert "60 texts" in output.err and "49408 tokens and 2" in output.out
    assert "of 40 asked for" in output.out
    one = Tokenizer.load(tmp_path / "one")
    assert one.pad_id == one.eos_id == 49_407
    assert len(one.encode("흰색 셔츠")) < 9 and one.encode("a cat") == [320, 2368]
    (tmp_path / "more.txt").write_text("노란 모자\n" * 3, encoding="utf-8")
    words = ("--texts", tmp_path / "more.txt", "--new-tokens", "3", "--pad-token", "!")
    assert kmm("tokenizer", "extend", tmp_path / "one", *words, "--output", tmp_path / "two") == 0
    two = Tokenizer.load(tmp_path / "two")
    assert two.vocab_size == one.vocab_size + 3 and two.pad_id == 0
    assert kmm("tokenizer", "show", tmp_path / "two", "노란 셔츠") == 0


def test_class_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert kmm("classnames") == 0
    assert "fashion_article_types" in capsys.readouterr().out
    assert kmm("classnames", "cifar10", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cat"] == "고양이"
    assert kmm("classnames", "fashion_colours", "--lang", "en") == 0
    assert "navy blue" in capsys.readouterr().out
    with pytest.raises(UserError, match="no class set"):
        kmm("classnames", "imagenet")
