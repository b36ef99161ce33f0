"""From raw tables to shards: every row accounted for, the same bytes however it is interrupted."""

import collections
import dataclasses
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kmm_jax.cli import main
from kmm_jax.corpus import engine, join, tables, worker
from kmm_jax.corpus.build import _plan, build
from kmm_jax.corpus.config import Clicks, CorpusConfig, Documents, DuplicateRules, Images
from kmm_jax.corpus.jobs import Answer, config_text
from kmm_jax.corpus.scoring.similarity import Similarity
from kmm_jax.data.sources import open_source
from kmm_jax.errors import ConfigError, DataError
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


def test_more_buckets_give_the_same_bytes(built, tmp_path, monkeypatch):
    monkeypatch.setattr("kmm_jax.corpus.build._PICTURES_OF_FEW", 1)
    manifest = build(built.config, tmp_path / "out")
    assert len(list((tmp_path / "out/work/merged").iterdir())) == 16
    assert shard_bytes(tmp_path / "out/shards") == shard_bytes(built.folder / "shards")
    assert manifest["stages"][-1] == built.manifest["stages"][-1]


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


def started(built, out):
    """A build in a process of its own, with the processes it starts in its group."""
    code = (
        "import json, sys; from pathlib import Path; from kmm_jax.training import dump; "
        "from kmm_jax.corpus.build import build; "
        "build(dump.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, config_text(built.config), str(out)],
        cwd=REPOSITORY,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )


def wait_for(process, done):
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)


# What each stage writes; in the default suite the first and the last.
STAGES = ("facts", "documents", "clicks", "beside", "joined", "merged", "bands", "near", "dropped",
          "chosen", "scored", "judged", ".building")  # fmt: skip


@pytest.mark.parametrize(
    "stage",
    [
        stage if stage in ("facts", ".building") else pytest.param(stage, marks=pytest.mark.slow)
        for stage in STAGES
    ],
)
def test_killed_in_any_stage_it_ends_with_the_same_bytes(built, tmp_path, stage):
    out = tmp_path / "out"
    process = started(built, out)
    watched = out / stage if stage == ".building" else out / "work" / stage
    wait_for(process, lambda: watched.exists() and any(watched.glob("[!.]*")))
    process.kill()  # the driver; those it started die with it
    process.wait()
    assert not (out / "shards").exists()
    finished = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("[!.]*.parquet")}
    build(built.config, out)
    assert shard_bytes(out / "shards") == shard_bytes(built.folder / "shards")
    redone = [path for path in finished if path.stat().st_mtime_ns != finished[path]]
    # A task has ended when its last table is there; of one cut off the first may be there as well.
    first = [path for path in redone if path.parent.name in ("facts", "bands")]
    assert {path.parent.name for path in redone} <= {"facts", "bands", "dropped"}
    assert len(first) <= (os.cpu_count() or 1)
    assert not list(out.rglob("*.tmp"))


def children(process):
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in found.read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_worker_killed_is_replaced_and_none_outlives_its_driver(built, tmp_path):
    out = tmp_path / "out"
    process = started(built, out)
    wait_for(process, lambda: (out / "work" / "facts").exists() and children(process))
    os.kill(children(process)[0], signal.SIGKILL)
    assert process.wait(60) == 0
    assert shard_bytes(out / "shards") == shard_bytes(built.folder / "shards")
    process = started(built, tmp_path / "again")
    wait_for(process, lambda: len(children(process)) == 2)
    workers = children(process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60  # a worker that is still starting looks up late
    while any(Path(f"/proc/{number}").exists() for number in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def dies(task):
    if not task["once"] or not Path(task["file"]).exists():
        Path(task["file"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task["file"]


def test_what_kills_every_process_is_named_and_what_kills_one_is_done_by_another(tmp_path):
    tasks = [{"file": str(tmp_path / name), "once": name != "bomb"} for name in ("a", "bomb", "b")]
    answers = []
    with pytest.raises(DataError, match=r"bomb: 3 processes died at work on it \(SIGKILL\)"):
        answers.extend(engine.run("tests.corpus.test_build:dies", tasks, at_a_time=2))
    assert sorted(answers) == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_two_builds_in_one_folder_are_refused_and_a_dead_one_holds_nothing(built, tmp_path, capsys):
    out = tmp_path / "out"
    process = started(built, out)
    wait_for(process, lambda: (out / ".lock").exists() and (out / ".lock").read_text())
    process.send_signal(signal.SIGSTOP)  # it would be done too soon
    raw = built.raw
    words = ["corpus", "build", "corpus/tables", "--output", str(out), "shard_rows=40"]
    words += ["ocr=none", "watermark=none"]
    words += [f"images.0.url={raw}/images-*.parquet", f"clicks.0.url={raw}/clicks-*.parquet"]
    words += [f"documents.0.url={raw}/documents-*.parquet"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"is being built here by process {process.pid} on {socket.gethostname()}" in said
    process.kill()
    process.wait()
    assert (out / ".lock").exists()
    assert main(words) == 0
    assert not (out / ".lock").exists()
    capsys.readouterr()


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


def test_keys_that_pandas_made_floats_of_are_the_same_keys(tmp_path):
    images = pa.table({"key": [1, 2], "image": [photo(seed=1), photo(seed=2)]})
    pq.write_table(images, tmp_path / "images.parquet")
    titles = pa.table({"key": [1.0, 2.0, None], "title": ["원피스", "모자", "양말"]})
    pq.write_table(titles, tmp_path / "documents.parquet")
    config = CorpusConfig(
        name="floats",
        images=(Images(url=str(tmp_path / "images.parquet")),),
        documents=(Documents(url=str(tmp_path / "documents.parquet")),),
    )
    assert build(config, tmp_path / "out")["rows"] == 2


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
    told = json.loads(worker.answer('[7, "json:loads", 3]'))
    assert told["task"] == 7 and "TypeError" in told["error"]


def test_workers_share_the_gpus_there_are(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    seen = [engine.environment(number) for number in range(3)]
    assert [found["CUDA_VISIBLE_DEVICES"] for found in seen] == ["2", "5", "2"]
    assert seen[0]["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hidden by the user
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    hidden = engine.environment(0)
    assert hidden["CUDA_VISIBLE_DEVICES"] == ""
    assert hidden["XLA_PYTHON_CLIENT_PREALLOCATE"] == "true"


def test_shards_that_were_lost_are_written_again(built, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(built.folder, out)
    lost = sorted((out / "shards").glob("*.tar"))[0]
    lost.unlink()
    build(built.config, out)
    assert shard_bytes(out / "shards") == shard_bytes(built.folder / "shards")
    # Killed between the two renames that show new shards: the old ones are still aside.
    (out / "shards").rename(out / ".shards.old")
    assert build(built.config, out)["rows"] == built.manifest["rows"]
    assert not (out / ".shards.old").exists()


def test_other_processors_and_another_name_write_no_shard_again(built, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(built.folder, out)
    times = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*.tar")}
    build(dataclasses.replace(built.config, tasks=1, name="other"), out)
    assert times == {path: path.stat().st_mtime_ns for path in (out / "shards").glob("*.tar")}


def test_a_wrong_column_shows_before_any_picture_is_looked_at(built, tmp_path):
    documents = (dataclasses.replace(built.config.documents[0], title="name"),)
    config = dataclasses.replace(built.config, documents=documents)
    with pytest.raises(DataError, match="has no column 'name'; it has key, title"):
        build(config, tmp_path / "out")
    assert not (tmp_path / "out/work/facts").exists()


def test_when_nothing_is_kept_the_shards_of_before_stay(built, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(built.folder, out)
    nowhere = dataclasses.replace(built.config, documents=(), clicks=())
    with pytest.raises(DataError, match=r"no picture was kept .*no_text"):
        build(nowhere, out)
    assert shard_bytes(out / "shards") == shard_bytes(built.folder / "shards")


def test_a_stage_of_two_tables_is_done_only_when_both_are(built, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(built.folder, out)
    for kind, last in (("bands", "merged"), ("facts", "keys")):
        other = out / "work" / kind / "00000.parquet"
        table = pq.read_table(other)
        pq.write_table(table.slice(1), other)  # as a killed build of other input leaves it
        before = (out / "work" / last / "00000.parquet").stat().st_mtime_ns
        build(built.config, out)
        assert pq.read_table(other).num_rows == table.num_rows
        assert (out / "work" / last / "00000.parquet").stat().st_mtime_ns > before


def test_thousands_of_copies_of_one_look_are_no_millions_of_pairs(tmp_path):
    images = [{"key": str(n), "image": photo(quality=60 + n)} for n in range(30)]
    pq.write_table(pa.Table.from_pylist(images), tmp_path / "images.parquet")
    documents = [{"key": str(n), "title": f"제목 {n}"} for n in range(30)]
    pq.write_table(pa.Table.from_pylist(documents), tmp_path / "documents.parquet")
    config = CorpusConfig(
        name="looks",
        images=(Images(url=str(tmp_path / "images.parquet")),),
        documents=(Documents(url=str(tmp_path / "documents.parquet")),),
    )
    manifest = build(config, tmp_path / "out")
    assert counts(manifest, "near")["kept"] <= join.NEIGHBOURS * 30 and manifest["rows"] == 1


def test_a_model_that_is_not_there_is_told_before_any_work(built, tmp_path):
    similarity = Similarity(model=str(tmp_path / "none"))
    config = dataclasses.replace(built.config, similarity=similarity)
    with pytest.raises(DataError, match="none"):
        build(config, tmp_path / "out")
    assert not (tmp_path / "out/work/facts").exists()


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
            {
                "perceptual": h,
                "look": b"",
                "image_hash": str(i),
                "width": 9,
                "height": 9,
                "file": 0,
                "row": i,
            }
            for i, h in enumerate(hashes)
        ]
        bands = collections.defaultdict(set)
        for row in rows:
            for band in join.in_bands(row, bits):
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
    words += ["ocr=none", "watermark=none"]
    words += [f"documents.0.url={url}/documents-*.parquet", f"clicks.0.url={url}/clicks-*.parquet"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert f"{built.manifest['rows']} rows in" in shown.out
    for reason in counts(built.manifest, "pictures"):
        assert reason == "kept" or f"  {reason}\n" in shown.out
    assert "pictures 3/3 files" in shown.err
    assert shard_bytes(tmp_path / "out" / "shards") == shard_bytes(built.folder / "shards")


def test_without_its_decoders_nothing_is_built(built, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_NEEDED", ("simplejpeg", "no_such_module"))
    with pytest.raises(ConfigError, match=r"needs no_such_module: pip install 'kmm-jax\[corpus\]'"):
        build(built.config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pattern_that_matches_nothing_is_the_users_mistake(tmp_path, capsys):
    assert main(["corpus", "build", "corpus/tables", "--output", str(tmp_path / "out")]) == 2
    assert "raw/images-*.parquet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
