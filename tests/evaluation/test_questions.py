"""Answers counted by kind and wording, and what a question gives away without its image."""

import io

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.shards import ShardWriter
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.evaluation.dataset import EvaluationData
from kmm_jax.evaluation.encoders import Encoder
from kmm_jax.evaluation.questions import (
    Answered,
    Question,
    QuestionEvaluator,
    ask_questions,
    score_answers,
)
from tests.evaluation.conftest import COLOURS, LENGTH, SIZE

NAMES = [name for name, _ in COLOURS.values()]
RGB = np.asarray([rgb for _, rgb in COLOURS.values()], np.float32)


def asked(number):
    """Colour in two wordings; the number of a third kind is in the question itself."""
    name = NAMES[number % 3]
    return [
        {"question": "무슨 색이야?", "answer": name, "kind": "color", "wording": "training"},
        {"question": "색은 뭐예요?", "answer": name, "kind": "color", "wording": "held_out"},
        {"question": f"{number}", "answer": f"{number % 2}", "kind": "odd", "wording": "training"},
    ]


def write(folder, numbers):
    with ShardWriter(folder, prefix="test") as writer:
        for number in numbers:
            buffer = io.BytesIO()
            rgb = tuple(int(value) for value in RGB[number % 3])
            Image.new("RGB", (SIZE, SIZE), rgb).save(buffer, "JPEG", quality=95)
            record = {"image_hash": f"i{number}", "questions": asked(number)}
            writer.write(record, buffer.getvalue())
    return str(folder / "test-*.tar")


class Seer:
    """Names the colour it sees, if asked in the training wording; reads numbers."""

    def __init__(self):
        self.shapes = set()

    def __call__(self, pixels, questions):
        self.shapes.add(pixels.shape)
        means = pixels.astype(np.float32).mean(axis=(1, 2))
        seen = ((means[:, None] - RGB) ** 2).sum(-1).argmin(1)
        return [
            str(int(question) % 2)
            if question.isdigit()
            else NAMES[found]
            if question == "무슨 색이야?"
            else "모름"
            for question, found in zip(questions, seen, strict=True)
        ]


def encoder(answer):
    def none(*given):
        raise AssertionError("no vectors are needed")

    return Encoder(image=none, text=none, answer=answer)


@pytest.fixture(scope="module")
def asked_shards(tmp_path_factory):
    return write(tmp_path_factory.mktemp("asked"), range(10))


@pytest.mark.parametrize("batch_size", [1, 4, 7, 64])
def test_every_question_is_asked_once_of_its_own_image_and_of_another(asked_shards, batch_size):
    seer = Seer()
    answered = ask_questions(asked_shards, encoder(seer), image_size=SIZE, batch_size=batch_size)
    assert [one.question.question for one in answered] == [
        one["question"] for number in range(10) for one in asked(number)
    ]
    assert seer.shapes == {(batch_size, SIZE, SIZE, 3)}
    for number in range(1, 10):
        colour, _, odd = answered[3 * number : 3 * number + 3]
        assert colour.given == NAMES[number % 3]
        assert colour.given_other == NAMES[(number - 1) % 3]  # of the row before
        assert odd.given == odd.given_other == str(number % 2)
    last = max(min(batch_size, 10), 2) - 1  # of the first batch: no row is before the first
    assert answered[0].given_other == NAMES[last % 3]


def test_shares_chance_and_another_images_are_counted_by_kind_and_wording(asked_shards):
    answered = ask_questions(asked_shards, encoder(Seer()), image_size=SIZE, batch_size=64)
    table = score_answers(answered, name="here")
    values = {score.name: (score.value, score.chance) for score in table.scores}
    assert values == {
        "training/all": (1, pytest.approx((4 + 5) / 20)),
        "training/all/other_image": (pytest.approx(11 / 20), pytest.approx(9 / 20)),
        "training/color": (1, 0.4),
        "training/color/other_image": (0.1, 0.4),  # the first asks the last, which is red too
        "training/odd": (1, 0.5),
        "training/odd/other_image": (1, 0.5),
        "held_out/color": (0, 0.4),
        "held_out/color/other_image": (0, 0.4),
    }
    assert table.facts == {"questions": 30}


def test_an_answer_counts_normalised_and_kinds_without_wording_stand_alone():
    found = [
        Answered(
            question=Question(question="?", answer="빨간색"), given=" 빨간색 ", given_other=""
        ),
        Answered(question=Question(question="?", answer="빨간색"), given="빨강", given_other=""),
    ]
    values = {score.name: score.value for score in score_answers(found, name="").scores}
    assert values == {"any": 0.5, "any/other_image": 0}


def test_one_image_alone_and_rows_without_questions_are_refused(tmp_path, asked_shards):
    alone = write(tmp_path / "one", [3])
    with pytest.raises(DataError, match="no other"):
        ask_questions(alone, encoder(Seer()), image_size=SIZE, batch_size=4)
    with pytest.raises(ConfigError, match="cannot answer"):
        ask_questions(asked_shards, encoder(None), image_size=SIZE, batch_size=4)


def test_the_evaluator_asks_through_the_loops_functions(asked_shards, tmp_path, tokenizer, data):
    tokenizer.save(tmp_path / "tokenizer")
    given = EvaluationData(
        source=asked_shards,
        tokenizer=str(tmp_path / "tokenizer"),
        image_size=SIZE,
        text_length=LENGTH,
        batch_size=4,
    )
    evaluator = QuestionEvaluator(data=given)
    evaluator.check()
    with pytest.raises(DataError, match="no record has questions"):
        QuestionEvaluator(data=data).check()

    def answer(params, batch):
        """Says what is asked back, as ids behind the prompt."""
        rows = np.zeros((len(batch["asked"]), LENGTH), np.int32)
        for row, prompt in zip(rows, batch["asked"], strict=True):
            said = prompt[prompt > 6].tolist()
            ids = [*prompt[prompt > 0].tolist(), *said, tokenizer.eos_id][:LENGTH]
            row[: len(ids)] = ids
        return rows

    found = dict(evaluator.run({"answer": answer}, None))
    assert found["questions/training/odd"] == 0.2  # only 0 and 1 are their own remainders
    assert found["questions/questions"] == 30
    assert list(evaluator.run({}, None)) == []
