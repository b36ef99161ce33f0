"""Pairs of sentences from TSV files, and a split that no English text crosses."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from kmm_jax.data.parallel import parallel_pairs, read_pairs, split_of
from kmm_jax.errors import DataError

ROWS = [(f"문장 {i}", f"sentence {i}") for i in range(300)]


def table(path: Path, rows, header: str = "id\ten\tko") -> Path:
    lines = [header, *(f"{i}\t{en}\t{ko}" for i, (ko, en) in enumerate(rows))]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_columns_are_found_by_name_and_quotes_are_letters(tmp_path: Path) -> None:
    rows = [('"네"라고 했다', '"Yes," he said'), ("\u1112\u1161\u11ab글", "Hangul  script")]
    expected = [rows[0], ("한글", "Hangul script")]
    assert list(read_pairs(table(tmp_path / "a.tsv", rows))) == expected
    assert list(read_pairs(table(tmp_path / "a.tsv.gz", rows))) == expected


def test_a_folder_stands_for_its_tables_and_a_pair_comes_once(tmp_path: Path) -> None:
    table(tmp_path / "a.tsv", ROWS[:200])
    table(tmp_path / "b.tsv.gz", ROWS[100:])
    (tmp_path / "README.md").write_text("about")
    assert list(parallel_pairs([tmp_path])) == ROWS
    assert list(parallel_pairs([tmp_path / "a.tsv", tmp_path / "b.tsv.gz"])) == ROWS


def test_an_english_text_is_in_one_split_whatever_stands_beside_it(tmp_path: Path) -> None:
    rows = [*ROWS, *((f"다른 {ko}", en.upper() + " ") for ko, en in ROWS)]
    file = table(tmp_path / "a.tsv", rows)
    train, test = list(read_pairs(file, "train")), list(read_pairs(file, "test"))
    assert len(train) + len(test) == 600 and 20 < len(test) < 120
    assert not {en.lower() for _, en in train} & {en.lower() for _, en in test}
    assert split_of("A cat") == split_of(" a  CAT ")


def test_what_is_wrong_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.tsv has no column 'ko'"):
        list(read_pairs(table(tmp_path / "a.tsv", ROWS, header="id\ten\tkr")))
    file = table(tmp_path / "b.tsv", [("하나", "one"), ("둘\t둘", "two")])
    with pytest.raises(DataError, match=r"b\.tsv, line 3: 4 cells, but the header has 3"):
        list(read_pairs(file))
    file = table(tmp_path / "c.tsv", [("", "one")])
    with pytest.raises(DataError, match=r"c\.tsv, line 2: nothing in 'ko'"):
        list(read_pairs(file))
    (tmp_path / "d.tsv").write_bytes(b"ko\ten\n\n" + "하나".encode("cp949") + b"\tone\n")
    with pytest.raises(DataError, match=r"d\.tsv, line 3: not UTF-8"):
        list(read_pairs(tmp_path / "d.tsv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file"):
        list(parallel_pairs([tmp_path / "empty"]))


def test_the_real_tables_are_read_whole(shared_data: Path) -> None:
    folder = shared_data / "text" / "parallel"
    if not folder.is_dir():
        pytest.skip(f"no parallel sentences: {folder} does not exist")
    train, test = (list(parallel_pairs([folder], split)) for split in ("train", "test"))
    assert 0.08 < len(test) / (len(train) + len(test)) < 0.12
    assert not {en for _, en in train} & {en for _, en in test}
    assert ("비행기가 이륙하고 있다.", "A plane is taking off.") in {*train, *test}
