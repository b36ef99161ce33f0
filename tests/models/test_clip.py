"""CLIP: published sizes, and equality with open_clip's PyTorch model."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.clip.config import clip_b16, clip_b32, clip_l14, clip_tiny
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.summary import summarise


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(clip_b32(), 151_277_313), (clip_b16(), 149_620_737), (clip_l14(), 427_616_513)],
    ids=["b32", "b16", "l14"],
)
def test_parameter_counts_are_openais(config, parameters):
    assert summarise(config)["total"] == parameters


def test_text_is_read_at_its_first_end_token():
    model = CLIP(clip_tiny(vocabulary=50, image_size=16), rngs=nnx.Rngs(0))
    ids = np.zeros((2, 32), np.int32)
    ids[:, :5] = [1, 5, 9, 10, 2]
    after = ids.copy()
    after[:, 6:] = 30
    np.testing.assert_allclose(
        model.encode_text(jnp.asarray(ids)), model.encode_text(jnp.asarray(after)), atol=1e-6
    )
    ids[1, 3] = 11
    vectors = model.encode_text(jnp.asarray(ids))
    assert not np.allclose(vectors[0], vectors[1])
