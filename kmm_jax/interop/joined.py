"""A text tower alone and the images of a CLIP beside it, as one model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from kmm_jax.errors import UserError
from kmm_jax.interop import names
from kmm_jax.interop.families import recognise
from kmm_jax.interop.families.base import Hints
from kmm_jax.interop.native import flatten, parameter_shapes
from kmm_jax.interop.weights import open_weights
from kmm_jax.models.clip.config import CLIPConfig
from kmm_jax.models.clip.modeling import text_projection

_OF_TEXT = ("text.", "text_projection.")


class Images(NamedTuple):
    """What a CLIP has besides its text tower.

    Attributes:
        config: of the whole CLIP.
        params: flat; image tower, its projection and the logit scale.
    """

    config: CLIPConfig
    params: Mapping[str, np.ndarray]


def images_of(path: str | Path, hints: Hints) -> Images:
    """Read the images of a CLIP.

    Raises:
        UserError: pickles, or weights of no CLIP that is known here.
        DataError: tensors are missing, left over or of another shape, or a file is damaged.
    """
    kind, weights = recognise(open_weights(path))
    config = None if kind.text_alone else kind.config(weights, hints)
    if not isinstance(config, CLIPConfig):
        raise UserError(f"{path} is of {kind.title}, and has no image tower of a CLIP to take")
    found = names.taken(kind.rules(config), weights, parameter_shapes(config), ignored=kind.ignored)
    kept = {name: value for name, value in found.items() if not name.startswith(_OF_TEXT)}
    return Images(config, kept)


def text_shapes(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of the text tower and of its projection, by flat name."""
    shapes = parameter_shapes(config)
    return {name: shape for name, shape in shapes.items() if name.startswith(_OF_TEXT)}


def fresh_projection(config: CLIPConfig) -> dict[str, np.ndarray]:
    """A projection of texts as training begins with one, flat; the same each time."""

    def make() -> Any:
        return text_projection(
            config.text, config.embedding, dtype=jnp.dtype(jnp.float32), rngs=nnx.Rngs(0)
        )

    params = nnx.to_pure_dict(nnx.as_pure(nnx.state(make())))
    return {f"text_projection.{name}": value for name, value in flatten(params).items()}
