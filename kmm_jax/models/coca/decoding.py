"""Captions and answers from a CoCa: greedy, nucleus and beam search over a key-value cache.

One compiled loop each; prompts, temperature, top-p and keys are inputs and never recompile it.

B images, K beams, T most tokens, P prompt tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kmm_jax.models.coca.modeling import TextDecoder
from kmm_jax.models.coca.token_decoder import DecoderCache, TokenDecoder
from kmm_jax.models.transformer import KeyValue

_NEVER = -1e9  # finite, so that sums of it stay numbers

Choose = Callable[[Array, Array], Array]  # (logits (B, V), position) -> ids (B,)


def greedy(
    text: TextDecoder,
    image_BQD: Float[Array, "B Q D"],
    prompt_P: Int[Array, "P"],
    *,
    eos_id: int,
    never: Sequence[int],
) -> Int[Array, "B T"]:
    """The likeliest token at every step; ids from the prompt on, ``[EOS]`` then zeros.

    Args:
        prompt_P: what every caption starts with, ``[BOS] [STYLE]``.
        never: ids that are never produced.
    """
    prompt_BP = jnp.broadcast_to(prompt_P, (image_BQD.shape[0], len(prompt_P)))
    return answer(text, image_BQD, prompt_BP, eos_id=eos_id, never=never)


def answer(
    text: TextDecoder,
    image_BQD: Float[Array, "B Q D"],
    prompt_BP: Int[Array, "B P"],
    *,
    eos_id: int,
    never: Sequence[int],
) -> Int[Array, "B T"]:
    """Greedy search behind a prompt for each image, such as a question (``Tokenizer.asked``).

    A prompt ends where its padding begins, so that prompts of any lengths share one program.
    """
    return _one_by_one(
        text,
        image_BQD,
        prompt_BP,
        lambda logits_BV, _: logits_BV.argmax(axis=-1),
        eos_id=eos_id,
        never=never,
    )


def nucleus(
    text: TextDecoder,
    image_BQD: Float[Array, "B Q D"],
    prompt_P: Int[Array, "P"],
    *,
    eos_id: int,
    never: Sequence[int],
    keys_B: Array,
    top_p: float | Array = 0.9,
    temperature: float | Array = 1.0,
) -> Int[Array, "B T"]:
    """Tokens drawn from the smallest set whose probability reaches ``top_p`` (arXiv 1904.09751).

    Each image draws by its own key, so its caption does not depend on the batch around it.
    """

    def draw(logits_BV: Array, position: Array) -> Array:
        logits_BV = logits_BV / jnp.maximum(temperature, 1e-6)
        sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
        probability_BV = jax.nn.softmax(sorted_BV, axis=-1)
        before_BV = jnp.cumsum(probability_BV, axis=-1) - probability_BV
        # The likeliest token is always kept: nothing stands before it.
        kept_BV = (before_BV < top_p).at[:, 0].set(True)
        least_B1 = jnp.where(kept_BV, sorted_BV, jnp.inf).min(axis=-1, keepdims=True)
        allowed_BV = jnp.where(logits_BV >= least_B1, logits_BV, _NEVER)
        step_keys_B = jax.vmap(lambda key: jax.random.fold_in(key, position))(keys_B)
        return jax.vmap(jax.random.categorical)(step_keys_B, allowed_BV)

    prompt_BP = jnp.broadcast_to(prompt_P, (image_BQD.shape[0], len(prompt_P)))
    return _one_by_one(text, image_BQD, prompt_BP, draw, eos_id=eos_id, never=never)


def _one_by_one(
    text: TextDecoder,
    image_BQD: Array,
    prompt_BP: Array,
    choose: Choose,
    *,
    eos_id: int,
    never: Sequence[int],
) -> Array:
    batch, length = image_BQD.shape[0], text.config.length
    decoder = TokenDecoder(text)
    prompt_BT = jnp.zeros((batch, length), jnp.int32).at[:, : prompt_BP.shape[1]].set(prompt_BP)
    ends_B = jnp.sum(prompt_BP != text.config.pad_id, axis=1)

    def going(state: tuple[Array, Array, Array, DecoderCache]) -> Array:
        position, _, done_B, _ = state
        return (position < length - 1) & ~done_B.all()

    def step(
        state: tuple[Array, Array, Array, DecoderCache],
    ) -> tuple[Array, Array, Array, DecoderCache]:
        position, ids_BT, done_B, cache = state
        logits_BV, cache = decoder.step(ids_BT[:, position], position, cache)
        chosen_B = choose(_forbid(logits_BV, never), position).astype(jnp.int32)
        # The last place is kept for [EOS], so that every caption ends.
        chosen_B = jnp.where(position == length - 2, eos_id, chosen_B)
        chosen_B = jnp.where(done_B, 0, chosen_B)
        in_prompt_B = position + 1 < ends_B
        chosen_B = jnp.where(in_prompt_B, prompt_BT[:, position + 1], chosen_B)
        ids_BT = ids_BT.at[:, position + 1].set(chosen_B)
        return position + 1, ids_BT, done_B | ((chosen_B == eos_id) & ~in_prompt_B), cache

    start = (jnp.int32(0), prompt_BT, jnp.zeros(batch, bool), decoder.start(image_BQD, length))
    return jax.lax.while_loop(going, step, start)[1]


class _Beams(NamedTuple):
    """Beams still growing, and the best ended ones, of every image."""

    position: Array
    ids_BKT: Array
    scores_BK: Array  # summed log-probability
    ended_ids_BKT: Array
    ended_scores_BK: Array  # divided by the length penalty
    cache: DecoderCache


def beam(
    text: TextDecoder,
    image_BQD: Float[Array, "B Q D"],
    prompt_P: Int[Array, "P"],
    *,
    eos_id: int,
    never: Sequence[int],
    beams: int,
    length_penalty: float = 0.6,
) -> Int[Array, "B T"]:
    """The best ended caption of a beam search: the first of :func:`candidates`."""
    ids_BKT, _ = candidates(
        text,
        image_BQD,
        prompt_P,
        eos_id=eos_id,
        never=never,
        beams=beams,
        length_penalty=length_penalty,
    )
    return ids_BKT[:, 0]


def candidates(
    text: TextDecoder,
    image_BQD: Float[Array, "B Q D"],
    prompt_P: Int[Array, "P"],
    *,
    eos_id: int,
    never: Sequence[int],
    beams: int,
    length_penalty: float = 0.6,
) -> tuple[Int[Array, "B K T"], Float[Array, "B K"]]:
    """The ended captions that a beam search keeps, the best first, and their scores.

    Scores are log-probabilities divided by ((5 + n) / 6) ** ``length_penalty`` for n tokens after
    the prompt (arXiv 1609.08144, equation 14); with a penalty of 0 they are the log-probabilities
    of whole captions. A place that no ended caption took scores -1e9. An image's search ends when
    no growing beam can still overtake its worst kept ended one.

    Args:
        prompt_P: ends where its padding begins, so that prompts padded alike share one program.
    """
    batch, length, room = image_BQD.shape[0], text.config.length, len(prompt_P)
    prompt = jnp.sum(prompt_P != text.config.pad_id)

    def penalty(position: Array | int) -> Array:
        return ((5.0 + position + 1 - (prompt - 1)) / 6.0) ** length_penalty

    def fill(position: Array, cache: DecoderCache) -> DecoderCache:
        ids_B = jnp.full((batch,), prompt_P[position])
        return decoder.step(ids_B, position, cache)[1]

    decoder = TokenDecoder(text)
    cache = jax.lax.fori_loop(0, prompt - 1, fill, decoder.start(image_BQD, length))
    cache = jax.tree.map(lambda x: jnp.repeat(x, beams, axis=0), cache)  # (B * K, ...)
    ids_BKT = jnp.zeros((batch, beams, length), jnp.int32).at[:, :, :room].set(prompt_P)
    start = _Beams(
        position=(prompt - 1).astype(jnp.int32),
        ids_BKT=ids_BKT,
        # All beams are equal at first: only one of them may grow.
        scores_BK=jnp.full((batch, beams), _NEVER).at[:, 0].set(0.0),
        ended_ids_BKT=ids_BKT,
        ended_scores_BK=jnp.full((batch, beams), _NEVER),
        cache=cache,
    )

    def going(state: _Beams) -> Array:
        # Log-probabilities only fall, so the longest length bounds what a beam can still reach.
        hope_B = state.scores_BK.max(axis=1) / penalty(length - 2)
        return (state.position < length - 1) & (hope_B > state.ended_scores_BK.min(axis=1)).any()

    def step(state: _Beams) -> _Beams:
        position = state.position
        tokens = state.ids_BKT[:, :, position].reshape(-1)
        logits, cache = decoder.step(tokens, position, state.cache)
        log_p_BKV = jax.nn.log_softmax(_forbid(logits, never)).reshape(batch, beams, -1)
        vocabulary = log_p_BKV.shape[-1]
        last = position == length - 2
        is_eos_V = jnp.arange(vocabulary) == eos_id
        log_p_BKV = jnp.where(last & ~is_eos_V, _NEVER, log_p_BKV)
        total_BC = (state.scores_BK[:, :, None] + log_p_BKV).reshape(batch, -1)
        # Twice as many candidates as beams: at most one in a beam can end, so K can always grow on.
        score_BC, flat_BC = jax.lax.top_k(total_BC, 2 * beams)
        parent_BC, token_BC = flat_BC // vocabulary, flat_BC % vocabulary
        ids_BCT = _rows(state.ids_BKT, parent_BC).at[:, :, position + 1].set(token_BC)

        ends_BC = token_BC == eos_id
        ended_scores = jnp.where(ends_BC, score_BC / penalty(position), _NEVER)
        ended_scores_BK, pick = jax.lax.top_k(
            jnp.concatenate([state.ended_scores_BK, ended_scores], axis=1), beams
        )
        ended_ids_BKT = _rows(jnp.concatenate([state.ended_ids_BKT, ids_BCT], axis=1), pick)

        scores_BK, pick = jax.lax.top_k(jnp.where(ends_BC, _NEVER, score_BC), beams)
        parent_BK = jnp.take_along_axis(parent_BC, pick, axis=1)
        flat = (jnp.arange(batch)[:, None] * beams + parent_BK).reshape(-1)
        return _Beams(
            position=position + 1,
            ids_BKT=_rows(ids_BCT, pick),
            scores_BK=scores_BK,
            ended_ids_BKT=ended_ids_BKT,
            ended_scores_BK=ended_scores_BK,
            # Beams of one image attend to the same picture: its keys need no reordering.
            cache=DecoderCache(
                unimodal=_reordered(cache.unimodal, flat),
                multimodal=_reordered(cache.multimodal, flat),
                image=cache.image,
            ),
        )

    end = jax.lax.while_loop(going, step, start)
    return end.ended_ids_BKT, end.ended_scores_BK


def _rows(x_BKT: Any, index_BC: Any) -> Any:
    return jnp.take_along_axis(x_BKT, index_BC[:, :, None], axis=1)


def _reordered(cache: tuple[KeyValue, ...], rows: Array) -> tuple[KeyValue, ...]:
    return tuple(KeyValue(layer.key[rows], layer.value[rows]) for layer in cache)


def _forbid(logits_BV: Array, never: Sequence[int]) -> Array:
    return logits_BV.at[:, jnp.asarray(never)].set(_NEVER)
