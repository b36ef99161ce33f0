"""Caption metrics against pycocoevalcap, and their statistics against scores of real resamples."""

import importlib
import json
import sys

import numpy as np
import pytest

from kmm_jax.errors import ConfigError, UserError
from kmm_jax.evaluation import java_metrics
from kmm_jax.evaluation.bleu import bleu, bleu_statistics
from kmm_jax.evaluation.caption_metrics import METRICS, caption_metrics
from kmm_jax.evaluation.caption_tokens import cutter
from kmm_jax.evaluation.cider import cider_d_statistics
from kmm_jax.evaluation.english_tokens import english_tokens
from kmm_jax.evaluation.ngrams import words
from kmm_jax.evaluation.rouge import longest_common_subsequence, rouge_l_statistics
from kmm_jax.text import morphemes
from tests.evaluation.english_captions import CAPTIONS as ENGLISH
from tests.evaluation.english_captions import METEOR, METEOR_CORPUS, METEOR_STATISTICS, TOKENS
from tests.evaluation.english_captions import REFERENCES as ENGLISH_REFERENCES
from tests.evaluation.korean_captions import CAPTIONS, REFERENCES
from tools.caption_metrics import compared


def random_tokens(seed, rows=40):
    """Captions of 0 to 9 of 12 words, so that n-grams of every order are found and missed."""
    rng = np.random.default_rng(seed)
    vocabulary = np.asarray([f"w{i}" for i in range(12)])

    def text(least):
        return vocabulary[rng.integers(0, 12, rng.integers(least, 10))].tolist()

    captions = [text(0) for _ in range(rows)]
    references = [[text(1) for _ in range(rng.integers(1, 5))] for _ in range(rows)]
    for row in range(0, rows, 4):
        references[row][0] = [*captions[row], "w0"]
    return captions, references


def split_korean():
    return [words(text) for text in CAPTIONS], [[words(t) for t in texts] for texts in REFERENCES]


def unmatched():
    """No 4-gram is found, where pycocoevalcap's small numbers show."""
    return [["a", "b", "c"], ["d", "e", "x", "f", "g"]], [[["a", "b", "y"]], [["d", "e", "z"]]]


@pytest.mark.parametrize(
    "made", [split_korean, unmatched, lambda: random_tokens(0), lambda: random_tokens(1, 300)]
)
def test_corpus_and_captions_score_as_in_pycocoevalcap(made):
    captions, references = made()
    pytest.importorskip("pycocoevalcap.bleu.bleu")
    found = compared(captions, references)
    assert found.keys() == {"bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider_d"}
    for name, each in found.items():
        assert each["corpus_difference"] < 1e-9, name
        assert each["caption_difference"] < 1e-9, name


def test_where_a_match_of_each_order_there_is_the_two_bleus_are_one():
    captions, references = split_korean()
    assert bleu_statistics(captions, references)[3].corpus() == pytest.approx(
        bleu(CAPTIONS, REFERENCES), rel=1e-8
    )
    captions, references = unmatched()
    assert (
        bleu([" ".join(c) for c in captions], [[" ".join(t) for t in r] for r in references]) == 0
    )
    assert 0 < bleu_statistics(captions, references)[3].corpus() < 1e-3


def test_the_longest_common_subsequence_is_that_of_the_table_of_all_prefixes():
    rng = np.random.default_rng(2)
    for _ in range(200):
        one, other = ([str(i) for i in rng.integers(0, 5, rng.integers(0, 90))] for _ in range(2))
        lengths = np.zeros((len(one) + 1, len(other) + 1), int)
        for i, a in enumerate(one, start=1):
            for j, b in enumerate(other, start=1):
                lengths[i, j] = (
                    lengths[i - 1, j - 1] + 1
                    if a == b
                    else max(lengths[i - 1, j], lengths[i, j - 1])
                )
        assert longest_common_subsequence(one, other) == lengths[-1, -1]


def test_rouge_by_hand():
    # 가 다 라 of 4 and of 5: P = 3/4, R = 3/5.
    found = rouge_l_statistics([["가", "나", "다", "라"]], [[["가", "다", "마", "라", "바"]]])
    assert found.corpus() == pytest.approx(2.44 * 0.75 * 0.6 / (0.6 + 1.44 * 0.75))


def test_rouge_takes_precision_and_recall_of_different_references():
    found = rouge_l_statistics([["가", "나"]], [[["가", "나", "다", "라"], ["가"]]])
    assert found.corpus() == pytest.approx(1.0)
    assert rouge_l_statistics([[], ["가"]], [[["가"]], [["나"], []]]).corpus() == 0


@pytest.mark.parametrize("name", [name for name in METRICS if name != "cider_d"])
def test_a_resample_scores_what_its_captions_score_when_they_are_counted_anew(name):
    captions, references = random_tokens(3, 25)
    texts = [" ".join(tokens) for tokens in captions]
    others = [[" ".join(tokens) for tokens in each] for each in references]
    statistics = caption_metrics(texts, others, metrics=[name])[name]
    rng = np.random.default_rng(4)
    times_RN = rng.multinomial(25, [1 / 25] * 25, size=6)
    found = statistics.resampled(times_RN)
    assert found.shape == (6,)
    for times_N, score in zip(times_RN, found, strict=True):
        drawn = np.repeat(np.arange(25), times_N)
        again = caption_metrics(
            [texts[i] for i in drawn], [others[i] for i in drawn], metrics=[name]
        )
        assert score == pytest.approx(again[name].corpus(), abs=1e-12)
    assert statistics.resampled(np.ones((1, 25)))[0] == pytest.approx(statistics.corpus())


def test_a_resample_of_cider_keeps_the_weights_of_words():
    captions, references = random_tokens(5, 25)
    statistics = cider_d_statistics(captions, references)
    times_N = np.random.default_rng(6).multinomial(25, [1 / 25] * 25)
    drawn = np.repeat(np.arange(25), times_N)
    expected = statistics.captions()[drawn].mean()
    assert statistics.resampled(times_N[None])[0] == pytest.approx(expected)


def test_resamples_take_no_second_look_at_texts(monkeypatch):
    captions, references = random_tokens(7, 500)
    statistics = bleu_statistics(captions, references)[3]
    monkeypatch.setattr("kmm_jax.evaluation.bleu.ngrams", None)
    times_RN = np.random.default_rng(8).multinomial(500, [1 / 500] * 500, size=1000)
    scores_R = statistics.resampled(times_RN)
    assert abs(scores_R.mean() - statistics.corpus()) < scores_R.std() < 0.1


@pytest.mark.parametrize("text", TOKENS)
def test_english_is_cut_as_pycocoevalcap_cuts_it(text):
    assert " ".join(english_tokens(text)) == TOKENS[text]


def test_the_recorded_english_tokens_are_pycocoevalcaps():
    if java_metrics.missing("meteor"):
        pytest.skip(f"PTBTokenizer and Meteor: {java_metrics.missing('meteor')}")
    module = importlib.import_module("pycocoevalcap.tokenizer.ptbtokenizer")
    given = {i: [{"caption": text}] for i, text in enumerate(TOKENS)}
    found = module.PTBTokenizer().tokenize(given)
    assert [found[i][0] for i in range(len(TOKENS))] == list(TOKENS.values())


def java_that(tmp_path, monkeypatch, script):
    """Put a program named java, and no other, where programs are found."""
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def check_meteor():
    found = caption_metrics(ENGLISH, ENGLISH_REFERENCES, metrics=["meteor"], tokenizer="english")
    np.testing.assert_allclose(found["meteor"].captions(), METEOR, atol=1e-12)
    assert found["meteor"].corpus() == pytest.approx(METEOR_CORPUS, abs=1e-12)


def test_meteor_of_its_programs_counts_is_what_the_program_makes_of_them(monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap.bleu.bleu")
    (tmp_path / "printed").write_text(METEOR_STATISTICS)
    java_that(tmp_path, monkeypatch, f"/bin/cat > /dev/null; /bin/cat {tmp_path}/printed")
    check_meteor()


@pytest.mark.slow
def test_meteor_is_that_of_its_java_program():
    if reason := java_metrics.missing("meteor"):
        pytest.skip(f"meteor {reason}")
    check_meteor()


def spice_that_writes(tmp_path, monkeypatch, scores):
    """The models of Stanford are too large to come along: a program that answers in their stead."""
    pytest.importorskip("pycocoevalcap.bleu.bleu")
    monkeypatch.setattr(java_metrics, "_SPICE_MODELS", ())
    rows = [{"image_id": i, "scores": {"All": {"f": f}}} for i, f in scores]
    (tmp_path / "written").write_text(json.dumps(rows))
    java_that(
        tmp_path, monkeypatch, f'/bin/cp "$4" {tmp_path}/given; /bin/cp {tmp_path}/written "$6"'
    )


def test_spice_is_given_every_caption_and_its_f_is_taken(monkeypatch, tmp_path):
    spice_that_writes(tmp_path, monkeypatch, [(1, 0.5), (0, 0.25)])
    found = java_metrics.java_statistics("spice", [["a", "dog"], []], [[["dogs"]], [["a"], ["b"]]])
    assert found.captions().tolist() == [0.25, 0.5] and found.corpus() == 0.375
    assert json.loads((tmp_path / "given").read_text()) == [
        {"image_id": 0, "test": "a dog", "refs": ["dogs"]},
        {"image_id": 1, "test": "", "refs": ["a", "b"]},
    ]


def test_a_spice_that_leaves_captions_out_is_refused(monkeypatch, tmp_path):
    spice_that_writes(tmp_path, monkeypatch, [(1, 0.5)])
    with pytest.raises(UserError, match="scored 1 of 2 captions"):
        java_metrics.java_statistics("spice", [["a"], ["b"]], [[["a"]], [["b"]]])


def test_spice_without_its_models_says_where_they_belong():
    if java_metrics.missing("meteor"):
        pytest.skip(f"spice {java_metrics.missing('meteor')}")
    reason = java_metrics.missing("spice")
    assert reason is None or ("stanford-corenlp-3.6.0.jar" in reason and "spice/lib" in reason)


def test_morphemes_part_a_word_from_its_particle():
    pytest.importorskip("kiwipiepy")
    cut = cutter("morphemes")
    assert cut.cut(["셔츠를 찍은 사진!", "Nike 셔츠", ""]) == [
        ["셔츠", "를", "찍", "은", "사진"],
        ["nike", "셔츠"],
        [],
    ]
    assert "kiwipiepy" in cut.says
    one = caption_metrics(["빨간 셔츠를"], [["빨간 셔츠가"]], tokenizer="morphemes")
    whole = caption_metrics(["빨간 셔츠를"], [["빨간 셔츠가"]])
    assert one["rouge_l"].corpus() > whole["rouge_l"].corpus()


def test_a_name_of_several_words_is_several_tokens():
    """The analyser knows 안드로메다 은하 as one form; joined by spaces it would be two tokens."""
    pytest.importorskip("kiwipiepy")
    (tokens,) = cutter("morphemes").cut(["안드로메다 은하를 찍은 사진"])
    assert " ".join(tokens).split() == tokens
    assert {"안드로메다", "은하"} <= set(tokens)


def test_morphemes_without_the_analyser_are_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    morphemes.analyser.cache_clear()
    with pytest.raises(UserError, match=r"kmm-jax\[korean\]") as refused:
        cutter("morphemes")
    assert "\n" not in str(refused.value)


def test_unknown_names_and_meteor_of_korean_are_refused():
    with pytest.raises(ConfigError, match="did you mean 'bleu4'"):
        caption_metrics(CAPTIONS, REFERENCES, metrics=["bleu44"])
    with pytest.raises(ConfigError, match="no tokenizer of captions 'word'"):
        caption_metrics(CAPTIONS, REFERENCES, tokenizer="word")
    with pytest.raises(ConfigError, match="English alone"):
        caption_metrics(CAPTIONS, REFERENCES, metrics=["meteor"])


def test_without_java_meteor_says_what_it_needs(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert java_metrics.missing("meteor") == java_metrics.missing("spice") == "needs Java"
    with pytest.raises(UserError, match="meteor cannot be measured: it needs Java"):
        java_metrics.java_statistics("meteor", [["a"]], [[["a"]]])


@pytest.mark.parametrize(
    "printed",
    ["echo first >&2; echo 'no memory' >&2", "echo 'OutOfMemoryError: no memory' >&2; echo at >&2"],
)
def test_a_java_that_fails_is_said_in_its_own_words(monkeypatch, tmp_path, printed):
    pytest.importorskip("pycocoevalcap.bleu.bleu")
    java_that(tmp_path, monkeypatch, f"{printed}; exit 3")
    with pytest.raises(UserError, match=r"failed with code 3: .*no memory"):
        java_metrics.java_statistics("meteor", [["a"]], [[["a"]]])
