"""The pictures that documents name, in a folder of files."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from kmm_jax.data.images import open_rgb
from kmm_jax.errors import DataError
from kmm_jax.search.documents import DocumentImage

_LEAST_SIDE = (
    640  # more than any model here takes; larger JPEGs are decoded at a part of their size
)


class PictureFolder:
    """Opens what documents name below a folder; without one, nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def __call__(self, image: DocumentImage) -> Image.Image:
        """The picture of a document's image, as `open` has it."""
        return self.open(image.path)

    def open(self, name: str) -> Image.Image:
        """The picture of a path, RGB.

        Raises:
            DataError: no folder was named, the path leads out of it, or it is no picture.
            OSError: there is no such file.
        """
        if self.folder is None:
            raise DataError("no folder of images was named (--images)")
        path = (self.folder / name).resolve()
        # A path in a document is data, and must not lead elsewhere.
        if not path.is_relative_to(self.folder.resolve()):
            raise DataError(f"{name} leads out of {self.folder}")
        return open_rgb(path.read_bytes(), _LEAST_SIDE)
