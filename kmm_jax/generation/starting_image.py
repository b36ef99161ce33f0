"""Images to start from and their masks, checked and fitted to a size that the model takes.

B pictures, or 1 for all of them; H height, W width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.errors import UserError
from kmm_jax.generation.request import Request


def image_size(request: Request, step: int) -> tuple[int, int]:
    """Height and width for a request with an image: as asked, and what is not asked as the image's.

    Args:
        step: what sides must divide by; the image's own are rounded down to it.

    Raises:
        UserError: no image, or one too small.
    """
    own_height, own_width = _array(request.image).shape[-3:-1]
    height, width = request.height, request.width
    if min(own_height, own_width) < step and (height is None or width is None):
        raise UserError(
            f"the image is {own_width} x {own_height} pixels, and a side must have {step}; give "
            "height and width to scale it"
        )
    if height is None and width is None:
        return own_height // step * step, own_width // step * step
    if height is None:
        assert width is not None
        return max(step, round(own_height * width / own_width / step) * step), width
    if width is None:
        return height, max(step, round(own_width * height / own_height / step) * step)
    return height, width


def images_and_masks(request: Request, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The images (B or 1, H, W, 3) uint8 and masks (B or 1, H, W) bool of a request.

    Both are cut at the middle to ``height`` and ``width``; where the request names a size, they are
    scaled to cover it first. Without a mask everything is made anew.

    Raises:
        UserError: they are of another kind, do not fit each other, or not the number of pictures.
    """
    images = _array(request.image)
    if request.mask is None:
        masks = np.ones((1, *images.shape[-3:-1]), bool)
    else:
        masks = np.asarray(request.mask)
        if masks.dtype != np.bool_ or masks.shape[-2:] != images.shape[-3:-1]:
            raise UserError(
                f"the mask is {masks.shape} {masks.dtype}, the image {images.shape}: a mask is "
                "bool of the image's height and width, True where it is made anew"
            )
    images = _one_or_each(images, request.pictures, 3, "images")
    masks = _one_or_each(masks, request.pictures, 2, "masks")
    scale = 1.0
    if request.height is not None or request.width is not None:
        scale = max(height / images.shape[1], width / images.shape[2])
    return (
        np.stack([_fitted(each, scale, height, width) for each in images]),
        np.stack([_fitted(each, scale, height, width) for each in masks]),
    )


def shrunk(mask_BHW: np.ndarray, factor: int) -> np.ndarray:
    """A mask for latents, (B, h, w, 1) float32: the pixel at the corner of each decides."""
    return mask_BHW[:, ::factor, ::factor, None].astype(np.float32)


def _array(image: Any) -> np.ndarray:
    found = np.asarray(image)
    if found.dtype != np.uint8 or found.ndim not in (3, 4) or found.shape[-1] != 3:
        raise UserError(
            f"an image to start from is (H, W, 3) uint8, got {found.shape} {found.dtype}"
        )
    return found


def _one_or_each(array: np.ndarray, pictures: int, dimensions: int, what: str) -> np.ndarray:
    if array.ndim == dimensions:
        return array[None]
    if len(array) not in (1, pictures) or array.ndim != dimensions + 1:
        raise UserError(f"{len(array)} {what} for {pictures} pictures; give one, or one for each")
    return array


def _fitted(array: np.ndarray, scale: float, height: int, width: int) -> np.ndarray:
    if scale != 1:
        sides = [math.ceil(round(side * scale, 6)) for side in array.shape[:2]]
        how = Image.Resampling.NEAREST if array.dtype == np.bool_ else Image.Resampling.LANCZOS
        array = np.asarray(Image.fromarray(array).resize((sides[1], sides[0]), how))
    top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
    return array[top : top + height, left : left + width]
