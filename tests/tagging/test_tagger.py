"""Taggers that are learned, by prompts, saved, damaged, and asked about another model's vectors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.tagging.fit import FitConfig, fit_tagger, held_out, prompt_tagger
from kmm_jax.tagging.tagger import Tagger
from tests.tagging.made import labels, rows

QUICK = FitConfig(steps=150, batch=128)
PURPLE = 3


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return fit_tagger(rows(), labels(), model="abc", config=QUICK)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_labels_are_learned_from_rows(kind: str) -> None:
    config = FitConfig(kind=kind, steps=150, batch=128, hidden=16)
    tagger = fit_tagger(rows(), labels(), model="abc", config=config)
    test = rows(200, seed=9)
    probability_NC = tagger.probabilities(test.vectors_ND)
    given_NC = tagger.answers(probability_NC)
    known_N = test.known_NC[:, 4]
    assert (given_NC[:, :3] == test.true_NC[:, :3]).mean() > 0.95
    assert (given_NC[known_N, 4:] == test.true_NC[known_N, 4:]).mean() > 0.95
    # Of the group of which a picture has one, one is given and never two.
    assert (given_NC[:, 4:].sum(axis=1) == 1).all()
    assert probability_NC.min() >= 0 and probability_NC.max() <= 1
    assert (given_NC[:, :3].sum(axis=1) > 1).any()


def test_a_label_without_rows_is_kept_and_never_given(tagger: Tagger) -> None:
    assert tagger.rows[PURPLE] == 0 and math.isinf(tagger.thresholds[PURPLE])
    probability_NC = tagger.probabilities(rows(50, seed=3).vectors_ND)
    assert (probability_NC[:, PURPLE] == 0).all()
    assert not tagger.answers(probability_NC)[:, PURPLE].any()
    one = fit_tagger(rows(), labels(several=False), model="abc", config=QUICK)
    assert not one.answers(one.probabilities(rows(50, seed=3).vectors_ND))[:, PURPLE].any()


def test_the_same_rows_give_the_same_tagger(tagger: Tagger, tmp_path: Path) -> None:
    again = fit_tagger(rows(), labels(), model="abc", config=QUICK)
    other = fit_tagger(rows(), labels(), model="abc", config=FitConfig(steps=150, seed=1))
    assert again.hash == tagger.hash != other.hash
    for name, each in (("one", tagger), ("two", again)):
        each.save(tmp_path / name)
    for file in ("tagger.json", "head.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_tagger_is_saved_whole_and_read_back(tagger: Tagger, tmp_path: Path) -> None:
    tagger.save(tmp_path / "t")
    found = Tagger.load(tmp_path / "t")
    assert found.hash == tagger.hash and found.labels == tagger.labels
    assert found.dim == 8
    vectors = rows(20, seed=4).vectors_ND
    np.testing.assert_array_equal(found.probabilities(vectors), tagger.probabilities(vectors))
    tagger.save(tmp_path / "t")  # in its own place
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "important.txt").write_text("x")
    with pytest.raises(UserError, match="is no tagger"):
        tagger.save(tmp_path / "other")


@pytest.mark.parametrize("damage", ["head", "cut", "labels", "thresholds", "kind"])
def test_a_damaged_folder_is_refused(tagger: Tagger, tmp_path: Path, damage: str) -> None:
    tagger.save(tmp_path / "t")
    about, head = tmp_path / "t" / "tagger.json", tmp_path / "t" / "head.safetensors"
    values = json.loads(about.read_text("utf-8"))
    if damage == "head":
        data = bytearray(head.read_bytes())
        data[-1] ^= 1
        head.write_bytes(data)
    elif damage == "cut":
        about.write_bytes(about.read_bytes()[:200])
    else:
        if damage == "labels":
            values["labels"]["groups"][0]["labels"].pop()
        elif damage == "thresholds":
            values["thresholds"].pop()
        else:
            values["kind"] = "forest"
        about.write_text(json.dumps(values), "utf-8")
    with pytest.raises(DataError, match="damaged"):
        Tagger.load(tmp_path / "t")


def test_nothing_there_and_another_model_are_told(tagger: Tagger, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no tagger; make one by kmm tag fit"):
        Tagger.load(tmp_path)
    with pytest.raises(UserError, match="takes vectors of the model abc, and documents has"):
        tagger.check_model("def", "documents")
    with pytest.raises(DataError, match="the tagger takes"):
        tagger.probabilities(np.zeros((2, 5)))
    empty = rows().at(np.zeros(240, bool))
    with pytest.raises(DataError, match="no row of made has any"):
        fit_tagger(empty, labels(), model="abc")
    with pytest.raises(ConfigError, match="linear or mlp"):
        FitConfig(kind="zero-shot")
    with pytest.raises(ConfigError, match="held_out is a share"):
        FitConfig(held_out=1.0)


def test_rows_are_held_out_of_every_label_and_never_all() -> None:
    rng = np.random.default_rng(0)
    true_NC = rng.random((300, 8)) < (0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.01, 0.0)
    true_NC[:2, 7] = True
    held_N = held_out(true_NC, 0.2, seed=0)
    for label in range(8):
        members = true_NC[:, label]
        if members.sum() > 1:
            assert (members & ~held_N).any()
    assert (true_NC[:, 7] & held_N).sum() == 1
    assert 0.1 < held_N.mean() < 0.4
    assert (held_N == held_out(true_NC, 0.2, seed=0)).all()


def test_by_prompts_the_nearest_of_a_group_is_the_likeliest() -> None:
    def embed(texts: list[str]) -> np.ndarray:
        names = [label.ko for label in labels().labels]
        found = np.asarray([[float(name in text) for name in names] for text in texts])
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    tagger = prompt_tagger(embed, labels(), model="abc")
    vectors = rows(60, seed=5, noise=0.05).vectors_ND[:, :6]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    probability_NC = tagger.probabilities(vectors)
    for columns in labels().columns():
        # The softmax of 100 times the cosines, which with unit prompts are the vectors themselves.
        weights = np.exp(100 * (vectors[:, columns] - vectors[:, columns].max(axis=1)[:, None]))
        expected = weights / weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probability_NC[:, columns], expected, atol=1e-6)
    calibrated = prompt_tagger(embed, labels(), model="abc", rows=_six(rows()))
    given = calibrated.answers(calibrated.probabilities(vectors))
    assert given[:, :3].sum() > 0 and not given[:, PURPLE].any()


def _six(found):  # type: ignore[no-untyped-def]
    import dataclasses

    vectors = found.vectors_ND[:, :6]
    return dataclasses.replace(
        found, vectors_ND=vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    )
