"""Loose pictures, product tables, downloads and object stores: what comes in and what is said."""

import collections
import gzip
import io
import json
import os
import tarfile
import unicodedata
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kmm_jax.corpus import beside, loose, sources, texts
from kmm_jax.corpus import build as building
from kmm_jax.corpus.config import Clicks, CorpusConfig, Documents, Images, Products
from kmm_jax.corpus.text import TextRules
from kmm_jax.corpus.text_samples import TextSamples
from kmm_jax.data.sources import open_source
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.training.config_file import load_config
from tests.conftest import REPOSITORY
from tests.corpus.test_build import counts, members, shard_bytes
from tests.corpus.test_images import photo
from tests.training.gcs_server import serving


def corpus(images, **changes):
    images = images if isinstance(images, tuple) else (images,)
    return CorpusConfig(name="test", images=images, tasks=1, **changes)


def build(config, folder):
    return building.build(config, folder, report=False)


def records(folder):
    """The records of a build, in order."""
    found = members(folder / "shards").items()
    return [json.loads(data) for name, data in found if name.endswith(".json")]


def pictures(folder):
    found = members(folder / "shards").items()
    return [data for name, data in found if name.endswith(".jpg")]


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def said(value):
    return json.dumps(value, ensure_ascii=False)


def judged(told, rules=None):
    found = collections.Counter()
    rules = rules or TextRules()
    (clean,) = beside.cleaned([told], rules, found, TextSamples(rules))
    return beside.fields(clean), dict(found)


# Loose pictures.


def test_a_folder_with_a_table_beside_it_becomes_shards(tmp_path):
    decomposed = unicodedata.normalize("NFD", "여름/셔츠.PNG")
    write(tmp_path / "photos" / "a" / "1.jpg", photo(seed=1))
    write(tmp_path / "photos" / "a" / "._1.jpg", b"of macOS")
    write(tmp_path / "photos" / decomposed, photo(seed=2, kind="PNG"))
    write(tmp_path / "photos" / "notes.txt", "unread")
    table = "file\ttitle\ttitle2\na/1.jpg\t빨간 모자\t모자 하나\n여름/셔츠.png\t여름 셔츠\t\n"
    write(tmp_path / "t.tsv", table + "너무\t짧다\nnone.jpg\t없는 사진\t\n")
    table = Products(url=str(tmp_path / "t.tsv"), key="file", caption=("title", "title2"))
    made = {}
    for name, url in (("folder", "photos"), ("pattern", "photos/**/*.{jpg,PNG}")):
        config = corpus(Images(url=str(tmp_path / url)), products=(table,))
        manifest = build(config, tmp_path / name)
        assert counts(manifest, "products") == {"kept": 4, "malformed": 1}
        assert counts(manifest, "join")["products_without_picture"] == 1
        assert [record["caption"] for record in records(tmp_path / name)] == [
            ["빨간 모자", "모자 하나"], "여름 셔츠"
        ]  # fmt: skip
        assert pictures(tmp_path / name) == [photo(seed=1), photo(seed=2, kind="PNG")]
        (told,) = (one for one in manifest["inputs"] if one["file"].endswith("(2 pictures)"))
        assert told["bytes"] == len(photo(seed=1)) + len(photo(seed=2, kind="PNG"))
        made[name] = shard_bytes(tmp_path / name / "shards")
    assert made["folder"] == made["pattern"]
    assert len(open_source(str(tmp_path / "folder/shards/train-*.tar"))) == 2


def test_a_new_a_changed_and_a_lost_picture_redo_their_listing_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(loose, "_MEAN", 4)
    for number in range(40):
        write(tmp_path / "p" / f"{number:03d}.jpg", photo(seed=number % 7, quality=40 + number))
    images = Images(url=str(tmp_path / "p"), title="title")

    def listed():
        found = loose.write_listings(images.url, tmp_path / "listings")
        return {Path(path): [entry.name for entry in loose.entries(path)] for path in found}

    first = listed()
    assert len(first) > 4
    assert [name for names in first.values() for name in names] == sorted(os.listdir(images.url))
    stamps = {path: path.stat().st_mtime_ns for path in first}

    def changed():
        now = listed()
        written = [p for p in now if stamps.get(p) != p.stat().st_mtime_ns]
        stamps.update({path: path.stat().st_mtime_ns for path in now})
        return len(written), now

    assert changed()[0] == 0
    write(tmp_path / "p" / "0201.jpg", photo(seed=1))  # sorts amid the others
    number, now = changed()
    assert number == 1 and sum(map(len, now.values())) == 41
    write(tmp_path / "p" / "030.jpg", photo(seed=9))
    assert changed()[0] == 1
    write(tmp_path / "p" / "031.json", said({"title": "제목"}))
    assert changed()[0] == 1
    found = [
        picture
        for path in now
        for picture in sources.pictures(images, str(path))
    ]  # fmt: skip
    assert [one.key for one in found] == [name[:-4] for names in now.values() for name in names]
    assert [one.beside for one in found if one.beside] == ['{"title": "제목"}']
    for path in now:
        places = [one.place for one in sources.pictures(images, str(path))]
        again = list(sources.pictures_at(images, str(path), places[::2]))
        assert again == [one.data for one in sources.pictures(images, str(path))][::2]
    lost = next(iter(now.values()))[0]
    (tmp_path / "p" / lost).unlink()
    with pytest.raises(DataError, match=f"{lost}: no such file"):
        list(sources.pictures(images, str(next(iter(now)))))


def test_a_folder_is_read_for_what_it_holds(tmp_path):
    for name in ("tars", "loose", "tables", "empty"):
        (tmp_path / name).mkdir()
    write_tar(tmp_path / "tars" / "00000.tar", {"1.jpg": photo()})
    write(tmp_path / "loose" / "00000" / "1.jpg", photo())
    for name in ("tars", "loose", "tables"):  # img2dataset leaves one beside its output
        pq.write_table(pa.table({"key": ["1"], "jpg": [photo()]}), tmp_path / name / "0.parquet")

    def files(name):
        return sources.files(str(tmp_path / name), tmp_path / "listings" / name)

    assert files("tars") == [str(tmp_path / "tars" / "00000.tar")]
    assert [entry.name for entry in loose.entries(files("loose")[0])] == ["00000/1.jpg"]
    assert files("tables") == [str(tmp_path / "tables" / "0.parquet")]
    for name in ("loose/00000/1.jpg", "loose/00000/*", "loose/*/1.jpg"):
        assert loose.entries(files(name)[0])[0].path.endswith("1.jpg")
    for name, words in (
        ("empty", "nothing to read in this folder.*no pictures"),
        ("empty/*.jpg", "no pictures"),
    ):
        with pytest.raises(DataError, match=words):
            files(name)


def packed(path, **changes):
    """The pictures of a tar: key, bytes, what is said."""
    images = Images(url=str(path), key=None, title="title", **changes)
    found = list(sources.pictures(images, str(path)))
    assert [one.row for one in found] == list(range(len(found)))
    places = [one.place for one in found]
    assert list(sources.pictures_at(images, str(path), places)) == [one.data for one in found]
    return [(one.key, one.data, one.beside and json.loads(one.beside)["title"]) for one in found]


def test_json_is_found_wherever_it_stands_in_a_tar(tmp_path):
    photos = {f"{n}.{'jpg' if n % 2 else 'png'}": b"picture %d" % n for n in range(4)}
    told = {f"{n}.json": said({"title": f"제목 {n}"}).encode() for n in (0, 1, 3)}
    expected = [(str(n), b"picture %d" % n, f"제목 {n}" if n != 2 else None) for n in range(4)]
    beside_each_other = dict(sorted({**photos, **told}.items()))
    for number, files in enumerate(({**photos, **told}, {**told, **photos}, beside_each_other)):
        write_tar(tmp_path / f"{number}.tar", files)
        assert packed(tmp_path / f"{number}.tar") == expected


def test_pictures_of_one_name_in_a_tar_are_rows_of_their_own(tmp_path):
    files = {"a.jpg": b"1", "a.png": b"2", "a.json": said({"title": "제목"}).encode()}
    write_tar(tmp_path / "a.tar", {**files, "b.jpg": b"3", "b.webp": b"4"})
    assert packed(tmp_path / "a.tar") == [
        ("a", b"1", "제목"), ("a", b"2", "제목"), ("b", b"3", None), ("b", b"4", None)
    ]  # fmt: skip


def test_a_tar_in_capitals_is_one_and_a_compressed_one_is_refused(tmp_path):
    write_tar(tmp_path / "A.TAR", {"BZh.jpg": photo()})
    config = corpus(Images(url=str(tmp_path), key=None, title="title"))
    assert sources.files(config.images[0].url, tmp_path / "listings") == [str(tmp_path / "A.TAR")]
    assert packed(tmp_path / "A.TAR") == [("BZh", photo(), None)]
    write(tmp_path / "z.tar", gzip.compress((tmp_path / "A.TAR").read_bytes()))
    with pytest.raises(DataError, match=r"z\.tar is compressed.*unpack it"):
        packed(tmp_path / "z.tar")


# What is said beside pictures.


def test_fields_of_products_go_through_the_rules_and_into_the_record(tmp_path):
    row = {
        "key": "k", "image": photo(), "name": "린넨 셔츠",
        "caps": ["시원한 셔츠", "문의 010-1234-5678"],
        "big": "의류", "small": "셔츠", "color": "빨강", "size": ["XL", "L"], "price": 9900,
        "tel": "010-2345-6789", "shop": "가게", "t": "로또 당첨번호 1회",
    }  # fmt: skip
    rows = [row, {**row, "key": "other", "image": photo(seed=3)}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "i.parquet")
    attributes = {"색상": "color", "사이즈": "size", "가격": "price", "연락처": "tel"}
    images = Images(
        url=str(tmp_path / "i.parquet"), product_name="name", caption="caps", title="t",
        category=("big", "small"), attributes=attributes, source="shop",
    )  # fmt: skip
    manifest = build(corpus(images), tmp_path / "out")
    assert len(records(tmp_path / "out")) == 2
    for record in records(tmp_path / "out"):
        assert "title" not in record and record["product_name"] == "린넨 셔츠"
        assert record["caption"] == "시원한 셔츠" and record["category"] == ["의류", "셔츠"]
        assert record["attributes"] == {"색상": "빨강", "사이즈": ["XL", "L"], "가격": 9900}
        assert record["source"] == "가게"
    # Ten texts a row: seven stay, and a title, a caption and an attribute leave.
    assert counts(manifest, "beside") == {"kept": 16, "phone": 4, "noise_topic": 2}
    stage = next(stage for stage in manifest["stages"] if stage["name"] == "beside")
    assert stage["rows"] == 22 == sum(stage["counts"].values())


def test_a_title_that_comes_with_a_picture_is_cleaned_like_any_other(tmp_path):
    titles = ["빨간  모자", "주문 010-1234-5678", "綺麗なワンピース", "", None]
    rows = [
        {"key": str(n), "image": photo(seed=n), "title": title} for n, title in enumerate(titles)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "i.parquet")
    images = Images(url=str(tmp_path / "i.parquet"), title="title")
    manifest = build(corpus(images), tmp_path / "reject")
    assert counts(manifest, "beside") == {"kept": 1, "phone": 1, "language": 1}
    assert counts(manifest, "merge") == {"kept": 1, "duplicate": 0, "no_text": 4}
    assert [record["title"] for record in records(tmp_path / "reject")] == ["빨간 모자"]
    facts = {p: p.stat().st_mtime_ns for p in (tmp_path / "reject/work/facts").iterdir()}
    build(corpus(images, text_rules=TextRules(phone="mask")), tmp_path / "reject")
    assert [one["title"] for one in records(tmp_path / "reject")] == ["빨간 모자", "주문 ***"]
    # Pictures are not looked at again for another rule of texts.
    assert facts == {p: p.stat().st_mtime_ns for p in (tmp_path / "reject/work/facts").iterdir()}


def test_copies_add_up_captions_and_keep_the_product_of_the_first_that_has_one(tmp_path):
    picture = photo()
    told = {
        "web": {"caption": "웹에서 온 셔츠"},
        "one": {
            "caption": ["셔츠", "웹에서 온 셔츠"],
            "name": "린넨 셔츠",
            "attributes": {"색상": "흰색"},
        },
        "two": {
            "name": "면 셔츠",
            "category": "의류",
            "attributes": {"색상": "검정", "소재": "면"},
        },
    }
    files = {}
    for name, record in told.items():
        files |= {f"{name}.jpg": picture, f"{name}.json": said(record).encode()}
    write_tar(tmp_path / "a.tar", files)
    images = Images(
        url=str(tmp_path / "a.tar"), key=None, caption="caption", product_name="name",
        category="category", attributes="attributes",
    )  # fmt: skip
    manifest = build(corpus(images), tmp_path / "out")
    assert counts(manifest, "merge") == {"kept": 1, "duplicate": 2}
    (record,) = records(tmp_path / "out")
    assert record["caption"] == ["웹에서 온 셔츠", "셔츠"]
    assert record["product_name"] == "린넨 셔츠" and record["attributes"] == {"색상": "흰색"}
    assert "category" not in record  # the second product's


def test_what_is_said_in_odd_types_is_read_or_counted_as_malformed():
    images = Images(
        url="x", title="t", product_name="n", caption="c", category="k", attributes="a", source="s"
    )
    odd = {"t": {"no": "text"}, "n": 12345, "c": ["좋은 글", 7, None, ""], "k": float("nan"),
           "a": [("색상", "빨강"), ("값", None)], "s": b"bytes"}  # fmt: skip
    told = beside.told(images, odd)
    record, found = judged(told)
    assert found == {"malformed": 1, "kept": 4}
    assert "title" not in record and record["attributes"] == {"색상": "빨강"}
    assert record["caption"] == ["좋은 글", "7"] and record["product_name"] == "12345"
    nested, found = judged(beside.told(images, {"a": '{"크기": {"가로": 3}}', "c": "글"}))
    assert nested == {"caption": "글"} and found == {"malformed": 1, "kept": 1}
    as_text, _ = judged(beside.told(images, {"a": '{"크기": [3, 4.5], "맞춤": true}'}))
    assert as_text == {"attributes": {"크기": [3, 4.5], "맞춤": True}}
    lone = beside.told(images, {"c": "반쪽 \ud83d 글자"})
    assert lone is not None and lone.encode()
    assert beside.told(images, {}) is None and judged(None) == ({}, {})


def test_attributes_are_words_of_a_catalogue_and_their_names_are_judged_too():
    told = said(
        {"attributes": {"사이즈": "XL", "비율": "100%", "쪽지 010-1234-5678": "글", "색": "씨발"}}
    )
    record, found = judged(told)
    assert record == {"attributes": {"사이즈": "XL", "비율": "100%"}}
    assert found == {"kept": 2, "phone": 1, "profanity": 1}
    masked, _ = judged(said({"attributes": {"글": "전화 010-1234-5678"}}), TextRules(phone="mask"))
    assert masked == {"attributes": {"글": "전화 ***"}}


def test_a_name_that_a_config_cannot_keep_is_refused():
    for kind in (Images, Products):
        with pytest.raises(ConfigError, match="cannot be called 'type'"):
            kind(url="x", attributes={"type": "kind"})


def test_tables_as_text_give_the_same_as_parquet(tmp_path):
    rows = [("1", '따옴표 "셋"', "파랑"), ("2", "쉼표, 하나", "")]
    pq.write_table(
        pa.table({name: [row[i] for row in rows] for i, name in enumerate(("id", "n", "c"))}),
        tmp_path / "t.parquet",
    )
    write(tmp_path / "t.tsv", "﻿id\tn\tc\r\n" + "".join("\t".join(r) + "\r\n" for r in rows))
    write(tmp_path / "t.csv", 'id,n,c\n1,"따옴표 ""셋""",파랑\n2,"쉼표, 하나",\n')
    tables = [list(sources.rows(str(tmp_path / f"t.{kind}"), ["n", "id", "c"]))
              for kind in ("parquet", "tsv", "csv")]  # fmt: skip
    assert tables[0] == tables[1] == tables[2] and len(tables[0]) == 2
    with pytest.raises(DataError, match=r"no column 'm'; it has id, n, c"):
        list(sources.rows(str(tmp_path / "t.csv"), ["m"]))
    write(tmp_path / "clicks.csv", "key,query,n\n1,모자,3\n1,모자,없음\n1,\xff\n")
    write(tmp_path / "i" / "1.jpg", photo())
    clicks = Clicks(url=str(tmp_path / "clicks.csv"), count="n")
    manifest = build(corpus(Images(url=str(tmp_path / "i")), clicks=(clicks,)), tmp_path / "out")
    assert counts(manifest, "clicks") == {"kept": 2, "malformed": 1}
    assert records(tmp_path / "out")[0]["query_count"] == [4]


@pytest.mark.parametrize(
    ("cell", "count"),
    [("5.0", 5), (5.0, 5), ("1,234", 1234), ("1,234,567.0", 1234567), ("1e3", 1000), (b"7", 7),
     (" 8 ", 8), (3, 3), ("1,5", 1), ("-2", 1), (0.4, 1), ("nan", 1), (float("inf"), 1),
     ("many", 1), ("", 1), (None, 1), (10**20, 10**12), ("9" * 20, 10**12)],
)  # fmt: skip
def test_clicks_are_counted_as_tables_write_numbers(cell, count):
    assert texts._count(cell) == count


def test_more_clicks_than_a_table_can_hold_do_not_end_a_build(tmp_path):
    write(tmp_path / "i" / "1.jpg", photo())
    write(tmp_path / "c.tsv", "key\tquery\tn\n" + f"1\t모자\t{'9' * 20}\n" * 2)
    clicks = Clicks(url=str(tmp_path / "c.tsv"), count="n")
    build(corpus(Images(url=str(tmp_path / "i")), clicks=(clicks,)), tmp_path / "out")
    assert records(tmp_path / "out")[0]["query_count"] == [2 * 10**12]


def test_a_list_of_words_of_the_user_takes_part_in_a_build(tmp_path):
    write(tmp_path / "words.txt", "원피스\n")
    write(tmp_path / "i" / "1.jpg", photo())
    write(tmp_path / "t.tsv", "key\ttitle\n1\t파란 원피스\n1\t빨간 모자\n")
    for given in ((tmp_path / "words.txt",), (str(tmp_path / "words.txt"),)):
        rules = TextRules(noise_topic_lists=given)
        assert rules == TextRules(noise_topic_lists=(tmp_path / "words.txt",))
        documents = (Documents(url=str(tmp_path / "t.tsv")),)
        config = corpus(Images(url=str(tmp_path / "i")), documents=documents, text_rules=rules)
        manifest = build(config, tmp_path / "out")
        assert counts(manifest, "documents") == {"kept": 1, "noise_topic": 1}
    write(tmp_path / "words.txt", "모자\n원피스 둘\n")
    assert counts(build(config, tmp_path / "out"), "documents") == {"kept": 1, "noise_topic": 1}
    assert records(tmp_path / "out")[0]["title"] == "파란 원피스"


def test_an_empty_text_leaves_whatever_the_rules(tmp_path):
    for number in range(2):
        write(tmp_path / "i" / f"{number}.jpg", photo(seed=number))
    write(tmp_path / "t.tsv", "key\ttitle\n0\t\n0\t\u200b\n1\t빨간 모자\n")
    config = corpus(
        Images(url=str(tmp_path / "i")),
        documents=(Documents(url=str(tmp_path / "t.tsv")),),
        text_rules=TextRules(empty="off"),
    )
    manifest = build(config, tmp_path / "out")
    assert counts(manifest, "documents") == {"kept": 1, "empty": 2}
    assert [record["title"] for record in records(tmp_path / "out")] == ["빨간 모자"]
    clean, found = judged(said({"caption": ["글", "\u200b"]}), TextRules(empty="off"))
    assert clean == {"caption": "글"} and found == {"kept": 1, "empty": 1}


def test_texts_in_columns_of_bytes_are_read_and_lists_are_malformed(tmp_path):
    table = {
        "key": pa.array(["키.jpg".encode(), b"2"], pa.binary()),
        "image": [photo(seed=1), photo(seed=2)],
        "caption": pa.array(["린넨 셔츠".encode(), None], pa.binary()),
    }
    pq.write_table(pa.table(table), tmp_path / "i.parquet")
    for kind, column in {
        "bytes": pa.array(["빨간 모자".encode(), b"\xff"], pa.binary()),
        "lists": pa.array([["파란 모자"], None]),
    }.items():
        keys = pa.array(["키".encode(), b"2"], pa.binary())
        write(tmp_path / "d" / "none.txt", "")
        pq.write_table(pa.table({"key": keys, "title": column}), tmp_path / "d" / f"{kind}.parquet")
    config = corpus(
        Images(url=str(tmp_path / "i.parquet"), caption="caption"),
        documents=(Documents(url=str(tmp_path / "d" / "*.parquet")),),
    )
    manifest = build(config, tmp_path / "out")
    found = counts(manifest, "documents")
    assert found["kept"] == 1 and found["malformed"] == 1 and sum(found.values()) == 4
    (record,) = records(tmp_path / "out")
    assert record["title"] == "빨간 모자" and record["caption"] == "린넨 셔츠"


def test_the_tables_in_a_folder_are_found(tmp_path):
    for name in ("b.PARQUET", "a.tsv", "c.csv.gz", "._a.tsv", "notes.txt"):
        write(tmp_path / "d" / name, "")
    found = sources.table_files(str(tmp_path / "d"))
    assert [Path(one).name for one in found] == ["a.tsv", "b.PARQUET", "c.csv.gz"]
    (tmp_path / "empty").mkdir()
    for url in ("empty", "empty/*"):
        with pytest.raises(DataError, match=r"empty.*\.parquet, \.tsv, \.csv"):
            sources.table_files(str(tmp_path / url))


# Downloads and object stores.


def test_the_three_formats_of_img2dataset_give_the_same_corpus(tmp_path):
    """As its writers have them: webdataset, files and parquet, each with a table beside it."""
    told = [
        {"url": f"https://example.com/{n}.jpg", "caption": f"파란 원피스 {n}",
         "key": f"00000000{n}", "status": "success", "error_message": None,
         "width": 320, "height": 240,
         "original_width": 640, "original_height": 480, "exif": "{}", "sha256": "0" * 64,
         "source": "laion"}
        for n in range(3)
    ]  # fmt: skip
    lost = {**told[0], "key": "000000003", "status": "failed_to_download"}
    for name in ("webdataset", "files", "parquet"):
        (tmp_path / name).mkdir()
        if name != "parquet":
            pq.write_table(pa.Table.from_pylist([*told, lost]), tmp_path / name / "00000.parquet")
    files = {
        f"{row['key']}.{suffix}": data
        for n, row in enumerate(told)
        for suffix, data in (
            ("jpg", photo(seed=n)), ("txt", row["caption"].encode()), ("json", said(row).encode())
        )
    }  # fmt: skip
    write_tar(tmp_path / "webdataset" / "00000.tar", files)
    for name, data in files.items():
        write(tmp_path / "files" / "00000" / name, data)
    rows = [{**row, "jpg": photo(seed=n), "txt": row["caption"]} for n, row in enumerate(told)]
    rows.append({**lost, "jpg": None, "txt": None})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parquet" / "00000.parquet")
    made = []
    for name in ("webdataset", "files", "parquet"):
        overrides = [f"images.0.url={tmp_path / name}", "tasks=1", "ocr=none", "watermark=none"]
        overrides += ["images.0.image=jpg"] if name == "parquet" else []
        config = load_config(
            REPOSITORY / "configs/corpus/external.py", overrides, function="corpus",
            kind=CorpusConfig,
        )  # fmt: skip
        build(config, tmp_path / "out" / name)
        made.append(shard_bytes(tmp_path / "out" / name / "shards"))
        first = records(tmp_path / "out" / name)[0]
        assert first["title"] == "파란 원피스 0" and first["source"] == "laion"
        assert first["image_url"] == "https://example.com/0.jpg"
    assert made[0] == made[1] == made[2]


def test_everything_is_read_from_an_object_store_as_from_a_disk(tmp_path, monkeypatch):
    pytest.importorskip("gcsfs", reason="gs:// needs gcsfs")
    raw = tmp_path / "raw"
    rows = [{"key": str(n), "image": photo(seed=n)} for n in range(3)]
    raw.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), raw / "images-0.parquet", row_group_size=2)
    write_tar(raw / "tars-0.tar", {f"{n}.jpg": photo(seed=n) for n in (3, 4)})
    for n in (5, 6):
        write(raw / "loose" / "of" / f"{n}.jpg", photo(seed=n))
    write(raw / "loose" / "of" / "5.json", said({"key": "5", "title": "곁에 있는 제목"}))
    titles = [{"key": str(n), "title": f"꽃무늬 원피스 {n}"} for n in range(5)]
    pq.write_table(pa.Table.from_pylist(titles), raw / "documents.parquet")
    write(raw / "products.csv", "file,name\nof/6.jpg,린넨 셔츠\n")

    def config(base):
        return CorpusConfig(
            name="stored",
            images=(
                Images(url=f"{base}/images-*.parquet"),
                Images(url=f"{base}/tars-0.tar", key=None),
                Images(url=f"{base}/loose/**/*.jpg", title="title"),
            ),
            documents=(Documents(url=f"{base}/documents.parquet"),),
            products=(Products(url=f"{base}/products.csv", key="file", product_name="name"),),
            tasks=2,
        )

    build(config(str(raw)), tmp_path / "disk")
    assert len(records(tmp_path / "disk")) == 7
    with serving() as (address, held):
        held.objects = {
            f"raw/{path.relative_to(raw)}": path.read_bytes()
            for path in raw.rglob("*")
            if path.is_file()
        }
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        fsspec.filesystem("gs").clear_instance_cache()
        build(config("gs://bucket/raw"), tmp_path / "store")
        whole = sources.files("gs://bucket/raw/loose", tmp_path / "listings")
        fsspec.filesystem("gs").clear_instance_cache()
    assert [entry.name for entry in loose.entries(whole[0])] == ["of/5.jpg", "of/6.jpg"]
    assert shard_bytes(tmp_path / "store" / "shards") == shard_bytes(tmp_path / "disk" / "shards")


def test_real_photos_of_a_shop_with_their_table(tmp_path):
    """7,159 products; a first part of the tar, the whole table."""
    folder = Path(os.environ.get("KMM_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    packed = folder / "fashion" / "fashion_products.tar"
    if not packed.is_file():
        pytest.skip(f"no {packed}; KMM_SHARED_DATA names the folder of shared data")
    wanted = 60
    with tarfile.open(packed) as tar:
        some = {}
        for member in tar:
            opened = tar.extractfile(member)
            assert opened is not None
            some[member.name] = opened.read()
            if len(some) == wanted:
                break
    write_tar(tmp_path / "fashion.tar", some)
    table = Products(
        url=str(packed.with_suffix(".tsv")),
        key="file",
        product_name="productDisplayName",
        category=("masterCategory", "subCategory", "articleType"),
        attributes={"색상": "baseColour", "계절": "season", "연도": "year", "성별": "gender"},
    )
    config = corpus(
        Images(url=str(tmp_path / "fashion.tar"), key=None),
        products=(table,),
        text_rules=TextRules(count_latin=False),  # a catalogue in English
    )
    manifest = build(config, tmp_path / "out")
    found = records(tmp_path / "out")
    seen = counts(manifest, "pictures")
    assert sum(seen.values()) == wanted and len(found) > wanted / 2
    assert counts(manifest, "join")["products_without_picture"] >= 7159 - wanted
    lines = packed.with_suffix(".tsv").read_text("utf-8").splitlines()
    names = {line.split("\t")[9] for line in lines[1:]}
    assert sum(record["product_name"] in names for record in found) > 0.9 * len(found)
    for record in found:
        assert set(record["attributes"]) <= {"색상", "계절", "연도", "성별"}
        assert len(record["category"]) == 3 and record["image_size"] == [224, 224]
