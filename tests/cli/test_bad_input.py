"""Unusable input as a whole: one clear message, exit code 2, before anything is compiled."""

import errno
import json
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from kmm_jax.cli import main
from kmm_jax.data.shards import ShardWriter
from kmm_jax.errors import DataError
from kmm_jax.files import atomic_directory, atomic_write
from kmm_jax.inference.loading import read
from kmm_jax.interop import native
from kmm_jax.retrieval import Index, load_embeddings
from tests.tiny_shop import SIZES, picture, record, write


def bomb():
    """A PNG whose header promises 100,000 x 100,000 pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write(tmp_path_factory.mktemp("good"))


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
        ("task.model.text.pad_id=1", "set task.model.text.pad_id=0"),
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


@pytest.fixture(scope="module")
def run(good, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(good, folder) == 0
    return folder


@pytest.fixture(scope="module")
def embeddings(good, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embeddings") / "e"
    assert main(embed(good, run, folder)) == 0
    return folder


def embed(good, run, folder):
    return ["embed", str(run), str(good / "train-*.tar"), "--output", str(folder)]


def fill(disk, leave):
    """Take the space of ``disk`` but for about ``leave`` bytes."""
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(max(free - leave, 0)))


@pytest.mark.parametrize("leave", [0, 4096])
def test_a_full_disk_during_an_embedding_export_leaves_no_export(
    good, run, small_disk, capsys, leave
):
    folder = small_disk / "embeddings"
    fill(small_disk, leave)
    assert main(embed(good, run, folder)) == 2
    assert_full_disk_was_said(capsys, small_disk)
    with pytest.raises(DataError):
        load_embeddings(folder)
    (small_disk / "filler").unlink()
    assert main(embed(good, run, folder)) == 0
    assert len(load_embeddings(folder).ids) == 24


@pytest.mark.parametrize("leave", [0, 4096, 8192])
def test_a_full_disk_during_an_index_build_leaves_no_index(embeddings, small_disk, capsys, leave):
    folder = small_disk / "index"
    fill(small_disk, leave)
    build = ["index", "build", str(embeddings), "--output", str(folder)]
    assert main(build) == 2
    assert_full_disk_was_said(capsys, small_disk)
    with pytest.raises(DataError, match="no index"):
        Index.load(folder)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    (small_disk / "filler").unlink()
    assert main(build) == 0
    assert len(Index.load(folder)) == 24


def test_a_full_disk_during_an_index_build_keeps_the_index_that_was_there(
    embeddings, small_disk, capsys
):
    folder = small_disk / "index"
    build = ["index", "build", str(embeddings), "--output", str(folder)]
    assert main(build) == 0
    fill(small_disk, 4096)
    assert main(build) == 2
    assert_full_disk_was_said(capsys, small_disk)
    assert len(Index.load(folder)) == 24


@pytest.mark.parametrize("leave", [0, 40_960])
def test_a_full_disk_during_a_models_export_leaves_no_model(run, small_disk, leave):
    exported = read(run)
    fill(small_disk, leave)
    with pytest.raises(OSError, match="No space left") as error:
        native.save(small_disk / "model", exported)
    assert str(small_disk) in str(error.value.filename)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
    with pytest.raises(DataError, match="no exported model"):
        native.load(small_disk / "model")


def assert_full_disk_was_said(capsys, disk):
    printed = capsys.readouterr().err
    assert "no space left" in printed
    assert str(disk) in printed
    assert "Traceback" not in printed


def test_an_error_of_the_disk_without_a_file_names_the_one_being_written(tmp_path):
    for writing in (atomic_write, atomic_directory):
        with pytest.raises(OSError) as error, writing(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert error.value.filename == str(tmp_path / "out")
        # What is read meanwhile may fail too: that is not the written file's fault.
        with pytest.raises(ConnectionResetError) as error, writing(tmp_path / "out"):
            raise ConnectionResetError(errno.ECONNRESET, "reset by peer")
        assert error.value.filename is None
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_ends_the_command_quietly():
    command = [sys.executable, "-m", "kmm_jax", "classnames", "imagenet1k", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()  # as `| head` does, and sooner
    assert process.stderr.read() == b""
    assert process.wait() == 141


def test_an_output_that_is_a_file_is_said(good, run, tmp_path, capsys):
    (tmp_path / "글.txt").write_text("글")
    assert main(embed(good, run, tmp_path / "글.txt")) == 2
    printed = capsys.readouterr().err
    assert "글.txt: File exists; it is in the way" in printed
    assert "Traceback" not in printed
    assert main(embed(good, run, tmp_path / "글.txt" / "e")) == 2
    assert "a folder is needed" in capsys.readouterr().err
    assert (tmp_path / "글.txt").read_text() == "글"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "/data/x: Permission den"),
        (OSError(errno.EIO, "Input/output error", b"/data/x"), "/data/x: Input/output error"),
        (OSError(errno.EROFS, "Read-only file system", "/data/x"), "can be written"),
        (OSError(errno.ENOSPC, "No space left", "/data/x"), "the disk that holds /data/x"),
        (OSError(errno.ENOSPC, "No space left"), "no space left on a disk that is written to"),
    ],
)
def test_errors_of_the_disk_that_name_a_file_are_one_line(monkeypatch, capsys, error, said):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("kmm_jax.models.registry.preset", fail)
    assert main(["models"]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert len(printed.splitlines()) == 1


def test_errors_that_name_no_file_keep_their_traceback(monkeypatch):
    def fail(*arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("kmm_jax.models.registry.preset", fail)
    with pytest.raises(BrokenPipeError):
        main(["models"])


@pytest.mark.parametrize("words", [["--run-dir", "x", ""], ["", "--run-dir", "x"], ["", ""]])
def test_an_empty_word_is_said(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["train", "coca/shop", *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert "''" in capsys.readouterr().err


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
