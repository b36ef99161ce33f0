"""How much text stands in a picture: boxes of a text detector and their share of it (slide 2.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kmm_jax.corpus.scoring.protocol import Sample, Values
from kmm_jax.errors import ConfigError

_NUMBER, _SHARE = "ocr_num_box", "ocr_ratio_box"
_PACKAGES = "rapidocr", "onnxruntime"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ocr:
    """Text boxes by RapidOCR's detector, which its package carries (PP-OCR, Apache 2.0).

    Attributes:
        most_boxes: more of them reject the picture; None only counts them.
        most_area: percent of the picture that boxes may cover; None only measures it.
        side: pixels of the shorter side at which text is looked for. The time grows with its
            square; ``docs/results/ocr.md`` says what is found at which.
        tallest: the tallest line of text, as a share of the picture's shorter side. The detector
            takes large smooth things (a dress, a wall) for one huge region; what is taller than
            this is not counted.
        threads: of one call of the detector. Files are worked on side by side, so one is best.
    """

    most_boxes: int | None = 20
    most_area: float | None = 30.0
    side: int = 320
    tallest: float = 0.4
    threads: int = 1

    name = "ocr"
    of_texts = False

    def __post_init__(self) -> None:
        if self.side < 64:
            raise ConfigError(f"ocr: side must be at least 64 pixels, got {self.side}")

    def columns(self) -> dict[str, pa.DataType]:
        """Number of boxes, and percent of the picture inside them."""
        return {_NUMBER: pa.int32(), _SHARE: pa.float64()}

    def identity(self) -> Any:
        """The detector's version and the size of what it sees."""
        import importlib.metadata

        try:
            versions = [importlib.metadata.version(package) for package in _PACKAGES]
        except importlib.metadata.PackageNotFoundError as error:
            raise ConfigError(
                f"the OCR score needs {error.name}, part of the corpus extra: "
                "pip install 'kmm-jax[corpus]'"
            ) from error
        return ["ocr 1", *versions, self.side, self.tallest]

    def load(self) -> _Detector:
        """The detector, on an accelerator if onnxruntime has one."""
        return _Detector(self)

    def judge(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """Reject what has too many boxes or too much of them."""
        boxes, area = row[_NUMBER], row[_SHARE]
        many = self.most_boxes is not None and boxes > self.most_boxes
        wide = self.most_area is not None and area > self.most_area
        return row, "ocr" if many or wide else None

    def thresholds(self) -> dict[str, tuple[str, float]]:
        """Both, where they are drawn."""
        lines = {_NUMBER: self.most_boxes, _SHARE: self.most_area}
        return {column: ("most", float(line)) for column, line in lines.items() if line is not None}


class _Detector:
    def __init__(self, settings: Ocr) -> None:
        import onnxruntime
        from rapidocr import RapidOCR

        self._side, self._tallest = settings.side, settings.tallest
        runtime = "EngineConfig.onnxruntime"
        self._detect: Any = RapidOCR(
            params={
                "Global.use_cls": False,
                "Global.use_rec": False,
                "Global.log_level": "error",
                "Det.limit_type": "min",
                "Det.limit_side_len": settings.side,
                f"{runtime}.intra_op_num_threads": settings.threads,
                f"{runtime}.inter_op_num_threads": 1,
                f"{runtime}.use_cuda": "CUDAExecutionProvider"
                in onnxruntime.get_available_providers(),
            }
        )

    def score(self, samples: Sequence[Sample]) -> list[Values]:
        """Boxes, and the share of pixels in any of them (overlaps counted once)."""
        return [_values(*self._boxes(sample.pixels_HWC)) for sample in samples]

    def covered(self, pixels_HWC: np.ndarray) -> np.ndarray:
        """1 where a box is, at the size that was looked at; (H, W) uint8."""
        return _covered(*self._boxes(pixels_HWC))

    def _boxes(self, pixels_HWC: np.ndarray) -> tuple[Sequence[np.ndarray], tuple[int, int]]:
        """Four corners of each box, and the height and width in which they are."""
        import cv2

        height, width = pixels_HWC.shape[:2]
        scale = self._side / min(height, width)
        if scale < 1:  # the detector itself makes pictures larger only
            smaller = max(1, round(width * scale)), max(1, round(height * scale))
            pixels_HWC = cv2.resize(pixels_HWC, smaller, interpolation=cv2.INTER_AREA)
        # As OpenCV has them, which the detector was trained on.
        boxes = self._detect(np.ascontiguousarray(pixels_HWC[:, :, ::-1])).boxes
        size = pixels_HWC.shape[0], pixels_HWC.shape[1]
        tallest = self._tallest * min(size)
        return [box for box in (() if boxes is None else boxes) if _height(box) <= tallest], size


def _height(box: np.ndarray) -> float:
    """The shorter side of the rectangle around a box, which may be turned."""
    import cv2

    _, sides, _ = cv2.minAreaRect(np.asarray(box, np.float32))
    return float(min(sides))


def _covered(boxes: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    import cv2

    covered = np.zeros(size, np.uint8)
    for box in boxes:
        cv2.fillPoly(covered, [np.asarray(box, np.int32)], 1)
    return covered


def _values(boxes: Sequence[np.ndarray], size: tuple[int, int]) -> Values:
    share = 100.0 * float(_covered(boxes, size).mean()) if len(boxes) else 0.0
    return {_NUMBER: len(boxes), _SHARE: round(share, 4)}
