from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from kmm_jax.data.folder_source import FolderSource
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError

from .conftest import jpeg, write_tar

TABLE = (
    "file\tname\tcolour\tquery\n"
    "셔츠/1.jpg\t빨간 체크 셔츠\t빨강\t빨간 셔츠|체크 셔츠\n"
    '셔츠/2.jpg\t파란 셔츠 "특가"\t파랑\t\n'
)
COLUMNS = {"product_name": "name", "labels.colour": "colour"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "셔츠").mkdir(parents=True)
    for number in (1, 2):
        (tmp_path / "photos" / "셔츠" / f"{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "photos.tsv").write_text(TABLE, encoding="utf-8")
    return tmp_path / "photos"


def test_columns_become_fields(folder: Path) -> None:
    source = FolderSource(folder, f"{folder}.tsv", columns=COLUMNS)
    assert len(source) == 2
    row = source.read(0)
    assert row.key == "셔츠/1"
    assert row.image == jpeg(1)
    assert row.record == {
        "image_hash": "셔츠/1",
        "product_name": "빨간 체크 셔츠",
        "labels": {"colour": "빨강"},
        "query": ["빨간 셔츠", "체크 셔츠"],
    }
    assert source.read(1).record["product_name"] == '파란 셔츠 "특가"'


def test_images_in_a_tar_are_read_without_unpacking(folder: Path, tmp_path: Path) -> None:
    tar = tmp_path / "photos.tar"
    write_tar(tar, [(f"셔츠/{n}.jpg", jpeg(n)) for n in (1, 2)], tarfile.PAX_FORMAT)
    source = open_source(f"folder+tsv:{tar}?product_name=name&labels.colour=colour")
    plain = open_source(f"folder+tsv:{folder},{folder}.tsv?product_name=name&labels.colour=colour")
    assert [source.read(n) for n in (0, 1)] == [plain.read(n) for n in (0, 1)]


def test_windows_line_ends_and_a_byte_order_mark_are_no_trouble(folder: Path) -> None:
    table = folder.parent / "photos.tsv"
    table.write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode())
    source = FolderSource(folder, table, columns=COLUMNS)
    assert source.read(0).record["query"] == ["빨간 셔츠", "체크 셔츠"]


def test_a_column_whose_name_is_a_typed_field_does_not_break_the_schema(folder: Path) -> None:
    table = folder.parent / "photos.tsv"
    table.write_text("file\ttitle\tboxes\n셔츠/1.jpg\t셔츠\t없음\n", encoding="utf-8")
    assert FolderSource(folder, table).read(0).record["tsv_boxes"] == "없음"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("셔츠/3.jpg\t셔츠\t빨강\t", "is not a file"),
        ("셔츠/1.jpg\t셔츠\t빨강", "4 columns expected, 3 found"),
        ("셔츠/1.jpg\t\t빨강\t", "no text"),
        ("../secret.jpg\t셔츠\t빨강\t", "outside"),
        ("\t셔츠\t빨강\t", "image_hash"),
    ],
)
def test_a_bad_line_is_a_bad_row(folder: Path, line: str, seen: str) -> None:
    table = folder.parent / "photos.tsv"
    (folder.parent / "secret.jpg").write_bytes(jpeg(0))
    table.write_text(TABLE + line + "\n", encoding="utf-8")
    source = FolderSource(folder, table, columns=COLUMNS)
    with pytest.raises(DataError, match=rf"photos\.tsv line 4: .*{seen}"):
        source.read(2)
    assert source.read(1).key == "셔츠/2"


def test_what_is_missing_is_said_at_once(folder: Path) -> None:
    table = folder.parent / "photos.tsv"
    for images, texts, columns, seen in [
        (folder / "none", table, COLUMNS, "no such folder"),
        (folder, folder / "none.tsv", COLUMNS, "no such table"),
        (folder, table, {"title": "nmae"}, "did you mean 'name'"),
        (folder, table, {"image": "picture"}, "no column 'picture'"),
    ]:
        with pytest.raises(DataError, match=seen):
            FolderSource(images, texts, columns=columns)


def test_tables_that_are_none_are_refused(folder: Path) -> None:
    table = folder.parent / "photos.tsv"
    for content, seen in [
        (b"", "no rows"),
        (b"file\tname\n", "no rows"),
        (b"file\tname\nx\t\xbb\xa1\n", "line 2: not UTF-8"),
        (b"photo\tname\nx\ty\n", "image=COLUMN"),
    ]:
        table.write_bytes(content)
        with pytest.raises(DataError, match=seen):
            FolderSource(folder, table)


def test_the_shared_photos_open(shared_data: Path) -> None:
    tar = shared_data / "photos" / "imagenet_sample_ko.tar"
    source = open_source(f"folder+tsv:{tar}?caption=class_ko&labels.type=class_en")
    assert len(source) == 648
    row = source.read(1)
    assert (row.record["caption"], row.record["labels"]) == ("금붕어", {"type": "goldfish"})
    assert row.image.startswith(b"\xff\xd8")
