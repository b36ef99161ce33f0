"""The linear probe and the nearest neighbours, on vectors whose classes are known."""

import builtins

import numpy as np
import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.evaluation.dataset import EvaluationRow, EvaluationSet
from kmm_jax.evaluation.knn import knn, knn_votes
from kmm_jax.evaluation.labelled import labelled_rows
from kmm_jax.evaluation.probe import linear_probe

FEW = (1e2, 1e0, 1e-2)


def clusters(rng, rows, classes=6, size=16, spread=0.3):
    """Unit vectors around a centre for each class, and their labels."""
    centres = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0][:classes]
    truth = np.arange(rows) % classes
    vectors = centres[truth] + spread * rng.standard_normal((rows, size)) / np.sqrt(size)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"종류{number}" for number in truth]


def scores(classified):
    return {score.name: score.value for score in classified.table.scores}


def split(rows=300, tested=120, **options):
    rng = np.random.default_rng(1)
    return (*clusters(rng, rows, **options), *clusters(rng, tested, **options))


@pytest.mark.parametrize("method", [linear_probe, knn])
def test_separable_classes_are_all_found(method):
    found = method(*split(), label="type")
    assert scores(found)["top1"] == scores(found)["macro"] == 1.0
    assert found.matrix_CC.tolist() == (20 * np.eye(6, dtype=int)).tolist()
    assert found.keys == tuple(f"종류{number}" for number in range(6))
    assert found.table.title.endswith(": type")
    assert {score.chance for score in found.table.scores if score.name != "top5"} == {1 / 6}


@pytest.mark.parametrize("method", [linear_probe, knn])
def test_shuffled_labels_give_chance(method):
    train, train_labels, test, test_labels = split(600, 1200)
    rng = np.random.default_rng(2)
    found = method(train, rng.permutation(train_labels), test, test_labels)
    assert scores(found)["top1"] == pytest.approx(1 / 6, abs=0.07)


@pytest.mark.parametrize("method", [linear_probe, knn])
def test_turning_the_space_changes_no_answer(method):
    train, train_labels, test, test_labels = split(spread=1.2)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0].astype(np.float32)
    one = method(train, train_labels, test, test_labels)
    other = method(train @ turn, train_labels, test @ turn, test_labels)
    assert 0.3 < scores(one)["top1"] < 1
    assert np.abs(one.matrix_CC - other.matrix_CC).sum() <= 4  # rounding may turn a row at most two


def test_the_probe_sees_what_neighbours_cannot():
    """The class is the sign of one faint dimension among many loud ones."""
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((1200, 16))
    vectors[:, 0] = 0.2 * np.sign(vectors[:, 0])
    labels = ["above" if x > 0 else "below" for x in vectors[:, 0]]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    halves = (vectors[:900], labels[:900], vectors[900:], labels[900:])
    assert scores(linear_probe(*halves))["top1"] > 0.97
    assert scores(knn(*halves))["top1"] < 0.8


def test_the_probe_is_the_optimum_of_its_loss():
    """Its loss, written out, has no gradient at the weights that scikit-learn finds."""
    from kmm_jax.evaluation.probe import _fit, _regression

    train, labels, _, _ = split(spread=1.5)
    truth = np.unique(labels, return_inverse=True)[1]
    model, whole = _fit(_regression(0.5), train.astype(np.float64), truth)
    logits = train @ model.coef_.T + model.intercept_
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    gradient = (share - np.eye(6)[truth]).T @ train + 0.5 * model.coef_
    assert whole
    assert np.abs(gradient).max() < 0.02 * np.abs(0.5 * model.coef_).max()


def test_the_strength_is_the_one_that_does_best_on_held_out_rows_and_the_protocol_says_it():
    few = linear_probe(*split(60, 60, size=64, spread=3.0), strengths=FEW)
    strength = few.table.facts["l2_strength"]
    assert strength in FEW
    assert few.table.facts["held_out_images"] == 12
    assert f"L2 strength {strength:g}, the best of 3 from 0.01 to 100 on 12 held-out" in (
        few.table.protocol
    )
    # Of equally good strengths the strongest: here every one is right everywhere.
    assert linear_probe(*split(), strengths=FEW).table.facts["l2_strength"] == 1e2


def test_two_classes_are_scored_like_more():
    rng = np.random.default_rng(5)
    vectors, labels = clusters(rng, 200, classes=2)
    tested, truth = clusters(rng, 80, classes=2)
    for method in (linear_probe, knn):
        found = method(vectors, labels, tested, truth)
        assert scores(found)["top1"] == 1.0
        assert "top5" not in scores(found)


def test_majority_is_the_training_rows_most_frequent_class():
    train, _, test, _ = split(8, 4)
    labels = ["a"] * 5 + ["b"] * 3
    found = knn(train, labels, test, ["b", "b", "b", "a"], k=3)
    assert scores(found)["majority"] == 0.25


def test_neighbours_equal_a_loop_over_rows():
    rng = np.random.default_rng(6)
    train, _ = clusters(rng, 90, spread=2.0)
    test, _ = clusters(rng, 40, spread=2.0)
    truth = rng.integers(0, 5, 90)
    for block_values in (1, 1000, 10**6):
        votes = knn_votes(
            train, truth, test, classes=5, k=7, temperature=0.1, block_values=block_values
        )
        for row, vector in zip(votes, test, strict=True):
            cosines = [float(vector @ other) for other in train]
            nearest = sorted(range(90), key=lambda i: -cosines[i])[:7]
            expected = np.zeros(5)
            for i in nearest:
                expected[truth[i]] += np.exp((cosines[i] - cosines[nearest[0]]) / 0.1)
            np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_a_near_neighbour_outvotes_two_far_ones_and_a_low_temperature_overflows_nothing():
    train = np.asarray([[1, 0], [0.6, 0.8], [0.6, 0.8]], np.float32)
    test = np.asarray([[1, 0]], np.float32)
    for temperature in (0.07, 1e-4):
        found = knn(train, ["near", "far", "far"], test, ["near"], k=3, temperature=temperature)
        assert scores(found)["top1"] == 1.0
    warm = knn(train, ["near", "far", "far"], test, ["near"], k=3, temperature=10)
    assert scores(warm)["top1"] == 0.0


def test_more_neighbours_than_rows_are_all_rows():
    found = knn(*split(12, 6), k=20)
    assert found.table.facts["k"] == 12
    assert "the 12 training images nearest" in found.table.protocol


def test_what_cannot_be_learned_is_refused_with_what_there_is():
    train, labels, test, truth = split(12, 6)
    with pytest.raises(DataError, match="at least two classes; found 1: 종류0"):
        knn(train[:1], labels[:1], test, truth)
    with pytest.raises(DataError, match=r"training 종류0, 종류1.*test 다른"):
        linear_probe(train, labels, test, ["다른"] * 6)
    with pytest.raises(DataError, match="single training row"):
        linear_probe(train[:6], labels[:6], test, truth)
    with pytest.raises(ValueError, match="k must be at least 1"):
        knn(train, labels, test, truth, k=0)


def test_test_rows_of_classes_never_learned_are_left_out_and_counted():
    train, labels, test, truth = split()
    found = knn(train, labels, test, ["다른", *truth[1:]])
    assert found.table.facts["images"] == 119
    assert "119 test images (1 of classes never learned left out)" in found.table.protocol


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.partition(".")[0] == "sklearn":
            raise ImportError("No module named 'sklearn'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(__import__("sys").modules, "sklearn", raising=False)
    monkeypatch.setattr("importlib.import_module", lambda name: without(name))
    with pytest.raises(UserError, match=r"pip install 'kmm-jax\[analysis\]'"):
        linear_probe(*split(12, 6))


def evaluation_set(name, keys, labels):
    vectors = np.arange(len(keys), dtype=np.float32)[:, None]
    rows = tuple(
        EvaluationRow(key=key, texts={}, labels={} if label is None else {"type": label})
        for key, label in zip(keys, labels, strict=True)
    )
    return EvaluationSet(name=name, rows=rows, vectors_NE=vectors)


def test_images_of_the_test_are_not_learned_from():
    train = evaluation_set("train", ["a", "b", "c", "d"], ["x", "y", None, "x"])
    test = evaluation_set("test", ["b", "e", "f"], ["y", None, "x"])
    found = labelled_rows(train, test, "type")
    assert found.train_NE.ravel().tolist() == [0, 3]
    assert found.train_labels == ("x", "x")
    assert found.test_ME.ravel().tolist() == [0, 2]
    assert found.test_labels == ("y", "x")
    assert found.said == (
        "learned from train, tested on test (1 training rows without the label, "
        "1 training rows whose image is tested on, 1 test rows without the label left out)"
    )
    with pytest.raises(DataError, match="all 2 labelled images of test"):
        labelled_rows(test, test, "type")
    with pytest.raises(DataError, match="did you mean 'type'"):
        labelled_rows(train, test, "typ")
