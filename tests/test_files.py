"""Whole files and folders or none, and what killed calls leave behind."""

import os
import time

import pytest

from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, atomic_write, locked


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(RuntimeError), atomic_directory(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_directory(target) as folder:
        (folder / "whole").write_text("x")
        assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_call_left_a_day_ago_is_removed_and_what_is_fresh_stays(tmp_path):
    old, fresh, other = (
        tmp_path / name for name in (".model.0a.tmp", ".model.0b.tmp", ".model2.0c.tmp")
    )
    for folder in (old, fresh, other):
        folder.mkdir()
        (folder / "half").write_text("x")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    os.utime(other, (yesterday, yesterday))
    with atomic_directory(tmp_path / "model"):
        pass
    assert not old.exists()
    assert fresh.exists() and other.exists()


def test_a_folder_lost_between_the_two_renames_comes_back(tmp_path):
    aside = tmp_path / ".model.old"
    aside.mkdir()
    (aside / "kept").write_text("x")
    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "model"):
        raise RuntimeError
    assert (tmp_path / "model" / "kept").exists()


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "한글.json"
    path.write_text("old")
    with atomic_write(path, "w") as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_lock_is_held_by_one_names_its_holder_and_leaves_nothing(tmp_path):
    path = tmp_path / "new" / ".lock"
    with locked(path, "it is used"):
        assert path.exists()
        with (
            pytest.raises(UserError, match=f"it is used by process {os.getpid()} on"),
            locked(path, "it is used"),
        ):
            raise AssertionError
        assert path.exists()
    assert not path.parent.exists()
    (tmp_path / "new").mkdir()
    path.write_text("process 1 on a machine that is gone\n")
    with locked(path, "it is used"):
        (tmp_path / "new" / "made").touch()
    assert [left.name for left in path.parent.iterdir()] == ["made"]
