"""Captions of a set against its texts and labels."""

import dataclasses

import numpy as np
import pytest

from kmm_jax.errors import ConfigError
from kmm_jax.evaluation.captions import CaptionEvaluator, Mention, score_captions, score_texts
from kmm_jax.evaluation.classes import Classes
from kmm_jax.evaluation.dataset import read_set
from tests.evaluation.conftest import BATCH, KEYS, NAMES, ROWS, SIZE

COLOUR = Mention(
    label="color", classes=Classes(name="colours", keys=KEYS, names=NAMES, templates=("{name}",))
)


def read(shards, encoder, styles=("prompt",)):
    return read_set(
        shards, encoder, image_size=SIZE, batch_size=BATCH, caption_styles=styles, vectors=False
    )


def values(table):
    return {score.name: (score.value, score.chance) for score in table.scores}


def test_the_protocol_names_the_tokenizer_and_what_was_not_measured(shards, encoder, monkeypatch):
    rows = read(shards, encoder)
    assert "tokenizer words" in score_captions(rows, field="caption").protocol
    monkeypatch.setenv("PATH", "")
    metrics = ("bleu4", "meteor", "spice")
    table = score_captions(rows, field="caption", metrics=metrics, tokenizer="english")
    assert "tokenizer english" in table.protocol
    assert "meteor: not measured: needs Java. spice: not measured: needs Java." in table.protocol
    assert list(values(table)) == ["prompt/bleu4"]


def test_right_captions_score_full_marks_and_chance_less(shards, encoder):
    table = score_captions(read(shards, encoder), field="caption", mentions=(COLOUR,))
    found = values(table)
    assert found["prompt/bleu4"][0] == pytest.approx(1)
    assert found["prompt/chrf"][0] == pytest.approx(1)
    assert found["prompt/exact"][0] == 1
    assert found["prompt/mentions_color"][0] == 1
    assert all(chance < value for value, chance in found.values())
    assert table.facts == {"images": ROWS}


def test_what_follows_eos_and_the_prompt_are_no_part_of_a_caption(shards, encoder):
    rows = read(shards, encoder, styles=("prompt", None))
    assert rows.captions["prompt"][0] == rows.captions[None][0] == "빨간색 옷을 찍은 사진"
    assert len(rows.captions["prompt"]) == ROWS


def test_captions_that_name_the_wrong_colour_are_told_from_right_ones(shards, encoder):
    rows = read(shards, encoder)
    turned = rows.captions["prompt"][1:] + rows.captions["prompt"][:1]
    wrong = dataclasses.replace(rows, captions={"prompt": turned})
    found = values(score_captions(wrong, field="caption", mentions=(COLOUR,)))
    # Rows go through the colours in turn, so a turned caption is always of another colour, but for
    # the last row, which has no label, and the first again after it.
    assert found["prompt/mentions_color"][0] == 0
    assert found["prompt/exact"][0] == 0


def test_rows_without_a_reference_are_left_out(shards, encoder):
    rows = read(shards, encoder)
    bare = dataclasses.replace(rows.rows[0], texts={"query": ("옷",)})
    table = score_captions(dataclasses.replace(rows, rows=(bare, *rows.rows[1:])), field="caption")
    assert table.facts == {"images": ROWS - 1}
    assert "1 without a caption left out" in table.protocol


def test_the_evaluator_captions_each_style(data, eye):
    evaluator = CaptionEvaluator(data=data, styles=("prompt", "shopping"), mentions=(COLOUR,))
    found = dict(evaluator.run(eye.functions(), np.float32(1)))
    assert found["captions/prompt/bleu4"] == found["captions/shopping/bleu4"] == pytest.approx(1)
    assert found["captions/prompt/chance_exact"] < 1
    assert not eye.shapes["image"]  # no vectors were asked for


def test_the_evaluator_yields_nothing_for_a_model_that_cannot_caption(data, eye):
    functions = eye.functions()
    del functions["caption"]
    assert list(CaptionEvaluator(data=data).run(functions, np.float32(1))) == []


def test_a_set_without_captions_is_refused(shards, encoder):
    with pytest.raises(ConfigError, match="no captions were made"):
        score_captions(read(shards, encoder, styles=()), field="caption")


@pytest.mark.parametrize(
    ("captions", "references"), [([], []), (["옷"], []), (["옷", "옷"], [["옷"], []])]
)
def test_captions_without_references_are_refused(captions, references):
    with pytest.raises(ValueError, match="reference"):
        score_texts(captions, references)
