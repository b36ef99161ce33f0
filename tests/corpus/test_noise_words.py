"""Words whose pictures agree no more than chance are proposed, and no others."""

import collections
import csv
import io
from random import Random

import fsspec
import numpy as np
import pytest
from PIL import Image

import kmm_jax.inference
from kmm_jax.cli import main
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.noise import counting
from kmm_jax.corpus.noise.agreement import Sums, agreement
from kmm_jax.corpus.noise.judge import judge
from kmm_jax.corpus.noise.propose import propose
from kmm_jax.corpus.noise.report import _picture
from kmm_jax.corpus.noise.stream import Shards, digest
from kmm_jax.corpus.noise.vectors import ModelVectors, StoredVectors
from kmm_jax.corpus.noise.words import Stemmer, of_record, phrase, stems, tokens
from kmm_jax.corpus.text import clean
from kmm_jax.data.shards import ShardWriter
from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import export_embeddings
from kmm_jax.training.config_file import load_config

GARMENTS = ("원피스", "셔츠", "치마", "모자", "가방", "신발")
NOISE = ("날씨", "시간표", "맞춤법")
DIM = 16


def jpeg(rgb):
    content = io.BytesIO()
    Image.new("RGB", (24, 24), tuple(int(value) for value in rgb)).save(content, "JPEG")
    return content.getvalue()


def rows_of(count, seed=0):
    """(record, garment) of a shop in which 추천 stands beside any garment, and noise alone."""
    rng = Random(seed)
    for number in range(count):
        garment = rng.choice(GARMENTS)
        queries = [garment, f"{garment}를 위한 추천" if rng.random() < 0.5 else f"예쁜 {garment}"]
        queries += [f"오늘 {word}" if rng.random() < 0.5 else word
                    for word in NOISE if rng.random() < 0.15]  # fmt: skip
        yield (
            {"image_hash": f"h{number:05d}", "query": queries, "title": f"{garment} 신상"},
            garment,
        )


def write_shop(folder, count=600):
    """Shards and embeddings in which garments are clusters."""
    rows = list(rows_of(count))
    with ShardWriter(folder / "shards", shard_rows=200) as writer:
        for record, garment in rows:
            writer.write(record, jpeg(_colour(garment)))
    write_embeddings(folder / "embeddings", [record["image_hash"] for record, _ in rows],
                     [GARMENTS.index(garment) for _, garment in rows])  # fmt: skip


def write_embeddings(folder, ids, clusters, kind="image"):
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(len(GARMENTS), DIM))
    vectors = centres[clusters] + rng.normal(size=(len(ids), DIM))

    def compute(start, stop):
        return ids[start:stop], vectors[start:stop]

    export_embeddings(
        folder,
        rows=len(ids),
        part_rows=128,
        compute=compute,
        kind=kind,
        model_hash="m",
        dim=DIM,
    )


def _colour(garment):
    return np.random.default_rng(GARMENTS.index(garment)).integers(0, 256, 3)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    write_shop(folder)
    return folder


def found_in(shop, **options):
    options = {"least_count": 30, **options}
    return propose(Shards(str(shop / "shards")), StoredVectors(shop / "embeddings"), **options)


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_noise_comes_first_and_what_goes_with_a_garment_does_not(shop):
    found = found_in(shop)
    words = [one.word for one in found.words_found]
    assert set(words[:4]) == {*NOISE, "오늘"}  # 오늘 stands beside noise alone
    assert not set(words) & set(GARMENTS)
    by_word = {one.word: one for one in found.words_found}
    for word in NOISE:
        assert by_word[word].noise > 0.5 and by_word[word].alone > 0.95
        assert abs(by_word[word].z) < 4 and len(by_word[word].examples) == 12
        assert all(word in each.text for each in by_word[word].examples)
    # As random as noise, yet another word of each of its texts explains the picture.
    assert "추천" not in words and "신상" not in words
    assert found.pictures == 600 and found.without_vector == found.bad == found.missed_below == 0


def test_agreement_from_sums_is_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    vectors_ND = rng.normal(size=(30, 5)) + 0.5
    vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    cosines = vectors_ND @ vectors_ND.T
    expected = cosines[~np.eye(30, dtype=bool)].mean()
    found = agreement(vectors_ND.sum(axis=0, keepdims=True), np.array([30]))
    assert found == pytest.approx([expected])


def test_random_sets_deviate_as_is_said_of_them():
    rng = np.random.default_rng(0)
    vectors_ND = rng.normal(size=(3000, 6)) * [3, 2, 1, 1, 1, 1] + [1, 0, 0, 0, 0, 0]
    vectors_ND = (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)
    sums = Sums(0, 6)
    sums.add_pictures(rng.permutation(3000).astype(np.uint64), vectors_ND)
    chance = sums.chance()
    for size in (5, 40, 600):
        drawn = [vectors_ND[rng.choice(3000, size, replace=False)].sum(axis=0)
                 for _ in range(600)]  # fmt: skip
        z = (agreement(np.stack(drawn), np.full(600, size)) - chance.mean) / chance.deviation(
            np.array([size])
        )
        assert abs(z.mean()) < 0.15 and 0.9 < z.std() < 1.1, size
    assert chance.deviation(np.array([3000])) == 0


def test_a_word_on_every_picture_is_as_random_as_can_be():
    rng = np.random.default_rng(0)
    vectors_ND = rng.normal(size=(3000, 6)) + 0.5
    vectors_ND = (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)
    sums = Sums(2, 6)
    sums.add_pictures(rng.permutation(3000).astype(np.uint64), vectors_ND)
    for first in range(0, 3000, 500):
        words = [[0, 1] if number % 2 else [0] for number in range(500)]
        sums.add_words(words, vectors_ND[first : first + 500])
    z_V = judge(sums, 30, None, ["모든", "절반"]).z_V
    assert z_V[0] == 0 and 0 < abs(z_V[1]) < 4


def test_sums_in_batches_are_sums_one_by_one():
    rng = np.random.default_rng(0)
    vectors_ND = rng.normal(size=(50, 4)).astype(np.float32)
    words = [sorted(rng.choice(7, rng.integers(0, 4), replace=False).tolist()) for _ in range(50)]
    sums = Sums(7, 4)
    for start in range(0, 50, 16):
        sums.add_words(words[start : start + 16], vectors_ND[start : start + 16])
    for word in range(7):
        own = [row for row in range(50) if word in words[row]]
        assert sums.counts_V[word] == len(own)
        assert np.allclose(sums.sums_VD[word], vectors_ND[own].sum(axis=0), atol=1e-5)


def test_a_picture_in_several_rows_counts_once(shop, tmp_path):
    rows = list(rows_of(600))
    with ShardWriter(tmp_path / "shards", shard_rows=600) as writer:
        for record, garment in rows:  # its queries here, its title in another shard
            writer.write({**record, "title": None}, jpeg(_colour(garment)))
        for record, garment in rows:
            writer.write(record, jpeg(_colour(garment)))
    stored = StoredVectors(shop / "embeddings")
    twice = propose(Shards(str(tmp_path / "shards")), stored, least_count=30)
    once = found_in(shop)
    assert twice.pictures == once.pictures and twice.words == once.words
    assert [(one.word, one.pictures, one.agreement, one.alone) for one in twice.words_found] == [
        (one.word, one.pictures, pytest.approx(one.agreement), pytest.approx(one.alone))
        for one in once.words_found
    ]


def test_counting_holds_few_words_and_says_below_what_it_may_have_missed_some(shop, monkeypatch):
    def counted(most):
        return counting.count(
            Shards(str(shop / "shards")), least=30, most_words=most, progress=lambda _: None
        )

    held = []
    prune = counting._prune
    monkeypatch.setattr(
        counting, "_prune", lambda counts, most: held.append(len(counts)) or prune(counts, most)
    )
    whole = counted(1000)
    assert not held and whole.missed_below == 0 and whole.rows == 600
    exact = collections.Counter(
        word
        for record, _ in rows_of(600)
        for word in set(counting.words_of(of_record(record), whole.stemmer))
    )
    assert set(whole.ids) == {word for word, number in exact.items() if number >= 30}
    for most in (20, 10, 5):
        held.clear()
        found = counted(most)
        assert held and max(held) < 2 * most + 20  # one row's words beyond the limit, at most
        assert found.missed_below > 0
        sure = {word for word, number in exact.items() if number > found.missed_below}
        assert sure <= set(found.ids) and len(found.ids) <= most
    assert found_in(shop, most_words=20).missed_below >= 30 and found_in(shop).missed_below == 0


def test_shards_behind_a_url_give_the_same(shop):
    memory = fsspec.filesystem("memory")
    for path in (shop / "shards").iterdir():
        memory.pipe_file(f"/noise/{path.name}", path.read_bytes())
    stored = StoredVectors(shop / "embeddings")
    found = propose(Shards("memory://noise/train-*.tar"), stored, least_count=30)
    memory.rm("/noise", recursive=True)
    assert found == found_in(shop)


def test_tokens_lose_particles_only_where_the_rest_is_a_word():
    assert tokens("[당일] 로또를 1153회 사는 H라인 12 셔_츠 a") == [
        "당일",
        "로또를",
        "1153회",
        "사는",
        "h라인",
    ]
    assert phrase(["코로나", "확진자"]) == "코로나 확진자"
    assert phrase(["로또"]) is None and phrase(["빨간", "체크", "여름", "셔츠"]) is None
    assert list(stems("원피스를")) == ["원피스"] and list(stems("학교에서는")) == [
        "학교",
        "학교에서",
    ]
    for whole in ("주가", "포도", "가방가", "셔츠은", "결과", "h를"):
        assert not list(stems(whole)), whole
    assert list(stems("서울로")) == ["서울"] and "가방" in stems("가방으로")
    counts = {"확진자": 9, "확진자가": 2, "세계지도": 5, "만화가": 7, "만화": 3}
    stemmer = Stemmer(counts)
    assert stemmer.stem("확진자가") == stemmer.stem("확진자는") == "확진자"
    assert stemmer.stem("세계지도") == "세계지도" and stemmer.stem("만화가") == "만화가"


def test_the_command_writes_a_table_and_a_page_and_its_words_can_be_used(shop, tmp_path, capsys):
    output, sheet, known = (tmp_path / name for name in ("found.tsv", "sheet.html", "known.txt"))
    words = ["corpus", "noise-words", str(shop / "shards"), "--output", str(output)]
    words += ["--embeddings", str(shop / "embeddings"), "--least-count", "30"]
    assert main([*words, "--sheet", str(sheet)]) == 0
    shown = capsys.readouterr().out
    assert f"{output}: " in shown and "text_rules.noise_topic_lists=" in shown
    rows = table(output)
    assert {row["word"] for row in rows} >= set(NOISE)
    noise = [float(row["noise"]) for row in rows]
    assert noise == sorted(noise, reverse=True) and rows[0]["similarity"] == ""
    assert all(len(row["examples"].split(",")) == 3 for row in rows)
    page = sheet.read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 12 * len(rows) and "날씨" in page
    # What a person took over is known from then on, and a build rejects it.
    known.write_text("|날씨|\n|시간표|  # judged\n", "utf-8")
    (tmp_path / "fine.txt").write_text("오늘\n", "utf-8")
    more = ["--noise-topic-list", str(known), "--allow-list", str(tmp_path / "fine.txt")]
    assert main([*words, *more, "--most", "1"]) == 0
    assert [row["word"] for row in table(output)] == ["맞춤법"]
    override = f"text_rules.noise_topic_lists={known}"
    config = load_config("corpus/tables", [override], function="corpus", kind=CorpusConfig)
    assert clean("내일 날씨는", config.text_rules).reasons == ("noise_topic",)


class ColourModel:
    """Embeds the colour of a picture, and a garment's word as its colour."""

    image_size, embedding, hash = 16, 3, "colour"

    def embed_image(self, images, *, batch_size):
        assert len(images) and images[0].shape == (16, 16, 3)
        return self._unit(np.array([image.reshape(-1, 3).mean(axis=0) for image in images]))

    def embed_text(self, texts):
        known = [next((g for g in GARMENTS if g in text), None) for text in texts]
        return self._unit(np.array([[128, 128, 90] if g is None else _colour(g) for g in known]))

    @staticmethod
    def _unit(rows):
        rows = rows - 110.0
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_model_embeds_pictures_and_words(shop, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: ColourModel())
    words = ["corpus", "noise-words", str(shop / "shards"), "--output", str(tmp_path / "found.tsv")]
    words += ["--model", "colour", "--least-count", "30"]
    assert main(words) == 0
    alone = {row["word"]: float(row["noise"]) for row in table(tmp_path / "found.tsv")}
    assert main([*words, "--similarity"]) == 0
    rows = table(tmp_path / "found.tsv")
    assert {row["word"] for row in rows} == set(alone) and set(NOISE) <= set(alone)
    assert all(float(row["noise"]) <= alone[row["word"]] for row in rows)
    assert all(abs(float(row["similarity"])) < 0.2 for row in rows if row["word"] in NOISE)
    assert main([*words, "--similarity", "--embeddings", str(shop / "embeddings")]) == 2
    assert "of another model" in capsys.readouterr().err


def test_a_picture_that_cannot_be_decoded_is_left_out_and_counted(tmp_path):
    rows = list(rows_of(80))
    with ShardWriter(tmp_path) as writer:
        for number, (record, garment) in enumerate(rows):
            writer.write(record, b"no picture" if number < 3 else jpeg(_colour(garment)))
    shards = Shards(str(tmp_path))
    found = propose(shards, ModelVectors(ColourModel()), least_count=5)
    assert (found.pictures, found.without_vector) == (77, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_held_small_for_the_page(kind):
    content = io.BytesIO()
    Image.new("RGB", (1200, 900), (9, 99, 199)).save(content, kind)
    assert _picture(content.getvalue()).size == (320, 240)
    assert _picture(b"no picture") is None


def test_mistakes_are_told_before_or_instead_of_a_table(shop, tmp_path, capsys):
    def command(shards, *words):
        output = ["--output", str(tmp_path / "found.tsv")]
        return main(["corpus", "noise-words", str(shards), *output, *map(str, words)])

    stored = ("--embeddings", shop / "embeddings")
    write_embeddings(tmp_path / "texts", ["a", "b"], [0, 1], kind="text")
    write_embeddings(tmp_path / "others", ["a", "b"], [0, 1])
    whole = (shop / "shards/train-000.tar").read_bytes()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/train-000.tar").write_bytes(whole[: len(whole) // 2])
    for words, said in (
        ((shop / "shards",), "--embeddings FOLDER, or --model PATH"),
        ((shop / "shards", *stored, "--similarity"), "--similarity needs the model"),
        ((shop / "shards", "--embeddings", tmp_path / "none"), "holds no embeddings"),
        ((shop / "shards", "--embeddings", tmp_path / "texts"), "embeddings of texts"),
        ((shop / "shards", "--embeddings", tmp_path / "others"), "0 of 600 pictures have a vector"),
        ((shop / "shards", *stored, "--least-count", 1), "least_count must be at least 2"),
        ((tmp_path / "cut", *stored), "truncated tar"),
        ((tmp_path / "nowhere", *stored), "no such shard or folder"),
        ((shop / "shards", *stored, "--allow-list", tmp_path / "none"), "cannot be read"),
    ):
        assert command(*words) == 2, said
        assert said in capsys.readouterr().err
    assert not (tmp_path / "found.tsv").exists()
    with pytest.raises(UserError, match="most must be"):
        found_in(shop, most=0)


def test_rows_that_cannot_be_read_are_counted_and_a_set_of_them_refused(tmp_path):
    from tests.data.conftest import write_tar

    members = [("a.jpg", jpeg((1, 2, 3))), ("a.json", b"no JSON"), ("b.jpg", b"alone")]
    write_tar(tmp_path / "train-000.tar", members, 1)
    with pytest.raises(DataError, match=r"no good row in 1 shards \(2 bad ones\)"):
        propose(Shards(str(tmp_path)), ModelVectors(ColourModel()))


def test_digests_do_not_depend_on_the_process():
    assert digest("h00001") == 12794682581274143474
