"""Korean out of the metadata of LAION, COYO, WIT and CC: every row accounted for."""

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kmm_jax.cli import main
from kmm_jax.corpus import extract, metadata
from kmm_jax.corpus.extract import Korean
from kmm_jax.corpus.text.scripts import hangul_share
from kmm_jax.errors import ConfigError, DataError, UserError
from tests.conftest import REPOSITORY

WIT = [
    "language", "page_url", "image_url", "page_title", "section_title",
    "hierarchical_section_title", "caption_reference_description",
    "caption_attribution_description", "caption_alt_text_description", "mime_type",
    "original_height", "original_width", "is_main_image", "attribution_passes_lang_id",
    "page_changed_recently", "context_page_description", "context_section_description",
]  # fmt: skip


def url(number):
    return f"https://example.com/{number}.jpg"


def laion(path, rows):
    """(text, url, width, height) as laion2B-multi-joined has them."""
    table = {
        "SAMPLE_ID": list(range(len(rows))),
        "URL": [row[1] for row in rows],
        "TEXT": [row[0] for row in rows],
        "HEIGHT": pa.array([row[3] for row in rows], pa.int32()),
        "WIDTH": pa.array([row[2] for row in rows], pa.int32()),
        "LICENSE": ["?"] * len(rows),
        "LANGUAGE": ["ko"] * len(rows),
        "similarity": [0.31] * len(rows),
        "pwatermark": pa.array([0.25] * len(rows), pa.float32()),
        "punsafe": pa.array([0.125] * len(rows), pa.float32()),
    }
    pq.write_table(pa.table(table), path, row_group_size=3)


def wit_line(**cells):
    told = {"language": "ko", "image_url": url(0), "original_height": "600",
            "original_width": "800", **cells}  # fmt: skip
    return [told.get(column, "") for column in WIT]


def wit(path, lines):
    def quoted(cell):
        return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in '"\n\t') else cell

    text = "".join("\t".join(map(quoted, line)) + "\n" for line in [WIT, *lines])
    path.write_bytes(gzip.compress(text.encode()))


def kept(folder, number=0):
    return pq.read_table(folder / f"part-{number:05d}.parquet").to_pylist()


def test_laion_rows_by_text_address_and_size(tmp_path):
    laion(
        tmp_path / "l.parquet",
        [
            ("여름 린넨 셔츠", url(1), 800, 600),
            ("summer linen shirt", url(2), 800, 600),
            ("NIKE AIR FORCE 1 나이키", url(3), 800, 600),  # Hangul in less than half of it
            ("겨울  코트​", url(4), 199, 600),
            ("겨울 코트", "없음", 800, 600),
            ("겨울 코트", None, 800, 600),
            (None, url(5), 800, 600),
            ("여름 린넨 셔츠 다시", url(1), 800, 600),
            ("모자", url(6), None, 0),
        ],
    )
    summary = extract.extract(
        [str(tmp_path / "l.parquet")], tmp_path / "out", korean=Korean(least_side=200)
    )
    assert summary["counts"] == {
        "kept": 2, "no_hangul": 3, "small": 1, "no_url": 2, "duplicate": 1
    }  # fmt: skip
    assert summary["rows"] == 9 == sum(summary["counts"].values())
    first, last = kept(tmp_path / "out")
    assert first == {
        "url": url(1), "text": "여름 린넨 셔츠", "source": "laion", "width": 800, "height": 600,
        "similarity": pytest.approx(0.31), "unsafe": 0.125, "watermark": 0.25, "aesthetic": None,
    }  # fmt: skip
    assert last["text"] == "모자" and last["width"] is None
    assert json.loads((tmp_path / "out" / "summary.json").read_text("utf-8")) == summary


def test_coyo_is_told_from_laion_by_its_scores(tmp_path):
    table = {
        "id": [1], "url": [url(1)], "text": ["한글 문장"], "width": [640], "height": [480],
        "image_phash": ["c9b6a7d8469c1959"], "clip_similarity_vitb32": [0.5],
        "nsfw_score_opennsfw2": [0.25], "watermark_score": [0.125],
        "aesthetic_score_laion_v2": [5.5],
    }  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    extract.extract([str(tmp_path / "c.parquet")], tmp_path / "out")
    (row,) = kept(tmp_path / "out")
    assert row == {
        "url": url(1), "text": "한글 문장", "source": "coyo", "width": 640, "height": 480,
        "similarity": 0.5, "unsafe": 0.25, "watermark": 0.125, "aesthetic": 5.5,
    }  # fmt: skip


def test_wit_takes_the_first_korean_caption_of_korean_pages(tmp_path):
    reference, alt = "caption_reference_description", "caption_alt_text_description"
    lines = [
        wit_line(image_url=url(1), **{reference: "광화문의 야경", alt: "밤"}),
        wit_line(
            image_url=url(2), **{reference: "Gwanghwamun at night", alt: '탭\t과 "따옴표"\n둘'}
        ),
        wit_line(image_url=url(3), language="ja", **{reference: "한글이 든 일본어 쪽"}),
        wit_line(image_url=url(4), page_title="제목뿐"),
        wit_line(image_url=url(5), **{reference: "끝이 없는 줄"})[:9],
    ]
    wit(tmp_path / "wit.tsv.gz", lines)
    summary = extract.extract([str(tmp_path / "wit.tsv.gz")], tmp_path / "out")
    assert summary["counts"] == {"kept": 2, "language": 1, "no_hangul": 1, "malformed": 1}
    rows = kept(tmp_path / "out")
    assert [row["text"] for row in rows] == ["광화문의 야경", '탭 과 "따옴표" 둘']
    assert rows[0]["width"] == 800 and rows[0]["source"] == "wit"


def test_metadata_is_read_from_a_store_too(tmp_path):
    memory = fsspec.filesystem("memory")
    wit(tmp_path / "w.tsv.gz", [wit_line(caption_reference_description="경복궁 근정전")])
    laion(tmp_path / "l.parquet", [("여름 모자", url(1), 800, 600)])
    memory.pipe({f"/sets/{p.name}": p.read_bytes() for p in tmp_path.iterdir()})
    try:
        for number, name in enumerate(("w.tsv.gz", "*.parquet")):
            extract.extract([f"memory://sets/{name}"], tmp_path / str(number))
        with pytest.raises(DataError, match="no such"):
            extract.extract(["memory://sets/none.parquet"], tmp_path / "none")
    finally:
        memory.rm("/sets", recursive=True)
    assert [kept(tmp_path / n)[0]["text"] for n in "01"] == ["경복궁 근정전", "여름 모자"]


@pytest.mark.parametrize("place", [10, 3990])
def test_a_quote_that_does_not_close_is_one_malformed_row(tmp_path, place):
    reference = "caption_reference_description"
    good = "\t".join(wit_line(**{reference: "좋은 줄"}))
    bad = "\t".join(wit_line(**{reference: '"열린 따옴표 '}))
    filler = [good.replace("/0.jpg", f"/{number}.jpg") for number in range(4000)]
    text = "\n".join(["\t".join(WIT), *filler[:place], bad, *filler[place:]]) + "\n"
    (tmp_path / "wit.tsv").write_text(text, "utf-8")
    counts = extract.extract([str(tmp_path / "wit.tsv")], tmp_path / "out")["counts"]
    assert counts == {"malformed": 1, "kept": 4000}


@pytest.mark.parametrize("order", ["caption first", "address first", "with names"])
def test_pairs_of_cc_in_either_order_with_or_without_names(tmp_path, order):
    pairs = [("흰 티셔츠", url(1)), ("white shirt", url(2)), ('따옴표 "하나', url(3))]
    if order == "address first":
        pairs = [pair[::-1] for pair in pairs]
    if order == "with names":
        pairs = [("caption", "url"), *pairs]
    text = "".join("\t".join(pair) + "\n" for pair in pairs) + "줄 하나\n"
    (tmp_path / "cc.tsv").write_bytes(text.encode() + b"\xea\xff\t" + url(4).encode() + b"\n")
    summary = extract.extract([str(tmp_path / "cc.tsv")], tmp_path / "out")
    assert summary["counts"] == {"kept": 2, "no_hangul": 1, "malformed": 2}
    assert [row["text"] for row in kept(tmp_path / "out")] == ["흰 티셔츠", '따옴표 "하나']


def test_a_cell_that_is_no_utf8_is_one_malformed_row(tmp_path):
    cells = pa.array([b"\xea\xb0", "좋은 글".encode()], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 2, cells.buffers())
    pq.write_table(pa.table({"URL": [url(1), url(2)], "TEXT": texts}), tmp_path / "l.parquet")
    counts = extract.extract([str(tmp_path / "l.parquet")], tmp_path / "out")["counts"]
    assert counts == {"kept": 1, "malformed": 1}


def test_what_is_done_stays_and_leftovers_of_a_longer_list_go(tmp_path):
    for number in range(3):
        laion(tmp_path / f"l{number}.parquet", [(f"글 {number}", url(number), 9, 9)])
    out = tmp_path / "out"
    extract.extract([str(tmp_path / "l*.parquet")], out, at_a_time=1)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    laion(tmp_path / "l1.parquet", [("다른 글", url(7), 9, 9)])
    seen = []
    extract.extract([str(tmp_path)], out, at_a_time=1, progress=lambda *told: seen.append(told))
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert [name for name in before if before[name] != after[name]] == ["part-00001.parquet"]
    assert seen[-1][1:3] == (3, 3) and seen[-1][4].tasks == 2
    extract.extract([str(tmp_path / "l0.parquet")], out)
    assert [path.name for path in out.glob("part-*")] == ["part-00000.parquet"]


@pytest.mark.parametrize("name", ["part-00000.parquet", "laion.parquet", "part-00007.parquet"])
def test_an_input_in_the_output_folder_is_refused_and_stays(tmp_path, monkeypatch, capsys, name):
    folder = tmp_path / "laion"
    folder.mkdir()
    laion(folder / name, [("여름 모자", url(1), 9, 9)])
    before = (folder / name).read_bytes()
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "link.parquet").symlink_to(folder / name)
    monkeypatch.chdir(folder)
    for given, output in (
        (str(folder), str(folder)),
        (str(folder / "*.parquet"), str(tmp_path / "link")),
        (name, "."),
        (str(tmp_path / "link.parquet"), str(folder)),
        (f"file://{folder}/{name}", str(folder)),
    ):
        assert main(["corpus", "extract-korean", given, "--output", output]) == 2
        assert "lies in the output folder" in capsys.readouterr().err
        assert [one.name for one in folder.iterdir()] == [name]
        assert (folder / name).read_bytes() == before


def test_parts_of_others_in_the_output_folder_are_neither_written_over_nor_deleted(tmp_path):
    laion(tmp_path / "l.parquet", [("여름 모자", url(1), 9, 9)])
    out = tmp_path / "out"
    out.mkdir()
    laion(out / "part-00003.parquet", [("남의 것", url(2), 9, 9)])
    (out / "part-00004.parquet").write_bytes(b"no parquet")
    extract.extract([str(tmp_path / "l.parquet")], out)
    assert len(list(out.glob("part-*"))) == 3
    (out / "part-00003.parquet").rename(out / "part-00000.parquet")
    before = (out / "part-00000.parquet").read_bytes()
    with pytest.raises(UserError, match="was not written by extract-korean"):
        extract.extract([str(tmp_path / "l.parquet")], out)
    assert (out / "part-00000.parquet").read_bytes() == before


def test_the_next_command_is_the_guides():
    guide = (REPOSITORY / "docs" / "guide.md").read_text("utf-8")
    said = " ".join(guide.partition("img2dataset --url_list")[2].partition("kmm")[0].split())
    told = extract.next_command(Path("korean"))
    assert told == "img2dataset --url_list " + said.replace("\\ ", "")
    assert "'/a b/ko'" in extract.next_command(Path("/a b/ko"))


def test_another_format_is_refused_with_the_columns_seen(tmp_path, capsys):
    pq.write_table(pa.table({"Link": ["a"], "words": ["b"]}), tmp_path / "x.parquet")
    words = ["corpus", "extract-korean", str(tmp_path / "x.parquet"), "--output"]
    assert main([*words, str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "not of wit, coyo, laion, cc; its columns are Link, words" in said
    assert main([*words, str(tmp_path / "out"), "--format", "laion"]) == 2
    assert "needs columns url and text, and has Link, words" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("part-*"))
    (tmp_path / "broken.tsv.gz").write_bytes(gzip.compress(b"caption\turl\n" * 5000)[:-9])
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(metadata.read(str(tmp_path / "broken.tsv.gz"))[1])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        metadata.read(str(tmp_path / "broken.parquet"))
    pq.write_table(pa.table({"URL": [1], "TEXT": ["글"]}), tmp_path / "n.parquet")
    with pytest.raises(DataError, match="URL holds int64, texts were expected"):
        list(metadata.read(str(tmp_path / "n.parquet"))[1])
    with pytest.raises(ConfigError, match="share of Hangul"):
        Korean(share=1.5)


def test_the_command_says_what_became_of_the_rows_and_what_comes_next(tmp_path, capsys):
    laion(tmp_path / "l.parquet", [("글", url(1), 9, 9), ("text", url(2), 9, 9)])
    out = str(tmp_path / "out")
    assert main(["corpus", "extract-korean", str(tmp_path / "l.parquet"), "--output", out]) == 0
    shown = capsys.readouterr()
    assert "1  kept" in shown.out and "1  no_hangul" in shown.out
    assert f"img2dataset --url_list {out} --input_format parquet" in shown.out
    assert "metadata 1/1 files | 2 rows" in shown.err


def test_the_share_of_hangul_is_of_letters():
    assert hangul_share("셔츠 100%!!") == 1.0
    assert hangul_share("셔츠 XL") == 0.5
    assert hangul_share("") == hangul_share("123") == hangul_share("シャツ") == 0.0
