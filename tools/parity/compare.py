"""A model of another library and its import here: the same inputs, what each gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kmm_jax.interop.conversion import import_weights
from kmm_jax.interop.families.base import Hints
from kmm_jax.interop.native import Exported
from kmm_jax.models import registry
from kmm_jax.models.keys import abstract_module
from tools.parity.originals import Original


def inputs(original: Original, *, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random pictures (uint8), and texts of every length between their marks."""
    rng = np.random.default_rng(seed)
    size, length = original.sizes.image_size, original.sizes.length
    vocabulary = original.sizes.vocabulary
    start, end, pad = original.marks or (vocabulary - 2, vocabulary - 1, 0)
    first, last = (1, start) if original.marks is None else (1 + max(original.marks), vocabulary)
    pixels = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    ids = np.full((batch, length), pad, np.int32)
    for row, words in zip(ids, np.linspace(1, length - 2, batch).astype(int), strict=True):
        row[0], row[1 + words] = start, end
        row[1 : 1 + words] = rng.integers(first, last, words)
    return pixels, ids


def imported(original: Original, folder: Path, tokenizer: Path, hints: Hints) -> Exported:
    """Its weights through files: saved as its library does, read as a user does."""
    original.save(folder)
    image = None if original.beside is None else folder / "image"
    exported, family = import_weights(folder, tokenizer=tokenizer, image=image, hints=hints)
    assert family.name == original.family, family.name
    return exported


def outputs(
    exported: Exported, pixels: np.ndarray, ids: np.ndarray, *, logits: bool
) -> dict[str, np.ndarray]:
    """What the model here gives."""
    graphdef = nnx.graphdef(
        abstract_module(lambda rngs: registry.build(exported.config, rngs=rngs))
    )

    @jax.jit
    def run(params: Any, pixels: jax.Array, ids: jax.Array) -> dict[str, jax.Array]:
        module = nnx.merge(graphdef, params)
        image, text = module.encode_image(pixels), module.encode_text(ids)
        found = {}
        if logits:
            (image, context), (text, states) = image, text
            # The last position, whose next token nobody knows, has none in open_clip.
            found["logits"] = module.text.decode(states, context)[:, :-1]
        return {"image": image, "text": text, **found}

    found = run(exported.params, jnp.asarray(pixels), jnp.asarray(ids))
    return {name: np.asarray(value) for name, value in found.items()}


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the output's scale: its largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
