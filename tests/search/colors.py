"""An encoder whose vectors are known: texts by the colours they name, pictures by their mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLORS = {"빨간": (255, 0, 0), "초록": (0, 255, 0), "파란": (0, 0, 255)}


class Colors:
    """One space for texts and pictures, as a CLIP's."""

    hash = "colours"
    embedding = 4

    def embed_text(self, texts: Any) -> np.ndarray:
        rows = [[*(float(name in text) for name in COLORS), 0.1] for text in texts]
        return self._unit(np.asarray(rows))

    def embed_image(self, images: Any) -> np.ndarray:
        rows = [[*(np.asarray(each).mean(axis=(0, 1)) / 255), 0.1] for each in images]
        return self._unit(np.asarray(rows))

    @staticmethod
    def _unit(rows: np.ndarray) -> np.ndarray:
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write_photos(folder: Path) -> None:
    """A small picture of each colour, ``빨간.png`` and so on."""
    folder.mkdir(exist_ok=True)
    for name, color in COLORS.items():
        Image.new("RGB", (8, 8), color).save(folder / f"{name}.png")
