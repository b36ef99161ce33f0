"""The built-in shop on disk: whole or absent, and never drawn twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from kmm_jax.data.shop import ShopConfig, generate, write_shop
from kmm_jax.errors import ConfigError, UserError


def members(folder: Path) -> dict[str, bytes]:
    found = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                found[f"{shard.name}/{member.name}"] = tar.extractfile(member).read()
    return found


SMALL = {"train": 30, "test": 12, "seed": 1, "image_size": 40}


def test_written_shop_holds_the_generated_items(tmp_path):
    write_shop(tmp_path / "shop", **SMALL)
    found = members(tmp_path / "shop")
    for split in ("train", "test"):
        config = ShopConfig(items=SMALL[split], seed=1, image_size=40, split=split)
        expected = {}
        for item in generate(config):
            name = f"{split}-000.tar/{item.record['image_hash']}"
            assert found.pop(f"{name}.jpg") == item.jpeg
            expected[name] = item.record
        for name, record in expected.items():
            assert json.loads(found.pop(f"{name}.json")) == record
    assert not found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop"]


def test_two_processes_write_the_same_bytes_as_one(tmp_path):
    write_shop(tmp_path / "one", **{**SMALL, "train": 120}, processes=1)
    write_shop(tmp_path / "two", **{**SMALL, "train": 120}, processes=2)
    assert members(tmp_path / "one") == members(tmp_path / "two")
    assert (tmp_path / "one/shop.json").read_bytes() == (tmp_path / "two/shop.json").read_bytes()


def test_a_second_call_draws_nothing(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop", **SMALL)
    monkeypatch.setattr("kmm_jax.data.shop.writing.render_item", None)
    before = (tmp_path / "shop/train-000.tar").stat()
    write_shop(tmp_path / "shop", **SMALL)
    assert (tmp_path / "shop/train-000.tar").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("damage", ["missing", "truncated", "manifest"])
def test_a_damaged_shop_is_drawn_again(tmp_path, damage):
    folder = tmp_path / "shop"
    write_shop(folder, **SMALL)
    whole = members(folder)
    shard = folder / "test-000.tar"
    if damage == "missing":
        shard.unlink()
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:1000])
    else:
        (folder / "shop.json").write_text('{"train": ')
    write_shop(folder, **SMALL)
    assert members(folder) == whole


def test_a_smaller_shop_leaves_no_shard_of_the_larger(tmp_path):
    folder = tmp_path / "shop"
    write_shop(folder, **{**SMALL, "train": 1020, "image_size": 32}, processes=1)
    assert len(list(folder.glob("train-*.tar"))) == 2
    write_shop(folder, **SMALL)
    assert len(list(folder.glob("train-*.tar"))) == 1


def test_other_drawing_code_is_another_shop(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop", **SMALL)
    before = (tmp_path / "shop/shop.json").read_text()
    monkeypatch.setattr("kmm_jax.data.shop.writing._code_version", lambda: "changed")
    write_shop(tmp_path / "shop", **SMALL)
    assert (tmp_path / "shop/shop.json").read_text() != before


def test_files_that_are_no_shop_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("소중한 파일")
    with pytest.raises(UserError, match=r"no shop\.json"):
        write_shop(tmp_path, **SMALL)
    with pytest.raises(UserError, match="is a file"):
        write_shop(tmp_path / "thesis.txt", **SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "소중한 파일"


def test_kill_in_the_middle_leaves_no_folder_and_the_next_run_succeeds(tmp_path):
    folder = tmp_path / "shop"
    program = (
        "import sys; from kmm_jax.data.shop import write_shop\n"
        "write_shop(sys.argv[1], train=3000, test=10, seed=1, image_size=32, processes=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".shop.*/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not folder.exists()
    write_shop(folder, **SMALL)
    assert len(members(folder)) == 2 * (SMALL["train"] + SMALL["test"])


def test_a_crash_while_redrawing_keeps_the_old_shop(tmp_path, monkeypatch):
    folder = tmp_path / "shop"
    write_shop(folder, **SMALL)
    whole = members(folder)

    def full_disk(config, index):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kmm_jax.data.shop.writing.render_item", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_shop(folder, **{**SMALL, "seed": 2})
    assert members(folder) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": -1}, "-1 items"),
        ({"image_size": 8}, "image_size=8"),
        ({"image_size": 5000}, "image_size=5000"),
        ({"split": "validation"}, "'validation'"),
        ({"several_share": 1.5}, r"several_share=1\.5"),
    ],
)
def test_a_shop_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        ShopConfig(**{"items": 1, "seed": 0, "split": "train", **change})


def test_no_processes_cannot_draw(tmp_path):
    with pytest.raises(ConfigError, match="0 processes"):
        write_shop(tmp_path / "shop", **SMALL, processes=0)
    assert not list(tmp_path.iterdir())


def test_what_people_put_beside_the_shards_survives_another_shop(tmp_path):
    folder = tmp_path / "shop"
    write_shop(folder, **SMALL)
    (folder / "tokenizer" / "deep").mkdir(parents=True)
    (folder / "tokenizer" / "tokenizer.json").write_text("글")
    (folder / "notes.txt").write_text("소중한 파일")
    (folder / "train-000.tar.index").write_bytes(b"of the old shard")
    (folder / "gone").symlink_to("nowhere")
    (folder / "results").symlink_to("tokenizer")
    write_shop(folder, **{**SMALL, "seed": 2})
    assert json.loads((folder / "shop.json").read_text())["seed"] == 2
    assert (folder / "tokenizer" / "tokenizer.json").read_text() == "글"
    assert (folder / "tokenizer" / "deep").is_dir()
    assert (folder / "notes.txt").read_text() == "소중한 파일"
    assert (folder / "gone").is_symlink() and (folder / "results").is_symlink()
    assert not (folder / "train-000.tar.index").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_other_files_are_kept_where_there_are_no_hard_links(tmp_path, monkeypatch):
    write_shop(tmp_path / "shop", **SMALL)
    (tmp_path / "shop" / "notes.txt").write_text("소중한 파일")

    def refuse(*arguments, **options):
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr("kmm_jax.data.shop.writing.os.link", refuse)
    write_shop(tmp_path / "shop", **{**SMALL, "seed": 2})
    assert (tmp_path / "shop" / "notes.txt").read_text() == "소중한 파일"


def test_a_shard_of_somebody_else_is_neither_deleted_nor_mixed_in(tmp_path):
    folder = tmp_path / "shop"
    write_shop(folder, **SMALL)
    (folder / "train-007.tar").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"train-007\.tar, which this shop did not write"):
        write_shop(folder, **{**SMALL, "seed": 2})
    assert (folder / "train-007.tar").read_bytes() == b"mine"
    assert json.loads((folder / "shop.json").read_text())["seed"] == 1


def test_a_shop_moved_aside_by_a_crash_comes_back_with_what_was_beside_it(tmp_path):
    folder = tmp_path / "shop"
    write_shop(folder, **SMALL)
    (folder / "notes.txt").write_text("소중한 파일")
    folder.rename(tmp_path / ".shop.old")
    write_shop(folder, **{**SMALL, "seed": 2})
    assert (folder / "notes.txt").read_text() == "소중한 파일"
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_it_returns_what_its_manifest_holds_drawn_or_not(tmp_path):
    first = write_shop(tmp_path / "shop", **SMALL)
    assert first == write_shop(tmp_path / "shop", **SMALL)
    assert first == json.loads((tmp_path / "shop" / "shop.json").read_text())
