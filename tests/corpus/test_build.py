"""From raw tables to shards: every row accounted for, the same bytes however it is interrupted."""

import collections
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kmm_jax.cli import main
from kmm_jax.corpus import engine, join, tables
from kmm_jax.corpus.build import _plan, build
from kmm_jax.corpus.config import Clicks, CorpusConfig, Documents, DuplicateRules, Images
from kmm_jax.corpus.jobs import Answer, config_text
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError
from tests.conftest import REPOSITORY
from tests.corpus.test_images import photo
from tools import dirty_shop


def counts(manifest, stage):
    return next(found["counts"] for found in manifest["stages"] if found["name"] == stage)


def members(folder):
    """Name -> bytes of every member of every shard, in order."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                opened = tar.extractfile(member)
                assert opened is not None
                found[f"{path.name}/{member.name}"] = opened.read()
    return found


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def test_every_picture_and_text_becomes_what_it_must(built):
    truth = dirty_shop.truth(built.raw)
    pictures = collections.Counter(truth["images"].values())
    found = counts(built.manifest, "pictures")
    for reason in ("small", "aspect", "white", "decode_error"):
        assert found.get(reason, 0) == pictures[reason], reason
    assert counts(built.manifest, "merge").get("duplicate", 0) == pictures["duplicate"]
    assert counts(built.manifest, "merge").get("no_text", 0) == pictures["no_text"]
    near = counts(built.manifest, "choose").get("near_duplicate", 0)
    assert pictures["near_duplicate"] - 2 <= near <= pictures["near_duplicate"]
    for kind in ("documents", "clicks"):
        assert counts(built.manifest, kind) == truth["texts"][kind]


def test_shards_are_what_training_reads(built):
    shards = built.folder / "shards"
    assert json.loads((shards / "manifest.json").read_text("utf-8")) == built.manifest
    source = open_source(str(shards / "train-*.tar"))
    assert (
        len(source)
        == built.manifest["rows"]
        == sum(1 for name in members(shards) if name.endswith(".json"))
    )
    rows = [json.loads(data) for name, data in members(shards).items() if name.endswith(".json")]
    sizes = [len([n for n in members(shards) if n.startswith(s["name"])]) // 2
             for s in built.manifest["shards"]]  # fmt: skip
    assert all(size == 40 for size in sizes[:-1]) and 0 < sizes[-1] <= 40
    assert len({row["image_hash"] for row in rows}) == len(rows)
    for row in rows:
        assert row["image_size"][0] >= 200 and 0 <= row["image_white_pixel_ratio"] < 0.9
        assert row.get("title") or row["query"]
        assert row.get("query_count", []) == sorted(row.get("query_count", []), reverse=True)


def test_the_same_input_gives_the_same_bytes_and_nothing_is_done_twice(built, tmp_path):
    one_at_a_time = dataclasses.replace(built.config, tasks=1)
    build(one_at_a_time, tmp_path / "out")
    shards = shard_bytes(built.folder / "shards")
    assert shard_bytes(tmp_path / "out" / "shards") == shards
    before = {path: path.stat().st_mtime_ns for path in built.folder.rglob("*.parquet")}
    assert build(built.config, built.folder) == built.manifest
    dropped = built.folder / "work" / "dropped" / "00000.parquet"
    after = {path: path.stat().st_mtime_ns for path in built.folder.rglob("*.parquet")}
    assert {path for path in before if before[path] != after[path]} <= {dropped}


def test_of_a_changed_file_alone_the_pictures_are_looked_at_again(built, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(built.raw, raw)
    shutil.copytree(built.folder, out)

    def moved(url):
        return url.replace(str(built.raw), str(raw))

    config = dataclasses.replace(
        built.config,
        images=(
            dataclasses.replace(built.config.images[0], url=moved(built.config.images[0].url)),
        ),
    )
    build(config, out)  # other names: all again
    old = {path.name: path.stat().st_mtime_ns for path in (out / "work" / "facts").iterdir()}
    table = pq.read_table(raw / "images-001.parquet")
    pq.write_table(table.slice(0, table.num_rows - 3), raw / "images-001.parquet")
    manifest = build(config, out)
    new = {path.name: path.stat().st_mtime_ns for path in (out / "work" / "facts").iterdir()}
    assert [name for name in sorted(old) if old[name] != new[name]] == ["00001.parquet"]
    assert manifest["stages"][0]["rows"] == 117


@pytest.mark.parametrize(
    "stage", ["facts", pytest.param("joined", marks=pytest.mark.slow), ".building"]
)
def test_killed_in_any_stage_it_ends_with_the_same_bytes(built, tmp_path, stage):
    out = tmp_path / "out"
    code = (
        "import json, sys; from pathlib import Path; from kmm_jax.training import dump; "
        "from kmm_jax.corpus.build import build; "
        "build(dump.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, config_text(built.config), str(out)],
        cwd=REPOSITORY,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    watched = out / stage if stage == ".building" else out / "work" / stage
    deadline = time.monotonic() + 60
    while not (watched.exists() and any(watched.iterdir())):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)  # the driver and its workers
    process.wait()
    assert not (out / "shards").exists()
    build(built.config, out)
    assert shard_bytes(out / "shards") == shard_bytes(built.folder / "shards")


def test_pictures_in_tars_with_their_captions_are_read_as_well(tmp_path):
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for number in range(3):
            for suffix, data in (
                ("json", json.dumps({"caption": f"파란 원피스 {number}", "url": "http://x/y"}).encode()),
                ("jpg", photo(seed=number)),
                ("txt", b"unread"),
            ):  # fmt: skip
                member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    images = Images(url=str(tmp_path / "*.tar"), key=None, title="caption", image_url="url")
    manifest = build(CorpusConfig(name="tars", images=(images,)), tmp_path / "out")
    assert manifest["rows"] == 3
    rows = [data for name, data in members(tmp_path / "out" / "shards").items() if "json" in name]
    assert json.loads(rows[1])["title"] == "파란 원피스 1"
    pictures = [d for n, d in members(tmp_path / "out" / "shards").items() if n.endswith("jpg")]
    assert pictures == [photo(seed=number) for number in range(3)]


def test_copies_share_their_texts_and_queries_are_added_up(tmp_path):
    picture = photo()
    rows = [{"key": "a", "image": picture}, {"key": "b", "image": picture}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "images.parquet")
    clicks = [("a", "원피스", 2), ("b", "원피스", 3), ("b", "여름 원피스", 4), ("c", "모자", 9)]
    told = [{"key": key, "query": query, "n": n} for key, query, n in clicks]
    pq.write_table(pa.Table.from_pylist(told), tmp_path / "clicks.parquet")
    titles = [{"key": "b", "title": "시원한 여름 원피스"}]
    pq.write_table(pa.Table.from_pylist(titles), tmp_path / "documents.parquet")
    config = CorpusConfig(
        name="copies",
        images=(Images(url=str(tmp_path / "images.parquet")),),
        documents=(Documents(url=str(tmp_path / "documents.parquet")),),
        clicks=(Clicks(url=str(tmp_path / "clicks.parquet"), count="n"),),
    )
    manifest = build(config, tmp_path / "out")
    assert counts(manifest, "join")["clicks_without_picture"] == 9
    (record,) = [json.loads(d) for n, d in members(tmp_path / "out/shards").items() if "json" in n]
    assert record["title"] == "시원한 여름 원피스"
    assert record["query"] == ["원피스", "여름 원피스"] and record["query_count"] == [5, 4]


def test_what_cannot_be_read_is_named(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "image": [b"x"]}), tmp_path / "images.parquet")
    images = Images(url=str(tmp_path / "images.parquet"))
    with pytest.raises(DataError, match="no column 'key'; it has id, image"):
        build(CorpusConfig(name="x", images=(images,)), tmp_path / "out")
    (tmp_path / "images.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="cannot be read"):
        build(CorpusConfig(name="x", images=(images,)), tmp_path / "out")


def fails_on_odd(task):
    if task["number"] % 2:
        raise DataError(f"number {task['number']} is odd")
    return Answer(rows=1, counts={"kept": 1})


def test_a_task_that_fails_is_named_and_the_others_finish():
    tasks = [{"number": number} for number in range(6)]
    ended = []
    with pytest.raises(DataError, match=r"is odd \(and 2 more tasks\)"):
        ended.extend(engine.run("tests.corpus.test_build:fails_on_odd", tasks, at_a_time=2))
    told = json.loads(engine.answer(lambda task: 1 / 0, "{}"))
    assert "ZeroDivisionError" in told["error"]


def test_shards_take_every_chosen_row_once_and_in_order():
    each = [7, 0, 25, 3, 1]
    planned = list(_plan(each, 10))
    taken = [(number, row) for parts in planned for number, a, b in parts for row in range(a, b)]
    assert taken == [(number, row) for number, rows in enumerate(each) for row in range(rows)]
    assert [sum(b - a for _, a, b in parts) for parts in planned] == [10, 10, 10, 6]


def test_bands_miss_no_pair_that_is_near():
    rng = np.random.default_rng(0)
    base = [int(value) for value in rng.integers(0, 2**63, 40)]
    hashes = base + [h ^ sum(1 << int(b) for b in rng.choice(64, 3, replace=False)) for h in base]
    for bits in (0, 1, 3, 5):
        rows = [
            {"perceptual": h, "image_hash": str(i), "width": 9, "height": 9, "file": 0, "row": i}
            for i, h in enumerate(hashes)
        ]
        bands = collections.defaultdict(set)
        for row in rows:
            for band in join._bands(row, bits):
                bands[band["band"]].add(int(band["image_hash"]))
        together = {(a, b) for group in bands.values() for a in group for b in group if a < b}
        near = {
            (a, b)
            for a in range(len(hashes))
            for b in range(a + 1, len(hashes))
            if (hashes[a] ^ hashes[b]).bit_count() <= bits
        }
        assert near <= together


def test_of_a_chain_of_near_pictures_the_best_and_those_far_from_it_stay():
    def pair(better, worse):
        ranks = {"better_rank": [-better[1], 0, 0], "worse_rank": [-worse[1], 0, 0]}
        return {"better": better[0], "worse": worse[0], **ranks}

    a, b, c, d = ("a", 400), ("b", 300), ("c", 200), ("d", 100)
    assert join.near_duplicates([pair(a, b), pair(b, c), pair(c, d)]) == {"b": "a", "d": "c"}
    with pytest.raises(Exception, match="largest or first"):
        DuplicateRules(keep="best")


def test_tables_are_read_back_by_group_and_tell_what_they_are_of(tmp_path):
    path = tmp_path / "t.parquet"
    schema = pa.schema({"n": pa.int64()})
    tables.write(path, schema, [[{"n": 1}], [], [{"n": 2}, {"n": 3}]], lambda: {"fingerprint": "x"})
    assert tables.about(path) == {"fingerprint": "x"} and tables.about(tmp_path / "none") == {}
    assert tables.group_rows(path) == [1, 0, 2]
    assert tables.group(path, 2) == [{"n": 2}, {"n": 3}] and tables.group(path, 1) == []


def test_the_command_builds_and_shows_the_funnel(built, tmp_path, capsys):
    url = str(built.raw)
    words = ["corpus", "build", "corpus/tables", "--output", str(tmp_path / "out")]
    words += [f"images.0.url={url}/images-*.parquet", "shard_rows=40"]
    words += [f"documents.0.url={url}/documents-*.parquet", f"clicks.0.url={url}/clicks-*.parquet"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert f"{built.manifest['rows']} rows in" in shown.out
    for reason in counts(built.manifest, "pictures"):
        assert reason == "kept" or f"  {reason}\n" in shown.out
    assert "pictures 3/3 files" in shown.err
    assert shard_bytes(tmp_path / "out" / "shards") == shard_bytes(built.folder / "shards")


def test_a_pattern_that_matches_nothing_is_the_users_mistake(tmp_path, capsys):
    assert main(["corpus", "build", "corpus/tables", "--output", str(tmp_path / "out")]) == 2
    assert "raw/images-*.parquet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
