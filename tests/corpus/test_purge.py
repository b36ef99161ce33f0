"""Pictures leave what was made of them, and nothing else does; whatever is killed."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kmm_jax.cli import main
from kmm_jax.corpus.build import build
from kmm_jax.corpus.purge import hashes as lists
from kmm_jax.corpus.purge.run import purge
from kmm_jax.data.shards import write_shard
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError, UserError
from kmm_jax.files import locked
from kmm_jax.retrieval import (
    Index,
    IndexSettings,
    export_embeddings,
    load_embeddings,
    scann_engine,
)
from kmm_jax.retrieval.collection import Collection
from kmm_jax.retrieval.lookup import RowLookup
from tests.conftest import REPOSITORY
from tests.corpus import purge_kill
from tests.corpus.test_build import counts, members, shard_bytes
from tests.retrieval.conftest import clustered
from tests.tiny_shop import picture, record


@pytest.fixture
def corpus(built, tmp_path):
    """A copy of the built corpus, and the hashes of its rows in order."""
    shutil.copytree(built.folder, tmp_path / "corpus")
    return tmp_path / "corpus"


def hashes_in(folder):
    return [name.rpartition("/")[2][:-5] for name in members(folder) if name.endswith(".json")]


def write_list(folder, hashes):
    path = folder / "hashes.txt"
    path.write_text("# asked for by mail\n" + "".join(f"{one}\n" for one in hashes), "utf-8")
    return path


def tree(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def plain_tars(folder, rows=24, of=8):
    """Tars of rows named by number."""
    folder.mkdir()
    for number in range(rows // of):
        own = range(number * of, (number + 1) * of)
        write_shard(folder / f"train-{number:03d}.tar", [(record(i), picture(i)) for i in own])
    return [record(i)["image_hash"] for i in range(rows)]


def embeddings(folder, ids, part_rows=10):
    vectors = clustered(len(ids), dim=8)

    def compute(start, stop):
        return ids[start:stop], vectors[start:stop]

    export_embeddings(
        folder,
        rows=len(ids),
        part_rows=part_rows,
        compute=compute,
        kind="image",
        model_hash="m",
        dim=8,
    )
    return load_embeddings(folder)


EXACT = IndexSettings(engine="exact")


def test_rows_leave_a_corpus_and_everything_else_keeps_its_bytes(corpus, built, tmp_path):
    before, manifest = shard_bytes(corpus / "shards"), built.manifest
    gone = hashes_in(corpus / "shards")[3:60:9]  # of the first two shards
    (corpus / ".building").mkdir()
    done = purge(write_list(tmp_path, gone), [str(corpus)], command="kmm ...")
    after = shard_bytes(corpus / "shards")
    assert [name for name in before if after[name] != before[name]] == list(before)[:2]
    kept = {name: data for name, data in members(built.folder / "shards").items()
            if name.rpartition("/")[2].partition(".")[0] not in gone}  # fmt: skip
    assert members(corpus / "shards") == kept
    now = json.loads((corpus / "shards/manifest.json").read_text("utf-8"))
    assert now["rows"] == manifest["rows"] - len(gone) == len(kept) // 2
    for one in now["shards"]:
        path = corpus / "shards" / one["name"]
        assert one == {"name": path.name, "bytes": path.stat().st_size, "sha256": sha(path)}
    assert {**now, "rows": 0, "shards": 0} == {
        **{name: value for name, value in manifest.items() if name != "mark"},
        "rows": 0,
        "shards": 0,
        "purged": [{"receipt": done.path.name, "date": done.receipt["date"]}],
    }
    # The same as if the row had never been written.
    source = open_source(str(corpus / "shards/train-000.tar"))
    rows = [source.read(number) for number in range(len(source))]
    write_shard(tmp_path / "again.tar", [(row.record, row.image) for row in rows])
    assert (tmp_path / "again.tar").read_bytes() == after["train-000.tar"]
    card = json.loads((corpus / "shards/datacard.json").read_text("utf-8"))
    assert card["rows"] == now["rows"]
    # Half-built shards and the page show pictures; the next build makes others.
    assert not (corpus / ".building").exists() and not (corpus / "report.html").exists()


def test_the_receipt_says_what_was_where_and_holds_nothing_of_it(corpus, tmp_path):
    gone = hashes_in(corpus / "shards")[5:50:22]
    seen = pq.read_table(corpus / "work/facts/00000.parquet").to_pylist()
    rejected = next(row["image_hash"] for row in seen if row["reason"] == "small")
    before = {path.name: sha(path) for path in (corpus / "shards").glob("*.tar")}
    file = write_list(tmp_path, [*gone, rejected, "0" * 32])
    done = purge(file, [str(corpus)], receipts=tmp_path / "receipts", command="kmm corpus purge x")
    receipt = json.loads(done.path.read_text("utf-8"))
    assert receipt == done.receipt and receipt["command"] == "kmm corpus purge x"
    assert receipt["hashes"]["sha256"] == sha(file) and receipt["hashes"]["count"] == 5
    (target,) = receipt["targets"]
    assert target["removed"] == 3 == target["rows_before"] - target["rows_after"]
    assert [row["removed"] for row in target["files"]] == [gone[:2], gone[2:]]
    for row in target["files"]:
        name = row["file"].rpartition("/")[2]
        assert row["sha256_before"] == before[name] != row["sha256_after"]
        assert row["sha256_after"] == sha(corpus / "shards" / name)
    assert receipt["nowhere"] == ["0" * 32] and target["known_but_in_no_shard"] == [rejected]
    assert receipt["finished"] and len(done.path.read_text("utf-8")) < 4000


def test_a_build_afterwards_brings_nothing_back(corpus, built, tmp_path):
    gone = hashes_in(corpus / "shards")[::10]
    done = purge(write_list(tmp_path, gone), [str(corpus / "shards")])
    left = hashes_in(corpus / "shards")
    manifest = build(built.config, corpus)
    assert hashes_in(corpus / "shards") == left
    assert counts(manifest, "choose")["purged"] == len(gone)
    assert manifest["rows"] == len(left) == built.manifest["rows"] - len(gone)
    assert [one["receipt"] for one in manifest["purged"]] == [done.path.name]
    assert build(built.config, corpus) == manifest
    assert lists.listed(corpus / lists.LIST) == set(gone)
    # A second purge of the same list finds them known, and changes no shard.
    before = shard_bytes(corpus / "shards")
    again = purge(write_list(tmp_path, gone), [str(corpus)])
    assert not again.receipt["nowhere"] and not again.receipt["targets"][0]["removed"]
    assert shard_bytes(corpus / "shards") == before
    assert len(list((tmp_path / "purge-receipts").iterdir())) == 2


def test_near_duplicates_that_the_corpus_knows_leave_as_well(corpus, tmp_path):
    pairs = pq.read_table(corpus / "work/dropped/00000.parquet").to_pylist()
    pair = next(pair for pair in pairs if pair["better"] in hashes_in(corpus / "shards"))
    file = write_list(tmp_path, [pair["worse"]])
    alone = purge(file, [str(corpus)], dry_run=True).receipt
    assert alone["targets"][0]["removed"] == 0 and not alone["nowhere"]
    done = purge(file, [str(corpus)], near=True).receipt
    assert done["hashes"]["near"][pair["better"]] == pair["worse"]
    assert pair["better"] not in hashes_in(corpus / "shards")
    assert lists.listed(corpus / lists.LIST) >= {pair["better"], pair["worse"]}


def test_embeddings_and_an_index_become_those_of_the_rows_that_stay(tmp_path):
    ids = plain_tars(tmp_path / "plain")
    whole = embeddings(tmp_path / "embeddings", ids)
    Index.of_embeddings(tmp_path / "index", whole, settings=EXACT)
    gone = [*ids[2:4], ids[13]]
    names = ("plain", "embeddings", "index")
    purge(write_list(tmp_path, gone), [str(tmp_path / name) for name in names])
    kept = [row for row, each in enumerate(ids) if each not in gone]
    left = load_embeddings(tmp_path / "embeddings")
    assert left.ids == [ids[row] for row in kept]
    assert np.array_equal(left.vectors, whole.vectors[kept])
    assert left.metadata["purged"][0]["receipt"].startswith("purge-")
    index = Index.load(tmp_path / "index")
    assert index.ids == left.ids and index.metadata["purged"] == left.metadata["purged"]
    assert index.search(whole.vectors[2], k=len(ids)).ids[0].count(ids[2]) == 0
    source = open_source(str(tmp_path / "plain/train-*.tar"))
    assert len(source) == len(kept)
    again = Index.of_embeddings(tmp_path / "again", left, settings=EXACT)
    for found in (index, again):  # its pictures are found, though rows before them are gone
        lookup = RowLookup(source, found.metadata["spans"])
        for place, each in enumerate(found.ids):
            row = lookup.row(each, place)
            assert row is not None and row.key == each


def test_a_collection_loses_rows_from_the_disk_and_deleted_ones_too(tmp_path):
    rows = [f"{number:016x}" for number in range(12)]
    vectors = np.random.default_rng(0).standard_normal((12, 4))
    found = Collection.create(tmp_path / "c", model_hash="m", dim=4)
    for first in (0, 4, 8):
        found.put(rows[first : first + 4], vectors[first : first + 4])
    found.delete([rows[1]])
    leftover = tmp_path / "c" / "segments" / "000009-0"
    leftover.mkdir()
    (leftover / "of-a-killed-change").write_text(rows[5])
    receipt = purge(write_list(tmp_path, [rows[1], rows[5]]), [str(tmp_path / "c")]).receipt
    assert receipt["targets"][0]["removed"] == 2
    found = Collection.open(tmp_path / "c")
    assert len(found) == 10 and rows[5] not in found
    assert found.metadata["purged"][0]["receipt"].startswith("purge-")
    on_disk = [each for ids in found.on_disk().values() for each in ids]
    assert sorted(on_disk) == [each for each in rows if each not in (rows[1], rows[5])]
    assert not leftover.exists()
    assert found.search(vectors[6], 1).ids == [[rows[6]]]


def test_pictures_are_found_though_the_source_keeps_what_the_index_lost(tmp_path):
    ids = plain_tars(tmp_path / "plain")
    embeddings(tmp_path / "embeddings", ids)
    purge(write_list(tmp_path, ids[:4]), [str(tmp_path / "embeddings")])
    left = load_embeddings(tmp_path / "embeddings")
    lookup = RowLookup(open_source(str(tmp_path / "plain/train-*.tar")), left.spans)
    assert all(lookup.row(each, place) for place, each in enumerate(left.ids))


@pytest.mark.skipif(scann_engine.unavailable() is not None, reason="ScaNN does not run here")
def test_scann_finds_nothing_of_what_left_and_its_settings_follow_the_size(tmp_path):
    ids = [f"{row:05d}" for row in range(64)]
    vectors = clustered(64, dim=8)
    by_hand = IndexSettings(layout="hashed")
    Index.build(tmp_path / "index", ids, vectors, model_hash="m", settings=by_hand)
    purge(write_list(tmp_path, ids[:8]), [str(tmp_path / "index")])
    index = Index.load(tmp_path / "index", engine="scann")
    assert index.info()["settings"]["layout"] == "hashed" and index.ids == ids[8:]
    found = {each for row in index.search(vectors, k=5).ids for each in row}
    assert not found & set(ids[:8])
    purge(write_list(tmp_path, ids[:-3]), [str(tmp_path / "index")])
    assert Index.load(tmp_path / "index").info()["settings"]["layout"] == "brute_force"


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_a_row_of_any_name_leaves_with_all_its_members(tmp_path, format):
    def told(image_hash):
        return json.dumps({"image_hash": image_hash, "title": "셔츠"}).encode()

    long = "아주_긴_이름/" * 12
    rows = [
        ("00000.jpg", b"a"), ("00000.txt", b"text of aaa"), ("00000.json", told("aaa")),
        (f"{long}bbb.jpg", b"b"), (f"{long}bbb.json", b"no JSON"), (f"{long}bbb.mask.png", b"m"),
        ("00002.jpg", bytes(600)), ("00002.json", told("ccc")),
        ("bbb.x.jpg", b"another row"), ("bbb.x.json", told("bbb.x")),
        ("00000.jpg", bytes(512)), ("00000.json", told("ddd")),
    ]  # fmt: skip
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in rows:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        folder = tarfile.TarInfo("ends")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    done = purge(write_list(tmp_path, ["aaa", "bbb"]), [str(path)])
    with tarfile.open(path) as tar:
        left = [(one.name, tar.extractfile(one)) for one in tar]
        assert [(n, f.read()) for n, f in left if f] == [rows[6], rows[7], *rows[8:]]
        assert left[-1][0] == "ends"
    (target,) = done.receipt["targets"]
    assert (target["rows_before"], target["removed"]) == (6, 3)


def test_when_nothing_is_left_the_files_go_and_it_can_be_said_again(corpus, tmp_path):
    ids = plain_tars(tmp_path / "plain")
    Index.of_embeddings(
        tmp_path / "index", embeddings(tmp_path / "embeddings", ids), settings=EXACT
    )
    file = write_list(tmp_path, [*hashes_in(corpus / "shards"), *ids])
    names = ("corpus", "plain", "embeddings", "index")
    for turn in range(2):
        done = purge(file, [str(tmp_path / name) for name in names])
        assert [one["rows_after"] for one in done.receipt["targets"]] == [0] * 4, turn
        assert done.receipt["targets"][3]["removed"] == (len(ids) if turn == 0 else 0)
    manifest = json.loads((corpus / "shards/manifest.json").read_text("utf-8"))
    assert manifest["rows"] == 0 and manifest["shards"] == []
    assert not list((corpus / "shards").glob("*.tar")) and not list((tmp_path / "plain").iterdir())
    assert len(load_embeddings(tmp_path / "embeddings").ids) == 0
    assert not (tmp_path / "index").exists()
    with pytest.raises(UserError, match="nothing to purge there"):
        purge(file, [str(tmp_path / "typo")])


def test_looking_changes_nothing_and_says_what_would(corpus, tmp_path, capsys):
    gone = hashes_in(corpus / "shards")[:2]
    file = write_list(tmp_path, [*gone, "strange"])
    before = tree(tmp_path)
    assert main(["corpus", "purge", str(corpus), "--hashes", str(file), "--dry-run"]) == 0
    assert tree(tmp_path) == before
    shown = capsys.readouterr()
    assert "(corpus): would remove 2 of" in shown.out and "rows, in 1 of" in shown.out
    assert f"{corpus / 'report.html'} would be removed" in shown.out
    assert "1 of 3 hashes were found nowhere: strange" in shown.err
    assert main(["corpus", "purge", str(corpus), "--hashes", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "(corpus): removed 2 of" in shown
    assert f"report.html was removed, as it may show them; kmm corpus report {corpus}" in shown
    assert main(["corpus", "purge", str(corpus), "--hashes", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "removed 0 of" in shown and "report.html" not in shown


def test_hashes_are_taken_as_people_copy_them(corpus, tmp_path):
    first, second, third, fourth = hashes_in(corpus / "shards")[:4]
    copied = [f"{first}.jpg", second.upper(), f"{third.upper()}.JPG", fourth, f"{fourth}.webp"]
    done = purge(write_list(tmp_path, copied), [str(corpus)])
    assert done.receipt["hashes"]["count"] == 4 == done.receipt["targets"][0]["removed"]
    assert not done.receipt["nowhere"]
    assert not {first, second, third, fourth} & set(hashes_in(corpus / "shards"))
    assert lists.listed(corpus / lists.LIST) == {first, second, third, fourth}
    assert second.upper() not in (corpus / lists.LIST).read_text("utf-8")
    # Other sets may write theirs in capitals, and short names are no hashes.
    capitals, rows = "AB" * 16, [record(i) for i in range(3)]
    rows = [{**row, "image_hash": name} for row, name in zip(rows, (capitals, "Ab", "AB"))]  # noqa: B905
    write_shard(tmp_path / "own.tar", [(row, picture(i)) for i, row in enumerate(rows)])
    file = write_list(tmp_path, [capitals.lower(), "AB.png"])
    assert purge(file, [str(tmp_path / "own.tar")]).receipt["targets"][0]["removed"] == 2
    assert open_source(str(tmp_path / "own.tar")).read(0).key == "Ab"


def test_when_no_hash_is_found_anywhere_the_exit_code_says_so(corpus, tmp_path, capsys):
    file = write_list(tmp_path, ["0" * 32, "1" * 32])
    words = ["corpus", "purge", str(corpus), "--hashes", str(file)]
    assert main([*words, "--dry-run"]) == 1
    assert main(words) == 1
    assert len(list((tmp_path / "purge-receipts").iterdir())) == 1
    assert "2 of 2 hashes were found nowhere" in capsys.readouterr().err
    write_list(tmp_path, ["0" * 32, hashes_in(corpus / "shards")[0]])
    assert main(words) == 0


@pytest.mark.parametrize("text", ["{}", "[]", '{"shards": [1]}', '{"shards": null}', "null"])
def test_a_manifest_of_nothing_is_said_to_be_damaged(corpus, tmp_path, text):
    file = write_list(tmp_path, hashes_in(corpus / "shards")[:1])
    (corpus / "shards/manifest.json").write_text(text)
    before = shard_bytes(corpus / "shards")
    with pytest.raises(DataError, match="lists no shards"):
        purge(file, [str(corpus)])
    assert shard_bytes(corpus / "shards") == before


def test_an_empty_list_removes_nothing_and_leaves_a_receipt(corpus, tmp_path, capsys):
    before = tree(corpus)
    file = write_list(tmp_path, [])
    assert main(["corpus", "purge", "--hashes", str(file), str(corpus)]) == 0
    assert tree(corpus) == before and "names no hash" in capsys.readouterr().err
    assert len(list((tmp_path / "purge-receipts").iterdir())) == 1


def test_lists_are_read_in_every_form(tmp_path):
    told = pa.table({"image_hash": ["007", "1e5", "007"], "n": [1, 2, 3]})
    pq.write_table(told, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("n,image_hash\n1,007\n2,1e5\n")
    (tmp_path / "a.txt").write_text("\ufeff# all\n007  # the first\r\n\n1e5\n", "utf-8")
    for suffix in ("parquet", "csv", "txt"):
        assert lists.read(tmp_path / f"a.{suffix}") == ["007", "1e5"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", "이 사진을 지워 주세요".encode(), "line 1: '이 사진을"),
        ("a.txt", b"abc\n../etc\n", "line 2"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.csv", b"hash,n\nabc,1\n", "no column 'image_hash'"),
        ("a.csv", b"image_hash,n\n,1\n", "row 1: ''"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("none.txt", None, "cannot be read"),
    ],
)  # fmt: skip
def test_a_malformed_list_is_the_users_mistake(corpus, tmp_path, capsys, name, data, said):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    assert main(["corpus", "purge", "--hashes", str(tmp_path / name), str(corpus)]) == 2
    assert said in capsys.readouterr().err
    assert not (corpus / lists.LIST).exists()


def test_a_damaged_target_stops_it_before_anything_is_changed(corpus, tmp_path):
    ids = plain_tars(tmp_path / "plain")
    embeddings(tmp_path / "embeddings", ids)
    file = write_list(tmp_path, [*hashes_in(corpus / "shards")[:3], *ids[:2]])
    targets = [str(tmp_path / name) for name in ("plain", "embeddings", "corpus")]
    for path in (
        tmp_path / "corpus/shards/train-001.tar",
        tmp_path / "embeddings/part-00001-of-00003.parquet",
        tmp_path / "embeddings/manifest.json",
    ):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        before = tree(tmp_path)
        with pytest.raises(UserError):
            purge(file, targets)
        assert tree(tmp_path) == before
        path.write_bytes(data)
    (tmp_path / "corpus/shards/train-001.tar").rename(tmp_path / "away.tar")
    with pytest.raises(DataError, match=r"train-001.tar is missing, which manifest.json lists"):
        purge(file, targets)
    with pytest.raises(UserError, match="belongs to the corpus"):
        purge(file, [str(tmp_path / "corpus/shards/train-000.tar")])
    with pytest.raises(UserError, match="works on local disks"):
        purge(file, ["gs://bucket/train-000.tar"])


def test_a_corpus_named_twice_is_purged_once_and_one_being_built_not_at_all(corpus, tmp_path):
    gone = hashes_in(corpus / "shards")[:2]
    file = write_list(tmp_path, gone)
    with locked(corpus / ".lock", "a corpus is being built here"):
        with pytest.raises(UserError, match="a corpus is being built here by process"):
            purge(file, [str(corpus)])
        purge(file, [str(corpus)], dry_run=True)
    both = [str(corpus / "shards"), str(corpus), str(corpus)]
    (target,) = purge(file, both).receipt["targets"]
    assert target["removed"] == 2 and target["path"] == str(corpus)
    assert not (corpus / ".lock").exists()


def test_what_killed_writers_left_beside_the_targets_goes(corpus, tmp_path):
    ids = plain_tars(tmp_path / "plain")
    index = tmp_path / "index"
    Index.of_embeddings(index, embeddings(tmp_path / "embeddings", ids), settings=EXACT)
    left = [
        tmp_path / "plain/.train-000.tar.0123abcd.tmp",
        corpus / "shards/.train-000.tar.0123abcd.tmp",
        tmp_path / "embeddings/.part-00000-of-00003.parquet.0123abcd.tmp",
    ]
    for path in left:
        path.write_bytes(b"a picture")
    index.rename(tmp_path / ".index.old")
    (corpus / "shards").rename(corpus / ".shards.old")
    names = ("corpus", "plain", "embeddings", "index")
    done = purge(write_list(tmp_path, ids[:1]), [str(tmp_path / name) for name in names])
    assert [one["removed"] for one in done.receipt["targets"]] == [0, 1, 1, 1]
    assert not any(path.exists() for path in left)
    assert len(Index.load(index)) == len(ids) - 1 and not (tmp_path / ".index.old").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_killed_at_any_change_every_file_is_old_or_new_and_again_completes_it(built, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(built.folder / "shards", start / "corpus/shards")
    for kind in ("facts", "dropped"):
        shutil.copytree(built.folder / "work" / kind, start / "corpus/work" / kind)
    ids = plain_tars(start / "plain")
    Index.of_embeddings(start / "index", embeddings(start / "embeddings", ids), settings=EXACT)
    in_shards = hashes_in(start / "corpus/shards")
    write_list(tmp_path, [*in_shards[:2], *in_shards[40:80], *ids[6:18]])
    done = subprocess.run(
        [sys.executable, purge_kill.__file__, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40
