"""What makes vectors and captions: the functions of a training loop, or a loaded model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.text.styles import Style

if TYPE_CHECKING:
    from kmm_jax.inference.model import Method, Model
    from kmm_jax.text.tokenizer import Tokenizer

Functions = Mapping[str, Callable[[Any, Mapping[str, Any]], Any]]
"""``encode_image``, ``encode_text``, perhaps ``caption``; jitted, ``(params, batch) -> array``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder:
    """What evaluation needs of a model.

    Attributes:
        image: uint8 (B, S, S, 3) to unit vectors (B, E), float32, perhaps still being computed, so
            that the next batch is made ready meanwhile; not yet checked by ``finite``. Always
            called with the same B.
        text: any number N of texts, in a style or (None) without a style token, to (N, E).
        caption: uint8 (B, S, S, 3) to B captions in a style; None if the model has no decoder.
        answer: uint8 (B, S, S, 3) and a question for each to B answers; None if there is no way.
        heat_map: uint8 (B, S, S, 3) and a text for each, in a style, to the relevance of each patch
            of the image to its text, float32 (B, G, G), rows first; None if there is no way to it.
    """

    image: Callable[[np.ndarray], Any]
    text: Callable[[Sequence[str], Style | None], np.ndarray]
    caption: Callable[[np.ndarray, Style | None], list[str]] | None = None
    answer: Callable[[np.ndarray, Sequence[str]], list[str]] | None = None
    heat_map: Callable[[np.ndarray, Sequence[str], Style | None], np.ndarray] | None = None


def from_functions(
    functions: Functions, params: Any, tokenizer: Tokenizer, *, text_length: int, batch_size: int
) -> Encoder:
    """An encoder over jitted functions; texts go in batches of ``batch_size``, the last filled up.

    ``functions["encode_image"]`` takes ``{"image": (B, S, S, 3)}``, ``functions["encode_text"]``
    ``{"text": (B, L)}``. If there is a ``functions["caption"]``, it takes ``{"image", "prompt"}``
    with the prompt ``[BOS] [STYLE]`` as int32 (P,), and returns ids (B, T) that start with it;
    ``functions["answer"]`` does so for ``{"image", "asked"}``, a prompt for each image (B, L). If
    there is a ``functions["heat_map"]``, it takes ``{"image", "text"}`` and returns (B, G, G).
    """

    def image(pixels_BHWC: np.ndarray) -> Any:
        return functions["encode_image"](params, {"image": pixels_BHWC})

    def text(texts: Sequence[str], style: Style | None) -> np.ndarray:
        ids_NL = tokenizer.sequences(list(texts), style, text_length)
        parts = [
            np.asarray(functions["encode_text"](params, {"text": ids_BL}))[:count]
            for ids_BL, count in _filled(ids_NL, batch_size)
        ]
        return finite(np.concatenate(parts), "text")

    def caption(pixels_BHWC: np.ndarray, style: Style | None) -> list[str]:
        head = [tokenizer.bos_id] + ([] if style is None else [tokenizer.style_id(style)])
        batch = {"image": pixels_BHWC, "prompt": np.asarray(head, np.int32)}
        ids_BT = np.asarray(functions["caption"](params, batch))
        return [_words(row_T[len(head) :], tokenizer) for row_T in ids_BT]

    def answer(pixels_BHWC: np.ndarray, questions: Sequence[str]) -> list[str]:
        asked_BL = tokenizer.asked(questions, text_length)
        ids_BT = np.asarray(functions["answer"](params, {"image": pixels_BHWC, "asked": asked_BL}))
        ends_B = (asked_BL != tokenizer.pad_id).sum(axis=1)
        return [_words(row_T[end:], tokenizer) for row_T, end in zip(ids_BT, ends_B, strict=True)]

    def heat_map(pixels_BHWC: np.ndarray, texts: Sequence[str], style: Style | None) -> np.ndarray:
        ids_BL = tokenizer.sequences(list(texts), style, text_length)
        heat = functions["heat_map"](params, {"image": pixels_BHWC, "text": ids_BL})
        return finite(heat, "heat-map")

    return Encoder(
        image=image,
        text=text,
        caption=caption if "caption" in functions else None,
        answer=answer if "answer" in functions else None,
        heat_map=heat_map if "heat_map" in functions else None,
    )


def from_model(model: Model, *, batch_size: int, caption_method: Method = "greedy") -> Encoder:
    """An encoder over a loaded model (:func:`kmm_jax.inference.load`).

    Args:
        caption_method: how captions are decoded, with the defaults of ``Model.caption``. Nucleus
            sampling draws alike in every call, so that its captions depend on the batches.
    """
    from kmm_jax.models.coca.config import CoCaConfig

    def text(texts: Sequence[str], style: Style | None) -> np.ndarray:
        return finite(model.embed_text(texts, style, batch_size=batch_size), "text")

    def caption(pixels_BHWC: np.ndarray, style: Style | None) -> list[str]:
        return model.caption(list(pixels_BHWC), style, method=caption_method, batch_size=batch_size)

    def heat_map(pixels_BHWC: np.ndarray, texts: Sequence[str], style: Style | None) -> np.ndarray:
        heat = model.heat_map(list(pixels_BHWC), texts, style, batch_size=batch_size)
        return finite(heat, "heat-map")

    def answer(pixels_BHWC: np.ndarray, questions: Sequence[str]) -> list[str]:
        return model.answer(list(pixels_BHWC), questions, batch_size=batch_size)

    decodes = isinstance(model.config, CoCaConfig)
    return Encoder(
        image=model.embed_pixels,
        text=text,
        caption=caption if decodes else None,
        answer=answer if decodes else None,
        heat_map=heat_map,
    )


def finite(rows: Any, kind: Literal["image", "text", "image+text", "heat-map"]) -> np.ndarray:
    """Vectors (N, E) or heat-maps (N, G, G) as float32, once none of them is NaN or infinite.

    Raises:
        DataError: some are; scores of such rows would look like figures and mean nothing.
    """
    rows = np.asarray(rows, np.float32)
    bad = int((~np.isfinite(rows)).reshape(len(rows), -1).any(axis=1).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(rows)} {kind}{'s' if kind == 'heat-map' else ' vectors'} are NaN or "
            "infinite: the model's parameters are broken; take an earlier checkpoint"
        )
    return rows


def style_name(style: Style | None) -> str:
    """The style as metrics name it; ``plain`` where no style token is used."""
    return "plain" if style is None else style


def _filled(rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of exactly ``size`` rows and how many of them count; one shape, one compilation."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        missing = size - len(part)
        yield np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]), len(part)


def _words(ids_T: np.ndarray, tokenizer: Tokenizer) -> str:
    ends = np.flatnonzero(ids_T == tokenizer.eos_id)
    return tokenizer.decode(ids_T[: ends[0]].tolist() if len(ends) else ids_T.tolist())
