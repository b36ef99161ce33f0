"""Figures of the suite against the library's own evaluation, counting by hand, and failure."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from kmm_jax.cli import main
from kmm_jax.errors import UserError
from kmm_jax.evaluation.caption_metrics import caption_metrics
from kmm_jax.evaluation.suite import page
from kmm_jax.evaluation.suite import run as suites
from kmm_jax.evaluation.suite.benchmark import Benchmark, Captions, Learned, Retrieval, ZeroShot
from kmm_jax.evaluation.suite.forms import ClassFolders, Table
from kmm_jax.evaluation.suite.korean import SUITE
from kmm_jax.evaluation.suite.measure import Measurer
from kmm_jax.evaluation.suite.sentences import PairTable
from tests.evaluation.conftest import COLOURS, KEYS, jpeg
from tests.evaluation.suite.conftest import Seer, write_image, write_tar
from tests.tiny_models import tiny_coca

MADE = {"get": "nowhere", "licence": "Apache-2.0"}


def folders(tmp_path, name="test", wrong=0):
    """Five images a colour, the first ``wrong`` of which lie in the folder of the next colour."""
    for place, key in enumerate(KEYS):
        for n in range(5):
            folder = KEYS[(place + 1) % len(KEYS)] if n < wrong else key
            write_image(tmp_path / f"{name}/{folder}/{key}{n}.jpg", COLOURS[key][1])


def colours(classes_file, **more):
    return Benchmark(
        name="colours",
        title="Colours",
        forms=(ClassFolders(paths=("test",)),),
        zero_shot=(ZeroShot(classes=classes_file),),
        **MADE,
        **more,
    )


def test_zero_shot_counts_what_the_model_sees(tmp_path, places, classes_file, seer):
    folders(tmp_path, wrong=2)
    measured = Measurer(seer, places=places, languages=("ko",)).measure(colours(classes_file))
    top1, top5 = measured.figures
    assert (top1.metric, top1.value, top1.items) == ("top1", pytest.approx(0.6), 30)
    assert top1.low < 0.6 < top1.high
    assert top1.chance == pytest.approx(1 / 6)
    # Of the classes it does not see all are equally far, and ties count against it.
    assert top5.value == pytest.approx(0.6)
    assert measured.images == 30
    assert measured.where == "test"


def test_each_of_several_right_classes_is_right(tmp_path, places, classes_file, seer):
    folders(tmp_path)
    (tmp_path / "test/green").rename(tmp_path / "test/green|red")
    benchmark = colours(classes_file)
    (figure,) = Measurer(seer, places=places, languages=("ko",)).measure(benchmark).figures[:1]
    assert (figure.value, figure.items) == (1.0, 30)
    present = dataclasses.replace(
        benchmark, zero_shot=(ZeroShot(classes=classes_file, candidates="present"),)
    )
    write_image(tmp_path / "few/red/x.jpg", COLOURS["red"][1])
    write_image(tmp_path / "few/blue/y.jpg", COLOURS["blue"][1])
    few = dataclasses.replace(present, forms=(ClassFolders(paths=("few",)),))
    (figure,) = Measurer(seer, places=places, languages=("ko",)).measure(few).figures
    assert figure.chance == 0.5  # and no top 5 among two classes


def captioned(tmp_path):
    lines = ["file\tcaption_ko_0\tcaption_en_0"]
    files = {}
    for n in range(12):
        key = KEYS[n % len(KEYS)]
        files[f"{n}.jpg"] = jpeg(COLOURS[key][1])
        lines.append(f"{n}.jpg\t{COLOURS[key][0]} 옷 {n}번\ta {KEYS[(n // 2) % 6]} dress {n}")
    (tmp_path / "clothes.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    write_tar(tmp_path / "clothes.tar", files)
    return Benchmark(
        name="clothes",
        title="Clothes",
        forms=(Table(paths=("clothes.tsv",), texts={"ko": "caption_ko", "en": "caption_en"}),),
        retrieval=Retrieval(),
        **MADE,
    )


def test_retrieval_is_counted_by_hand(tmp_path, places, seer):
    measured = Measurer(seer, places=places).measure(captioned(tmp_path))
    found = {(one.language, one.what, one.metric): one for one in measured.figures}
    # Two images a colour: the other one ties with the true one and counts against it.
    for way in ("text_to_image", "image_to_text"):
        assert found["ko", way, "r1"].value == 0
        assert found["ko", way, "r5"].value == 1
        assert found["ko", way, "r1"].chance == pytest.approx(1 / 12)
    # In English the texts name the right colour of images 0 and 11 alone, by construction.
    named = [KEYS[n % 6] == KEYS[(n // 2) % 6] for n in range(12)]
    assert found["en", "text_to_image", "r5"].value == pytest.approx(np.mean(named))
    assert "12 images and 12 distinct texts" in measured.protocols["retrieval"]


class Teller(Seer):
    """Says the colour it sees, as the captions have it, but for every image with a wrong number."""

    def __init__(self):
        super().__init__()
        self.config = tiny_coca(vocabulary=64, length=8)

    def caption(self, images, style, *, method, batch_size):
        seen = self.embed_pixels(np.stack(images)).argmax(axis=1)
        return [f"{COLOURS[KEYS[place]][0]} 옷 3번" for place in seen]


def test_captions_are_scored_as_the_librarys_own(tmp_path, places, seer):
    pytest.importorskip("kiwipiepy")
    benchmark = dataclasses.replace(
        captioned(tmp_path), retrieval=None, captions=Captions(texts={"ko": "ko", "en": "en"})
    )
    assert Measurer(seer, places=places).measure(benchmark).skipped == {
        "captions": "the model has no decoder"
    }
    measured = Measurer(Teller(), places=places, languages=("ko",)).measure(benchmark)
    captions = [f"{COLOURS[KEYS[n % 6]][0]} 옷 3번" for n in range(12)]
    references = [(f"{COLOURS[KEYS[n % 6]][0]} 옷 {n}번",) for n in range(12)]
    own = caption_metrics(captions, references, tokenizer="morphemes")
    for figure in measured.figures:
        assert figure.value == pytest.approx(own[figure.metric].corpus()), figure.metric
        assert figure.low <= figure.value <= figure.high
        assert figure.chance < figure.value
    assert {figure.metric for figure in measured.figures} == {
        "bleu4",
        "rouge_l",
        "cider_d",
        "chrf",
    }
    assert "morphemes of kiwipiepy" in measured.protocols["captions"]


def test_similarity_is_spearmans(tmp_path, places, seer):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        one, other = rng.choice(list(KEYS), 2)
        rows.append((COLOURS[one][0], COLOURS[other][0], 5.0 * (one == other) + rng.random()))
    text = "score\tsentence1\tsentence2\n" + "".join(f"{s}\t{a}\t{b}\n" for a, b, s in rows)
    (tmp_path / "sts.tsv").write_text(text, "utf-8")
    benchmark = Benchmark(
        name="sts",
        title="STS",
        pairs=(PairTable(paths=("sts.tsv",), columns={"ko": ("sentence1", "sentence2")}),),
        **MADE,
    )
    (figure,) = Measurer(seer, places=places).measure(benchmark).figures
    cosine = [
        round(float(np.dot(*seer.embed_text([a, b], None, batch_size=2))), 6) for a, b, _ in rows
    ]
    assert figure.value == pytest.approx(spearmanr(cosine, [s for *_, s in rows]).statistic)
    assert figure.low < figure.value < figure.high


def test_learned_classes_come_from_the_training_part(tmp_path, places, classes_file, seer):
    folders(tmp_path)
    learned = colours(classes_file, learned=(Learned(),), train=(ClassFolders(paths=("train",)),))
    absent = Measurer(seer, places=places, languages=("ko",)).measure(learned)
    assert absent.skipped == dict.fromkeys(
        ("linear_probe", "knn"), "its training part is not there"
    )
    for place, key in enumerate(KEYS):
        for n in range(4):
            colour = tuple(min(255, channel + n + 1) for channel in COLOURS[key][1])
            # Named as images of the test part, which are others all the same.
            write_image(tmp_path / f"train/{KEYS[place - 1]}/{key}{n}.jpg", colour)
    measured = Measurer(seer, places=places, languages=("ko",)).measure(learned)
    found = {one.task: one.value for one in measured.figures if one.metric == "top1"}
    # It learns the names as the training part has them: each colour's neighbour.
    assert found["zero_shot"] == 1
    assert found["linear_probe"] == found["knn"] == 0


def test_what_is_measured_is_kept(tmp_path, places, classes_file, seer, monkeypatch):
    monkeypatch.setattr(suites, "_about", lambda model: ABOUT)
    folders(tmp_path)
    wanted = suites.Wanted(benchmarks=(colours(classes_file),), languages=("ko",))
    kept = tmp_path / "kept"
    first = suites.run("seer", seer, wanted, places=places, kept=kept)
    calls = seer.calls
    again = suites.run("seer", seer, wanted, places=places, kept=kept)
    assert again.measured == first.measured
    assert seer.calls == calls
    fewer = dataclasses.replace(wanted, limit=6)
    found = suites.run("seer", seer, fewer, places=places, kept=kept)
    assert found.measured["colours"].images == 6


def test_a_damaged_benchmark_costs_no_other(tmp_path, places, classes_file, seer, monkeypatch):
    monkeypatch.setattr(suites, "_about", lambda model: ABOUT)
    folders(tmp_path)
    broken = captioned(tmp_path)
    (tmp_path / "clothes.tar").write_bytes((tmp_path / "clothes.tar").read_bytes()[:3000])
    absent = dataclasses.replace(
        colours(classes_file),
        name="elsewhere",
        title="Elsewhere",
        forms=(ClassFolders(paths=("x",)),),
    )
    suite = (broken, colours(classes_file), absent)
    results = [
        suites.run(title, seer, suites.Wanted(benchmarks=suite, languages=("ko",)), places=places)
        for title in ("one", "other")
    ]
    assert set(results[0].measured) == {"colours"}
    assert "truncated tar" in results[0].failed["clothes"]
    written = page.write(tmp_path / "page", results, suite, about={"command": "kmm eval"})
    text = written[2].read_text("utf-8")
    assert "| Colours | Korean | top 1 | 30 | 16.7 | 100.0 (88.4 to 100.0)" in text
    assert "| Elsewhere | nowhere | Apache-2.0 | x, with CLASS/IMAGE |" in text
    assert "truncated tar" in text
    assert str(tmp_path / "test") not in text  # a page is read elsewhere
    rows = list(csv.DictReader(io.StringIO(written[1].read_text("utf-8"))))
    assert [row["model"] for row in rows if row["metric"] == "top1"][:2] == ["one", "other"]
    assert json.loads(written[0].read_text("utf-8"))["about"] == {"command": "kmm eval"}
    assert written[3].read_text("utf-8").startswith("<?xml")
    assert written[4].stat().st_size > 5000


ABOUT = {
    "path": "seer",
    "hash": "seer",
    "step": None,
    "family": "clip",
    "parameters": 6,
    "image_size": 16,
    "style_tokens": False,
}


def test_unknown_names_are_refused(capsys, tmp_path):
    with pytest.raises(UserError, match="did you mean 'imagenet_v2'"):
        suites.chosen(SUITE, ["imagenet_v3"])
    for options, said in (
        (["--only", "imagenet_v3"], "no benchmark 'imagenet_v3'"),
        (["m", "--tasks", "zero-shot"], "no task 'zero-shot'"),
        (["m", "--lang", "jp"], "no language 'jp'"),
        (["m", "--data", str(tmp_path / "x")], "is none"),
        (["m", "--data", str(tmp_path)], "none of these benchmarks is there"),
        (["--data", str(tmp_path)], "at least one model"),
        (["a/m", "b/m", "--data", str(tmp_path)], "none of these benchmarks"),
    ):
        assert main(["eval", *options]) == 2
        assert said in capsys.readouterr().err


def test_the_list_says_where_to_get_what_is_missing(tmp_path, capsys):
    write_image(tmp_path / "imagenet/val/n01440764/x.JPEG", COLOURS["red"][1])
    assert main(["eval", "--list", "--data", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "imagenet: ImageNet-1k (zero_shot)\n  there: imagenet/val" in printed
    assert "klue_sts: KLUE-STS, development part (similarity)\n  not there; from" in printed


def test_a_training_part_that_comes_later_is_measured_then(
    tmp_path, places, classes_file, seer, monkeypatch
):
    monkeypatch.setattr(suites, "_about", lambda model: ABOUT)
    folders(tmp_path)
    learned = colours(classes_file, learned=(Learned(),), train=(ClassFolders(paths=("train",)),))
    wanted = suites.Wanted(benchmarks=(learned,), languages=("ko",))
    kept = tmp_path / "kept"
    before = suites.run("seer", seer, wanted, places=places, kept=kept).measured["colours"]
    assert set(before.skipped) == {"linear_probe", "knn"}
    folders(tmp_path, name="train")
    after = suites.run("seer", seer, wanted, places=places, kept=kept).measured["colours"]
    assert not after.skipped
    assert {figure.task for figure in after.figures} >= {"linear_probe", "knn"}
