"""Greedy, nucleus and beam search against slow, uncached versions of themselves."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.coca import decoding
from kmm_jax.models.coca.modeling import CoCa
from tests.tiny_models import tiny_coca

EOS, NEVER, VOCABULARY, LENGTH = 2, (0, 1, 3, 4, 5, 6), 11, 6
PROMPT = jnp.asarray([1, 4], jnp.int32)


def open_clips_form(config):
    """Two FFNs a multimodal layer, [CLS] at the end, the first pooled vector for the contrast."""
    return dataclasses.replace(
        config,
        vision=dataclasses.replace(config.vision, class_token=True),
        text=dataclasses.replace(
            config.text, cross_ffn=True, own_cls=True, cls_place="last", tie_embeddings=False
        ),
        pooling="first",
        query_norm=True,
    )


@pytest.fixture(
    scope="module", params=[lambda config: config, open_clips_form], ids=["", "open_clip"]
)
def model(request):
    config = tiny_coca(vocabulary=VOCABULARY, length=LENGTH)
    config = request.param(config) if request.param else config
    graphdef, state = nnx.split(CoCa(config, rngs=nnx.Rngs(3)))
    # Larger weights than at the start of training, so that captions differ and [EOS] is met.
    return nnx.merge(graphdef, jax.tree.map(lambda x: x * 4, nnx.as_pure(state)))


@pytest.fixture(scope="module")
def image_tokens(model):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    return jax.jit(lambda x: model.encode_image(x)[1])(pixels)


@pytest.fixture(scope="module")
def next_log_p(model, image_tokens):
    """log P(next | ids) by a whole pass without a cache, [PAD] and friends excluded."""

    @jax.jit
    def whole(ids, image):
        states = model.text.encode(ids)[1]
        logits = model.text.decode(states, image)
        return jax.nn.log_softmax(logits.at[:, :, jnp.asarray(NEVER)].set(-1e9))

    def log_p(row, ids):
        padded = np.zeros((1, LENGTH), np.int32)
        padded[0, : len(ids)] = ids
        return np.asarray(whole(padded, image_tokens[row : row + 1]))[0, len(ids) - 1]

    return log_p


def test_greedy_takes_the_likeliest_token_of_a_whole_pass(model, image_tokens, next_log_p):
    ids = decoding.greedy(model.text, image_tokens, PROMPT, eos_id=EOS, never=NEVER)
    for row in range(3):
        expected = list(PROMPT)
        while expected[-1] != EOS:
            if len(expected) == LENGTH - 1:
                expected.append(EOS)
                break
            expected.append(int(next_log_p(row, expected).argmax()))
        np.testing.assert_array_equal(ids[row, : len(expected)], expected)
        assert not ids[row, len(expected) :].any()


def every_caption(next_log_p, row, penalty):
    """All captions that end, with their penalised scores: brute force."""
    tokens = [t for t in range(VOCABULARY) if t not in NEVER and t != EOS]
    scores = {}
    for count in range(LENGTH - len(PROMPT)):
        for body in itertools.product(tokens, repeat=count):
            ids, score = list(PROMPT), 0.0
            for token in (*body, EOS):
                score += next_log_p(row, ids)[token]
                ids.append(token)
            scores[tuple(int(i) for i in ids)] = score / ((5 + count + 1) / 6) ** penalty
    return scores


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_as_wide_as_the_tree_finds_the_best_of_all_captions(
    model, image_tokens, next_log_p, penalty
):
    ids = decoding.beam(
        model.text, image_tokens[:1], PROMPT, eos_id=EOS, never=NEVER, beams=64,
        length_penalty=penalty,
    )  # fmt: skip
    scores = every_caption(next_log_p, 0, penalty)
    best = max(scores, key=scores.__getitem__)
    np.testing.assert_array_equal(ids[0, : len(best)], best)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_beams_caption_scores_at_least_as_high_as_the_greedy_one(
    model, image_tokens, next_log_p, beams
):
    def score(row, ids):
        ids = [int(i) for i in ids[: int(np.flatnonzero(np.asarray(ids) == EOS)[0]) + 1]]
        return sum(next_log_p(row, ids[:i])[ids[i]] for i in range(len(PROMPT), len(ids)))

    greedy = decoding.greedy(model.text, image_tokens, PROMPT, eos_id=EOS, never=NEVER)
    beam = decoding.beam(
        model.text, image_tokens, PROMPT, eos_id=EOS, never=NEVER, beams=beams, length_penalty=0.0
    )
    for row in range(3):
        assert score(row, beam[row]) >= score(row, greedy[row]) - 1e-4


def keys(rows):
    return jax.vmap(jax.random.key)(jnp.asarray(rows))


def test_a_tiny_nucleus_is_greedy(model, image_tokens):
    greedy = decoding.greedy(model.text, image_tokens, PROMPT, eos_id=EOS, never=NEVER)
    drawn = decoding.nucleus(
        model.text, image_tokens, PROMPT, eos_id=EOS, never=NEVER, keys_B=keys([1, 2, 3]), top_p=0.0
    )
    np.testing.assert_array_equal(drawn, greedy)


def test_nucleus_draws_only_from_the_smallest_set_that_reaches_top_p(
    model, image_tokens, next_log_p
):
    top_p, draws = 0.7, 300
    log_p = next_log_p(0, list(PROMPT))
    order = np.argsort(-log_p)
    before = np.cumsum(np.exp(log_p[order])) - np.exp(log_p[order])
    allowed = {int(i) for i in order[before < top_p]}
    repeated = jnp.repeat(image_tokens[:1], draws, axis=0)
    ids = decoding.nucleus(
        model.text, repeated, PROMPT, eos_id=EOS, never=NEVER, keys_B=keys(range(draws)),
        top_p=top_p,
    )  # fmt: skip
    first = np.asarray(ids[:, len(PROMPT)])
    assert set(first.tolist()) == allowed
    mass = np.exp(log_p[sorted(allowed)])
    shares = np.asarray([(first == token).mean() for token in sorted(allowed)])
    np.testing.assert_allclose(shares, mass / mass.sum(), atol=4 * 0.5 / np.sqrt(draws))


def test_an_images_draw_does_not_depend_on_the_batch_around_it(model, image_tokens):
    common = {"eos_id": EOS, "never": NEVER}
    whole = decoding.nucleus(model.text, image_tokens, PROMPT, keys_B=keys([7, 8, 9]), **common)
    alone = decoding.nucleus(model.text, image_tokens[1:2], PROMPT, keys_B=keys([8]), **common)
    np.testing.assert_array_equal(whole[1], alone[0])


def test_each_image_is_answered_behind_its_own_prompt_whatever_stands_beside_it(
    model, image_tokens
):
    prompts = [[1, 4], [1, 5, 9, 4], [1, 5, 8]]
    padded = np.zeros((3, LENGTH), np.int32)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    together = decoding.answer(
        model.text, image_tokens, jnp.asarray(padded), eos_id=EOS, never=NEVER
    )
    for row, prompt in enumerate(prompts):
        alone = decoding.greedy(
            model.text,
            image_tokens[row : row + 1],
            jnp.asarray(prompt, jnp.int32),
            eos_id=EOS,
            never=NEVER,
        )
        np.testing.assert_array_equal(together[row], alone[0])
        assert together[row, : len(prompt)].tolist() == prompt


def test_an_end_of_text_within_a_prompt_does_not_end_the_answer(model, image_tokens):
    prompt = jnp.asarray([[1, 9, EOS, 4]], jnp.int32)
    ids = decoding.answer(model.text, image_tokens[:1], prompt, eos_id=EOS, never=NEVER)
    assert ids[0, :4].tolist() == [1, 9, EOS, 4]
    assert (np.asarray(ids[0, 4:]) == EOS).sum() == 1


def test_candidates_of_a_whole_tree_are_all_captions_with_their_probabilities(
    model, image_tokens, next_log_p
):
    scores = every_caption(next_log_p, 0, 0.0)
    # Padding behind the prompt is no part of it.
    prompt = jnp.pad(PROMPT, (0, LENGTH - len(PROMPT)))
    ids, log_p = decoding.candidates(
        model.text, image_tokens[:1], prompt, eos_id=EOS, never=NEVER, beams=100,
        length_penalty=0.0,
    )  # fmt: skip
    assert len(scores) < 100
    ended = [int(place) for place in np.flatnonzero(log_p[0] > -1e8)]
    found = {}
    for place in ended:
        row = np.asarray(ids[0, place]).tolist()
        found[tuple(row[: row.index(EOS) + 1])] = float(log_p[0, place])
    assert found.keys() == scores.keys()
    for key, value in scores.items():
        np.testing.assert_allclose(found[key], value, atol=1e-4)
    ranked = log_p[0, : len(ended)].tolist()
    assert ranked == sorted(ranked, reverse=True)
