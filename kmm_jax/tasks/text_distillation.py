"""A Korean text encoder for a Stable Diffusion as it is, taught by parallel texts (slide 4.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.errors import ConfigError
from kmm_jax.losses.text_distillation import (
    ends_error,
    first_end,
    position_error,
    relative_error,
    response_error,
)
from kmm_jax.models.diffusion.distillation import Distillation, DistillationConfig
from kmm_jax.models.diffusion.flops import text_flops
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule
from kmm_jax.models.keys import Keys
from kmm_jax.models.partition import RULES, Rule

OBJECTIVES = ("pooled", "position", "ends", "response", "noise", "replay", "first")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """The weight of each objective; one of weight 0 is not computed.

    Attributes:
        pooled: the vector at the end of a text alone (Multilingual-CLIP). It says nothing of what a
            UNet sees: perfect retrieval and useless pictures go together. A resampled encoder has
            it from a query of its own, which no other objective teaches.
        position: state by state (slide 4.2), right as far as both languages have the same order.
        ends: at the end of the text and at the padding behind it; of a resampled encoder, whose
            positions are its teacher's, at the end of the teacher's text.
        response: what the UNet's cross-attention gathers (``models.diffusion.responder``).
        noise: what the whole UNet predicts, as PEA-Diffusion distils (arXiv 2311.17086).
        replay: the student's reading of English against the teacher's, position by position.
        first: the state of the first position, which is the same for all prompts and draws most of
            a UNet's attention.
    """

    pooled: float = 0.0
    position: float = 0.0
    ends: float = 0.0
    response: float = 0.0
    noise: float = 0.0
    replay: float = 1.0
    first: float = 1.0

    def __post_init__(self) -> None:
        wrong = [name for name in OBJECTIVES if not getattr(self, name) >= 0]
        if wrong:
            raise ConfigError(f"task.weights.{wrong[0]} must be 0 or more")
        if not any(getattr(self, name) for name in OBJECTIVES):
            raise ConfigError("task.weights: every objective has weight 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDistillationTask:
    """Train the student of a ``Distillation``; ``freeze="(teacher|responders|unet)/.*"``.

    The data are ``data.text_pairs.TextPairs``; it begins with ``generation.teaching``.

    Attributes:
        schedule: the UNet's, for the objective ``noise``. Its latents are pure noise, told to be of
            any step: no picture is needed.
        noise_rows: so many texts of a batch go through the whole UNet; None for all. A UNet costs
            thousands of times what a text encoder does.
        student_weights: folder or file of Hugging Face's XLM-RoBERTa that a resampled student's
            tower begins with; None for a fresh tower. Other students begin as their teacher.
    """

    model: DistillationConfig
    weights: Weights = dataclasses.field(default_factory=Weights)
    schedule: NoiseSchedule = dataclasses.field(default_factory=NoiseSchedule)
    noise_rows: int | None = None
    student_weights: str | None = None
    sharding_rules: tuple[Rule, ...] = RULES

    def check(self, *, data: Any, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit, before anything is compiled."""
        if not isinstance(data, TextPairs):
            raise ConfigError(
                f"a text encoder is taught by parallel texts: data is a {type(data).__name__}, "
                "give a TextPairs"
            )
        student, teacher = self.model.student, self.model.teacher
        if data.text_length != student.length:
            raise ConfigError(
                f"data.text_length={data.text_length}, but the student takes {student.length}"
            )
        if data.taught_length != teacher.length:
            raise ConfigError(
                f"the teacher takes {teacher.length} tokens, and its texts would have "
                f"{data.taught_length}; set data.teacher_length={teacher.length}"
            )
        if vocabulary is not None and vocabulary > student.vocabulary:
            raise ConfigError(
                f"the tokenizer has {vocabulary} tokens, the student {student.vocabulary}"
            )
        if self.weights.pooled and student.projection != teacher.projection:
            raise ConfigError(
                f"the objective pooled needs vectors of one width: student.projection is "
                f"{student.projection}, the teacher's {teacher.projection}"
            )
        if self.weights.ends and not teacher.keeps_places:
            raise ConfigError(
                "the objective ends needs a teacher whose texts end at one of its positions, and "
                "this teacher's are resampled; set task.weights.ends=0"
            )
        if self.weights.noise and not self.model.whole_unet:
            raise ConfigError("the objective noise needs task.model.whole_unet=true")
        if self.noise_rows is not None and self.noise_rows < 2:
            raise ConfigError(
                f"task.noise_rows={self.noise_rows}: the error is relative to how texts differ; "
                "give 2 or more, or null for all"
            )

    def init(self, key: jax.Array) -> nnx.Module:
        """The module with fresh parameters."""
        return Distillation(self.model, rngs=Keys(key))

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of the objectives; all are logged that are computed."""
        taught = jax.lax.stop_gradient(module.teacher(batch["teacher"]))
        rows = batch["korean"].shape[0]
        both = module.student(jnp.concatenate([batch["korean"], batch["english"]]))
        korean = jax.tree.map(lambda x: x[:rows], both)
        english = jax.tree.map(lambda x: x[rows:], both)
        # A UNet sees the first state as it will be once it is right.
        pinned_BTD = jnp.concatenate([taught.hidden[:, :1], korean.hidden[:, 1:]], axis=1)
        taught_end_B = first_end(batch["teacher"], self.model.teacher.eos_id)
        end_B = taught_end_B
        if self.model.student.keeps_places:
            end_B = first_end(batch["korean"], self.model.student.eos_id)
        computed: dict[str, Callable[[], jax.Array]] = {
            "pooled": lambda: relative_error(korean.pooled, taught.pooled),
            "position": lambda: position_error(korean.hidden, taught.hidden),
            "ends": lambda: ends_error(korean.hidden, taught.hidden, end_B, taught_end_B),
            "response": lambda: response_error(
                module.responses(pinned_BTD), module.responses(taught.hidden)
            ),
            "noise": lambda: self._noise_error(module, pinned_BTD, taught.hidden, key),
            "replay": lambda: position_error(english.hidden, taught.hidden),
            "first": lambda: _first_error(korean.hidden, taught.hidden),
        }
        errors = {name: error() for name, error in computed.items() if getattr(self.weights, name)}
        total = sum(getattr(self.weights, name) * error for name, error in errors.items())
        return jnp.asarray(total), {f"{name}_error": error for name, error in errors.items()}

    def _noise_error(
        self, module: Any, student_BTD: jax.Array, teacher_BTD: jax.Array, key: jax.Array
    ) -> jax.Array:
        """What the UNet predicts of either reading, relative to how prompts differ in it."""
        unet = self.model.unet
        rows = min(self.noise_rows or student_BTD.shape[0], student_BTD.shape[0])
        student_BTD, teacher_BTD = _spread_rows(student_BTD, rows), _spread_rows(teacher_BTD, rows)
        step_key, noise_key = jax.random.split(key)
        step = jax.random.randint(step_key, (), 0, self.schedule.training_steps)
        t_B = jnp.broadcast_to(step.astype(jnp.float32), (rows,))
        shape = (1, unet.sample_size, unet.sample_size, unet.in_channels)
        # One picture for all prompts: only then does what is predicted differ by the prompt alone.
        x = jnp.broadcast_to(jax.random.normal(noise_key, shape), (rows, *shape[1:]))
        student = module.unet(x, t_B, student_BTD)
        teacher = jax.lax.stop_gradient(module.unet(x, t_B, teacher_BTD))
        return relative_error(student, teacher)

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call: hidden and pooled states of ``text`` (B, T), of both encoders."""
        return {
            "student": lambda module, batch: module.student(batch["text"]),
            "teacher": lambda module, batch: module.teacher(batch["text"]),
        }

    def flops_per_example(self) -> float:
        """Forward operations of one pair: the student reads both texts, the teacher one."""
        return 2 * text_flops(self.model.student) + text_flops(self.model.teacher)


def _spread_rows(x_BTD: jax.Array, rows: int) -> jax.Array:
    """So many rows, as many of each device: the first ones would all lie on one."""
    each = x_BTD.shape[0] // rows
    return x_BTD[: rows * each].reshape(rows, each, *x_BTD.shape[1:])[:, 0]


def _first_error(student_BTD: jax.Array, teacher_BTD: jax.Array) -> jax.Array:
    """Of the first position, relative to the teacher's size: between prompts it does not vary."""
    error = jnp.square(student_BTD[:, 0] - teacher_BTD[:, 0]).mean()
    return error / jnp.maximum(jnp.square(teacher_BTD[:, 0]).mean(), 1e-12)
