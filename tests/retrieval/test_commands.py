"""``kmm embed``, ``kmm index`` and ``kmm search`` over shards, with a model that knows colours."""

import argparse
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

import kmm_jax.inference
from kmm_jax.cli import index as index_command
from kmm_jax.cli import retrieve
from kmm_jax.data.augment import resize_centre
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import Index, embedding, load_embeddings
from kmm_jax.retrieval.lookup import RowLookup, caption

COLOURS = {
    "빨간": (220, 30, 30),
    "초록": (30, 180, 40),
    "파란": (30, 50, 220),
    "노란": (230, 220, 20),
}
ITEMS = [(name, garment) for garment in ("셔츠", "치마", "모자") for name in COLOURS]


class ColourModel:
    """Embeds the mean colour of a picture and the colour words of a text."""

    image_size = 16
    embedding = 3

    def __init__(self, hash="colour-1"):
        self.hash = hash
        self.batches = []

    def embed_image(self, images, *, batch_size=64):
        self.batches.append(len(images))
        pictures = [resize_centre(np.asarray(image), self.image_size) for image in images]
        return self._unit(np.array([picture.reshape(-1, 3).mean(0) for picture in pictures]))

    def embed_text(self, texts, style="query", *, batch_size=256):
        self.batches.append(len(texts))
        found = [[rgb for name, rgb in COLOURS.items() if name in text] for text in texts]
        return self._unit(np.array([np.mean(rgbs or [(128, 128, 90)], 0) for rgbs in found]))

    @staticmethod
    def _unit(rows):
        rows = rows - 110.0
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def picture(number):
    content = io.BytesIO()
    rgb = np.array(COLOURS[ITEMS[number][0]]) + number
    Image.new("RGB", (40, 30), tuple(np.minimum(rgb, 255).tolist())).save(content, "JPEG")
    return content.getvalue()


def key(number):
    return f"{number:020x}"


def write_shop(folder, bad=()):
    with ShardWriter(folder, prefix="train") as writer:
        for number, (colour, garment) in enumerate(ITEMS):
            record = {
                "image_hash": key(number),
                "image_size": [40, 30],
                "title": f"{colour} {garment} 특가",
                "query": ["싼 옷", f"{colour} {garment}"],
                "query_count": [1, 9],
                "product_name": f"{colour} {garment}",
            }
            if number % 2:
                del record["product_name"]
            writer.write(record, b"not a picture" if number in bad else picture(number))
    return folder / "train-000.tar"


def kmm(*words):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    retrieve.add(commands)
    index_command.add(commands)
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.run(arguments)


@pytest.fixture
def model(monkeypatch, tmp_path):
    (tmp_path / "model").mkdir()
    made = ColourModel()
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: made)
    return made


@pytest.fixture
def index(model, tmp_path):
    shard = write_shop(tmp_path / "shop", bad={0, 5})
    lenient = ["--part-rows", 4, "--max-bad-share", 0.2]
    kmm("embed", tmp_path / "model", shard, "--output", tmp_path / "e", *lenient)
    kmm("index", "build", tmp_path / "e", "--output", tmp_path / "i")
    return tmp_path / "i"


def test_a_korean_text_alone_finds_the_pictures(index, capsys):
    kmm("search", index, "빨간 모자", "-k", 2)
    lines = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[2] for line in lines] == [key(4), key(8)]
    assert "빨간 치마" in lines[0] and "빨간 모자" in lines[1]


def test_bad_rows_are_left_out_named_and_do_not_shift_the_ids(index, tmp_path, capsys):
    loaded = load_embeddings(tmp_path / "e")
    assert loaded.ids == [key(number) for number in range(12) if number not in (0, 5)]
    assert loaded.spans == [(0, 4, 3), (4, 8, 3), (8, 12, 4)]
    for each, vector in zip(loaded.ids, loaded.vectors, strict=True):
        alone = ColourModel().embed_image([Image.open(io.BytesIO(picture(int(each, 16))))])[0]
        np.testing.assert_allclose(vector, alone, atol=0.02)
    shard = tmp_path / "shop" / "train-000.tar"
    lenient = ["--max-bad-share", 0.2]
    kmm("embed", tmp_path / "model", shard, "--output", tmp_path / "again", *lenient)
    said = capsys.readouterr()
    assert "12 rows read, 2 left out" in said.out
    lines = said.err.splitlines()
    assert [line[:17] for line in lines] == ["left out: row 0: ", "left out: row 5: "]


def test_json_holds_ranks_scores_and_captions(index, capsys):
    capsys.readouterr()
    kmm("search", index, "초록", "-k", 3, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["query"] == {"text": "초록", "image": None}
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3]
    assert {hit["id"] for hit in found["hits"][:2]} == {key(1), key(9)}
    assert {hit["caption"] for hit in found["hits"][:2]} == {"초록 셔츠 특가", "초록 모자 특가"}
    assert found["hits"][0]["score"] >= found["hits"][2]["score"]


def test_a_picture_or_both_can_be_the_query(index, tmp_path, capsys):
    (tmp_path / "질의.jpg").write_bytes(picture(2))
    kmm("search", index, "--image", tmp_path / "질의.jpg", "-k", 1)
    assert "파란" in capsys.readouterr().out.splitlines()[-1]
    kmm("search", index, "빨간", "--image", tmp_path / "질의.jpg", "--text-weight", 1, "-k", 1)
    assert "빨간" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_a_sheet_shows_what_was_found(index, tmp_path, suffix):
    kmm("search", index, "노란 셔츠", "--sheet", tmp_path / f"sheet.{suffix}")
    data = (tmp_path / f"sheet.{suffix}").read_bytes()
    if suffix == "html":
        assert data.count(b"data:image/jpeg") == 10 and "노란 셔츠".encode() in data
    else:
        rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).reshape(-1, 3).astype(int)
        assert (np.abs(rgb - COLOURS["노란"]).max(1) < 25).sum() > 10_000


def test_a_sheet_without_its_source_still_has_the_ids(index, tmp_path, capsys):
    (tmp_path / "shop").rename(tmp_path / "moved")
    kmm("search", index, "노란", "-k", 1, "--sheet", tmp_path / "sheet.html")
    said = capsys.readouterr()
    assert "without pictures and captions" in said.err
    found = said.out.splitlines()[-1].split()[2]
    assert found in {key(3), key(7), key(11)}
    assert found in (tmp_path / "sheet.html").read_text("utf-8")
    moved = tmp_path / "moved" / "train-000.tar"
    kmm("search", index, "노란", "-k", 1, "--source", moved)
    assert "노란" in capsys.readouterr().out


def test_another_model_is_refused(index, model):
    model.hash = "colour-2"
    with pytest.raises(UserError, match=r"colour-1.*colour-2"):
        kmm("search", index, "빨간")


def test_a_model_that_moved_must_be_named(index, tmp_path, capsys):
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"no longer at .*--model"):
        kmm("search", index, "빨간")
    kmm("search", index, "빨간", "--model", tmp_path / "elsewhere", "-k", 1)
    assert "빨간" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "빨간 체크 셔츠"),
        (["모자", "--sheet", "out.jpg"], r"\.png or \.html"),
        (["--image", "없음.jpg"], "is no file"),
        (["모자", "-k", "0"], "k must be at least 1"),
    ],
)
def test_searches_that_cannot_be_made_say_what_to_do(index, words, message):
    with pytest.raises(UserError, match=message):
        kmm("search", index, *words)


def test_a_query_picture_that_is_none_is_named(index, tmp_path):
    (tmp_path / "글.jpg").write_text("글")
    with pytest.raises(DataError, match=r"글\.jpg"):
        kmm("search", index, "--image", tmp_path / "글.jpg")


def test_info_says_what_and_how(index, capsys):
    capsys.readouterr()
    kmm("index", "info", index)
    text = capsys.readouterr().out
    assert "10 of dimension 3" in text and "colour-1" in text and "train-000.tar" in text
    kmm("index", "info", index, "--json")
    assert json.loads(capsys.readouterr().out)["metadata"]["kind"] == "image"


def test_rows_that_stand_twice_are_refused_unless_the_first_is_wanted(model, tmp_path, capsys):
    for name in ("a", "b"):
        write_shop(tmp_path / name)
    (tmp_path / "both").mkdir()
    for number, name in enumerate("ab"):
        data = (tmp_path / name / "train-000.tar").read_bytes()
        (tmp_path / "both" / f"train-00{number}.tar").write_bytes(data)
    out = tmp_path / "e"
    kmm("embed", tmp_path / "model", tmp_path / "both", "--output", out, "--part-rows", 5)
    with pytest.raises(DataError, match="12 ids stand more than once"):
        kmm("index", "build", out, "--output", tmp_path / "i")
    kmm("index", "build", out, "--output", tmp_path / "i", "--keep-first")
    assert len(Index.load(tmp_path / "i")) == 12
    kmm("search", tmp_path / "i", "파란 모자", "-k", 12)
    lines = capsys.readouterr().out.splitlines()[-12:]
    assert {line.split()[2] for line in lines} == {key(number) for number in range(12)}
    assert all(len(line.split()) >= 5 for line in lines)


def test_texts_of_a_style_are_embedded(model, tmp_path, capsys):
    shard = write_shop(tmp_path / "shop")
    seen = []
    model.embed_text = lambda texts, style, *, batch_size: (
        seen.extend((text, style) for text in texts) or ColourModel().embed_text(texts)
    )
    arguments = ["embed", tmp_path / "model", shard, "--kind", "text"]
    kmm(*arguments, "--style", "query", "--output", tmp_path / "q")
    assert seen == [(f"{colour} {garment}", "query") for colour, garment in ITEMS]
    kmm(*arguments, "--style", "shopping", "--output", tmp_path / "s")
    assert load_embeddings(tmp_path / "s").ids == [key(number) for number in range(0, 12, 2)]
    assert "no text in product_name, attributes" in capsys.readouterr().err
    with pytest.raises(UserError, match="origin"):
        kmm(*arguments, "--style", "shopping", "--output", tmp_path / "q")


def test_a_source_without_a_good_row_is_refused_with_the_reasons(model, tmp_path):
    shard = write_shop(tmp_path / "shop", bad=set(range(12)))
    with pytest.raises(DataError, match=r"not one of the 12 rows(.|\n)*row 11: "):
        kmm("embed", tmp_path / "model", shard, "--output", tmp_path / "e", "--max-bad-share", 1)


@pytest.mark.parametrize("part_rows", [4, 5, 100])
def test_too_many_bad_rows_stop_an_export_and_every_call_that_goes_on_with_it(
    model, tmp_path, part_rows
):
    shard = write_shop(tmp_path / "shop", bad={0, 5})
    arguments = ["embed", tmp_path / "model", shard, "--output", tmp_path / "e"]
    arguments += ["--part-rows", part_rows]
    with pytest.raises(
        DataError, match=r"2 of the 12 rows.*limit(.|\n)*row 0: (.|\n)*row 5: "
    ) as hit:
        kmm(*arguments)
    assert str(hit.value).count("row 5: ") == 1
    for _ in range(2):
        with pytest.raises(DataError, match=r"2 of the 12 rows .*16\.7%"):
            kmm(*arguments)
        with pytest.raises(DataError, match=r"unfinished|no embeddings"):
            load_embeddings(tmp_path / "e")
    kmm(*arguments, "--max-bad-share", 0.2)
    assert len(load_embeddings(tmp_path / "e").ids) == 10
    # The whole export was made with a higher limit: it is judged, and not taken away.
    with pytest.raises(DataError, match="2 of the 12 rows"):
        kmm(*arguments)
    assert len(load_embeddings(tmp_path / "e").ids) == 10


def test_an_export_that_is_mostly_bad_stops_long_before_its_end(tmp_path):
    class Broken:
        name = "broken"

        def __len__(self):
            return 100_000

        def read(self, number):
            raise DataError(f"{number} is broken")

    with pytest.raises(DataError, match=r"100 of the 100 rows read are bad"):
        embedding.embed_source(ColourModel(), Broken(), tmp_path / "e")
    assert not list((tmp_path / "e").iterdir())


def test_rows_without_a_text_of_the_style_are_not_bad_but_broken_ones_are(model, tmp_path):
    shard = write_shop(tmp_path / "shop")
    embed = ["embed", tmp_path / "model", shard, "--kind", "text", "--style", "shopping"]
    kmm(*embed, "--output", tmp_path / "s", "--max-bad-share", 0)
    (tmp_path / "b").mkdir()
    with tarfile.open(tmp_path / "b" / "train-000.tar", "w") as tar:
        for name, content in (("a.jpg", picture(0)), ("a.json", b"{")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    embed[2] = tmp_path / "b"
    with pytest.raises(DataError, match="1 of the 1 rows read are bad"):
        kmm(*embed, "--output", tmp_path / "t")


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_a_bad_share_that_is_none_is_refused(model, tmp_path, share):
    shard = write_shop(tmp_path / "shop")
    with pytest.raises(UserError, match=r"in \[0, 1\]"):
        kmm("embed", "m", shard, "--output", tmp_path / "e", f"--max-bad-share={share}")


def test_processes_share_an_export(model, tmp_path, capsys):
    shard = write_shop(tmp_path / "shop")
    for process in ("1/2", "0/2"):
        more = ["--part-rows", 5, "--process", process]
        kmm("embed", tmp_path / "model", shard, "--output", tmp_path / "e", *more)
    out = capsys.readouterr().out.splitlines()
    assert "waiting for the parts of other processes" in out[0] and "waiting" not in out[1]
    assert len(load_embeddings(tmp_path / "e").ids) == 12
    for wrong in ("2/2", "x", "1"):
        with pytest.raises(SystemExit):
            kmm("embed", "m", shard, "--output", tmp_path / "x", "--process", wrong)


def test_batches_are_the_same_however_often_an_export_was_stopped(tmp_path):
    source = open_source(write_shop(tmp_path / "shop", bad={1}))
    whole, cut = ColourModel(), ColourModel()
    settings = {"batch_size": 2, "part_rows": 5, "max_bad_share": 0.1}
    embedding.embed_source(whole, source, tmp_path / "whole", **settings)
    assert whole.batches == [2, 2, 2, 2, 1, 2]

    def stop(progress):
        if progress.done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedding.embed_source(cut, source, tmp_path / "cut", **settings, progress=stop)
    report = embedding.embed_source(cut, source, tmp_path / "cut", **settings)
    assert (report.computed, report.bad, report.finished) == (7, 0, True)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / path.name).read_bytes()


def test_rows_are_found_however_many_were_left_out(tmp_path):
    source = open_source(write_shop(tmp_path / "shop"))
    kept = [1, 2, 6, 7, 11]
    lookup = RowLookup(source, [(0, 4, 2), (4, 5, 0), (5, 9, 2), (9, 12, 1)])
    for place, number in enumerate(kept):
        assert lookup.row(key(number), place).key == key(number)
    assert lookup.row(key(3), 0) is None
    assert lookup.row("다른 것", 0) is None
    assert lookup.row(key(11), 5) is None


def test_captions_prefer_the_products_name():
    assert caption({"title": "특가", "product_name": "셔츠", "query": ["옷"]}) == "셔츠"
    assert caption({"query": ["옷", "셔츠"], "query_count": [1, 2]}) == "옷"
    assert caption({}) == ""


def test_a_truncated_shard_is_refused_before_anything_is_written(model, tmp_path):
    shard = write_shop(tmp_path / "shop")
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError):
        kmm("embed", tmp_path / "model", shard, "--output", tmp_path / "e")
    assert not (tmp_path / "e").exists()
    with pytest.raises((tarfile.ReadError, EOFError)), tarfile.open(shard) as tar:
        tar.getmembers()[5]


def test_a_collection_grows_is_filtered_and_shrinks(index, tmp_path, capsys):
    table = tmp_path / "facts.tsv"
    rows = [
        f"{key(number)}\t{garment}\t{number * 1000}" for number, (_, garment) in enumerate(ITEMS)
    ]
    table.write_text("\n".join(["image_hash\ttitle\tprice", *rows]) + "\n", "utf-8")
    grown = tmp_path / "c"
    for said in ("10 of them new, 0 in the place", "0 of them new, 10 in the place"):
        assert kmm("index", "add", grown, tmp_path / "e", "--columns", table) == 0
        assert said in capsys.readouterr().out
    cheap = ["--where", '{"price": {"lt": 8000}}', "--where", "title=치마"]
    assert kmm("search", grown, "빨간 모자", *cheap, "--json") == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert hits and {hit["caption"] for hit in hits} == {"치마"}
    assert all(int(hit["id"], 16) < 8 for hit in hits)
    kmm("index", "info", grown)
    said = capsys.readouterr().out
    assert "10 of dimension" in said and "price int64" in said and "segment" in said
    assert kmm("index", "remove", grown, key(4), "없음") == 0
    told = capsys.readouterr()
    assert "9 vectors, 1 fewer" in told.out and "1 ids were not there" in told.err
    assert kmm("index", "compact", grown) == 0
    kmm("index", "info", grown, "--json")
    (segment,) = json.loads(capsys.readouterr().out.partition("\n")[2])["segments"]
    assert (segment["rows"], segment["gone"]) == (9, 0)


def test_what_a_collection_cannot_do_is_said(index, tmp_path):
    with pytest.raises(UserError, match="kmm index add makes a collection"):
        kmm("search", index, "빨강", "--where", "color=빨강")
    grown = tmp_path / "c"
    (tmp_path / "facts.csv").write_text("name\n1\n", "utf-8")
    with pytest.raises(DataError, match="none of id or image_hash"):
        kmm("index", "add", grown, tmp_path / "e", "--columns", tmp_path / "facts.csv")
    (tmp_path / "twice.jsonl").write_text('{"id": "a"}\n{"id": "a"}\n', "utf-8")
    with pytest.raises(DataError, match="'a' stands in rows 0 and 1"):
        kmm("index", "add", grown, tmp_path / "e", "--columns", tmp_path / "twice.jsonl")
    assert not grown.exists()
    kmm("index", "add", grown, tmp_path / "e")
    with pytest.raises(UserError, match="write COLUMN=VALUE"):
        kmm("search", grown, "빨강", "--where", "color")
    with pytest.raises(UserError, match="no column 'color'"):
        kmm("search", grown, "빨강", "--where", "color=빨강")
    with pytest.raises(UserError, match="nothing to remove"):
        kmm("index", "remove", grown)


def test_embeddings_and_indexes_of_half_the_bytes(model, tmp_path, capsys):
    shard = write_shop(tmp_path / "shop")
    kmm(
        "embed",
        tmp_path / "model",
        shard,
        "--output",
        tmp_path / "e",
        "--dtype",
        "bfloat16",
        "--part-rows",
        6,
    )
    given = ["--dtype", "bfloat16", "--rescore", "mapped"]
    kmm("index", "build", tmp_path / "e", "--output", tmp_path / "i", *given)
    kmm("index", "add", tmp_path / "c", tmp_path / "e", *given)
    for number in (0, 1):
        kmm(
            "index", "bulk", tmp_path / "s" / f"{number}", tmp_path / "e", *given, "--memory", "1GB"
        )
    for place in ("i", "c", "s"):
        capsys.readouterr()
        assert kmm("search", tmp_path / place, "빨간 모자", "--json", "-k", 3) == 0
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert len({hit["id"] for hit in hits}) == 3
        assert {int(hit["id"], 16) % len(COLOURS) for hit in hits} == {0}  # red
    kmm("index", "info", tmp_path / "i")
    said = capsys.readouterr().out
    assert "bfloat16" in said and "recall@10" in said
    with pytest.raises(UserError, match="was made with dtype 'bfloat16', not 'float32'"):
        kmm("index", "add", tmp_path / "c", tmp_path / "e", "--dtype", "float32")
    kmm("index", "add", tmp_path / "c", tmp_path / "e")
