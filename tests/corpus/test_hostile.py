"""Whatever stands in the input, rows are counted, none is fatal, and a damaged file is named."""

import collections
import dataclasses
import io
import json
import struct
import tarfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kmm_jax.corpus import tables
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import Clicks, CorpusConfig, Documents, Images
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError
from tests.corpus.test_images import photo

KEPT, BROKEN = "kept", "decode_error"


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed, mode="RGB", side=(260, 240)):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (12, 13, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(side, Image.Resampling.BICUBIC).convert(mode)


def png_of(width, height, *, chunks=b""):
    """A PNG that claims this size and has next to no pixels."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + pixels + chunk(b"IEND", b"")


def text_bomb():
    data = b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    kind = b"zTXt" + data
    return struct.pack(">I", len(data)) + kind + struct.pack(">I", zlib.crc32(kind))


def jpeg_of(width, height):
    """A JPEG whose header claims this size."""
    data = bytearray(encoded(noise(90), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def deep_grey():
    values = np.add.outer(np.arange(240) * 140, np.arange(260) * 110)
    return encoded(Image.fromarray(values.astype(np.uint16)), "PNG")


def pictures():
    """Name -> (bytes or None, what must become of it)."""
    good = photo(seed=1)
    frames = [noise(20 + number, "P") for number in range(3)]
    return {
        "good": (good, KEPT),
        "truncated": (good[: len(good) // 2], BROKEN),
        "a byte short of nothing": (good[:1], BROKEN),
        "garbage in it": (good[:400] + b"\0\xff" * 2000 + good[4400:], None),
        "header only": (b"\xff\xd8\xff", BROKEN),
        "page": (b"<!doctype html><h1>404</h1>", BROKEN),
        "drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BROKEN),
        "empty": (b"", BROKEN),
        "absent": (None, BROKEN),
        "zeros": (bytes(5000), BROKEN),
        "png bomb": (png_of(100_000, 100_000), BROKEN),
        "png of no pixels": (png_of(0, 300), BROKEN),
        "png with a text bomb": (png_of(300, 300, chunks=text_bomb()), BROKEN),
        "png without pixels": (png_of(300, 300), BROKEN),
        "jpeg bomb": (jpeg_of(65_000, 65_000), BROKEN),
        "really large": (encoded(Image.new("1", (9000, 9001)), "PNG"), BROKEN),
        "large but whole": (encoded(noise(2, "L", (2000, 1500)), "JPEG"), KEPT),
        "animation": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), KEPT),
        "one pixel": (encoded(Image.new("RGB", (1, 1)), "PNG"), "small"),
        "a line": (encoded(noise(3, side=(2000, 201)), "PNG"), "aspect"),
        "blank": (encoded(Image.new("RGB", (300, 300), "white"), "PNG"), "white"),
        "clear": (encoded(Image.new("RGBA", (300, 300), (9, 9, 9, 0)), "PNG"), "white"),
        "16 bits": (deep_grey(), KEPT),
        "cmyk": (encoded(noise(4, "CMYK"), "JPEG"), KEPT),
        "cmyk tiff": (encoded(noise(5, "CMYK"), "TIFF"), KEPT),
        "grey": (encoded(noise(6, "L"), "JPEG"), KEPT),
        "palette": (encoded(noise(7, "P"), "PNG", transparency=3), KEPT),
        "webp": (encoded(noise(8), "WEBP"), KEPT),
        "bmp": (encoded(noise(9), "BMP"), KEPT),
        "progressive": (encoded(noise(10), "JPEG", progressive=True), KEPT),
        "odd exif": (encoded(noise(11), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), KEPT),
    }


KEYS = (
    *("a/b/../../c", "/etc/passwd", "new\nline", "nul\0byte", "\u202etxet lortnoc", "\u200b\u200d"),
    *("🎉" * 50, "", " ", "x" * 100_000, "twice", "twice", "키", "키", "-", "..", "a.jpg"),
    *("' OR 1=1 --", "%s{0}${HOME}", "\ud55c\uae00.png", "NaN", "None"),
)


def write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)


def invalid_utf8(count):
    """Texts of which each third is none."""
    values = [b"\xff\xfe\xfa" if number % 3 == 0 else b"key" for number in range(count)]
    return pa.array(values, pa.binary()).view(pa.string())


def raw(folder):
    """Every file that can be read; returns rows of pictures, their fates, rows of texts."""
    folder.mkdir()
    named = pictures()
    fates = collections.Counter(fate for _, fate in named.values())
    data = [image for image, _ in named.values()]
    keys = [KEYS[number % len(KEYS)] for number in range(len(data))]
    write(folder / "images-0.parquet", {"key": keys, "image": pa.array(data, pa.binary())})
    good = [photo(seed=100 + number) for number in range(30)]
    whole = pa.array(good[:3], pa.binary())
    odd_keys = {
        "ints": pa.array([1, None, 2**62]),
        "floats": pa.array([float("nan"), 1e300, None]),
        "lists": pa.array([["a"], [], None]),
        "objects": pa.array([{"a": 1}, None, {"a": None}]),
        "bytes": pa.array([b"a", b"\xff\xfe", None]),
        "bools": pa.array([True, False, None]),
        "dates": pa.array([0, 2**60, None], pa.timestamp("ns")),
        "nulls": pa.nulls(3),
        "no text": invalid_utf8(3),
    }
    for name, column in odd_keys.items():
        write(folder / f"images-key-{name}.parquet", {"key": column, "image": whole})
    fates["kept"] += 3 * len(odd_keys)
    odd_images = {
        "strings": pa.array(["not bytes", "", None]),
        "ints": pa.array([1, 2, None]),
        "lists": pa.array([[255, 216], [], None]),
        "nulls": pa.nulls(3),
        "objects": pa.array([{"path": "x"}, None, {"path": None}]),
        "no text": invalid_utf8(3),
    }
    for name, column in odd_images.items():
        write(folder / f"images-image-{name}.parquet", {"key": ["p", "q", "r"], "image": column})
    fates[BROKEN] += 3 * len(odd_images)
    hugging_face = [{"bytes": good[3], "path": None}, {"bytes": None, "path": "x"}, None]
    write(folder / "images-hf.parquet", {"key": ["h", "i", "j"], "image": pa.array(hugging_face)})
    fates[KEPT] += 1
    fates[BROKEN] += 2
    write(folder / "images-none.parquet", {"key": pa.array([], pa.string()),
                                           "image": pa.array([], pa.binary())})  # fmt: skip
    return fates


def texts(folder):
    """Documents and clicks; returns how many rows of each."""
    hard = ["가" * 3_500_000, "\u202e\u202d\u2066 거꾸로 \u2069", "\u200b\u200c\u200d\ufeff",
            "🎉🔥👍", "", " ", "\0", "파란 원피스\n\n\n", "파란\u0000원피스",
            "e\u0301" * 1000, "ㅋ" * 5000, "<script>alert(1)</script>", "원피스", None]  # fmt: skip
    keys = ["twice", "키", *["good"] * (len(hard) - 2)]
    write(folder / "documents-0.parquet", {"key": keys, "title": hard})
    odd = {
        "ints": pa.array([1, None, 3]),
        "lists": pa.array([["a"], None, []]),
        "bytes": pa.array([b"\xff", b"a", None]),
        "nulls": pa.nulls(3),
        "floats": pa.array([float("nan"), 1.0, None]),
        "no text": invalid_utf8(3),
    }
    for name, column in odd.items():
        write(folder / f"documents-{name}.parquet", {"key": ["키", None, "a"], "title": column})
    counts = {
        "floats": pa.array([float("nan"), float("inf"), -1.0]),
        "strings": pa.array(["3", "many", None]),
        "ints": pa.array([0, None, 2**40]),
    }
    for name, column in counts.items():
        said = {"key": ["키", "twice", "a"], "query": ["원피스"] * 3, "n": column}
        write(folder / f"clicks-{name}.parquet", said)
    return len(hard) + 3 * len(odd), 3 * len(counts)


def balanced(manifest):
    """The stages' (rows, sum of counts) by name; of clicks and documents each row has one fate."""
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    for name in ("pictures", "documents", "clicks", "merge", "choose", "judge", "shards"):
        assert stages[name]["rows"] == sum(stages[name]["counts"].values()), name
    return stages


def test_each_hostile_row_has_its_reason_and_none_is_fatal(tmp_path):
    fates = raw(tmp_path / "raw")
    documents, clicks = texts(tmp_path / "raw")
    config = CorpusConfig(
        name="hostile",
        images=(Images(url=str(tmp_path / "raw/images-*.parquet")),),
        documents=(Documents(url=str(tmp_path / "raw/documents-*.parquet")),),
        clicks=(Clicks(url=str(tmp_path / "raw/clicks-*.parquet"), count="n"),),
        tasks=2,
    )
    manifest = build(config, tmp_path / "out")
    stages = balanced(manifest)
    found = collections.Counter(stages["pictures"]["counts"])
    doubtful = fates.pop(None)  # a decoder may or may not see through garbage
    assert found.total() == fates.total() + doubtful
    assert all(0 <= found[fate] - fates[fate] <= doubtful for fate in found | fates)
    notes = [
        row["note"]
        for path in (tmp_path / "out/work/facts").iterdir()
        for number in range(len(tables.group_rows(path)))
        for row in tables.group(path, number)
        if row["reason"] == BROKEN
    ]
    assert len(notes) == found[BROKEN] and all(notes)
    assert sum("more than" in note or "bomb" in note for note in notes) >= 3
    assert (stages["documents"]["rows"], stages["clicks"]["rows"]) == (documents, clicks)
    source = open_source(str(tmp_path / "out/shards/train-*.tar"))
    assert len(source) == manifest["rows"] > 0
    for name in (tmp_path / "out/shards").glob("*.tar"):
        with tarfile.open(name) as tar:
            assert all(member.name.partition(".")[0].isalnum() for member in tar)


def member(tar, name, data=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    tar.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)


def hostile_tar(path):
    """Returns how many pictures there are in it, broken ones with them."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        member(tar, "a", kind=tarfile.DIRTYPE)
        member(tar, "a/b/nested.jpg", photo(seed=201))
        member(tar, "a/b/nested.json", json.dumps({"caption": "안쪽 원피스"}).encode())
        member(tar, "../../up.jpg", photo(seed=202))
        member(tar, "/etc/passwd.jpg", photo(seed=203))
        member(tar, "link.jpg", kind=tarfile.SYMTYPE, link="/etc/passwd")
        member(tar, "hard.jpg", kind=tarfile.LNKTYPE, link="a/b/nested.jpg")
        member(tar, "pipe.jpg", kind=tarfile.FIFOTYPE)
        member(tar, "alone.jpg", photo(seed=204))
        member(tar, "only.json", b"{}")
        for name, told in {
            "list": b"[1, 2]",
            "deep": b"[" * 100_000,
            "deep object": b'{"a":' * 100_000,
            "broken": b'{"caption": ',
            "half a pair": b'{"caption": "\\ud800 \\udfff", "url": "\\ud83d"}',
            "not a number": b'{"caption": NaN, "url": 1e999}',
            "wrong types": b'{"caption": {"a": [1]}, "url": [2]}',
            "no unicode": b'{"caption": "\xff\xfe"}',
            "long": json.dumps({"caption": "원피스 " * 400_000}).encode(),
        }.items():
            member(tar, f"{name}.jpg", photo(seed=210 + len(name)))
            member(tar, f"{name}.json", told)
        member(tar, "twice.jpg", photo(seed=205))
        member(tar, "twice.json", json.dumps({"caption": "하나"}).encode())
        member(tar, "twice.jpg", photo(seed=206))
        member(tar, "twice.json", json.dumps({"caption": "둘"}).encode())
        member(tar, "nothing.jpg")
        member(tar, "nothing.json")
        member(tar, "new\nline.png", b"\x89PNG")
        member(tar, "\udcff\udcfe.jpg", photo(seed=207))
        member(tar, "한" * 120 + ".jpg", photo(seed=208))
        member(tar, ".jpg", photo(seed=209))
    return 5 + 9 + 2 + 1 + 1 + 3 - 1


def test_a_tar_of_everything_is_read_to_its_end(tmp_path):
    count = hostile_tar(tmp_path / "00.tar")
    images = Images(url=str(tmp_path / "*.tar"), key=None, caption="caption", image_url="url")
    manifest = build(CorpusConfig(name="tar", images=(images,)), tmp_path / "out")
    stages = balanced(manifest)
    assert stages["pictures"]["rows"] == count
    assert stages["pictures"]["counts"][BROKEN] == 2


def damaged(folder):
    """Files that are no longer what their names say, by what is said of each."""
    good = [photo(seed=300 + number) for number in range(6)]
    path = folder / "images-a.parquet"
    write(path, {"key": list("abcdef"), "image": pa.array(good, pa.binary())})
    (folder / "images-footer.parquet").write_bytes(path.read_bytes()[:-20])
    (folder / "images-empty.parquet").write_bytes(b"")
    (folder / "images-text.parquet").write_text("not a table\n" * 100)
    middle = bytearray(path.read_bytes())
    middle[4:3000] = bytes(2996)
    (folder / "images-middle.parquet").write_bytes(middle)
    with tarfile.open(folder / "images-a.tar", "w") as tar:
        for number, data in enumerate(good):
            member(tar, f"{number}.jpg", data)
    whole = (folder / "images-a.tar").read_bytes()
    (folder / "images-cut.tar").write_bytes(whole[:-20_000])
    second = whole.index(b"1.jpg")
    (folder / "images-header.tar").write_bytes(whole[:second] + b"?" * 300 + whole[second + 300 :])
    (folder / "images-half-header.tar").write_bytes(whole[: second + 200])
    (folder / "images-page.tar").write_text("<html>404</html>" * 100)
    names = ("footer.parquet", "empty.parquet", "text.parquet", "middle.parquet",
             "cut.tar", "header.tar", "half-header.tar", "page.tar")  # fmt: skip
    return [folder / f"images-{name}" for name in names]


def test_a_damaged_file_is_named_and_the_work_on_the_others_is_kept(tmp_path):
    (tmp_path / "raw").mkdir()
    bad = damaged(tmp_path / "raw")
    images = tuple(
        Images(url=str(tmp_path / f"raw/images-*.{kind}")) for kind in ("parquet", "tar")
    )
    config = CorpusConfig(name="damaged", images=images, tasks=2)
    for path in bad:
        one = dataclasses.replace(config, images=(Images(url=str(path)),))
        with pytest.raises(DataError) as told:
            build(one, tmp_path / "one")
        assert path.name in str(told.value), path.name
    with pytest.raises(DataError, match=r"and 7 more tasks"):
        build(config, tmp_path / "out")
    facts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/work/facts").iterdir()}
    assert len(facts) == 2  # of the two that are whole
    assert not (tmp_path / "out" / "shards").exists()
    for path in bad:
        path.unlink()
    manifest = build(config, tmp_path / "out")
    assert balanced(manifest)["pictures"]["counts"] == {"kept": 12}
