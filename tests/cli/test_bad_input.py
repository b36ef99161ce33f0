"""Unusable input as a whole: one clear message, exit code 2, before anything is compiled."""

import io
import json
import struct
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from kmm_jax.cli import main
from kmm_jax.data.shards import ShardWriter
from kmm_jax.text.tokenizer import Tokenizer

SIZES = (
    "data.image_size=16",
    "task.model.vision.image_size=16",
    "task.model.vision.width=32",
    "task.model.vision.heads=1",
    "task.model.vision.hidden=32",
    "task.model.vision.depth=1",
    "task.model.text.width=32",
    "task.model.text.heads=1",
    "task.model.text.hidden=32",
    "task.model.pooler_heads=1",
    "task.model.embedding=32",
    "global_batch_size=8",
    "duration=2 steps",
)


def record(number):
    return {"image_hash": f"{number:08d}", "title": f"빨간 셔츠 {number}", "query": ["빨간 셔츠"]}


def picture(number=0):
    pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def bomb():
    """A PNG whose header promises 100,000 x 100,000 pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    with ShardWriter(folder) as writer:
        for number in range(24):
            writer.write(record(number), picture(number))
    Tokenizer.train(["빨간 셔츠"] * 3, vocab_size=300).save(folder / "tokenizer")
    return folder


def train(good, run_dir, *overrides, data=None):
    return main(
        [
            "train",
            "coca/shop",
            "--run-dir",
            str(run_dir),
            f"data.sources.0.url={data or good / 'train-*.tar'}",
            f"tokenizer={good / 'tokenizer'}",
            *SIZES,
            *overrides,
        ]
    )


def missing(folder):
    return folder / "nothing-*.tar", "nothing-"


def empty_shard(folder):
    (folder / "train-000.tar").write_bytes(b"")
    return folder / "train-000.tar", "empty"


def truncated(folder):
    with ShardWriter(folder) as writer:
        for number in range(8):
            writer.write(record(number), picture(number))
    path = folder / "train-000.tar"
    path.write_bytes(path.read_bytes()[:5000])
    return path, "truncated"


def corrupt_images(folder):
    with ShardWriter(folder) as writer:
        for number in range(8):
            writer.write(record(number), b"no picture at all")
    return folder / "train-000.tar", "not an image"


def bombs(folder):
    with ShardWriter(folder) as writer:
        for number in range(8):
            writer.write(record(number), bomb())
    return folder / "train-000.tar", "decompression bomb"


@pytest.mark.parametrize("make", [missing, empty_shard, truncated, corrupt_images, bombs])
@pytest.mark.parametrize("command", ["check", "train"])
def test_data_that_cannot_be_used_is_said_and_ends_with_code_2(
    good, tmp_path, capsys, make, command
):
    data, said = make(tmp_path)
    if command == "check":
        code = main(["data", "check", str(data)])
    else:
        code = train(good, tmp_path / "run", data=data)
    printed = capsys.readouterr()
    assert code == 2
    assert said in printed.err + printed.out
    assert "Traceback" not in printed.err
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.learning_rat=1", "learning_rate"),
        ("task.model.pooling=cascaded", "cascade"),
        ("duration=3 epoch s", "duration"),
        ("global_batch_size=12", "12 does not divide"),
        ("global_batch_size=zwölf", "global_batch_size"),
        ("task.model.text.vocabulary=50", "task.model.text.vocabulary"),
        ("data.image_size=32", "task.model.vision.image_size"),
    ],
)
def test_a_config_that_cannot_work_is_refused_before_compiling(
    good, tmp_path, capsys, override, said
):
    assert train(good, tmp_path / "run", override) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run").exists()


def test_an_unknown_experiment_names_the_nearest(capsys):
    assert main(["train", "coca/shpo"]) == 2
    assert "coca/shop" in capsys.readouterr().err


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_no_half_checkpoint_is_taken_for_a_whole_one(
    good, small_disk, capsys
):
    run = small_disk / "run"
    assert train(good, run) == 2
    printed = capsys.readouterr().err
    assert "no space left" in printed.lower()
    assert "Traceback" not in printed
    from kmm_jax.training.checkpoint import saved_steps

    assert saved_steps(run) == []


def test_the_same_run_on_a_large_enough_disk_works(good, tmp_path):
    assert train(good, tmp_path / "run") == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert np.isfinite(json.loads(lines[-1])["loss"])


def test_a_second_phase_on_larger_pictures_begins_from_the_first(good, tmp_path, capsys):
    assert train(good, tmp_path / "first") == 0
    larger = ("data.image_size=24", "task.model.vision.image_size=24")
    assert train(good, tmp_path / "second", *larger, "--init", str(tmp_path / "first")) == 0
    assert train(good, tmp_path / "third", "--init", str(tmp_path / "nothing")) == 2
    assert "nothing" in capsys.readouterr().err
