from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from kmm_jax.data.patterns import expand, one_set, sets
from kmm_jax.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (0, 1, 2, 10, 100):
        (tmp_path / f"train-{number}.tar").touch()
    (tmp_path / "test-000.tar").touch()
    (tmp_path / "train-0.tar.index").touch()
    return tmp_path


def names(shards: list[str]) -> list[str]:
    return [Path(shard).name for shard in shards]


def test_a_glob_gives_natural_order(folder: Path) -> None:
    expected = [f"train-{number}.tar" for number in (0, 1, 2, 10, 100)]
    assert names(expand(f"{folder}/train-*.tar")) == expected
    assert names(expand(folder / "train-*.tar")) == expected
    assert names(expand(f"{folder.parent}/**/train-?.tar"))[:3] == expected[:3]


def test_a_relative_glob_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert expand("train-??.tar") == ["train-10.tar"]


def test_a_folder_gives_its_tars(folder: Path) -> None:
    assert names(expand(folder))[:2] == ["test-000.tar", "train-0.tar"]
    assert len(expand(folder)) == 6


def test_brace_ranges_keep_their_zeros(tmp_path: Path) -> None:
    for number in range(8, 12):
        (tmp_path / f"train-{number:03d}.tar").touch()
    expected = ["train-008.tar", "train-009.tar", "train-010.tar", "train-011.tar"]
    assert names(expand(f"{tmp_path}/train-{{008..011}}.tar")) == expected
    assert names(expand(f"{tmp_path}/train-{{009,011}}.tar")) == [expected[1], expected[3]]
    assert names(expand(f"{tmp_path}/train-0{{0,1}}{{0..9}}.tar".replace("{0..9}", "[0-9]"))) == (
        expected
    )


def test_a_list_is_taken_in_its_order(folder: Path) -> None:
    shards = [folder / "train-10.tar", folder / "train-2.tar"]
    assert names(expand(shards)) == ["train-10.tar", "train-2.tar"]


def test_what_is_missing_is_named(folder: Path) -> None:
    for pattern, seen in [
        (f"{folder}/none.tar", "none.tar"),
        (f"{folder}/valid-*.tar", r"valid-\*"),
        (f"{folder}/train-{{0..3}}.tar", "train-3.tar"),
        (f"{folder}/train-{{3..0}}.tar", "backwards"),
        (f"{folder}/nowhere", "nowhere"),
        ("nosuch://bucket/train.tar", "nosuch"),
    ]:
        with pytest.raises(DataError, match=seen):
            expand(pattern)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty/\*\.tar"):
        expand(folder / "empty")


def test_a_folder_with_train_and_test_is_no_set(folder: Path) -> None:
    shards = expand(folder)
    assert {name: len(some) for name, some in sets(shards).items()} == {"test": 1, "train": 5}
    with pytest.raises(DataError, match=r"several sets: test \(1 shards\).*train-\*\.tar'"):
        one_set(shards, folder)
    assert one_set(shards, f"{folder}/*.tar") == shards
    assert one_set(shards, shards) == shards


def test_urls_expand_alike() -> None:
    memory = fsspec.filesystem("memory")
    for number in (0, 2, 10):
        memory.pipe_file(f"/set/train-{number}.tar", b"x")
    try:
        expected = [f"memory:///set/train-{number}.tar" for number in (0, 2, 10)]
        assert expand("memory://set/train-*.tar") == expected
        assert expand("memory://set") == expected
        assert expand("memory://set/train-{0,10}.tar") == [
            "memory://set/train-0.tar",
            "memory://set/train-10.tar",
        ]
        with pytest.raises(DataError, match="none"):
            expand("memory://set/none.tar")
    finally:
        memory.rm("/set", recursive=True)
