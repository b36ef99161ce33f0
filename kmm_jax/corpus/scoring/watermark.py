"""How sure a detector is that a mark is laid over the picture (`watermark_score`, slide 2.3).

The detector is ours, shipped with the package, or the EfficientNet-B3 of LAION-5B, where its
weights are at hand: as they are, or as the folder that tools.import_checkpoint makes of them. What
counts as a mark for ours: semi-transparent words, logos and lines of any size, and small signatures
in a corner. Opaque captions, price tags and prints on clothes do not; the text in them is counted
by OCR. docs/results/watermark.md says how well it tells them apart.

B batch, S side in pixels.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from kmm_jax.corpus.scoring.protocol import Sample, Values
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.interop import detectors
from kmm_jax.models.keys import abstract_module

if TYPE_CHECKING:
    from kmm_jax.models.efficientnet import EfficientNetB3
    from kmm_jax.models.watermark import MarkDetector

COLUMN = "watermark_score"
SHIPPED = Path(__file__).with_name("watermark.safetensors")
SIDE = 224
"""The side our detector was trained at."""

_DIGITS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watermark:
    """The watermark score: pictures above ``most`` are rejected.

    Attributes:
        most: in [0, 1]. By default a line that few photos without a mark cross, though many
            with one stay below it (docs/results/watermark.md); LAION's own for its weights is 0.5.
        weights: None for our own detector, or LAION-AI/LAION-5B-WatermarkDetection, which this
            library does not carry: a .safetensors file of its weights, or an imported folder.
        batch: pictures that go through the net at once.

    Raises:
        ConfigError: a value out of its range.
    """

    most: float = 0.8
    weights: str | None = None
    batch: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.most <= 1:
            raise ConfigError(f"Watermark(most={self.most}): scores lie between 0 and 1")
        if self.batch < 1:
            raise ConfigError(f"Watermark(batch={self.batch}): give 1 or more")

    @property
    def name(self) -> str:
        """The score's name."""
        return "watermark"

    @property
    def side(self) -> int:
        """Pixels of the square that pictures are squashed to.

        Raises:
            ConfigError: ``weights`` is a folder without a detector.
        """
        return SIDE if self.weights is None else _config(self.weights).image_size

    @property
    def of_texts(self) -> bool:
        """It looks at the picture alone."""
        return False

    def columns(self) -> dict[str, pa.DataType]:
        """One number a picture, in [0, 1]."""
        return {COLUMN: pa.float64()}

    def identity(self) -> dict[str, Any]:
        """The net and a digest of its weights, wherever they lie.

        Raises:
            ConfigError: the file of ``weights`` is not there or no safetensors.
        """
        path = SHIPPED if self.weights is None else _checked(self.weights)
        net = "kmm_jax" if self.weights is None else "laion_efficientnet_b3"
        about = {"version": 2, "net": net, "side": self.side, "sha256": digest(path)}
        if self.weights is not None and _folder(self.weights).is_dir():
            about["detector"] = json.loads(json.dumps(dataclasses.asdict(_config(self.weights))))
        return about

    def load(self) -> WatermarkScorer:
        """The scorer, on the accelerator if there is one.

        Raises:
            ConfigError: the file of ``weights`` is not there or does not fit.
        """
        net = _own() if self.weights is None else _laion(self.weights)
        return WatermarkScorer(net, side=self.side, batch=self.batch)

    def judge(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """Rejected as ``watermark`` above the threshold; a picture without a score stays."""
        score = row.get(COLUMN)
        return row, "watermark" if score is not None and score > self.most else None

    def thresholds(self) -> dict[str, tuple[str, float]]:
        """The line, for the report."""
        return {COLUMN: ("most", self.most)}


class WatermarkScorer:
    """A net over batches of squashed pictures; may be called from several threads."""

    def __init__(self, net: Callable[[np.ndarray], Any], *, side: int, batch: int):
        """``net`` takes uint8 (B, S, S, 3) and gives B scores."""
        self._net, self._side, self._batch = net, side, batch
        # One batch at a time: a second would only wait inside XLA, and compile the same again.
        self._lock = threading.Lock()

    def score(self, samples: Sequence[Sample]) -> list[Values]:
        """One score a picture, to five decimals."""
        values: list[Values] = []
        for start in range(0, len(samples), self._batch):
            chunk = samples[start : start + self._batch]
            # Sizes are powers of two, so that few are compiled.
            padded = 1 << max(0, math.ceil(math.log2(len(chunk))))
            pixels_BSSC = np.zeros((padded, self._side, self._side, 3), np.uint8)
            for number, sample in enumerate(chunk):
                pixels_BSSC[number] = squashed(sample.pixels_HWC, self._side)
            with self._lock:
                scores_B = np.asarray(self._net(pixels_BSSC))
            values += [{COLUMN: round(float(each), _DIGITS)} for each in scores_B[: len(chunk)]]
        return values


def squashed(pixels_HWC: np.ndarray, side: int) -> np.ndarray:
    """The whole picture as a square of uint8, its proportions lost: marks lie at the edges too."""
    from PIL import Image

    if pixels_HWC.shape[:2] == (side, side):
        return pixels_HWC
    image = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def digest(path: Path) -> str:
    """SHA-256 of a file; read again only where it was changed."""
    about = path.stat()
    return _digest(path, about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(weights: str) -> Path:
    return Path(weights).expanduser()


def _config(weights: str) -> detectors.DetectorConfig:
    """How a detector of LAION's is to be used; a file of weights does not say it."""
    path = _folder(weights)
    if not path.is_dir():
        return detectors.DetectorConfig()
    try:
        return detectors.read_config(path)
    except DataError as error:
        raise ConfigError(f"Watermark(weights={weights!r}): {error}") from error


def _checked(weights: str) -> Path:
    """The file with the tensors."""
    path = _folder(weights)
    if path.is_dir():
        path /= detectors.WEIGHTS
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"Watermark(weights={weights!r}): only .safetensors is read, since loading a pickle "
            "runs whatever is in it. Convert LAION's once, beside PyTorch: python -c "
            '"import torch, safetensors.torch as s; s.save_file(torch.load('
            "'watermark_model_v1.pt', 'cpu', weights_only=True), 'watermark.safetensors')\""
        )
    if not path.is_file():
        raise ConfigError(
            f"Watermark(weights={weights!r}): no such file. Leave weights out for the detector of "
            "this package, or fetch watermark_model_v1.pt of LAION-AI/LAION-5B-WatermarkDetection "
            "and convert it to safetensors"
        )
    return path


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} cannot be read as safetensors ({error}); convert or install it again"
        ) from error


def detector() -> MarkDetector:
    """Our detector with the shipped weights, in inference mode."""
    import jax.numpy as jnp
    from flax import nnx

    from kmm_jax.interop.native import unflatten
    from kmm_jax.models.watermark import MarkDetector

    model = abstract_module(lambda rngs: MarkDetector(rngs=rngs))
    model.eval()
    graph, _ = nnx.split(model)
    named = {name: jnp.asarray(value, jnp.float32) for name, value in _tensors(SHIPPED).items()}
    return nnx.merge(graph, unflatten(named))


def _own() -> Callable[[np.ndarray], Any]:
    import jax
    from flax import nnx

    graph, params = nnx.split(detector())

    @jax.jit
    def scores(params: Any, pixels_BSSC: jax.Array) -> jax.Array:
        logit_B, _ = nnx.merge(graph, params)(pixels_BSSC)
        return jax.nn.sigmoid(logit_B)

    return functools.partial(scores, params)


def _laion_net(weights: str) -> tuple[detectors.DetectorConfig, EfficientNetB3]:
    path = _folder(weights)
    try:
        if path.is_dir():
            return detectors.load(path)
        return detectors.DetectorConfig(), detectors.from_timm(_tensors(_checked(weights)), path)
    except DataError as error:
        raise ConfigError(f"Watermark(weights={weights!r}): {error}") from error


def _laion(weights: str) -> Callable[[np.ndarray], Any]:
    """As its example_use.py: squashed, normalised as ImageNet's, the softmax of one class."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    config, model = _laion_net(weights)
    graph, params = nnx.split(model)

    @jax.jit
    def scores(params: Any, pixels_BSSC: jax.Array) -> jax.Array:
        mean, std = jnp.asarray(config.mean), jnp.asarray(config.std)
        normal_BSSC = (pixels_BSSC.astype(jnp.float32) / 255 - mean) / std
        return jax.nn.softmax(nnx.merge(graph, params)(normal_BSSC))[:, config.marked]

    return functools.partial(scores, params)
