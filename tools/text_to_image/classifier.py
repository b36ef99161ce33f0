"""What scores generated pictures: a small network that tells type and colour of real photos.

N pictures, D features.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from kmm_jax.data.datasets.fashion_pairs import COLORS, TYPES
from kmm_jax.files import atomic_directory, read_json, write_json
from kmm_jax.interop.native import flatten, unflatten
from kmm_jax.interop.weights import open_weights, save_tensors
from kmm_jax.models.diffusion.layers import conv, group_norm
from kmm_jax.models.keys import abstract_module
from tools.text_to_image.data import Labelled

_WIDTHS = (32, 64, 128)
_BATCH = 128


class Network(nnx.Module):
    """Three halvings, global averages, and a head for each attribute."""

    def __init__(self, *, rngs: nnx.Rngs):
        dtype = jnp.dtype("float32")
        widths = (3, *_WIDTHS)
        self.first = nnx.List(
            [conv(i, o, stride=2, dtype=dtype, rngs=rngs) for i, o in zip(widths, _WIDTHS)]  # noqa: B905
        )
        self.second = nnx.List([conv(w, w, dtype=dtype, rngs=rngs) for w in _WIDTHS])
        self.norms = nnx.List([group_norm(w, 8, 1e-5, dtype=dtype, rngs=rngs) for w in _WIDTHS])
        self.type = nnx.Linear(_WIDTHS[-1], len(TYPES), rngs=rngs)
        self.color = nnx.Linear(_WIDTHS[-1], len(COLORS), rngs=rngs)

    def features(self, image_NHW3: jax.Array) -> jax.Array:
        """(N, D), what both heads read."""
        x = image_NHW3.astype(jnp.float32) / 127.5 - 1
        for first, second, norm in zip(self.first, self.second, self.norms, strict=True):
            x = jax.nn.silu(first(x))
            x = x + jax.nn.silu(norm(second(x)))
        return x.mean(axis=(1, 2))

    def __call__(self, image_NHW3: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Features, and the logits of types and of colours."""
        x_ND = self.features(image_NHW3)
        return x_ND, self.type(x_ND), self.color(x_ND)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """The network, trained.

    Attributes:
        accuracy: on held-out real photos, of ``type`` and ``color``: the ceiling of any score.
    """

    params: Any
    accuracy: dict[str, float]

    def read(self, images_NHW3: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features (N, D), types (N,) and colours (N,) by number."""
        found = [
            jax.device_get(_read(self.params, images_NHW3[start : start + 256]))
            for start in range(0, len(images_NHW3), 256)
        ]
        features, types, colors = (np.concatenate(each) for each in zip(*found, strict=True))
        return features, types, colors


def _graphdef() -> Any:
    return nnx.graphdef(abstract_module(lambda rngs: Network(rngs=rngs)))


@jax.jit
def _read(params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    features, types, colors = nnx.merge(_graphdef(), params)(images)
    return features, types.argmax(axis=1), colors.argmax(axis=1)


def classifier(photos: Labelled, work: Path, *, steps: int, seed: int = 0) -> Classifier:
    """The classifier of these photos, trained once."""
    folder = work / "classifier"
    if about := read_json(folder / "about.json"):
        weights = open_weights(folder / "model.safetensors")
        params = unflatten({name: weights[name] for name in weights})
        return Classifier(params=params, accuracy=about["accuracy"])
    params = _fitted(photos, steps, seed)
    found = Classifier(params=params, accuracy={})
    _, types, colors = found.read(photos.images[photos.tests])
    accuracy = {
        "type": float((types == photos.types[photos.tests]).mean()),
        "color": float((colors == photos.colors[photos.tests]).mean()),
        "photos": int(photos.tests.sum()),
    }
    with atomic_directory(folder) as place:
        save_tensors(place / "model.safetensors", flatten(params), metadata={"format": "np"})
        write_json(place / "about.json", {"accuracy": accuracy})
    return dataclasses.replace(found, accuracy=accuracy)


def _fitted(photos: Labelled, steps: int, seed: int) -> Any:
    """Trained with shifts and mirror images; pairs are drawn by the root of their number."""
    graphdef, state = nnx.split(Network(rngs=nnx.Rngs(seed)))
    params = nnx.to_pure_dict(nnx.as_pure(state))
    optimizer = optax.adamw(
        optax.warmup_cosine_decay_schedule(0.0, 2e-3, steps // 20, steps), b2=0.99
    )
    opt_state = optimizer.init(params)
    rows = np.flatnonzero(~photos.tests)
    pairs = photos.types[rows] * len(COLORS) + photos.colors[rows]
    counts = np.bincount(pairs, minlength=len(TYPES) * len(COLORS))
    share = 1 / np.sqrt(counts[pairs])
    share /= share.sum()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, opt_state: Any, images: Any, types: Any, colors: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            _, by_type, by_color = nnx.merge(graphdef, params)(images)
            each = optax.softmax_cross_entropy_with_integer_labels
            return (each(by_type, types) + each(by_color, colors)).mean()

        grads = jax.grad(loss)(params)
        changes, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, changes), opt_state

    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = rng.choice(rows, _BATCH, p=share)
        images = _moved(photos.images[chosen], rng)
        params, opt_state = update(
            params, opt_state, images, photos.types[chosen], photos.colors[chosen]
        )
    return jax.device_get(params)


def _moved(images_NHW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifted by up to an eighth, half of them mirrored."""
    side = images_NHW3.shape[1]
    reach = side // 8
    wide = np.pad(images_NHW3, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    out = np.empty_like(images_NHW3)
    for number, (top, left) in enumerate(rng.integers(0, 2 * reach + 1, (len(wide), 2))):
        image = wide[number, top : top + side, left : left + side]
        out[number] = image[:, ::-1] if rng.random() < 0.5 else image
    return out
