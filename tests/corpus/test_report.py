"""The page and the data card: everything accounted for, nothing personal, nothing hostile."""

import base64
import collections
import dataclasses
import html.parser
import io
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kmm_jax.cli import main
from kmm_jax.corpus import build as building
from kmm_jax.corpus import funnel, tables
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import CorpusConfig, Documents, Images
from kmm_jax.corpus.funnel import Before, Lines
from kmm_jax.corpus.report import card
from kmm_jax.corpus.report.distribution import Distribution, Line
from kmm_jax.corpus.report.gallery import file_name
from kmm_jax.corpus.report.samples import MOST
from kmm_jax.corpus.sampling import Smallest, evenly
from kmm_jax.corpus.scoring.custom import Custom
from kmm_jax.corpus.text import PERSONAL, TextRules
from kmm_jax.corpus.text.excerpt import excerpt
from kmm_jax.files import locked
from tests.corpus.test_build import counts
from tests.corpus.test_images import photo
from tests.corpus.text.generated import REPORTING_SEED, cases
from tools import dirty_shop

_VOID = {"meta", "img", "rect", "line", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page: tags balanced, attributes and words kept."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = collections.Counter(), []
        self.sources, self.links, self.words, self.classes = [], [], [], collections.Counter()
        self.text = text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        told = dict(attributes)
        self.sources += [told[name] for name in ("src", "srcset", "data", "poster") if name in told]
        self.links += [told["href"]] if "href" in told else []
        self.classes.update((told.get("class") or "").split())
        assert not [name for name in told if name.startswith("on")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def said(self):
        return " ".join(self.words)


def undated(text):
    return re.sub(r"<time>.*?</time>", "", text)


def scored(config, folder):
    """With a score that rejects some pictures, and one that only measures."""
    options = {"log": str(folder / "asked.log")}
    scorer = "tests.corpus.scoring.scorers:Brightness"
    return dataclasses.replace(
        config,
        custom=(
            Custom(
                name="dark",
                function=scorer,
                fields=("brightness",),
                least={"brightness": 150.0},
                options=options,
            ),
        ),
    )


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A dirty shop with a score, built in a folder: (config, folder, manifest, page)."""
    folder = tmp_path_factory.mktemp("report")
    config = dirty_shop.write(folder / "raw", items=160, seed=9, image_size=232, files=2)
    config = scored(dataclasses.replace(config, shard_rows=50), folder)
    config = dataclasses.replace(
        config,
        images=(dataclasses.replace(config.images[0], licence="CC0 | 1.0", about="가게"),),
    )
    manifest = build(config, folder / "out")
    text = (folder / "out" / "report.html").read_text("utf-8")
    return config, folder, manifest, Page(text)


def raw_texts(folder):
    paths = sorted(folder.glob("*-*.parquet"))
    columns = {"documents": "title", "clicks": "query"}
    return [
        text
        for path in paths
        for kind, column in columns.items()
        if path.name.startswith(kind)
        for text in pq.read_table(path, columns=[column]).column(0).to_pylist()
    ]


def test_every_reason_is_accounted_for_with_its_count(reported):
    _, _, manifest, page = reported
    assert counts(manifest, "judge")["dark"] > 0
    seen = 0
    for stage in ("pictures", "documents", "merge", "choose", "judge"):
        for reason, count in counts(manifest, stage).items():
            if reason != "kept" and count:
                assert re.search(rf"\b{reason}\b", page.said), reason
                assert re.search(rf"\b{count:,}\b", page.said), (reason, count)
                seen += 1
    assert seen >= 13
    assert f"{manifest['rows']:,}" in page.said


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(reported):
    *_, page = reported
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert page.sources and all(one.startswith("data:image/jpeg;base64,") for one in page.sources)
    assert page.links and all(link.startswith("#") for link in page.links)
    assert not re.search(r"url\(|@import|https?://", page.text.partition("<body>")[0])
    assert "prefers-color-scheme: dark" in page.text and 'name="viewport"' in page.text


def test_thumbnails_are_small_pictures_and_samples_are_bounded(reported):
    _, _, manifest, page = reported
    for url in page.sources:
        picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
        assert picture.format == "JPEG" and max(picture.size) <= 128
    reasons = ("kept", "small", "aspect", "white", "no_text", "dark")
    assert page.tags["figure"] > 20
    assert len(page.sources) <= MOST * (len(reasons) + 4)
    assert len(page.text) < 3_000_000
    assert page.classes["pair"] == sum(
        min(MOST, counts(manifest, stage)[reason])
        for stage, reason in (("merge", "duplicate"), ("choose", "near_duplicate"))
    )


def test_no_personal_data_is_shown_or_kept_for_the_page(reported):
    _, folder, _, page = reported
    personal = [
        found[0]
        for text in raw_texts(folder / "raw")
        for found in re.finditer(r"010-\d{4}-\d{4}|shop\d+@\S+|example\.com/\S+", text or "")
    ]
    assert len(personal) > 10
    cards = "".join((folder / "out/shards" / name).read_text("utf-8") for name in card.NAMES)
    held = "".join(
        tables.about(path)["samples"] for path in (folder / "out/work/documents").iterdir()
    )
    assert '"phone"' in held and "010-" not in held
    for value in personal:
        for shown in (page.text, cards, held):
            assert value not in shown
    assert page.classes["personal"] > 3 and "전화번호" in page.said


@pytest.mark.parametrize("rules", [TextRules(), TextRules(phone="off", email="mask")])
def test_excerpts_hide_personal_data_whatever_the_rules_say_of_it(rules):
    personal = [case for case in cases(REPORTING_SEED, 1000) if case.reason is not None]
    found = 0
    for case in personal:
        told = excerpt(case.text, rules)
        if any(piece.reason in PERSONAL for piece in told):
            found += 1
            value = case.text[case.start : case.end]
            assert value not in "".join(piece.text for piece in told), case
    assert found >= 0.99 * len(personal)
    phone = excerpt(
        "가" * 5_000_000 + " 문의 010-2345-6789 로 " + "나" * 5_000_000,
        rules,
        at=5_000_004,
        reason="phone",
    )
    assert "6789" not in "".join(piece.text for piece in phone)
    assert sum(len(piece.text) for piece in phone) < 200
    assert any(piece.reason == "phone" for piece in phone)


def test_hostile_texts_are_shown_as_text(tmp_path):
    texts = [
        "<script>alert(1)</script> 여름 원피스",
        "\u202e거꾸로 원피스\u202c <img src=x onerror=alert(1)>",
        "원\u200b피스 문의 01\u200b0-2345-67\u200b89",
        "로또 당첨 </li></ul></main> & \"'",
        "씨발 원피스",
        "좋은 원피스 " + "가나다라마바사아자차카타파하" * 70_000,
        "綺麗な<b>ワンピース</b>です",
    ]
    name = "im<b>&ages.parquet"
    pictures = [{"key": str(n), "image": photo(seed=n)} for n in range(len(texts))]
    pq.write_table(pa.Table.from_pylist(pictures), tmp_path / name)
    rows = [{"key": str(n), "title": text} for n, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "documents.parquet")
    config = CorpusConfig(
        name="<i>hostile</i> & co",
        images=(Images(url=str(tmp_path / "im*.parquet")),),
        documents=(Documents(url=str(tmp_path / "documents.parquet")),),
        text_rules=TextRules(symbols="off"),
    )
    build(config, tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert page.tags["script"] == 0 and page.tags["img"] == len(page.sources)
    assert "<script>alert(1)" in page.said and "<i>hostile</i>" in page.said
    assert "씨발" not in page.text and "씨*" in page.said
    assert not re.search("[\u202a-\u202e\u200b]", page.text)
    assert "2345" not in page.said and len(page.text) < 400_000
    md = (tmp_path / "out/shards/datacard.md").read_text("utf-8")
    assert "<i>" not in md


def test_two_builds_give_the_same_page_and_card(reported, tmp_path):
    config, folder, _, page = reported
    build(dataclasses.replace(config, tasks=1), tmp_path / "out")
    again = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert undated(again).replace("<td>tasks</td><td>1</td>", "<td>tasks</td><td>None</td>") == (
        undated(page.text)
    )
    for name in card.NAMES:
        first = (folder / "out/shards" / name).read_bytes()
        assert (tmp_path / "out/shards" / name).read_bytes() == first
    assert str(tmp_path) not in again


def test_in_several_buckets_the_same_pictures_are_found(reported, tmp_path, monkeypatch):
    config, _, manifest, page = reported
    monkeypatch.setattr(building, "_TEXTS_A_BUCKET", 20_000)
    again = build(config, tmp_path / "out")
    assert len(list((tmp_path / "out/work/merged").iterdir())) > 1
    assert again["rows"] == manifest["rows"]
    there = Page((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert set(there.sources) & set(page.sources) and there.classes["pair"] > 0


def test_the_report_is_made_again_from_what_the_build_left(reported, tmp_path, capsys):
    _, folder, _, page = reported
    shutil.copytree(folder / "out", tmp_path / "out")
    for path in (tmp_path / "out/report.html", tmp_path / "out/shards/datacard.md"):
        path.unlink()
    assert main(["corpus", "report", str(tmp_path / "out")]) == 0
    assert "report.html" in capsys.readouterr().out
    again = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert undated(again) == undated(page.text)
    assert (tmp_path / "out/shards/datacard.md").exists()
    shutil.rmtree(tmp_path / "out" / "work")
    assert main(["corpus", "report", str(tmp_path / "out")]) == 2
    assert "kmm corpus build" in capsys.readouterr().err
    assert main(["corpus", "report", str(tmp_path)]) == 2
    assert "no corpus was built" in capsys.readouterr().err


def test_a_purged_picture_is_shown_no_more(reported, tmp_path):
    _, folder, _, page = reported
    shutil.copytree(folder / "out", tmp_path / "out")
    shown = re.search(r"kept.*?<code>([0-9a-f]{32})</code>", page.text, re.DOTALL)[1]
    (tmp_path / "hashes.txt").write_text(f"{shown}\n")
    words = ["corpus", "purge", str(tmp_path / "out"), "--hashes", str(tmp_path / "hashes.txt")]
    rows = json.loads((folder / "out/shards/datacard.json").read_text("utf-8"))["rows"]
    assert main(words) == 0
    assert not (tmp_path / "out/report.html").exists()
    told = json.loads((tmp_path / "out/shards/datacard.json").read_text("utf-8"))
    assert told["rows"] == rows - 1
    assert main(["corpus", "report", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/report.html").read_text("utf-8")
    assert shown not in text
    # Everywhere as many rows as the shards hold, and it is said why they are fewer than built.
    said = Page(text).said
    assert "1 purged since" in said and "Purged since" in said
    flow = re.findall(r"<b>([\d,]+)</b>", text.partition('class="box flow"')[2].split("<h3>")[0])
    assert flow[-1] == f"{rows - 1:,}" and flow[-2] == f"{rows:,}"
    md = (tmp_path / "out/shards/datacard.md").read_text("utf-8")
    assert "1 of these pictures were purged since" in md


def test_no_text_that_may_be_of_a_purged_picture_is_shown(reported, tmp_path):
    _, folder, _, page = reported
    shutil.copytree(folder / "out", tmp_path / "out")
    assert page.tags["bdi"] and '<ul class="texts">' in page.text
    (tmp_path / "out/purged.txt").write_text("0" * 32 + "\n")
    assert main(["corpus", "report", str(tmp_path / "out")]) == 0
    again = (tmp_path / "out/report.html").read_text("utf-8")
    section = again.partition('<section id="texts">')[2].partition("</section>")[0]
    assert "<bdi>" not in section and '<ul class="texts">' not in again
    assert "none is shown any more" in section


def copied(folder, to):
    shutil.copytree(folder / "out", to)
    (to / "report.html").unlink()
    return to, {path: path.read_bytes() for path in (to / "shards").iterdir()}


def refuses(out, before, capsys, said):
    assert main(["corpus", "report", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not (out / "report.html").exists() and not (out / ".lock").exists()
    assert {path: path.read_bytes() for path in (out / "shards").iterdir()} == before


@pytest.mark.parametrize("stage", ["_join", "_scores", "_shards"])
def test_tables_of_a_build_that_is_not_finished_give_no_report(
    reported, tmp_path, monkeypatch, capsys, stage
):
    config, folder, *_ = reported
    out, before = copied(folder, tmp_path / "out")
    rules = dataclasses.replace(config.image_rules, least_side=220)
    custom = (dataclasses.replace(config.custom[0], least={"brightness": 120.0}),)
    other = dataclasses.replace(config, image_rules=rules, custom=custom)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(building._Build, stage, killed)
        with pytest.raises(KeyboardInterrupt):
            build(other, out)
    refuses(out, before, capsys, "finish it first")
    build(other, out, report=False)
    assert main(["corpus", "report", str(out)]) == 0


def test_after_a_purge_an_unfinished_build_is_seen_too(reported, tmp_path, monkeypatch, capsys):
    config, folder, *_ = reported
    out, _ = copied(folder, tmp_path / "out")
    card_of = json.loads((out / "shards/datacard.json").read_text("utf-8"))
    gone = Page((folder / "out/report.html").read_text("utf-8"))
    hashes = re.findall(r"kept.*?<code>([0-9a-f]{32})</code>", gone.text, re.DOTALL)[:1]
    (tmp_path / "hashes.txt").write_text(f"{hashes[0]}\n")
    assert main(["corpus", "purge", str(out), "--hashes", str(tmp_path / "hashes.txt")]) == 0
    before = {path: path.read_bytes() for path in (out / "shards").iterdir()}

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(building._Build, "_shards", killed)
        with pytest.raises(KeyboardInterrupt):
            build(config, out)
    refuses(out, before, capsys, "finish it first")
    # A card of earlier versions says nothing of its tables: as many rows must have been kept.
    told = json.loads((out / "shards/datacard.json").read_text("utf-8"))
    assert told.pop("judged_tables") == card_of["judged_tables"]
    (out / "shards/datacard.json").write_text(json.dumps(told))
    before[out / "shards/datacard.json"] = (out / "shards/datacard.json").read_bytes()
    refuses(out, before, capsys, "finish it first")


def test_what_earlier_versions_left_gives_a_report_still(reported, tmp_path):
    _, folder, _, page = reported
    out, _ = copied(folder, tmp_path / "out")
    for path, name in ((out / "work/layout.json", "tables"),
                       (out / "shards/datacard.json", "judged_tables")):  # fmt: skip
        told = json.loads(path.read_text("utf-8"))
        del told[name]
        path.write_text(json.dumps(told))
    assert main(["corpus", "report", str(out)]) == 0
    assert undated((out / "report.html").read_text("utf-8")) == undated(page.text)


def test_a_report_waits_for_no_build_and_writes_beside_none(reported, tmp_path, capsys):
    _, folder, *_ = reported
    out, _ = copied(folder, tmp_path / "out")
    with locked(out / ".lock", "a corpus is being built here"):
        assert main(["corpus", "report", str(out)]) == 2
    assert "a corpus is being built here by process" in capsys.readouterr().err
    assert not (out / "report.html").exists()
    (out / "shards/manifest.json").write_text("{}")
    assert main(["corpus", "report", str(out)]) == 2
    assert "lacks config, stages" in capsys.readouterr().err


def test_personal_data_in_the_names_of_files_is_masked(tmp_path):
    folder = tmp_path / "hong@example.com" / "010-2345-6789"
    folder.mkdir(parents=True)
    pictures = [{"key": str(n), "image": photo(seed=n)} for n in range(2)]
    pq.write_table(pa.Table.from_pylist(pictures), folder / "images-01098765432.parquet")
    rows = [{"key": str(n), "title": "여름 원피스"} for n in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "documents.parquet")
    config = CorpusConfig(
        name="names",
        images=(Images(url=str(folder / "images-*.parquet")),),
        documents=(Documents(url=str(folder / "documents.parquet")),),
    )
    build(config, tmp_path / "out")
    shown = [tmp_path / "out/report.html", *(tmp_path / "out/shards" / n for n in card.NAMES)]
    for path in shown:
        text = path.read_text("utf-8")
        assert "documents.parquet" in text and "***" in text
        assert not re.search(r"hong@|2345-6789|01098765432", text), path
    assert (
        file_name("gs://shop.example.com/a@example.com/01.tar")
        == "gs://shop.example.com/***/01.tar"
    )
    assert file_name("https://me@example.com/x") == "https://***/x"


def test_without_a_report_there_is_none_but_the_card(reported, tmp_path):
    config, folder, *_ = reported
    shutil.copytree(folder / "out", tmp_path / "out")
    for path in (tmp_path / "out/report.html", tmp_path / "out/shards/datacard.json"):
        path.unlink()
    build(config, tmp_path / "out", report=False)
    assert not (tmp_path / "out/report.html").exists()
    assert all((tmp_path / "out/shards" / name).exists() for name in card.NAMES)


def test_another_licence_changes_the_card_and_no_shard(reported, tmp_path):
    config, folder, manifest, _ = reported
    shutil.copytree(folder / "out", tmp_path / "out")
    shard = tmp_path / "out/shards" / manifest["shards"][0]["name"]
    facts = tmp_path / "out/work/facts/00000.parquet"
    before = [path.stat().st_mtime_ns for path in (shard, facts)]
    images = (dataclasses.replace(config.images[0], licence="CC BY 4.0"),)
    again = build(dataclasses.replace(config, images=images), tmp_path / "out")
    assert [path.stat().st_mtime_ns for path in (shard, facts)] == before
    assert again["config"]["images"][0]["licence"] == "CC BY 4.0"
    assert again["stages"] == manifest["stages"]
    assert "CC BY 4.0" in (tmp_path / "out/shards/datacard.md").read_text("utf-8")


def test_the_card_says_what_the_shards_are(reported):
    _, folder, manifest, _ = reported
    told = json.loads((folder / "out/shards/datacard.json").read_text("utf-8"))
    assert told["rows"] == manifest["rows"] and told["funnel"] == manifest["stages"]
    assert told["sources"][0]["licence"] == "CC0 | 1.0"
    spread = {one["name"]: one for one in told["distributions"]}
    small = counts(manifest, "pictures")["small"]
    assert spread["short_side"]["thresholds"] == [{"rejects": "<", "value": 200, "beyond": small}]
    dark = counts(manifest, "judge")["dark"]
    assert spread["brightness"]["thresholds"][0]["beyond"] == dark
    assert told["scripts"]["Hangul"] > 0.8 * sum(told["scripts"].values())
    md = (folder / "out/shards/datacard.md").read_text("utf-8")
    for word in ("CC0 \\| 1.0", "가게", "near_duplicate", "kmm corpus purge", "p95"):
        assert word in md
    assert not re.search(r"20\d\d-\d\d-\d\d", md)


def test_distributions_agree_with_counting_all():
    rng = np.random.default_rng(3)
    for values in (rng.normal(0, 1, 5000), rng.lognormal(3, 2, 5000), rng.integers(0, 900, 5000)):
        values = np.asarray(values, np.float64)
        found = Distribution([Line("most", 1.0), Line("least", 0.5), Line("below", 2.0)])
        for part in np.array_split(values, 7):
            found.add(np.append(part, np.nan))
        assert found.count == 5000
        expected = [(values > 1).sum(), (values < 0.5).sum(), (values >= 2).sum()]
        assert found.beyond == expected
        assert found.mean == pytest.approx(values.mean())
        for share in (0.0, 0.05, 0.5, 0.95, 1.0):
            exact = np.quantile(values, share, method="inverted_cdf")
            assert found.quantile(share) == pytest.approx(exact, rel=0.002, abs=1e-9)
        edges = np.linspace(values.min(), values.max(), 20)
        assert found.histogram(edges).sum() == 5000
        assert found.is_whole == bool((values == np.round(values)).all())


def test_a_sample_depends_on_no_order():
    keys = [f"{n * 7919 % 1000:04d}" for n in range(1000)]
    samples = []
    for order in (keys, keys[::-1], keys + keys):
        sample = Smallest(5)
        for key in order:
            sample.offer(key, lambda key=key: key)
        samples.append(sample.values())
    assert samples[0] == samples[1] == samples[2] == sorted(keys)[:5]
    assert evenly(list(range(10)), 4) == [0, 2, 5, 7] and evenly([1, 2], 4) == [1, 2]


def test_what_was_done_before_says_nothing_of_the_time_left(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(funnel.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    lines = Lines(out)

    def tell(seconds, done, before, rows, stage="pictures"):
        clock[0] += seconds
        lines.progress(stage, done, 100, {"kept": rows}, Before(before, before * 1000))

    tell(0, 0, 0, 0)
    tell(3, 90, 90, 90_000)  # what an earlier build had done is there at once
    assert "(90 done before)" in out.getvalue() and "left" not in out.getvalue()
    tell(17, 94, 90, 94_000)  # four in twenty seconds, six to go
    assert "94,000 rows, 200 a second, 30 s left" in out.getvalue()
    # A stage whose first tasks ended beside the last ones of another begins to count when shown.
    tell(5, 50, 0, 50_000, "documents")
    tell(10, 60, 0, 60_000, "documents")
    assert "documents 60/100 files | 60,000 rows, 1,000 a second, 40 s left" in out.getvalue()
    tell(400_000, 61, 0, 61_000, "documents")
    assert "h " in out.getvalue().splitlines()[-1]
