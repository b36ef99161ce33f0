"""A student of a text encoder before it has learned anything.

One of its teacher's architecture begins as the teacher, with rows for new tokens; a resampled one
with a published tower, or afresh.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.generation.tower_weights import tower_params
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.interop.diffusers.names import shapes_of
from kmm_jax.models.diffusion.config import (
    AnyTextConfig,
    ResampledTextEncoderConfig,
    TextEncoderConfig,
)
from kmm_jax.text.extension import parts
from kmm_jax.text.tokenizer import Tokenizer


def student_of(teacher: TextEncoderConfig, tokenizer: Tokenizer) -> TextEncoderConfig:
    """The teacher's encoder with rows for another tokenizer.

    Its texts end where the mark for it first stands: with ids beyond the mark's, the largest id, by
    which OpenAI's CLIP finds the end, would be a Korean token.
    """
    tower = dataclasses.replace(
        teacher.tower,
        vocabulary=max(tokenizer.vocab_size, teacher.tower.vocabulary),
        pooling="eos",
        eos_id=tokenizer.eos_id,
    )
    return dataclasses.replace(teacher, tower=tower)


def resampled_student_of(
    teacher: TextEncoderConfig, tokenizer: Tokenizer, student: ResampledTextEncoderConfig
) -> ResampledTextEncoderConfig:
    """A resampled encoder of any sizes, for a tokenizer and with states of the teacher's form."""
    tower = dataclasses.replace(
        student.tower, vocabulary=tokenizer.vocab_size, pad_id=tokenizer.pad_id
    )
    return dataclasses.replace(
        student,
        tower=tower,
        eos_id=tokenizer.eos_id,
        positions=teacher.positions,
        width=teacher.width,
        projection=teacher.projection,
    )


def student_params(
    params: Any, config: TextEncoderConfig, tokenizer: Tokenizer, base: Tokenizer
) -> dict[str, Any]:
    """The teacher's parameters, with a row for each new token: the mean of what it replaces.

    Args:
        config: the student's.
        tokenizer: the student's, an extension of ``base``, the teacher's.

    Raises:
        UserError: it is no extension: English would have other ids.
    """
    rows_VD = np.asarray(params["tower"]["embedding"]["tokens"]["embedding"])
    new = parts(tokenizer, base)
    grown_VD = np.empty((config.tower.vocabulary, rows_VD.shape[1]), rows_VD.dtype)
    grown_VD[: len(rows_VD)] = rows_VD
    grown_VD[len(rows_VD) :] = rows_VD.mean(axis=0)
    for number, replaced in new.items():
        grown_VD[number] = rows_VD[list(replaced)].mean(axis=0)
    tower = dict(params["tower"])
    tower["embedding"] = {**tower["embedding"], "tokens": {"embedding": grown_VD}}
    return {**params, "tower": tower}


def resampled_params(
    params: Any, config: ResampledTextEncoderConfig, tokenizer: Tokenizer, weights: Path | None
) -> dict[str, Any]:
    """What a resampled student does not begin afresh: its tower where there are weights, the norm.

    The teacher's last norm, because states of its scale are wanted; and its projection.

    Args:
        params: the teacher's.
        weights: of an XLM-RoBERTa; None for a fresh tower.

    Raises:
        ConfigError: the tokenizer or the weights are not those that ``config`` is made for.
    """
    marks = {"tower.pad_id": tokenizer.pad_id, "eos_id": tokenizer.eos_id}
    said = {"tower.pad_id": config.pad_id, "eos_id": config.eos_id}
    if marks != said:
        raise ConfigError(
            "the student's tokenizer has other marks than the student expects; set "
            + " ".join(f"task.model.student.{name}={number}" for name, number in marks.items())
        )
    found = {"norm": params["tower"]["norm"]} if "norm" in params["tower"] else {}
    if config.projection is not None and "projection" in params:
        found["projection"] = params["projection"]
    if weights is not None:
        shapes = shapes_of(folders.abstract_text(config)["tower"])
        found["tower"] = tower_params(weights, config.tower, shapes)
    return found


def _as_teacher(
    config: TextEncoderConfig, model: Published, tokenizer: Tokenizer, weights: Path | None
) -> dict[str, Any]:
    if weights is not None:
        raise ConfigError(
            f"task.student_weights={weights}: a student of its teacher's architecture begins with "
            "its teacher's weights; set task.student_weights=none"
        )
    return student_params(model.params["texts"][0], config, tokenizer, model.tokenizers[0])


def _resampled(
    config: ResampledTextEncoderConfig, model: Published, tokenizer: Tokenizer, weights: Path | None
) -> dict[str, Any]:
    return resampled_params(model.params["texts"][0], config, tokenizer, weights)


_STUDENTS: dict[type, Callable[..., dict[str, Any]]] = {
    TextEncoderConfig: _as_teacher,
    ResampledTextEncoderConfig: _resampled,
}


def first_params(
    config: AnyTextConfig, teacher: Published, tokenizer: Tokenizer, weights: Path | None = None
) -> dict[str, Any]:
    """What a student begins with; what is not there begins afresh.

    Args:
        tokenizer: the student's.
        weights: for the tower of a resampled student; None for a fresh one.

    Raises:
        UserError: a tokenizer that is no extension of the teacher's, where it has to be.
        ConfigError: weights that the student has no place for, or another tokenizer's.
    """
    return _STUDENTS[type(config)](config, teacher, tokenizer, weights)
