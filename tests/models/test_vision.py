"""The Vision Transformer's parts: patches and resized positions."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kmm_jax.models.vision import (
    VisionConfig,
    VisionTransformer,
    patchify,
    resize_positions,
)


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


def tower(stem):
    config = VisionConfig(
        image_size=32, patch_size=8, width=16, depth=1, heads=2, hidden=32, stem=stem
    )
    return VisionTransformer(config, dtype=jnp.float32, rngs=nnx.Rngs(0))


def test_a_conv_stem_gives_a_vector_for_each_patch_and_looks_beyond_it():
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    assert tower("conv")(image)[0].shape == tower("linear")(image)[0].shape == (2, 16, 16)
    stem = tower("conv").patch_embedding
    pixels = image.astype(np.float32) / 255
    changed = pixels.copy()
    changed[:, 7, 8] += 1  # a pixel of patch 1, beside patch 0
    moved = np.abs(np.asarray(stem(changed) - stem(pixels))).max(axis=(0, 2)) > 1e-6
    assert moved[[0, 1]].all() and not moved[[3, 7, 10, 15]].any()


def test_a_conv_stem_equals_its_convolutions_written_out():
    stem = tower("conv").patch_embedding
    x_BHWC = np.random.default_rng(1).normal(size=(1, 32, 32, 3)).astype(np.float32)
    found = np.asarray(stem(jnp.asarray(x_BHWC)))
    for convolution, norm in zip(stem.convolutions, stem.norms, strict=True):
        kernel = np.asarray(convolution.kernel[...])
        side = x_BHWC.shape[1] // 2
        # SAME padding of an even side at stride 2 adds one row and column at the end.
        padded = np.pad(x_BHWC, ((0, 0), (0, 1), (0, 1), (0, 0)))
        out = np.zeros((1, side, side, kernel.shape[-1]), np.float32)
        for i in range(side):
            for j in range(side):
                window = padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
                out[0, i, j] = np.einsum("hwc,hwcd->d", window, kernel)
        x_BHWC = np.asarray(nnx.gelu(norm(jnp.asarray(out))))
    rows = np.asarray(stem.projection(jnp.asarray(x_BHWC.reshape(1, 16, -1))))
    np.testing.assert_allclose(found, rows, atol=1e-5)


@pytest.mark.parametrize(
    ("patch", "width", "message"),
    [(18, 16, "2, 4, 8, 16"), (1, 16, "2, 4, 8, 16"), (8, 18, "width 18 does not divide by 4")],
)
def test_a_conv_stem_that_cannot_be_built_is_refused(patch, width, message):
    with pytest.raises(ValueError, match=message):
        VisionConfig(
            image_size=144,
            patch_size=patch,
            width=width,
            depth=1,
            heads=2,
            hidden=32,
            stem="conv",
        )
