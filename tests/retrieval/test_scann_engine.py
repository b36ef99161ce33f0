import errno
import os
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kmm_jax.errors import DataError
from kmm_jax.retrieval import scann_engine
from kmm_jax.retrieval.settings import IndexSettings, for_rows
from kmm_jax.retrieval.vectors import unit_rows
from tests.retrieval.conftest import clustered

FLAGS = "processor\t: 0\nflags\t\t: fpu sse sse2 avx {}\n"


@pytest.fixture
def importing_ends_the_process(monkeypatch):
    """As on a processor that lacks the instructions."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(scann_engine, "_scann", lambda: pytest.fail("scann was imported"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("fma", "this processor has no AVX2, which scann needs"),
        ("", "this processor has no AVX2 and no FMA, which scann needs"),
        ("avx512f avx2_not fma4", "this processor has no AVX2 and no FMA, which scann needs"),
    ],
)
def test_scann_is_not_imported_on_a_processor_without_its_instructions(
    tmp_path, importing_ends_the_process, flags, words
):
    (tmp_path / "cpuinfo").write_text(FLAGS.format(flags))
    assert scann_engine.unavailable(tmp_path / "cpuinfo") == words


def test_scann_is_not_tried_on_an_unknown_processor(tmp_path, importing_ends_the_process):
    assert "could not be read" in scann_engine.unavailable(tmp_path / "nothing")


def test_a_processor_with_the_instructions_may_import_it(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(scann_engine, "_scann", lambda: None)
    (tmp_path / "cpuinfo").write_text(FLAGS.format("fma avx2"))
    assert scann_engine.unavailable(tmp_path / "cpuinfo") is None


def test_other_processors_are_judged_by_the_import_alone(tmp_path, monkeypatch):
    def broken():
        raise ImportError("/lib/libstdc++.so.6: version not found\nmore")

    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(scann_engine, "_scann", broken)
    reason = scann_engine.unavailable(tmp_path / "nothing")
    assert reason == "scann could not be imported (/lib/libstdc++.so.6: version not found)"


def test_importing_it_leaves_tensorflow_alone(needs_scann):
    code = (
        "import sys; from kmm_jax.retrieval import scann_engine; "
        "assert scann_engine.unavailable() is None; assert 'tensorflow' not in sys.modules; "
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_the_chatter_of_native_code_is_held_back(capfd):
    with scann_engine._native_log() as log:
        os.write(2, b"I0000 00:00:17 partitioner.cc:58] Size of sampled dataset\n")
        os.write(2, b"a word of another thread\n")
        assert log() == "\na word of another thread"
    assert capfd.readouterr().err == "a word of another thread\n"


@pytest.mark.parametrize(("free", "number"), [(10, errno.ENOSPC), (1 << 40, errno.EIO)])
def test_a_full_disk_is_said_to_be_full(tmp_path, monkeypatch, free, number):
    class Failing:
        def serialize(self, folder, relative_path):
            raise RuntimeError("Failed to extract SingleMachineFactoryOptions: I/O error")

    (tmp_path / "vectors.npy").write_bytes(bytes(100))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(free, 0, free))
    searcher = scann_engine.ScannSearcher(Failing(), for_rows(IndexSettings(), 20), 20)
    with pytest.raises(OSError, match="I/O error") as caught:
        searcher.save(tmp_path / "scann", tmp_path / "vectors.npy")
    assert caught.value.errno == number


def test_files_cut_short_while_they_are_written_are_noticed(tmp_path, needs_scann):
    vectors = clustered(200)
    np.save(tmp_path / "vectors.npy", vectors)
    searcher = scann_engine.train(vectors, for_rows(IndexSettings(layout="hashed"), 200))

    class CuttingShort:
        def serialize(self, folder, relative_path):
            searcher._searcher.serialize(folder, relative_path)
            whole = (tmp_path / "scann" / "hashed_dataset.npy").read_bytes()
            (tmp_path / "scann" / "hashed_dataset.npy").write_bytes(whole[:-100])

    cut = scann_engine.ScannSearcher(CuttingShort(), searcher._settings, 200)
    with pytest.raises(DataError, match="cannot read it"):
        cut.save(tmp_path / "scann", tmp_path / "vectors.npy")


def test_leaves_are_as_good_from_a_sample_of_few_vectors_for_each(needs_scann):
    """With ScaNN's own least size of 50, 14 of 100 neighbours lay in other leaves."""
    random = np.random.default_rng(0)
    centres_CD = random.normal(size=(300, 24))

    def drawn(count):
        vectors_ND = centres_CD[random.integers(300, size=count)]
        return unit_rows(vectors_ND + 0.35 * random.normal(size=vectors_ND.shape), "row")

    rows_ND, queries_QD = drawn(12_000), drawn(200)
    settings = IndexSettings(
        layout="tree", leaves=300, leaves_to_search=2, reorder=100, training_rows=6_000
    )
    engine = scann_engine.train(rows_ND, for_rows(settings, len(rows_ND)))
    found_QK, _ = engine.search(queries_QD, 10)
    true_QK = np.argsort(-(queries_QD @ rows_ND.T), axis=1)[:, :10]
    shared = [len(set(ids) & set(true)) for ids, true in zip(found_QK, true_QK, strict=True)]
    assert np.mean(shared) > 9.7
