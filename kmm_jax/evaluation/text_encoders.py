"""How well a student reads prompts for the UNet of its teacher: what stands before any picture.

Pooled retrieval is among the figures because it is what one is tempted to look at; a student can
have all of it and be worse for the UNet than one that says the same of every prompt.

B pairs of prompts, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kmm_jax.generation.schedulers.config import parse
from kmm_jax.generation.teaching import cross_attention_params, unet_queries
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.losses.text_distillation import relative_error, response_error
from kmm_jax.models.diffusion.distillation import Distillation, DistillationConfig
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.text import unit

_LEVELS = (0.98, 0.5, 0.1)  # of the noise schedule, from almost noise to almost a picture
_QUERIES = 128


class _Read(NamedTuple):
    """States of the Korean and English prompts by the student, and by the teacher of English."""

    korean: Any
    english: Any
    taught: Any
    nothing: Any


def compare_text_encoders(
    student: Published, teacher: Published, pairs: Sequence[tuple[str, str]], *, seed: int = 0
) -> Iterator[tuple[str, float]]:
    """Figures of a student against the teacher whose UNet it drives.

    ``response/NN`` and ``response/mean`` are errors of what each layer of cross-attention gathers,
    relative to how prompts differ (1: as good as one reading for all). ``noise/PP`` is the squared
    error of the UNet's prediction at PP per cent of the noise schedule, Korean by the student
    against English by the teacher, relative to an empty prompt's (1: useless). ``english/response``
    is the student's reading of English, ``first`` its state of the first position relative to the
    state's size, and ``retrieval/...`` recall@1 of pooled vectors between the languages.

    Args:
        pairs: Korean and English prompts that mean the same; the English ones all different.
    """
    module = _module(student, teacher, [en for _, en in pairs], seed)
    graphdef, params = nnx.split(module)
    korean, english = [ko for ko, _ in pairs], [en for _, en in pairs]

    def ids(model: Published, texts: Sequence[str]) -> np.ndarray:
        return model.tokenizers[0].sequences(texts, None, model.config.texts[0].length)

    given = (
        ids(student, korean),
        ids(student, english),
        ids(teacher, english),
        ids(teacher, [""]),
    )

    @jax.jit
    def read(params: Any, given: Any) -> _Read:
        whole = nnx.merge(graphdef, params)
        korean, english, taught, nothing = given
        return _Read(
            whole.student(korean),
            whole.student(english),
            whole.teacher(taught),
            whole.teacher(nothing),
        )

    found = read(params, given)
    yield from _responses(graphdef, params, found)
    yield from _predictions(graphdef, params, found, teacher, seed)
    first, own = found.korean.hidden[:, 0], found.taught.hidden[:, 0]
    yield "first", float(jnp.square(first - own).mean() / jnp.square(own).mean())
    yield from _retrieval(
        np.asarray(unit(found.korean.pooled)), np.asarray(unit(found.taught.pooled))
    )


def _module(
    student: Published, teacher: Published, prompts: Sequence[str], seed: int
) -> Distillation:
    config = DistillationConfig(
        student=student.config.texts[0],
        teacher=teacher.config.texts[0],
        unet=teacher.config.unet,
        queries=_QUERIES,
        whole_unet=True,
    )
    asked = list(prompts)[:32]
    queries = unet_queries(teacher, asked, count=_QUERIES, seed=seed)
    layers = cross_attention_params(teacher.params["unet"], config.unet)
    params = {
        "student": student.params["texts"][0],
        "teacher": teacher.params["texts"][0],
        "responders": {
            number: {**layer, "queries": query}
            for number, (layer, query) in enumerate(zip(layers, queries, strict=True))
        },
        "unet": teacher.params["unet"],
    }
    graphdef = nnx.graphdef(abstract_module(lambda rngs: Distillation(config, rngs=rngs)))
    return nnx.merge(graphdef, params)


def _responses(graphdef: Any, params: Any, found: _Read) -> Iterator[tuple[str, float]]:
    @jax.jit
    def errors(params: Any, found: _Read) -> tuple[jax.Array, jax.Array]:
        whole = nnx.merge(graphdef, params)
        taught = whole.responses(found.taught.hidden)
        korean = whole.responses(found.korean.hidden)
        english = whole.responses(found.english.hidden)
        each = [relative_error(one, other) for one, other in zip(korean, taught, strict=True)]
        return jnp.stack(each), response_error(english, taught)

    each, english = errors(params, found)
    for number, error in enumerate(np.asarray(each)):
        yield f"response/{number:02d}", float(error)
    yield "response/mean", float(np.mean(each))
    yield "english/response", float(english)


def _predictions(
    graphdef: Any, params: Any, found: _Read, teacher: Published, seed: int
) -> Iterator[tuple[str, float]]:
    unet, steps = teacher.config.unet, parse(teacher.scheduler).noise.training_steps
    shape = (len(found.korean.hidden), unet.sample_size, unet.sample_size, unet.in_channels)
    x = jax.random.normal(jax.random.key(seed), shape)

    @jax.jit
    def error(params: Any, found: _Read, timestep: jax.Array) -> jax.Array:
        whole = nnx.merge(graphdef, params)
        t_B = jnp.full((shape[0],), timestep)
        wanted = whole.unet(x, t_B, found.taught.hidden)
        nothing = jnp.broadcast_to(found.nothing.hidden, found.taught.hidden.shape)
        useless = jnp.square(whole.unet(x, t_B, nothing) - wanted).mean()
        return jnp.square(whole.unet(x, t_B, found.korean.hidden) - wanted).mean() / useless

    for level in _LEVELS:
        value = error(params, found, jnp.float32(int(level * steps)))
        yield f"noise/{level:.0%}".replace("%", ""), float(value)


def _retrieval(korean_BD: np.ndarray, english_BD: np.ndarray) -> Iterator[tuple[str, float]]:
    cosine_BB = korean_BD @ english_BD.T
    right = np.arange(len(cosine_BB))
    yield "retrieval/ko_to_en/r1", float((cosine_BB.argmax(axis=1) == right).mean())
    yield "retrieval/en_to_ko/r1", float((cosine_BB.argmax(axis=0) == right).mean())
    yield "retrieval/chance", 1.0 / len(cosine_BB)
