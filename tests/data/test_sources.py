from __future__ import annotations

import os
import random
import resource
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from kmm_jax.data import storage
from kmm_jax.data.sources import ShardSource, Source, open_source
from kmm_jax.errors import ConfigError, DataError

from .conftest import WriteRows, jpeg, record, row_members, write_tar


def test_rows_equal_what_was_written(write_rows: WriteRows) -> None:
    source = open_source(write_rows(range(20)))
    assert isinstance(source, Source)
    assert len(source) == 20
    for number in range(20):
        row = source.read(number)
        assert (row.key, row.image, row.record) == (f"{number:010d}", jpeg(number), record(number))


def test_rows_can_be_read_from_many_threads(write_rows: WriteRows) -> None:
    source = ShardSource(write_rows(range(40), shard_rows=5))
    numbers = random.Random(0).choices(range(40), k=400)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(source.read, numbers))
    assert [row.key for row in rows] == [f"{number:010d}" for number in numbers]
    assert all(row.image == jpeg(number) for row, number in zip(rows, numbers, strict=True))


def test_more_shards_than_open_files_are_no_trouble(
    write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_OPEN_FILES", 3)
    source = ShardSource(write_rows(range(30), shard_rows=1))
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(4) as pool:
        keys = [row.key for row in pool.map(source.read, list(range(30)) * 3)]
    assert keys == [f"{number:010d}" for number in range(30)] * 3
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > storage._OPEN_FILES


def test_a_closed_source_keeps_no_file_open(write_rows: WriteRows) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = ShardSource(write_rows(range(10), shard_rows=2))
    [source.read(number) for number in range(10)]
    del source
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("number", [-1, 20, 10**6])
def test_a_row_that_does_not_exist_is_an_index_error(write_rows: WriteRows, number: int) -> None:
    with pytest.raises(IndexError):
        ShardSource(write_rows(range(20))).read(number)


def test_members_far_apart_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "train-000.tar"
    image, text = row_members(3)
    write_tar(path, [image, ("large.bin", bytes(200_000)), text], tarfile.GNU_FORMAT)
    row = ShardSource(path).read(0)
    assert (row.image, row.record) == (jpeg(3), record(3))


def test_a_lone_member_is_a_bad_row_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "train-000.tar"
    write_tar(path, [row_members(0)[0], row_members(1)[1], *row_members(2)], tarfile.GNU_FORMAT)
    source = ShardSource(path)
    with pytest.raises(DataError, match=r"0000000000\.jpg has no 0000000000\.json"):
        source.read(0)
    with pytest.raises(DataError, match=r"0000000001\.json has no 0000000001\.jpg"):
        source.read(1)
    assert source.read(2).key == "0000000002"


def test_a_bad_record_names_shard_and_member(tmp_path: Path) -> None:
    path = tmp_path / "train-000.tar"
    write_tar(path, [row_members(0)[0], ("0000000000.json", b"{")], tarfile.GNU_FORMAT)
    with pytest.raises(DataError, match=r"train-000\.tar: 0000000000\.json: .*not JSON"):
        ShardSource(path).read(0)


def test_a_shard_that_shrinks_while_it_is_read_is_noticed(write_rows: WriteRows) -> None:
    folder = write_rows(range(4))
    source = ShardSource(folder)
    os.truncate(folder / "train-000.tar", 2000)
    with pytest.raises(DataError, match="changed since it was indexed"):
        source.read(3)


def test_a_deleted_shard_is_noticed(write_rows: WriteRows) -> None:
    folder = write_rows(range(4))
    source = ShardSource(folder)
    (folder / "train-000.tar").unlink()
    with pytest.raises(DataError, match=r"train-000\.tar: no such file"):
        source.read(0)


def test_a_url_gives_the_same_rows(bucket: str, write_rows: WriteRows) -> None:
    local = ShardSource(write_rows(range(20), folder="again"))
    for url in (bucket, f"{bucket}/train-*.tar", f"{bucket}/train-{{000..002}}.tar"):
        remote = open_source(url)
        assert len(remote) == 20
        assert all(remote.read(number) == local.read(number) for number in (0, 7, 8, 19))


def test_a_url_cut_short_is_noticed(bucket: str) -> None:
    source = open_source(bucket)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/train-000.tar", memory.cat_file("/bucket/train-000.tar")[:2000])
    with pytest.raises(DataError, match="changed since it was indexed"):
        source.read(5)


def test_two_sets_in_a_folder_are_not_mixed(write_rows: WriteRows) -> None:
    folder = write_rows(range(9))
    write_rows(range(9, 12), prefix="test")
    with pytest.raises(DataError, match="several sets"):
        open_source(folder)
    assert len(open_source(f"{folder}/test-*.tar")) == 3
    assert len(open_source(f"shards:{folder}/train-*.tar")) == 9


@pytest.mark.parametrize("url", ["tfds:cifar10", "tfds:/train", "folder+tsv:a?title"])
def test_urls_of_no_form_are_config_errors(url: str) -> None:
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ConfigError, match="expected"):
        open_source(url)


def test_a_url_that_vanishes_is_noticed(bucket: str) -> None:
    source = open_source(bucket)
    fsspec.filesystem("memory").rm("/bucket/train-000.tar")
    with pytest.raises(DataError, match=r"memory:.*/train-000\.tar: no such file"):
        source.read(5)


def test_a_url_that_cannot_be_read_any_more_is_said(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(bucket)

    class ServerError(Exception):
        """As file systems have their own."""

    def refuse(*arguments: object, **options: object) -> bytes:
        raise ServerError("403 Forbidden")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", refuse)
    with pytest.raises(DataError, match=r"train-000\.tar: cannot be read: ServerError: 403"):
        source.read(5)


class Server:
    """A file system as fsspec's HTTP one: the key of a file is only its URL."""

    def __init__(self, **info: object) -> None:
        self.about = {"size": 10, **info}

    def info(self, path: str) -> dict[str, object]:
        return {"name": path, **self.about}

    def ukey(self, path: str) -> str:
        return f"hash of {path}"


@pytest.mark.parametrize("mark", ["ETag", "Last-Modified", "LastModified", "mtime"])
def test_a_changed_url_of_equal_size_has_another_stamp(
    monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    server = Server()
    monkeypatch.setattr(storage, "file_system", lambda url: (server, url))
    unmarked = storage.stamp("http://server/train-000.tar")
    server.about[mark] = "first"
    first = storage.stamp("http://server/train-000.tar")
    assert first == storage.stamp("http://server/train-000.tar")
    server.about[mark] = "second"
    second = storage.stamp("http://server/train-000.tar")
    assert len({unmarked, first, second}) == 3
    assert {size for size, _ in (unmarked, first, second)} == {10}


def test_a_server_that_does_not_tell_the_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "file_system", lambda url: (Server(size=None), url))
    with pytest.raises(DataError, match="does not tell its size"):
        storage.stamp("http://server/train-000.tar")
