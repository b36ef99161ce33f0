"""Fusions learned from judged queries: planted data, brute force, and files that are no fusion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.evaluation.ranking import ndcg
from kmm_jax.search import fusion_fit
from kmm_jax.search.fusion import added, fused
from kmm_jax.search.fusion_fit import candidates, cross_validated, fit, fixed_rules, ranked
from kmm_jax.search.learned_fusion import (
    FEATURES,
    FILE,
    KINDS,
    MATCHERS,
    FusionFile,
    LearnedFusion,
    features_of,
    parse,
)

IDS = [f"d{number:02d}" for number in range(40)]


def planted(seed: int, informative: str, kind: str = "text", noise: float = 0.3) -> Any:
    """A query whose grades one matcher knows; the others are sure of something else."""
    rng = np.random.default_rng(seed)
    grade_D = rng.choice([0, 0, 0, 0, 0, 1, 2, 3], len(IDS)).astype(float)
    grade_D[rng.integers(len(IDS))] = 3.0
    rankings = {}
    for name in MATCHERS:
        true = grade_D if name == informative else np.zeros(len(IDS))
        score_D = true + rng.normal(0, noise, len(IDS))
        order = np.argsort(-score_D)[:30]
        rankings[name] = [(IDS[number], float(score_D[number])) for number in order]
    grades = dict(zip(IDS, grade_D.tolist(), strict=True))
    return f"{kind}{seed}", kind, rankings, grades


def by_evaluation(one: Any, ids: list[str]) -> float:
    """nDCG@10 by the evaluation's own code."""
    return ndcg(ids, {id: grade for id, grade in one[3].items() if grade > 0})


@pytest.mark.parametrize("informative", MATCHERS)
def test_the_only_informative_matcher_is_found(informative: str) -> None:
    weights = fit([candidates(*planted(seed, informative)) for seed in range(30)])
    unseen = [planted(seed, informative) for seed in range(100, 130)]
    learned = np.mean([by_evaluation(one, ranked(candidates(*one), weights)) for one in unseen])
    alone = np.mean([by_evaluation(one, [id for id, _ in one[2][informative]]) for one in unseen])
    rrf = np.mean([by_evaluation(one, [id for id, _ in fused(one[2])]) for one in unseen])
    assert learned > alone - 0.01 and learned > rrf + 0.1
    # Most of what decides is that matcher's: the others' parts move far less over their lists.
    spread = {}
    fusion = LearnedFusion(weights=weights, model_hash="m")
    for name, share in fusion.shares(unseen[0][2], "text").items():
        spread[name] = np.ptp([part for _, part in share])
    assert all(spread[informative] > 3 * spread[name] for name in MATCHERS if name != informative)


def test_it_is_never_worse_on_what_it_learned_from_than_any_fixed_rule() -> None:
    for seed in range(4):
        judged = [
            planted(1000 * seed + number, MATCHERS[number % 3], noise=1.5) for number in range(12)
        ]
        some = [candidates(*one) for one in judged]
        weights = fit(some)
        learned = np.mean(
            [
                by_evaluation(one, ranked(each, weights))
                for one, each in zip(judged, some, strict=True)
            ]
        )
        rankings = [
            *(lambda one, name=name: [id for id, _ in one[2][name]] for name in MATCHERS),
            lambda one: [id for id, _ in fused(one[2], how="rrf")],
            lambda one: [id for id, _ in fused(one[2], how="weighted")],
        ]
        for rule in rankings:
            assert learned >= np.mean([by_evaluation(one, rule(one)) for one in judged]) - 1e-9


def test_fixed_rules_are_weights_of_the_features() -> None:
    one = planted(5, "image")
    some = candidates(*one)
    for name, weight_F in fixed_rules().items():
        weights = {kind: weight_F.reshape(len(MATCHERS), -1) for kind in KINDS}
        found = ranked(some, weights)
        if name in MATCHERS:
            expected = [id for id, _ in one[2][name]]
        else:
            expected = [id for id, _ in fused(one[2], how=name)]
        assert found[: len(expected)] == expected
        assert some.ndcg(weight_F) == pytest.approx(by_evaluation(one, found))
        # As it is used, part by part.
        shares = LearnedFusion(weights=weights, model_hash="m").shares(one[2], "text")
        assert [id for id, _ in added(shares)][:10] == found[:10]


def test_the_loss_is_the_cross_entropy_and_its_gradient_is_right() -> None:
    some = [candidates(*planted(seed, "words", noise=1.0)) for seed in range(3)]
    columns_NG = np.concatenate([each.features_CF for each in some])
    sizes = [len(each.ids) for each in some]
    target_N = np.concatenate(
        [(2**each.grades_C - 1) / (2**each.grades_C - 1).sum() for each in some]
    )
    start_Q, query_N = np.cumsum([0, *sizes[:-1]]), np.repeat(np.arange(3), sizes)
    pull_G = np.full(columns_NG.shape[1], 0.3)

    def loss(x_G: np.ndarray) -> tuple[float, np.ndarray]:
        return fusion_fit._cross_entropy(x_G, columns_NG, target_N, start_Q, query_N, pull_G)

    x_G = np.random.default_rng(0).normal(size=columns_NG.shape[1])
    by_hand = 0.15 * (x_G**2).sum()
    for each in some:
        score_C = each.features_CF @ x_G
        share_C = np.exp(score_C) / np.exp(score_C).sum()
        gain_C = 2**each.grades_C - 1
        by_hand -= (gain_C / gain_C.sum() * np.log(share_C)).sum() / 3
    value, gradient_G = loss(x_G)
    assert value == pytest.approx(by_hand)
    for number in range(len(x_G)):
        step_G = np.zeros(len(x_G))
        step_G[number] = 1e-5
        slope = (loss(x_G + step_G)[0] - loss(x_G - step_G)[0]) / 2e-5
        assert gradient_G[number] == pytest.approx(slope, abs=1e-6)


def complementary(seed: int) -> Any:
    """Words know the thing, images its colour, both with errors; titles know little."""
    rng = np.random.default_rng(seed)
    thing_D, color_D = rng.random(120) < 0.2, rng.random(120) < 0.2
    thing_D[0] = color_D[0] = True
    grade_D = np.where(thing_D & color_D, 3.0, np.where(thing_D, 1.0, 0.0))
    said_D = thing_D & (rng.random(120) < 0.7)
    rankings = {}
    for name, score_D in (
        ("words", 6 * said_D + rng.normal(0, 1, 120)),
        ("image", 0.15 * color_D + 0.1 * thing_D + rng.normal(0, 0.07, 120)),
        ("text", 0.1 * thing_D + rng.normal(0, 0.1, 120)),
    ):
        order = np.argsort(-score_D)[: 40 if name == "words" else 100]
        rankings[name] = [(f"d{number}", float(score_D[number])) for number in order]
    return f"q{seed}", "text", rankings, {f"d{at}": grade for at, grade in enumerate(grade_D)}


def test_matchers_that_know_different_things_are_added_better_than_by_rule() -> None:
    judged = [complementary(seed) for seed in range(40)]
    some = [candidates(*one) for one in judged]
    found = cross_validated(some)
    learned = np.mean([by_evaluation(one, found[one[0]]) for one in judged])
    rules = {
        name: np.mean([each.ndcg(weight_F) for each in some])
        for name, weight_F in fixed_rules().items()
    }
    assert learned > max(rules.values()) + 0.04


def test_each_kind_has_its_own_weights_and_a_rare_one_those_of_all() -> None:
    judged = [planted(number, "words", "text") for number in range(20)]
    judged += [planted(100 + number, "image", "image") for number in range(20)]
    judged += [planted(200, "image", "both")]
    weights = fit([candidates(*one) for one in judged])
    assert not np.allclose(weights["text"], weights["image"])
    together = fit([candidates(id, "text", *rest) for id, _, *rest in judged])
    assert np.allclose(weights["both"], together["text"])
    with pytest.raises(UserError, match="9 judged queries: a fusion is learned from 10 or more"):
        fit([candidates(*one) for one in judged[:9]])


def test_cross_validation_ranks_no_query_by_weights_that_saw_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = [candidates(*planted(number, "words")) for number in range(25)]
    seen: list[set[str]] = []
    before = fusion_fit.fit

    def watched(some: Any) -> Any:
        seen.append({each.id for each in some})
        return before(some)

    monkeypatch.setattr(fusion_fit, "fit", watched)
    found = cross_validated(judged)
    assert list(found) == [each.id for each in judged] and len(seen) == 5
    everything = {each.id for each in judged}
    left_out = [everything - some for some in seen]
    assert sorted(id for some in left_out for id in some) == sorted(everything)
    assert all(len(some) == 5 for some in left_out)


def test_features_are_of_an_ids_first_place() -> None:
    found = features_of([("a", 9.0), ("b", 5.0), ("a", 4.0), ("c", 1.0)])
    assert list(found) == ["a", "b", "c"]
    assert found["a"].tolist() == [1.0, 1.0, 1.0, 9.0]
    assert found["b"].tolist() == pytest.approx([1.0, 61 / 62, 0.5, 5.0])
    assert features_of([]) == {}


def fusion(**changes: Any) -> LearnedFusion:
    weights = {
        kind: np.arange(12.0).reshape(3, 4) * (1 + number) for number, kind in enumerate(KINDS)
    }
    return LearnedFusion(weights=weights, model_hash="m", about={"queries": {"text": 3}}, **changes)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    nothing = FusionFile(tmp_path, "m")
    assert not nothing and nothing.version == ""
    with pytest.raises(UserError, match="fit-fusion, or choose rrf"):
        nothing.fusion()
    fusion().save(tmp_path / FILE)
    file = FusionFile(tmp_path, "m")
    assert file and file.version != ""
    for kind in KINDS:
        assert np.array_equal(file.fusion().weights[kind], fusion().weights[kind])
    assert file.fusion().about == {"queries": {"text": 3}}
    with pytest.raises(UserError, match="scores of model m, here is other; learn it again"):
        FusionFile(tmp_path, "other").fusion()
    with pytest.raises(UserError, match="knows words, text, image and no 'colour'"):
        file.fusion().shares({"colour": [("a", 1.0)]}, "text")
    with pytest.raises(UserError, match="knows words, text, image and no 'colour'"):
        candidates("q", "text", {"colour": [("a", 1.0)]}, {"a": 1})


def change(at: tuple[str, ...], value: Any) -> Any:
    def of(values: dict[str, Any]) -> dict[str, Any]:
        inner = values
        for name in at[:-1]:
            inner = inner[name]
        if value is None:
            del inner[at[-1]]
        else:
            inner[at[-1]] = value
        return values

    return of


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change(("format",), "x"), "is not of the format"),
        (change(("weights",), []), "weights: there are text, image, both"),
        (change(("weights", "both"), None), "weights: there are text, image, both, found text"),
        (change(("weights", "text", "colour"), {}), "weights of text: there are words, text"),
        (change(("weights", "text", "words", "rank"), None), "weights of text, words: there are"),
        (change(("weights", "text", "words", "rank"), "1"), "rank is a number, found '1'"),
        (change(("weights", "text", "words", "rank"), float("nan")), "rank is nan, which is no"),
    ],
)
def test_a_file_that_is_no_fusion_says_why(changed: Any, message: str, tmp_path: Path) -> None:
    fusion().save(tmp_path / FILE)
    values = changed(json.loads((tmp_path / FILE).read_text("utf-8")))
    (tmp_path / FILE).write_text(json.dumps(values), "utf-8")
    with pytest.raises(DataError, match=message):
        FusionFile(tmp_path, "m").fusion()


def test_every_cut_of_a_file_is_damaged(tmp_path: Path) -> None:
    fusion().save(tmp_path / FILE)
    data = (tmp_path / FILE).read_bytes().rstrip()
    for end in range(1, len(data), 97):
        with pytest.raises(DataError, match="learn it again"):
            parse(data[:end], "fusion.json")
    assert len(FEATURES) == 4
