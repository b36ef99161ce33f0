from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from kmm_jax.data.tar_headers import members
from kmm_jax.errors import DataError

from .conftest import write_tar

LONG = "아주_긴_이름/" * 12 + "빨간셔츠" * 20
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def ours(path: Path) -> list[tuple[str, int, int, int]]:
    with path.open("rb") as file:
        return [
            (one.name, one.start, one.offset, one.size)
            for one in members(file, str(path), path.stat().st_size)
        ]


def theirs(path: Path) -> list[tuple[str, int, int, int]]:
    with tarfile.open(path) as tar:
        return [(one.name, one.offset, one.offset_data, one.size) for one in tar if one.isfile()]


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_members_equal_tarfiles(tmp_path: Path, format: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"{number:010d}.jpg" for number in range(20)] + ["a" * 90 + "/" + "b" * 99]
    names += [] if format == tarfile.USTAR_FORMAT else [LONG, "c" * 100, "d" * 101, "한글.json"]
    path = tmp_path / "train-000.tar"
    sizes = rng.choice([0, 1, 511, 512, 513, 5000], len(names))
    write_tar(path, [(n, rng.bytes(s)) for n, s in zip(names, sizes, strict=True)], format)
    assert ours(path) == theirs(path)
    assert [name for name, *_ in ours(path)] == names


def test_folders_and_links_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "mixed.tar"
    with tarfile.open(path, "w") as tar:
        folder = tarfile.TarInfo("사진")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = kind, "L" * 150
            tar.addfile(link)
        file = tarfile.TarInfo("사진/1.jpg")
        file.size = 3
        tar.addfile(file, io.BytesIO(b"abc"))
    assert [name for name, *_ in ours(path)] == ["사진/1.jpg"]
    assert ours(path) == theirs(path)


def test_sizes_in_base_256_and_in_pax_headers_are_read(tmp_path: Path) -> None:
    big = 9 << 30
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"big-{format}.tar"
        member = tarfile.TarInfo("영상.jpg")
        member.size = big
        header = member.tobuf(format)
        with path.open("wb") as file:  # sparse: takes no room on the disk
            file.write(header)
            file.seek(big, os.SEEK_CUR)
            file.write(bytes(1024))
        assert ours(path) == [("영상.jpg", 0, len(header), big)]


def test_a_global_pax_header_does_not_disturb(tmp_path: Path) -> None:
    path = tmp_path / "global.tar"
    with tarfile.open(
        path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "git 아카이브"}
    ) as tar:
        member = tarfile.TarInfo("1.json")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{}"))
    assert ours(path) == theirs(path)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "train-003.tar"
    write_tar(path, [(f"{n}.jpg", bytes([n]) * 700) for n in range(4)], tarfile.GNU_FORMAT)
    return path


@pytest.mark.parametrize(
    ("length", "last", "count"),
    [(300, "none", 0), (1000, "none", 0), (1536, "0.jpg", 1), (3200, "1.jpg", 2), (6144, "3", 4)],
)
def test_a_cut_tar_says_where_it_ends(whole: Path, length: int, last: str, count: int) -> None:
    os.truncate(whole, length)
    with pytest.raises(DataError) as error:
        ours(whole)
    message = str(error.value)
    assert "train-003.tar" in message
    assert "truncated" in message
    assert f"{length:,} bytes" in message
    assert f"{count} whole members" in message
    assert last in message
    assert "again" in message


def test_every_cut_is_noticed(whole: Path) -> None:
    content = whole.read_bytes()
    end = 4 * (512 + 1024)
    for length in range(1, end + 511, 97):
        with pytest.raises(DataError):
            list(members(io.BytesIO(content[:length]), "x.tar", length))


def test_noise_between_members_is_noticed(whole: Path) -> None:
    content = bytearray(whole.read_bytes())
    content[1536:2048] = np.random.default_rng(1).bytes(512)
    with pytest.raises(DataError, match=r"not a tar header at byte 1,536.*0\.jpg"):
        list(members(io.BytesIO(bytes(content)), "x.tar", len(content)))


def test_a_huge_extended_header_is_not_allocated() -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    header = member.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(DataError, match="corrupt extended header"):
        list(members(io.BytesIO(header), "x.tar", 2 << 40))


def test_empty_and_compressed_files_say_what_they_are(tmp_path: Path, whole: Path) -> None:
    empty = tmp_path / "train-009.tar"
    empty.touch()
    with pytest.raises(DataError, match="empty shard"):
        ours(empty)
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(whole, "x.jpg")
    with pytest.raises(DataError, match="compressed"):
        ours(packed)
