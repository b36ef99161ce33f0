"""The Vision Transformer's parts: patches and resized positions."""

import jax.numpy as jnp
import numpy as np
import pytest

from kmm_jax.models.vision import patchify, resize_positions


def test_patches_are_the_images_tiles_in_reading_order():
    image = np.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3)
    patches = patchify(jnp.asarray(image), 3)
    assert patches.shape == (2, 4, 27)
    np.testing.assert_array_equal(patches[1, 1], image[1, 0:3, 3:6].reshape(-1))
    np.testing.assert_array_equal(patches[0, 2], image[0, 3:6, 0:3].reshape(-1))


def test_positions_resized_to_the_same_grid_stay_and_a_ramp_stays_a_ramp():
    ramp = np.tile(np.arange(8.0)[None, :, None], (8, 1, 4)).reshape(64, 4)
    np.testing.assert_allclose(resize_positions(jnp.asarray(ramp), 64, class_token=False), ramp)
    wider = resize_positions(jnp.asarray(ramp), 256, class_token=False).reshape(16, 16, 4)
    inner = wider[4, 4:12, 0]
    np.testing.assert_allclose(np.diff(inner), 0.5, atol=0.02)


def test_the_class_tokens_position_is_kept():
    positions = jnp.asarray(np.random.default_rng(0).normal(size=(17, 8)))
    resized = resize_positions(positions, 64, class_token=True)
    assert resized.shape == (65, 8)
    np.testing.assert_array_equal(resized[0], positions[0])


def test_a_grid_that_is_no_square_is_refused():
    with pytest.raises(ValueError, match="15 positions"):
        resize_positions(jnp.zeros((15, 4)), 16, class_token=False)
