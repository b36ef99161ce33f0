"""Questions in records, and how a batch tells an answer from its question."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kmm_jax.data.config import DataConfig, SourceConfig, batch_shapes
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.loader import Loader
from kmm_jax.data.questions import Question, questions
from kmm_jax.data.schema import parse_record, texts
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import open_source
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.text.tokenizer import Tokenizer
from tests.data.conftest import jpeg, record

LENGTH = 24
ASKED = [
    {"question": "무슨 색이야?", "answer": "빨간색", "kind": "color", "wording": "training"},
    {"question": "이게 뭐야?", "answer": "셔츠"},
]


def row(number, **more):
    return record(number, questions=ASKED, **more)


@pytest.fixture(scope="module")
def tokenizer():
    said = [part for one in ASKED for part in (one["question"], one["answer"])]
    return Tokenizer.train([*said, *(record(i)["title"] for i in range(12))] * 3, vocab_size=420)


@pytest.fixture
def shards(tmp_path):
    with ShardWriter(tmp_path / "asked", prefix="train") as writer:
        for number in range(12):
            writer.write(row(number), jpeg(number))
    return str(tmp_path / "asked" / "train-*.tar")


def config(url, **more):
    return DataConfig(
        sources=(SourceConfig(url=url),), image_size=16, text_length=LENGTH, threads=1, **more
    )


def spoken(tokenizer, text_L):
    """(question, answer) of a sequence, split at the tokens that stand for it."""
    ids = text_L.tolist()
    assert ids[:2] == [1, 5]
    middle, end = ids.index(4), ids.index(2)
    assert not any(ids[end + 1 :])
    return tokenizer.decode(ids[2:middle]), tokenizer.decode(ids[middle + 1 : end])


def test_a_records_questions_are_read_with_what_they_are_called():
    found = questions(parse_record(json.dumps(row(0)).encode()))
    assert found == [
        Question(question="무슨 색이야?", answer="빨간색", kind="color", wording="training"),
        Question(question="이게 뭐야?", answer="셔츠", kind="any", wording=""),
    ]
    assert questions(record(0)) == []


def test_a_question_alone_makes_a_record_and_is_no_text_of_it():
    bare = {"image_hash": "a", "questions": ASKED}
    assert texts(parse_record(json.dumps(bare).encode())) == []
    with pytest.raises(DataError, match="no text"):
        parse_record(json.dumps({"image_hash": "a", "questions": []}).encode())


@pytest.mark.parametrize(
    "value",
    [
        "무슨 색이야?",
        [{"question": "무슨 색이야?"}],
        [{"question": " ", "answer": "빨간색"}],
        [{"question": "무슨 색이야?", "answer": ""}],
        [{"question": "몇 개야?", "answer": 3}],
        [{"question": "몇 개야?", "answer": "셋", "kind": 1}],
        [["무슨 색이야?", "빨간색"]],
    ],
)
def test_a_question_of_another_form_is_refused_by_name(value):
    with pytest.raises(DataError, match="questions must be a list"):
        parse_record(json.dumps(row(0) | {"questions": value}).encode())


def test_a_batch_of_questions_marks_the_answer_and_its_end_alone(shards, tokenizer):
    given = config(shards, fields=(("questions", 1.0),))
    loader = Loader(given, tokenizer, global_batch_size=12)
    batch = loader.batch(0)
    shapes = {name: (value.shape, value.dtype.name) for name, value in batch.items()}
    assert shapes == batch_shapes(given, 12)
    true = {one["question"]: one["answer"] for one in ASKED}
    met = set()
    for text_L, target_L in zip(batch["text"], batch["target"], strict=True):
        question, answer = spoken(tokenizer, text_L)
        assert answer == true[question]
        met.add(question)
        marked = text_L[target_L].tolist()
        assert marked == [*tokenizer.encode(answer), 2]
        assert np.flatnonzero(target_L)[0] == text_L.tolist().index(4) + 1
    assert met == set(true)


def test_texts_beside_questions_are_wholly_targets(shards, tokenizer):
    given = config(shards, fields=(("questions", 1.0), ("title", 1.0)))
    batch = Loader(given, tokenizer, global_batch_size=24).batch(0)
    asked_B = batch["text"][:, 1] == 5
    assert 0 < asked_B.sum() < 24
    assert batch["target"][~asked_B].all()
    assert not batch["target"][asked_B].all(axis=1).any()


def test_a_batch_without_questions_is_what_it_was(shards, tokenizer):
    batch = Loader(config(shards), tokenizer, global_batch_size=4).batch(0)
    assert set(batch) == {"image", "text", "valid"}


def test_an_evaluation_batch_takes_the_first_question(shards, tokenizer):
    given = config(shards, fields=(("questions", 1.0),))
    (batch,) = evaluation_batches(open_source(shards), given, 12, tokenizer=tokenizer)
    assert {spoken(tokenizer, text_L) for text_L in batch["text"]} == {("무슨 색이야?", "빨간색")}
    assert batch["target"].sum(axis=1).tolist() == [len(tokenizer.encode("빨간색")) + 1] * 12


def test_rows_without_the_questions_asked_for_are_bad(tmp_path, tokenizer):
    with ShardWriter(tmp_path / "plain", prefix="train") as writer:
        for number in range(4):
            writer.write(record(number), jpeg(number))
    given = config(str(tmp_path / "plain"), fields=(("questions", 1.0),))
    with pytest.raises(DataError, match="no text in questions"):
        Loader(given, tokenizer, global_batch_size=4)


def test_a_misspelt_field_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'questions'"):
        config("x", fields=(("question", 1.0),))
