from __future__ import annotations

import os
import tarfile
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from kmm_jax.data import tar_index
from kmm_jax.data.tar_index import build_index, open_index
from kmm_jax.errors import DataError

from .conftest import row_members, write_tar


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "train-000.tar"
    write_tar(path, [m for n in range(5) for m in row_members(n)], tarfile.GNU_FORMAT)
    return path


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards that were read for an index, in order."""
    seen: list[str] = []

    def counted(path: str) -> tar_index.TarIndex:
        seen.append(path)
        return build_index(path)

    monkeypatch.setattr(tar_index, "build_index", counted)
    return seen


def members_by_index(path: Path) -> dict[str, tuple[bytes, bytes]]:
    index, content = open_index(str(path)), path.read_bytes()
    sides = [
        [content[at : at + size] for at, size in side] for side in (index.images, index.records)
    ]
    return {index.key(row): (sides[0][row], sides[1][row]) for row in range(len(index))}


def test_spans_equal_tarfiles_extraction(shard: Path) -> None:
    with tarfile.open(shard) as tar:
        expected = {
            one.name[:-4]: (
                tar.extractfile(one).read(),  # type: ignore[union-attr]
                tar.extractfile(one.name[:-4] + ".json").read(),  # type: ignore[union-attr]
            )
            for one in tar
            if one.name.endswith(".jpg")
        }
    assert members_by_index(shard) == expected
    assert members_by_index(shard) == expected, "read back from the stored index"


def test_it_is_built_once(shard: Path, builds: list[str]) -> None:
    first, second = open_index(str(shard)), open_index(str(shard))
    assert builds == [str(shard)]
    assert first.key_bytes == second.key_bytes
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.key_ends, second.key_ends)


def test_a_changed_shard_is_indexed_again(shard: Path, builds: list[str]) -> None:
    open_index(str(shard))
    os.utime(shard, ns=(0, 12345))
    open_index(str(shard))
    write_tar(shard, row_members(7), tarfile.GNU_FORMAT)
    assert len(open_index(str(shard))) == 1
    assert len(builds) == 3


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "folder"])
def test_a_damaged_index_is_built_again(shard: Path, builds: list[str], damage: str) -> None:
    expected = members_by_index(shard)
    place = shard.with_name("train-000.tar.index")
    content = bytearray(place.read_bytes())
    if damage == "cut":
        place.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        at = bytes(content).index(b"images.npy") + 200
        content[at] ^= 0xFF
        place.write_bytes(content)
    elif damage == "empty":
        place.write_bytes(b"")
    elif damage == "text":
        place.write_text("이것은 색인이 아니다")
    else:
        place.unlink()
        place.mkdir()
    assert members_by_index(shard) == expected
    assert len(builds) == 2


def test_a_pickle_is_never_loaded(shard: Path) -> None:
    place = shard.with_name("train-000.tar.index")
    with place.open("wb") as file:
        np.savez(file, shard=np.array([print], dtype=object))
    assert len(open_index(str(shard))) == 5


def test_where_the_folder_is_read_only_the_cache_is_used(
    shard: Path, cache: Path, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tar_index.atomic_write

    def refuse_beside(path: str) -> object:
        if str(path).startswith(str(shard)):
            raise PermissionError(13, "read-only", str(path))
        return whole(path)

    monkeypatch.setattr(tar_index, "atomic_write", refuse_beside)
    assert len(open_index(str(shard))) == len(open_index(str(shard))) == 5
    assert not shard.with_name("train-000.tar.index").exists()
    assert len(list(cache.rglob("*.index"))) == len(builds) == 1


def test_where_nothing_can_be_written_it_stays_in_memory(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> object:
        raise OSError(30, "read-only file system", str(path))

    monkeypatch.setattr(tar_index, "atomic_write", refuse)
    assert len(open_index(str(shard))) == 5


def test_several_openings_at_once_leave_one_whole_index(shard: Path) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(open_index(str(shard))))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5] * 8
    assert sorted(path.name for path in shard.parent.glob(".*")) == []


def test_a_lone_member_is_a_row_with_a_side_missing(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    pairs = [row_members(n) for n in range(3)]
    order = [pairs[0][0], pairs[1][1], pairs[2][0], pairs[2][1], ("README.txt", b"x")]
    write_tar(path, [*order, ("._0000000002.jpg", b"mac")], tarfile.GNU_FORMAT)
    index = build_index(str(path))
    assert [index.key(row) for row in range(len(index))] == [f"{n:010d}" for n in range(3)]
    assert (index.images[:, 0] >= 0).tolist() == [True, False, True]
    assert (index.records[:, 0] >= 0).tolist() == [False, True, True]


def test_partners_need_not_be_neighbours_and_a_name_twice_is_two_rows(tmp_path: Path) -> None:
    path = tmp_path / "apart.tar"
    a, b = row_members(1), row_members(2)
    write_tar(path, [a[0], b[0], b[1], a[1], *a], tarfile.PAX_FORMAT)
    index = build_index(str(path))
    assert [index.key(row) for row in range(3)] == ["0000000001", "0000000002", "0000000001"]
    assert (index.images > 0).all() and (index.records > 0).all()


def test_a_tar_without_rows_is_an_empty_shard(tmp_path: Path) -> None:
    for members in ([], [("README.txt", b"nothing here")]):
        path = tmp_path / "none.tar"
        write_tar(path, members, tarfile.GNU_FORMAT)
        with pytest.raises(DataError, match="empty shard"):
            open_index(str(path))


def test_a_url_is_indexed_beside_the_shard(shard: Path, builds: list[str]) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/train-000.tar", shard.read_bytes())
    url = "memory://bucket/train-000.tar"
    try:
        assert len(open_index(url)) == len(open_index(url)) == 5
        assert memory.exists("/bucket/train-000.tar.index")
        np.testing.assert_array_equal(open_index(url).images, build_index(str(shard)).images)
        assert builds == [url]
        memory.pipe_file("/bucket/train-000.tar", shard.read_bytes()[:-9000])
        with pytest.raises(DataError, match="truncated"):
            open_index(url)
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_changed_url_of_equal_size_is_indexed_again(
    shard: Path, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    info, tag = type(memory).info, "first"

    def with_tag(self: object, path: str, **options: object) -> dict[str, object]:
        return {**info(self, path, **options), "ETag": tag}

    monkeypatch.setattr(type(memory), "info", with_tag)
    monkeypatch.setattr(type(memory), "ukey", lambda self, path: path)
    memory.pipe_file("/bucket/train-000.tar", shard.read_bytes())
    try:
        for tag, built in (("first", 1), ("first", 1), ("second", 2)):
            open_index("memory://bucket/train-000.tar")
            assert len(builds) == built, tag
    finally:
        memory.rm("/bucket", recursive=True)
