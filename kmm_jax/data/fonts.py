"""A font with Korean letters, for the pictures this library draws."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from PIL import ImageFont


@functools.cache
def korean_font_path() -> Path:
    """The NanumGothic file that the package ``koreanize_matplotlib`` carries.

    The package is found but not imported: importing it changes matplotlib's settings for everyone.

    Raises:
        UserError: the package or its font is not there.
    """
    spec = importlib.util.find_spec("koreanize_matplotlib")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "fonts" / "NanumGothic.ttf"
        if path.is_file():
            return path
    raise UserError(
        "no Korean font: fonts/NanumGothic.ttf of koreanize-matplotlib was not found; "
        "install it with: pip install koreanize-matplotlib"
    )


@functools.lru_cache(maxsize=16)
def korean_font(size: int) -> ImageFont.FreeTypeFont:
    """NanumGothic at ``size`` pixels, for Pillow's drawing."""
    from PIL import ImageFont

    return ImageFont.truetype(str(korean_font_path()), size)
