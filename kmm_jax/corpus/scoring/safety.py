"""Whether a picture may be shown to anyone, by a dual encoder and descriptions of what may not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from kmm_jax.corpus.scoring.encoder import encoder
from kmm_jax.corpus.scoring.protocol import Sample, Values
from kmm_jax.errors import ConfigError
from kmm_jax.inference import descriptions

_SCORE = "unsafe_score"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Safety:
    """The probability that a picture shows what ``unsafe`` describes and not what ``safe`` does.

    Zero-shot classification (``inference.descriptions``): as good as the encoder is. A
    classifier trained for it takes the same place as ``Custom(name="unsafe", ...)``.

    Attributes:
        model: a run, or a model exported or imported, by path or URL; None leaves the score out.
        most: probabilities above it reject the picture; None only measures.
        unsafe, safe: descriptions.
        scale: what cosines are multiplied with before the softmax; 100 is where CLIP's training
            ends.
        batch: pictures a call.
    """

    model: str | None = None
    most: float | None = 0.5
    unsafe: tuple[str, ...] = descriptions.UNSAFE
    safe: tuple[str, ...] = descriptions.SAFE
    scale: float = descriptions.SCALE
    batch: int = 64

    name = "safety"
    of_texts = False

    def __post_init__(self) -> None:
        if not (self.unsafe and self.safe):
            raise ConfigError("safety: both unsafe and safe need a description at least")

    @property
    def side(self) -> int:
        """The model's."""
        return encoder(self.model).image_size

    def columns(self) -> dict[str, pa.DataType]:
        """The probability."""
        return {_SCORE: pa.float64()}

    def identity(self) -> Any:
        """The model, as it knows itself, and what it is asked."""
        return ["safety 1", encoder(self.model).hash, self.unsafe, self.safe, self.scale]

    def load(self) -> _ZeroShot:
        """The model with the descriptions embedded."""
        return _ZeroShot(self)

    def judge(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """Reject what is probably unsafe."""
        return row, "unsafe" if self.most is not None and row[_SCORE] > self.most else None

    def thresholds(self) -> dict[str, tuple[str, float]]:
        """Where the line is drawn."""
        return {} if self.most is None else {_SCORE: ("most", self.most)}


class _ZeroShot:
    def __init__(self, settings: Safety) -> None:
        self._settings = settings
        self._model = encoder(settings.model)
        self._texts_TE = self._model.embed_text([*settings.unsafe, *settings.safe])

    def score(self, samples: Sequence[Sample]) -> list[Values]:
        """Softmax over all descriptions, summed over the unsafe ones."""
        settings = self._settings
        pictures = [sample.pixels_HWC for sample in samples]
        images_NE = self._model.embed_image(pictures, batch_size=settings.batch)
        unsafe_N = descriptions.probability(
            images_NE, self._texts_TE, len(settings.unsafe), scale=settings.scale
        )
        return [{_SCORE: round(float(value), 5)} for value in unsafe_N]
