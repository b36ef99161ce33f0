from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import ShardSource
from kmm_jax.errors import ConfigError, DataError

from .conftest import WriteRows, jpeg, record


def test_members_are_named_by_the_hash_and_hold_the_bytes(write_rows: WriteRows) -> None:
    folder = write_rows(range(20))
    assert sorted(path.name for path in folder.iterdir()) == [f"train-00{n}.tar" for n in range(3)]
    with tarfile.open(folder / "train-001.tar") as tar:
        assert tar.getnames()[:2] == ["0000000008.jpg", "0000000008.json"]
        image = tar.extractfile("0000000009.jpg")
        text = tar.extractfile("0000000009.json")
        assert image is not None and image.read() == jpeg(9)
        assert text is not None and json.loads(text.read()) == record(9)


def test_equal_rows_give_equal_bytes(write_rows: WriteRows) -> None:
    first, second = write_rows(range(9), folder="a"), write_rows(range(9), folder="b")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_shorter_set_leaves_nothing_of_the_longer_one(write_rows: WriteRows) -> None:
    folder = write_rows(range(30))
    write_rows(range(3), prefix="test")
    ShardSource(folder / "train-*.tar")
    write_rows(range(9))
    assert len(ShardSource(folder / "train-*.tar")) == 9
    assert len(ShardSource(folder / "test-*.tar")) == 3
    assert len(list(folder.glob("train-*"))) == 2 + 2, "two shards, each with its index"


def test_an_exception_drops_the_shard_in_hand_only(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="power"),
        ShardWriter(tmp_path, shard_rows=4) as writer,
    ):
        for number in range(10):
            writer.write(record(number), jpeg(number))
        raise RuntimeError("power")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["train-000.tar", "train-001.tar"]
    assert len(ShardSource(tmp_path)) == 8


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"image_hash": "../x"}, "file name"),
        ({"image_hash": ".x"}, "file name"),
        ({"title": 3}, "title"),
        ({"extra": float("nan")}, "not JSON"),
        ({"extra": {1, 2}}, "not JSON"),
        ({"image_hash": "0000000001"}, "two rows"),
    ],
)
def test_a_row_that_could_not_be_read_is_not_written(
    tmp_path: Path, change: dict[str, object], seen: str
) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.write(record(1), jpeg(1))
        with pytest.raises(DataError, match=seen):
            writer.write(record(2, **change), jpeg(2))
        writer.write(record(3), jpeg(3))
    source = ShardSource(tmp_path)
    assert [source.read(row).key for row in range(len(source))] == ["0000000001", "0000000003"]


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="shard_rows"):
        ShardWriter(tmp_path, shard_rows=0)
    with pytest.raises(ConfigError, match="prefix"):
        ShardWriter(tmp_path, prefix="../train")


_KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from kmm_jax.data.shards import ShardWriter
with ShardWriter(sys.argv[1], shard_rows=50) as writer:
    for number in range(10**6):
        writer.write({"image_hash": f"{number:010d}", "title": "체크 셔츠"}, bytes(2000))
"""


def test_kill_9_leaves_only_whole_shards(tmp_path: Path, repository: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path), str(repository)])
    try:
        deadline = time.monotonic() + 20
        while len(list(tmp_path.glob("train-*.tar"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    source = ShardSource(tmp_path)
    assert len(source) >= 150 and len(source) % 50 == 0
    assert source.read(len(source) - 1).record["title"] == "체크 셔츠"
