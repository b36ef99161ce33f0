"""BLEU, CIDEr-D and chrF against other libraries' figures and against sums by hand."""

import math

import pytest

from kmm_jax.evaluation.bleu import bleu
from kmm_jax.evaluation.chrf import chrf
from kmm_jax.evaluation.cider import cider_d
from kmm_jax.evaluation.ngrams import words
from tests.evaluation.korean_captions import BLEU4, CAPTIONS, CHRF, CIDER_D, REFERENCES


def test_they_equal_published_implementations():
    # pycocoevalcap adds 1e-15 and 1e-9 inside its BLEU ratios.
    assert bleu(CAPTIONS, REFERENCES) == pytest.approx(BLEU4, rel=1e-9)
    assert cider_d(CAPTIONS, REFERENCES) == pytest.approx(CIDER_D, rel=1e-12)
    assert chrf(CAPTIONS, REFERENCES) == pytest.approx(CHRF, rel=1e-12)


@pytest.mark.parametrize(("metric", "best"), [(bleu, 1), (chrf, 1)])
def test_a_reference_itself_scores_best_and_another_script_nothing(metric, best):
    first = [texts[0] for texts in REFERENCES if len(words(texts[0])) > 3]
    assert metric(first, [[text] for text in first]) == pytest.approx(best)
    assert metric(["abcdefgh"] * len(first), [[text] for text in first]) == 0


def test_cider_of_a_reference_itself_is_10_where_all_its_words_are_its_own():
    texts = ["빨간 체크 셔츠 사진", "파란 줄무늬 원피스 그림"]
    assert cider_d(texts, [[text] for text in texts]) == pytest.approx(10)


def test_bleu_by_hand():
    # "가 나 다 라 마" against "가 나 다 라 바 사": precisions 4/5, 3/4, 2/3, 1/2; 5 words for 6.
    expected = math.exp(1 - 6 / 5) * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert bleu(["가 나 다 라 마"], [["가 나 다 라 바 사"]]) == pytest.approx(expected)


def test_bleu_clips_a_word_said_again_and_again():
    # The paper's own example (section 2.1): "the" seven times is right twice.
    assert bleu(["the " * 7], [["the cat is on the mat"]], order=1) == pytest.approx(2 / 7)


def test_bleu_takes_the_nearest_length_and_of_two_the_shorter():
    # 4 words; references of 3 and 5 are equally near: 3 counts, so there is no brevity penalty.
    score = bleu(["가 나 다 라"], [["가 나 다", "가 나 다 라 마"]], order=1)
    assert score == pytest.approx(1.0)


def test_bleu_is_over_the_corpus_and_no_mean_of_sentences():
    captions, references = ["가 나", "다 라 마 바"], [["가 나"], ["사 아 자 차"]]
    assert bleu(captions, references, order=1) == pytest.approx(2 / 6)


def test_cider_by_hand():
    # Two images. Idf of a word in one image's references is log 2, of one in both 0.
    # Caption 1 "빨간 셔츠" against "빨간 바지": unigrams share 빨간 only, bigrams none. 셔츠, in
    # no reference, weighs log 2 as well, like a word that is in one.
    expected_1 = 10 * (math.log(2) ** 2) / (2 * math.log(2) ** 2) / 4
    # Caption 2 "파란 모자" against itself in 3 words: lengths differ by 1.
    near = math.exp(-1 / 72)
    unigram = 2 / (math.sqrt(2) * math.sqrt(3))
    bigram = 1 / math.sqrt(2)
    expected_2 = 10 * near * (unigram + bigram) / 4
    found = cider_d(["빨간 셔츠", "파란 모자"], [["빨간 바지"], ["파란 모자 하나"]])
    assert found == pytest.approx((expected_1 + expected_2) / 2)


def test_chrf_by_hand():
    # "가나다" and "가나라": unigrams 2 of 3, bigrams 1 of 2, trigrams 0 of 1; P = R = F.
    assert chrf(["가나다"], [["가나라"]]) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_chrf_is_blind_to_spacing_and_half_blind_to_endings():
    reference = [["빨간 셔츠를 찍은 사진"]]
    assert chrf(["빨간셔츠를 찍은사진"], reference) == 1
    assert bleu(["빨간셔츠를 찍은사진"], reference) == 0
    ending, garment = chrf(["빨간 셔츠 찍은 사진"], reference), chrf(["빨간 원피스"], reference)
    assert garment < ending < 1


def test_words_are_normalised_and_freed_of_punctuation():
    assert words("[특가] 나이키, Air-MAX 1.5인치(검정)!!") == [
        "특가", "나이키", "air", "max", "1.5", "인치", "검정",
    ]  # fmt: skip
    assert words("\u1112\u1161\u11ab글") == ["한글"]


@pytest.mark.parametrize("metric", [bleu, cider_d, chrf])
def test_empty_captions_score_nothing(metric):
    assert metric(["", "!"], [["빨간 셔츠"], ["파란 바지"]]) == 0
