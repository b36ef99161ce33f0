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


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float, lines: int) -> list[str]:
    """``text`` in at most ``lines`` lines of ``width`` pixels, with an ellipsis if cut.

    Lines break at spaces where they can, and inside a word that is too long for a line.
    """
    rest = " ".join(text.split())
    done: list[str] = []
    while rest:
        if font.getlength(rest) <= width:
            return [*done, rest]
        last = len(done) == lines - 1
        end = len(rest)
        while end > 1 and font.getlength(rest[:end] + ("…" if last else "")) > width:
            end -= 1
        if last:
            return [*done, rest[:end].rstrip() + "…"]
        # The character after the line may be the space itself.
        space = rest.rfind(" ", 1, end + 1)
        cut = space if space > 0 else end
        done.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return done
