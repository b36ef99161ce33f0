"""Whether two models give the same vectors: a run and its export, an import and its original.

Letters: N rows, I images, K texts, S pixels a side, E dimensions of the vectors.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.images import decode
from kmm_jax.errors import DataError, UserError
from kmm_jax.inference.loading import load_model
from kmm_jax.inference.model import Model
from kmm_jax.interop.originals import Original, open_original
from kmm_jax.text.adopted import translated
from kmm_jax.text.styles import Style
from kmm_jax.training.run_place import location

TEXTS = (
    "빨간 체크 셔츠",
    "겨울에 신는 검은색 가죽 부츠",
    "눈 덮인 산 위로 해가 뜨는 풍경",
    "강아지 두 마리가 잔디밭에서 뛰어놀고 있다.",
    "아이보리 니트 원피스 55~66 사이즈 무료배송!",
    "서울의 밤거리를 달리는 버스 안에서 창밖을 내다보는 사람",
    "커피",
    "나이키 에어맥스 97 남성 런닝화 270mm",
    "a photo of a cat",
    "A red dress on a wooden hanger.",
    "two people riding bicycles along the beach at sunset",
    "an old stone bridge over a narrow river, seen from below",
    "a diagram",
    "the quick brown fox jumps over the lazy dog, and nobody took a picture of it",
    "흰색 sneakers, 뒤축에 green 포인트",
    "100% cotton t-shirt, size M (2-pack)",
)
"""Short and long, Korean and English, with digits and signs: what to compare on by default."""

TOP_K = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far vectors are from the other model's.

    Attributes:
        least_cosine, mean_cosine: over the rows.
        error: the largest absolute difference, relative to the other's largest absolute value.
        worst: the row of the least cosine: a file, or a text.
    """

    rows: int
    least_cosine: float
    mean_cosine: float
    error: float
    worst: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """How alike two models are.

    Attributes:
        model, original: what was compared.
        image, text: of the vectors.
        temperature, original_temperature: of the softmax over texts.
        temperature_error: of the factor before cosines, relative to the original's.
        mean_divergence, largest_divergence: over the images, KL(original || model) of the softmax
            over all texts, each at its model's own temperature, in nats.
        top1: the share of images whose best text is the same one.
        topk: the mean share of each image's ``k`` best texts that both models name.
        own_preprocessing: the original prepared the files its own way.
        tolerance: what errors may be.
    """

    model: str
    original: str
    image: Deviation
    text: Deviation
    temperature: float
    original_temperature: float
    temperature_error: float
    mean_divergence: float
    largest_divergence: float
    top1: float
    topk: float
    k: int
    own_preprocessing: bool
    tolerance: float

    @property
    def within(self) -> bool:
        """Whether vectors and temperature are within the tolerance; not, where one is NaN."""
        errors = (self.image.error, self.text.error, self.temperature_error)
        return all(error <= self.tolerance for error in errors)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ``within`` included."""
        return {**dataclasses.asdict(self), "within": self.within}


def open_other(path: str | os.PathLike[str]) -> Model | Original:
    """A run or an export of this library, or a folder of transformers or open_clip.

    Raises:
        UserError, DataError: it is neither, damaged, or its library is not installed.
    """
    place = location(path)
    if not isinstance(place, Path):
        return load_model(place)  # PyTorch's libraries read folders
    if not place.is_dir():
        raise UserError(f"no folder {place}; give a model of this library, or its original's")
    theirs = (place / "open_clip_config.json").is_file() or _is_of_transformers(place)
    own = (place / "checkpoints").is_dir() or (place / "config.json").is_file()
    return open_original(place) if theirs or not own else load_model(place)


def _is_of_transformers(folder: Path) -> bool:
    from kmm_jax.files import read_json

    found = read_json(folder / "config.json")
    return isinstance(found, dict) and ("model_type" in found or "architectures" in found)


def check_parity(
    model: Model,
    other: Model | Original,
    images: Sequence[Path],
    texts: Sequence[str] = TEXTS,
    *,
    style: Style | None = "query",
    own_preprocessing: bool = False,
    tolerance: float = 1e-4,
) -> Parity:
    """Embed the same images and texts with both, in float32, and say how far apart they are.

    Both get the same pixels, which this library cuts and resizes; with ``own_preprocessing`` the
    other prepares the files itself. Both get the same tokens: an original whose tokenizer lies
    beside it by its own numbers, so that an exchanged tokenizer shows; another model of this
    library cuts texts with its own tokenizer.

    Args:
        style: of the texts, for models with style tokens.
        tolerance: the largest error for :attr:`Parity.within`.

    Raises:
        UserError: no images or texts, or models that cannot be compared.
        DataError: a picture cannot be read.
    """
    if not images or not texts:
        raise UserError("a comparison needs at least one image and one text")
    if not own_preprocessing and other.image_size != model.image_size:
        raise UserError(
            f"{model.path} takes pictures of {model.image_size} pixels and {other.path} of "
            f"{other.image_size}, so that the same pixels do not fit both: they are not the same "
            "model, or compare them with --own-preprocessing"
        )
    model = _in_float32(model)
    pixels_NSSC = np.stack([_centre(path, model.image_size) for path in images])
    # Matrix units of accelerators round float32 unless they are told not to.
    with jax.default_matmul_precision("highest"):
        ours_IE = model.embed_image(list(pixels_NSSC))
        ours_KE = model.embed_text(texts, style)
        if isinstance(other, Model):
            other = _in_float32(other)
            given: Any = list(images) if own_preprocessing else list(pixels_NSSC)
            theirs_IE, theirs_KE = other.embed_image(given), other.embed_text(texts, style)
        else:
            theirs_IE = other.files(images) if own_preprocessing else other.image(pixels_NSSC)
            theirs_KE = other.text(_ids(model, other, texts, style))
    if ours_IE.shape != theirs_IE.shape or ours_KE.shape != theirs_KE.shape:
        raise UserError(
            f"{model.path} gives vectors of {ours_IE.shape[1]} numbers and {other.path} of "
            f"{theirs_IE.shape[1]}: they are not the same model"
        )
    scale, original_scale = model.logit_scale, other.logit_scale
    ours_IK = scale * (ours_IE.astype(np.float64) @ ours_KE.T.astype(np.float64))
    theirs_IK = original_scale * (theirs_IE.astype(np.float64) @ theirs_KE.T.astype(np.float64))
    divergence_I = _divergence(theirs_IK, ours_IK)
    k = min(TOP_K, len(texts))
    return Parity(
        model=str(model.path),
        original=str(other.path) if isinstance(other, Model) else f"{other.path} ({other.title})",
        image=_deviation(ours_IE, theirs_IE, [str(path) for path in images]),
        text=_deviation(ours_KE, theirs_KE, texts),
        temperature=1 / scale,
        original_temperature=1 / original_scale,
        temperature_error=abs(scale - original_scale) / abs(original_scale),
        mean_divergence=float(divergence_I.mean()),
        largest_divergence=float(divergence_I.max()),
        top1=_shared(ours_IK, theirs_IK, 1),
        topk=_shared(ours_IK, theirs_IK, k),
        k=k,
        own_preprocessing=own_preprocessing,
        tolerance=tolerance,
    )


def _in_float32(model: Model) -> Model:
    """The model computing in float32; in bfloat16 its own rounding would be all that shows."""
    if model.config.dtype == "float32":
        return model
    return Model(
        dataclasses.replace(model.config, dtype="float32"),
        model.params,
        model.tokenizer,
        styled=model.styled,
        hash=model.hash,
        path=model.path,
        step=model.step,
    )


def _centre(path: Path, size: int) -> np.ndarray:
    try:
        return resize_centre(decode(path.read_bytes(), size), size)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _ids(model: Model, original: Original, texts: Sequence[str], style: Style | None) -> np.ndarray:
    styled = style if model.styled else None
    ids_NT = model.tokenizer.sequences(list(texts), styled, model.text_length)
    if original.tokenizer is None:
        return ids_NT
    return translated(ids_NT, model.tokenizer, original.tokenizer)


def _deviation(ours_NE: np.ndarray, theirs_NE: np.ndarray, names: Sequence[str]) -> Deviation:
    ours_NE, theirs_NE = ours_NE.astype(np.float64), theirs_NE.astype(np.float64)
    cosine_N = (ours_NE * theirs_NE).sum(axis=1)
    cosine_N = cosine_N / np.linalg.norm(ours_NE, axis=1) / np.linalg.norm(theirs_NE, axis=1)
    return Deviation(
        rows=len(names),
        least_cosine=float(cosine_N.min()),
        mean_cosine=float(cosine_N.mean()),
        error=float(np.abs(ours_NE - theirs_NE).max() / np.abs(theirs_NE).max()),
        worst=names[int(cosine_N.argmin())],
    )


def _divergence(theirs_IK: np.ndarray, ours_IK: np.ndarray) -> np.ndarray:
    """KL(theirs || ours) of each row's softmax, (I,)."""
    theirs_IK, ours_IK = _log_softmax(theirs_IK), _log_softmax(ours_IK)
    return (np.exp(theirs_IK) * (theirs_IK - ours_IK)).sum(axis=1)


def _log_softmax(x_IK: np.ndarray) -> np.ndarray:
    x_IK = x_IK - x_IK.max(axis=1, keepdims=True)
    return x_IK - np.log(np.exp(x_IK).sum(axis=1, keepdims=True))


def _shared(ours_IK: np.ndarray, theirs_IK: np.ndarray, k: int) -> float:
    best = [np.argsort(-x_IK, axis=1, kind="stable")[:, :k] for x_IK in (ours_IK, theirs_IK)]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*best, strict=True)]))
