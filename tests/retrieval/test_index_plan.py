"""Plans of an index against indexes that are built, and against what must follow."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest

from kmm_jax.cli import main
from kmm_jax.errors import ConfigError
from kmm_jax.retrieval import IndexSettings, size
from kmm_jax.retrieval.plan import Host, Plan, plan_index
from kmm_jax.retrieval.rates import distances, kept_rates, measure_rates, scanned
from kmm_jax.retrieval.segment import write_segment
from kmm_jax.retrieval.settings import for_rows
from tests.retrieval.conftest import clustered

GIB = 2**30
HOST = Host(memory=256 * GIB, cores=32)
MAPPED = IndexSettings(dtype="bfloat16", rescore="mapped")


def planned(rows: float = 1.5e9, settings: IndexSettings = MAPPED, **more: object) -> Plan:
    arguments = {"host": HOST, "rates": kept_rates(), **more}
    return plan_index(int(rows), 512, settings=settings, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        IndexSettings(layout="tree"),
        IndexSettings(layout="tree", dtype="bfloat16"),
        IndexSettings(layout="hashed", dtype="bfloat16", rescore="mapped"),
        IndexSettings(),
    ],
    ids=lambda each: f"{each.layout} {each.dtype} {each.rescore}",
)
def test_the_bytes_of_a_built_segment_are_those_that_were_counted(
    tmp_path: Path, needs_scann: None, settings: IndexSettings
) -> None:
    rows, dim = 3_000, 96
    ids = [hashlib.sha1(str(row).encode()).hexdigest()[:20] for row in range(rows)]
    write_segment(
        tmp_path / "s",
        ids,
        clustered(rows, dim),
        pa.table({"id": ids}),
        model_hash="m",
        settings=settings,
    )
    counted = size.on_disk(rows, dim, settings)

    def true(pattern: str) -> int:
        return sum(each.stat().st_size for each in (tmp_path / "s").rglob(pattern))

    assert true("vectors.npy") == counted.vectors
    assert true("hashed_dataset*.npy") == counted.hashes
    assert true("datapoint_to_token.npy") == counted.leaves
    assert true("*.pb") == pytest.approx(counted.centroids, rel=0.05, abs=400)
    assert true("*.parquet") == pytest.approx(counted.ids + counted.columns, rel=0.1)
    whole = sum(each.stat().st_size for each in (tmp_path / "s").rglob("*") if each.is_file())
    assert whole == pytest.approx(counted.total, rel=0.03)


def test_a_plan_holds_every_vector_in_the_memory_there_is() -> None:
    made = planned()
    assert made.shards * made.segments * made.segment_rows >= made.rows
    assert (made.shards - 1) * made.segments * made.segment_rows < made.rows
    assert made.host_memory <= 0.85 * HOST.memory
    assert made.build_memory <= HOST.memory / 2
    assert made.settings == for_rows(MAPPED, made.segment_rows)
    padding = made.shards * made.segments * made.segment_rows / made.rows
    assert made.disk.vectors == pytest.approx(1.5e9 * 512 * 2 * padding, rel=1e-6)
    # 256 blocks of 4 bits, twice.
    assert made.memory.hashes == pytest.approx(1.5e9 * 256 * padding, rel=1e-6)
    assert made.memory.vectors == 0 and made.disk_reads == made.segments * 200
    # One host fewer would not do.
    held = made.memory.total / (made.shards - 1)
    assert held + size.PROCESS > 0.85 * HOST.memory * 0.98


def test_more_memory_or_smaller_vectors_need_fewer_hosts() -> None:
    wide = planned(settings=IndexSettings())
    half = planned(settings=IndexSettings(dtype="bfloat16"))
    assert half.disk.vectors == pytest.approx(wide.disk.vectors / 2, rel=1e-3)
    assert planned().shards < half.shards < wide.shards
    assert planned(host=Host(memory=1024 * GIB, cores=32)).shards < planned().shards
    assert planned(1e6).shards == planned(1e6).segments == 1
    busy = planned(queries_per_second=10 * planned().queries_per_second)
    assert busy.replicas == 10 and busy.hosts == 10 * busy.shards
    assert planned(replicas=3, queries_per_second=1e-3).replicas == 3
    assert planned(1_000).settings.layout == "brute_force"


def test_work_grows_as_the_settings_say() -> None:
    tree = IndexSettings(layout="tree", leaves=100, leaves_to_search=10)
    assert scanned(10_000, 64, tree) == 2 * 10_000 * 32 // 10
    assert scanned(10_000, 64, IndexSettings(layout="hashed")) == 10_000 * 32
    assert distances(10_000, 64, tree) == 64 * 100 * 13 * 10_000
    assert distances(10_000, 64, IndexSettings(layout="hashed")) == 0
    fewer = planned(settings=dataclasses.replace(MAPPED, leaves_to_search=10))
    assert fewer.query_seconds < planned().query_seconds / 3


def test_a_segment_has_as_many_rows_as_memory_builds() -> None:
    for settings in (IndexSettings(), MAPPED):
        for memory in (2 * GIB, 64 * GIB):
            rows = size.rows_built_within(memory, 512, settings)
            assert size.while_built(rows, 512, settings) <= memory
            assert size.while_built(rows + rows // 100 + 2, 512, settings) > memory


def test_the_rates_of_this_machine_are_measured(tmp_path: Path, needs_scann: None) -> None:
    found = measure_rates(tmp_path, rows=2_000, dim=32)
    values = [found.distance, found.number, found.scanned, found.query, found.checksum]
    assert all(0 < each < 1e-2 for each in values)
    assert (found.rows, found.dim) == (2_000, 32) and found.processor


def test_the_command_says_bytes_hosts_and_hours(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "index", "--vectors", "1.5e9", "--dim", "512", "--dtype", "bfloat16"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for part in (
        "1,500,000,000 vectors of 512 dimensions as bfloat16",
        "hosts",
        "hours to build",
        "queries/s",
        "Measured:",
        "Extrapolated:",
        "quantised codes",
        "metadata columns",
    ):
        assert part in said
    more = ["--memory-per-host", "512GiB", "--replicas", "2", "--rescore", "mapped", "--json"]
    assert main([*words, *more]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["hosts"] == 2 * found["shards"] and found["memory"]["vectors"] == 0
    assert found["memory"]["total"] == sum(
        value for name, value in found["memory"].items() if name != "total"
    )
    assert "build_hours" in found["extrapolated"] and found["measured"]["rows"] > 0


def test_what_cannot_be_planned_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--vectors", "0", "--dim", "512"], "vectors must be at least 1"),
        (["--vectors", "10", "--dim", "0"], "dim must be at least 1"),
        (["--vectors", "1e9", "--dim", "512", "--memory-per-host", "1GiB"], "name larger ones"),
        (["--vectors", "10", "--dim", "8", "--replicas", "0"], "replicas must be at least 1"),
        (["--vectors", "10", "--dim", "8", "--queries-per-second", "0"], "above 0"),
        (["--vectors", "10", "--dim", "8", "--cores-per-host", "0"], "must be at least 1"),
    ):
        assert main(["plan", "index", *words]) == 2, words
        said = capsys.readouterr().err
        assert message in said and said.startswith("kmm plan index: ")
    for words in (["--vectors", "many", "--dim", "8"], ["--vectors", "1e400", "--dim", "8"]):
        with pytest.raises(SystemExit):
            main(["plan", "index", *words])
    with pytest.raises(SystemExit):
        main(["plan", "index", "--vectors", "1", "--dim", "8", "--memory-per-host", "12parsecs"])
    with pytest.raises(ConfigError, match="at least 1"):
        planned(0)
