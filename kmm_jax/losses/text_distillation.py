"""How far a student's reading of a prompt is from its teacher's, as a UNet would notice it.

Every error is relative to how much the teacher's own states vary between prompts: 0 is the same
reading, 1 that of a student that says the same of every prompt, the mean.

B batch, T positions, D width, L layers of cross-attention, Q queries, K width of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def relative_error(
    student: Float[Array, "B ..."],
    teacher: Float[Array, "B ..."],
    where: Bool[Array, "B ..."] | None = None,
) -> Float[Array, ""]:
    """The squared error over the variance of the teacher between the examples of the batch."""
    student, teacher = student.astype(jnp.float32), teacher.astype(jnp.float32)
    error = jnp.square(student - teacher)
    spread = jnp.square(teacher - teacher.mean(axis=0))
    if where is None:
        return error.mean() / jnp.maximum(spread.mean(), 1e-12)
    return (error * where).sum() / jnp.maximum((spread * where).sum(), 1e-12)


def first_end(ids_BT: Int[Array, "B T"], eos_id: int) -> Int[Array, " B"]:
    """Where each text ends."""
    return jnp.argmax(ids_BT == eos_id, axis=1)


def position_error(
    student_BTD: Float[Array, "B T D"], teacher_BTD: Float[Array, "B T D"]
) -> Float[Array, ""]:
    """Position by position, whatever stands there in either language (slide 4.2)."""
    return relative_error(student_BTD, teacher_BTD)


def ends_error(
    student_BTD: Float[Array, "B T D"],
    teacher_BTD: Float[Array, "B T D"],
    student_end_B: Int[Array, " B"],
    teacher_end_B: Int[Array, " B"],
) -> Float[Array, ""]:
    """At the ends of both texts, and at the padding that both have at the same place.

    In a causal encoder these say the whole prompt each, and they are most of what a UNet sees; word
    order, in which languages differ, does not matter to them.
    """

    def at(x_BTD: Array, end_B: Array) -> Array:
        return jnp.take_along_axis(x_BTD, end_B[:, None, None], axis=1)[:, 0]

    ends = relative_error(at(student_BTD, student_end_B), at(teacher_BTD, teacher_end_B))
    last_B = jnp.maximum(student_end_B, teacher_end_B)
    padding_BT = jnp.arange(student_BTD.shape[1]) > last_B[:, None]
    return (ends + relative_error(student_BTD, teacher_BTD, padding_BT[..., None])) / 2


def response_error(
    student_LBQK: Sequence[Float[Array, "B Q K"]], teacher_LBQK: Sequence[Float[Array, "B Q K"]]
) -> Float[Array, ""]:
    """What queries of a UNet gather from either reading, the mean over its cross-attention layers.

    Blind to order and to what no query attends to, as the UNet is.
    """
    errors = [
        relative_error(student, jax.lax.stop_gradient(teacher))
        for student, teacher in zip(student_LBQK, teacher_LBQK, strict=True)
    ]
    return jnp.stack(errors).mean()
