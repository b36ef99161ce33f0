"""Scorers that tests name by ``module:Class``; what they were asked stands in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.corpus.scoring.protocol import Sample


class Brightness:
    """The mean of all pixels, 0 to 255."""

    def __init__(self, log: str) -> None:
        self._log = Path(log)

    def score(self, samples: Sequence[Sample]) -> list[Mapping[str, Any]]:
        with self._log.open("a") as file:
            file.writelines(f"{sample.image_hash}\n" for sample in samples)
        return [{"brightness": round(float(s.pixels_HWC.mean()), 3)} for s in samples]


class Letters:
    """How long a picture's texts are together."""

    def __init__(self, log: str) -> None:
        self._log = Path(log)

    def score(self, samples: Sequence[Sample]) -> list[Mapping[str, Any]]:
        with self._log.open("a") as file:
            file.writelines(f"{sample.image_hash}\n" for sample in samples)
        return [{"letters": sum(map(len, (*s.titles, *s.queries)))} for s in samples]
