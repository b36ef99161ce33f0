"""Pictures as what an autoencoder makes of them, kept in shards to train a generator on.

A row is ``<image_hash>.latents``, a NumPy file of float16 (V, 2, h, w, Z), beside its record: mean
and deviation of the latents' distribution, scaled as diffusion takes them, of the picture and,
where V is 2, of the picture mirrored. ``about.json`` says whose latents they are; ``image_size`` in
the record is the picture's.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm_jax.data.augment import centre_corner
from kmm_jax.data.storage import is_url, open_stream
from kmm_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from kmm_jax.data.sources import Row

SCHEME = "latents"
ABOUT = "about.json"
FORMAT = "kmm_jax latents 1"
SUFFIX = ".latents"
CROP = "centre"


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """Whose latents a folder holds.

    Attributes:
        autoencoder: hash of its parameters (``interop.native.params_hash``).
        scaling, shift: of its configuration, already applied.
        size: side of the encoded pictures, pixels.
        shape: (h, w, Z) of a picture's latents.
        mirrored: whether the mirrored pictures were encoded as well.
        dtype: the encoder computed in.
        source, rows: where the pictures came from, and how many rows there were.
        shard_rows: rows of the source that a shard was made of.
        crop: what of a picture was encoded: the central square.
    """

    autoencoder: str
    scaling: float
    shift: float
    size: int
    shape: tuple[int, int, int]
    mirrored: bool
    dtype: str
    source: str
    rows: int
    shard_rows: int
    crop: str = CROP


def read_about(folder: str | os.PathLike[str]) -> tuple[About, list[dict[str, Any]] | None]:
    """What ``about.json`` says, and the shards with their rows; None while they are being made.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    path = _inside(folder, ABOUT)
    try:
        with open_stream(path) as file:
            found = json.loads(file.read().decode("utf-8"))
    except OSError as error:
        raise DataError(
            f"{os.fspath(folder)} holds no latents: no {ABOUT} there; write some with kmm latents"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}; run kmm latents again") from error
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise DataError(f"{path} does not describe latents of this version ({FORMAT!r})")
    shards = found.pop("shards", None)
    try:
        found["shape"] = tuple(found["shape"])
        return About(**found), shards
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} does not say all that it must: {error}") from error


def about_json(about: About, shards: list[dict[str, Any]] | None) -> dict[str, Any]:
    """What ``read_about`` reads."""
    return {"format": FORMAT, **dataclasses.asdict(about), "shards": shards}


def encoded(latents_V2hwZ: np.ndarray) -> bytes:
    """The file of a row.

    Float16 is within 2^-11, half a thousandth, of each number; scaled means are of about unit size.

    Raises:
        DataError: not finite, or beyond what float16 holds.
    """
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(latents_V2hwZ, np.float16)
    if not np.isfinite(half).all():
        raise DataError("its latents are not finite")
    content = io.BytesIO()
    np.save(content, half, allow_pickle=False)
    return content.getvalue()


def decoded(data: bytes, about: About) -> np.ndarray:
    """A row's latents, float16 (V, 2, h, w, Z).

    Raises:
        DataError: they are none, or not of the shape that the folder says.
    """
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"corrupt or truncated latents ({len(data):,} bytes): {error}") from error
    wanted = (1 + about.mirrored, 2, *about.shape)
    if getattr(found, "shape", None) != wanted or found.dtype != np.float16:
        raise DataError(f"latents of another shape than {wanted} in float16")
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentDraws:
    """How an example is made of a row's latents: a draw of their distribution, perhaps mirrored.

    Attributes:
        flip: the probability of the mirrored picture, where there is one.
        deviation: of the draw, in deviations of the distribution: 1 as latent diffusion was trained
            (arXiv 2112.10752), 0 for its mean, which training on pictures takes.
        sizes: whether examples have ``time_ids``.
    """

    about: About
    flip: float
    deviation: float
    sizes: bool = False

    def decode(self, data: bytes) -> np.ndarray:
        """The latents in a row's bytes."""
        return decoded(data, self.about)

    def arrays(
        self, latents_V2hwZ: np.ndarray, row: Row, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """``latents`` (h, w, Z) float32, ``time_ids`` (6,); pure but for the state of ``rng``."""
        mirrored = self.about.mirrored and rng.random() < self.flip
        mean, deviation = latents_V2hwZ[int(mirrored)].astype(np.float32)
        if self.deviation:
            noise = rng.standard_normal(mean.shape, np.float32)
            mean = mean + np.float32(self.deviation) * deviation * noise
        if not self.sizes:
            return {"latents": mean}
        side = self.about.size
        width, height = row.record["image_size"]
        corner = centre_corner(width, height, side)
        sizes = np.asarray([height, width, *corner, side, side], np.float32)
        return {"latents": mean, "time_ids": sizes}


def folder_of(url: str) -> str | None:
    """The folder that a source's URL names latents in; None where it names no latents."""
    scheme, colon, rest = url.partition(":")
    return rest.partition("?")[0] if colon and scheme == SCHEME else None


def shape_of(urls: Sequence[str]) -> tuple[int, int, int] | None:
    """(h, w, Z) of the latents that sources give; None where they give pictures.

    Raises:
        ConfigError: some give latents and some pictures.
        DataError: no latents there.
    """
    folders = [folder_of(url) for url in urls]
    named = [folder for folder in folders if folder is not None]
    if not named:
        return None
    if len(named) < len(folders):
        raise ConfigError(
            f"data.sources has pictures ({urls[folders.index(None)]}) beside latents "
            f"({SCHEME}:{named[0]}); encode them too with kmm latents, or leave them out"
        )
    return read_about(named[0])[0].shape


def _inside(folder: str | os.PathLike[str], name: str) -> str:
    folder = os.fspath(folder)
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


class LatentSource:
    """The rows of a folder that ``kmm latents`` wrote, as a source whose images are latents.

    Args:
        deviation: see :class:`LatentDraws`.

    Raises:
        DataError: no latents there, or not all of them yet.
        ConfigError: a negative deviation.
    """

    def __init__(self, folder: str | os.PathLike[str], *, deviation: float = 1.0) -> None:
        from kmm_jax.data.sources import ShardSource

        self.about, shards = read_about(folder)
        if shards is None:
            raise DataError(
                f"{os.fspath(folder)} holds unfinished latents; run kmm latents with the same "
                "arguments again, it goes on after the whole shards"
            )
        if not deviation >= 0:
            raise ConfigError(
                f"{SCHEME}:{os.fspath(folder)}: deviation must not be below 0, found {deviation}"
            )
        self.name = f"{SCHEME}:{os.fspath(folder)}"
        self.deviation = deviation
        self._shards = ShardSource([_inside(folder, shard["file"]) for shard in shards])

    def __len__(self) -> int:
        return len(self._shards)

    def read(self, i: int) -> Row:
        """Row ``i``; a missing member or a bad record raises DataError."""
        return self._shards.read(i)
