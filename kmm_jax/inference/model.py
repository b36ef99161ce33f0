"""A trained model: texts and images in, unit vectors and captions out."""

from __future__ import annotations

import copy
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.images import decode
from kmm_jax.errors import UserError
from kmm_jax.models import registry
from kmm_jax.models.attributes.config import AttributesConfig
from kmm_jax.models.coca import decoding
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.keys import abstract_module
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.text import unit
from kmm_jax.text.normalize import normalize
from kmm_jax.text.styles import Style
from kmm_jax.text.tokenizer import Tokenizer

ImageLike = Image.Image | np.ndarray | bytes | str | os.PathLike[str]
Method = Literal["greedy", "nucleus", "beam"]

# A beam search of few beams misses answers that begin unlikely.
_LEAST_BEAMS = 8
# What a place among the candidates scores that no ended answer took.
_NO_CANDIDATE = -1e8


class Model:
    """A model with its tokenizer, jitted; batches split over the devices there are.

    Calls of any size reuse few compiled shapes: batches are filled up to a power of two, at most
    ``batch_size``.

    Attributes:
        config: the model's configuration.
        tokenizer: its tokenizer.
        styled: whether it was trained with style tokens; without, a style given is ignored.
        hash: identifies all that the outputs depend on; embeddings and indexes carry it.
        step: of the run, at which the parameters were; None where it is not known.
        encode_image_with, encode_text_with: (parameters, pixels (B, S, S, 3) or ids (B, T)) -> unit
            vectors (B, E); pure, to be traced into programs of one's own.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Any,
        tokenizer: Tokenizer,
        *,
        styled: bool,
        hash: str,
        path: Path | str,
        step: int | None = None,
    ):
        self.config = config
        self.tokenizer = tokenizer
        self.styled = styled
        self.hash = hash
        self.path = path
        self.step = step
        devices = jax.local_devices()
        mesh = jax.make_mesh(
            (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        self._batch_sharding = NamedSharding(mesh, PartitionSpec("data"))
        self._devices = len(devices)
        self.params_sharding = NamedSharding(mesh, PartitionSpec())
        self.params = jax.device_put(params, self.params_sharding)
        self._graphdef = nnx.graphdef(
            abstract_module(lambda rngs: registry.build(config, rngs=rngs))
        )
        self.encode_image_with = self._with_module(_encode_image)
        self.encode_text_with = self._with_module(_encode_text)
        self._embed_image = jax.jit(self.encode_image_with)
        self._embed_text = jax.jit(self.encode_text_with)
        self._heat_map = jax.jit(self._with_module(_heat_map))
        self._logit_scale = jax.jit(self._with_module(lambda module: module.logit_scale))
        self._embed_pair = jax.jit(self._with_module(_encode_pair))
        self._embed_query = jax.jit(self._with_module(_encode_query))

    def with_params(self, params: Any, *, hash: str, step: int | None = None) -> Model:
        """The same model with other parameters, sharing what is compiled."""
        other = copy.copy(self)
        other.params = jax.device_put(params, self.params_sharding)
        other.hash, other.step = hash, step
        return other

    @property
    def image_size(self) -> int:
        """Side of the square images the model takes, pixels."""
        return self.config.vision.image_size

    @property
    def text_length(self) -> int:
        """Tokens the model takes; longer texts are cut."""
        return self.config.text.length

    @property
    def embedding(self) -> int:
        """Dimension of the vectors."""
        return self.config.embedding

    @property
    def logit_scale(self) -> float:
        """What cosines of images and texts are multiplied by: 1 / temperature."""
        return float(self._logit_scale(self.params))

    def embed_text(
        self, texts: Sequence[str], style: Style | None = "query", *, batch_size: int = 256
    ) -> np.ndarray:
        """Unit vectors (N, E), float32, of texts in one style (search and zero-shot: query)."""
        if isinstance(texts, str):
            texts = [texts]
        ids = self.tokenizer.sequences(list(texts), self._style(style), self.text_length)
        return self._in_batches(self._embed_text, _parts(ids, batch_size), batch_size)

    def embed_image(self, images: Iterable[ImageLike], *, batch_size: int = 64) -> np.ndarray:
        """Unit vectors (N, E), float32, of pictures, arrays (uint8 HWC), encoded bytes or files.

        They are read and decoded a batch at a time, so that any number of files may be given.
        """
        batches = ((pixels,) for pixels in self._pixels(images, batch_size))
        return self._in_batches(self._embed_image, batches, batch_size)

    def embed_pixels(self, pixels_BHWC: np.ndarray) -> jax.Array:
        """Unit vectors (B, E) of a batch of the model's own size, uint8 (B, S, S, 3).

        They may still be computed when this returns, so that the next batch can be read meanwhile.
        """
        count = len(pixels_BHWC)
        rows = _filled(pixels_BHWC, -(-count // self._devices) * self._devices)
        return self._embed_image(self.params, jax.device_put(rows, self._batch_sharding))[:count]

    def heat_map(
        self,
        images: Sequence[ImageLike],
        texts: Sequence[str],
        style: Style | None = "query",
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """How relevant each patch of an image is to the text at its side, float32 (N, G, G).

        Rows first, over the central square of the picture. Of a one-tower model these are the
        cosines of patch and text, of the others Grad-CAM: only values of one map compare.

        Raises:
            UserError: not as many texts as images.
        """
        if not texts:
            vision = self.config.vision
            side = vision.image_size // vision.patch_size
            return np.zeros((0, side, side), np.float32)
        pairs = self._pairs(images, texts, style, batch_size)
        return self._in_batches(self._heat_map, pairs, batch_size)

    def embed_pair(
        self,
        images: Sequence[ImageLike],
        texts: Sequence[str],
        style: Style | None = "query",
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Unit vectors (N, E), float32, of images each together with the text at its side.

        OneR reads both in one pass (slides 3.3: image + text); of other models it is the mean of
        the two vectors.

        Raises:
            UserError: not as many texts as images.
        """
        pairs = self._pairs(images, texts, style, batch_size)
        return self._in_batches(self._embed_pair, pairs, batch_size)

    def embed_query(
        self,
        images: Sequence[ImageLike],
        categories: Sequence[str],
        *,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Unit vectors (N, E), float32, of pictures each asked about the category at its side.

        An empty name asks about the picture alone (slide 3.1).

        Raises:
            UserError: the model knows no categories, or not as many of them as images.
        """
        if not isinstance(self.config, AttributesConfig):
            raise UserError(
                f"{self.path} is a {registry.family(self.config)} model, which takes no category "
                "with a picture; train one that does (configs/attributes)"
            )
        asked = np.asarray([bool(normalize(name)) for name in categories], bool)
        batches = (
            (*pair, *rows)
            for pair, rows in zip(
                self._pairs(images, categories, "query", batch_size),
                _parts(asked, batch_size),
                strict=True,
            )
        )
        return self._in_batches(self._embed_query, batches, batch_size)

    def _pairs(
        self, images: Sequence[ImageLike], texts: Sequence[str], style: Style | None, size: int
    ) -> Iterator[tuple[np.ndarray, ...]]:
        """Pixels and ids of a batch after the other."""
        if len(images) != len(texts):
            raise UserError(f"{len(images)} images, but {len(texts)} texts; give each its text")
        ids = self.tokenizer.sequences(list(texts), self._style(style), self.text_length)
        return (
            (pixels, *rows)
            for pixels, rows in zip(self._pixels(images, size), _parts(ids, size), strict=True)
        )

    def caption(
        self,
        images: Iterable[ImageLike],
        style: Style | None = "prompt",
        *,
        method: Method = "greedy",
        beams: int = 4,
        length_penalty: float = 0.6,
        top_p: float = 0.9,
        temperature: float = 1.0,
        seed: int = 0,
        batch_size: int = 32,
    ) -> list[str]:
        """Captions in a style, by greedy, nucleus or beam search; see :meth:`answer` for questions.

        Args:
            beams, length_penalty: of the beam search.
            top_p, temperature, seed: of nucleus sampling; the same seed gives the same captions,
                whatever the batch size.

        Raises:
            UserError: the model has no decoder.
        """
        self._check_decoder("caption")
        tokenizer = self.tokenizer
        styles = [tokenizer.style_id(s) for s in (self._style(style),) if s is not None]
        prompt = jnp.asarray([tokenizer.bos_id, *styles], jnp.int32)
        function = self._decoder(method, beams, length_penalty)
        extra = {}
        if method == "nucleus":
            extra = {"top_p": jnp.float32(top_p), "temperature": jnp.float32(temperature)}

        def run(params: Any, pixels: jax.Array, row: jax.Array) -> jax.Array:
            keys = {"seed": jnp.int32(seed), "row": row} if method == "nucleus" else {}
            return function(params, pixels, prompt, **extra, **keys)

        numbers = itertools.count(step=batch_size)
        batches = (
            (pixels, np.arange(first, first + len(pixels), dtype=np.int32))
            for first, pixels in zip(numbers, self._pixels(images, batch_size), strict=False)
        )
        ids = self._in_batches(run, batches, batch_size)
        return [self._text(row[len(prompt) :]) for row in ids]

    def answer(
        self, images: Sequence[ImageLike], questions: Sequence[str], *, batch_size: int = 32
    ) -> list[str]:
        """The likeliest answer to the question at each image's side, by greedy search.

        A model that never learned to answer (configs/coca/shop_vqa.py) says anything.

        Raises:
            UserError: the model has no decoder, its tokenizer no marks for questions, a question is
                empty, or there are not as many questions as images.
        """
        if len(images) != len(questions):
            raise UserError(
                f"{len(images)} images, but {len(questions)} questions; give each image its own"
            )
        asked_NT = self._asked(questions)
        batches = (
            (pixels, *rows)
            for pixels, rows in zip(
                self._pixels(images, batch_size), _parts(asked_NT, batch_size), strict=True
            )
        )
        answered_NT = self._in_batches(self._answerer(), batches, batch_size)
        return [self._behind(ids, asked) for ids, asked in zip(answered_NT, asked_NT, strict=True)]

    def answers(self, image: ImageLike, question: str, *, top: int) -> list[tuple[str, float]]:
        """The ``top`` likeliest answers to a question, best first, each with its probability.

        The probability is that of the whole answer among all that the model can say. A beam search
        finds them, so that an answer which begins unlikely may be missed; fewer than ``top`` are
        returned where the search ends with fewer.

        Raises:
            UserError: as :meth:`answer` does; or ``top`` is below 1.
        """
        if top < 1:
            raise UserError(f"top must be at least 1, got {top}")
        (asked_T,) = self._asked([question])
        (pixels,) = self._pixels([image], 1)
        rows = jax.device_put(_filled(pixels, self._full_size(1, 1)), self._batch_sharding)
        beams = max(_LEAST_BEAMS, 2 * top)
        ids_BKT, log_p_BK = self._finder(beams)(self.params, rows, jnp.asarray(asked_T))
        found: dict[str, float] = {}
        for ids, log_p in zip(np.asarray(ids_BKT[0]), np.asarray(log_p_BK[0]), strict=True):
            if log_p > _NO_CANDIDATE:
                # Several sequences of tokens may spell the same words.
                words = self._behind(ids, asked_T)
                found[words] = found.get(words, 0.0) + math.exp(log_p)
        return sorted(found.items(), key=lambda one: -one[1])[:top]

    def _asked(self, questions: Sequence[str]) -> np.ndarray:
        """Prompts (N, T) int32, once the model is known to have a decoder."""
        self._check_decoder("answer")
        for question in questions:
            if not normalize(question):
                raise UserError("an empty question cannot be answered; ask something")
        return self.tokenizer.asked(questions, self.text_length)

    def _behind(self, ids_T: np.ndarray, asked_T: np.ndarray) -> str:
        return self._text(ids_T[int((asked_T != self.tokenizer.pad_id).sum()) :])

    def _check_decoder(self, what: str) -> None:
        if not isinstance(self.config, CoCaConfig):
            raise UserError(
                f"{self.path} is a {registry.family(self.config)} model, which cannot {what}; "
                "train a CoCa (configs/coca)"
            )

    @functools.lru_cache(maxsize=1)  # noqa: B019 - a model lives as long as its process
    def _answerer(self) -> Callable[..., Any]:
        def answer(module: Any, pixels: Any, asked: Any) -> Any:
            _, image_BQD = module.encode_image(pixels)
            return decoding.answer(module.text, image_BQD, asked, **self._ends())

        return jax.jit(self._with_module(answer))

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def _finder(self, beams: int) -> Callable[..., Any]:
        def find(module: Any, pixels: Any, asked: Any) -> Any:
            _, image_BQD = module.encode_image(pixels)
            return decoding.candidates(
                module.text, image_BQD, asked, beams=beams, length_penalty=0.0, **self._ends()
            )

        return jax.jit(self._with_module(find))

    def _ends(self) -> dict[str, Any]:
        return {"eos_id": self.tokenizer.eos_id, "never": self.tokenizer.unsayable}

    def _text(self, ids: np.ndarray) -> str:
        ends = np.flatnonzero(ids == self.tokenizer.eos_id)
        return self.tokenizer.decode([int(i) for i in (ids[: ends[0]] if len(ends) else ids)])

    @functools.lru_cache(maxsize=16)  # noqa: B019 - a model lives as long as its process
    def _decoder(self, method: Method, beams: int, length_penalty: float) -> Callable[..., Any]:
        common = self._ends()

        def caption(module: Any, pixels: Any, prompt: Any, **sampling: Any) -> Any:
            _, image_BQD = module.encode_image(pixels)
            if method == "greedy":
                return decoding.greedy(module.text, image_BQD, prompt, **common)
            if method == "beam":
                return decoding.beam(
                    module.text,
                    image_BQD,
                    prompt,
                    beams=beams,
                    length_penalty=length_penalty,
                    **common,
                )
            key = jax.random.key(sampling.pop("seed"))
            keys_B = jax.vmap(lambda row: jax.random.fold_in(key, row))(sampling.pop("row"))
            return decoding.nucleus(
                module.text, image_BQD, prompt, keys_B=keys_B, **sampling, **common
            )

        if method not in ("greedy", "nucleus", "beam"):
            raise UserError(f"no decoding method {method!r}; valid: greedy, nucleus, beam")
        return jax.jit(self._with_module(caption))

    def _with_module(self, function: Callable[..., Any]) -> Callable[..., Any]:
        graphdef = self._graphdef

        def pure(params: Any, *arrays: Any, **named: Any) -> Any:
            return function(nnx.merge(graphdef, params), *arrays, **named)

        return pure

    def _style(self, style: Style | None) -> Style | None:
        return style if self.styled else None

    def _pixels(self, images: Iterable[ImageLike], batch_size: int) -> Iterator[np.ndarray]:
        """Pixels (B, S, S, 3) of one batch after the other, each made when it is asked for."""
        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            images = [images]
        size = self.image_size
        rest = iter(images)
        while batch := list(itertools.islice(rest, batch_size)):
            yield np.stack([resize_centre(_array(image, size), size) for image in batch])

    def _in_batches(
        self,
        function: Callable[..., Any],
        batches: Iterable[tuple[np.ndarray, ...]],
        batch_size: int,
    ) -> np.ndarray:
        """``function(params, batch...)`` over all rows, one batch ahead of what is read back.

        Args:
            batches: arrays side by side, at most ``batch_size`` rows at a time.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        pending: list[tuple[int, jax.Array]] = []
        done: list[np.ndarray] = []

        def finish() -> None:
            count, values = pending.pop(0)
            done.append(np.asarray(values)[:count])

        for batch in batches:
            count = len(batch[0])
            full = self._full_size(count, batch_size)
            arrays = [jax.device_put(_filled(rows, full), self._batch_sharding) for rows in batch]
            pending.append((count, function(self.params, *arrays)))
            if len(pending) > 1:
                finish()
        while pending:
            finish()
        if not done:
            return np.zeros((0, self.embedding), np.float32)
        return np.concatenate(done)

    def _full_size(self, count: int, batch_size: int) -> int:
        size = min(batch_size, 1 << (count - 1).bit_length())
        return -(-size // self._devices) * self._devices


def _encode_image(module: Any, pixels: Any) -> Any:
    vectors = module.encode_image(pixels)
    return vectors[0] if isinstance(vectors, tuple) else vectors


def _encode_text(module: Any, ids: Any) -> Any:
    vectors = module.encode_text(ids)
    return vectors[0] if isinstance(vectors, tuple) else vectors


def _encode_query(module: Any, pixels: Any, category: Any, asked: Any) -> Any:
    return module.encode_query(pixels, category, asked)


def _encode_pair(module: Any, pixels: Any, ids: Any) -> Any:
    if hasattr(module, "encode_pair"):
        return module.encode_pair(pixels, ids)
    return unit(_encode_image(module, pixels) + _encode_text(module, ids))


def _heat_map(module: Any, pixels: Any, ids: Any) -> Any:
    return module.heat_map(pixels, ids)


def _array(image: ImageLike, size: int) -> np.ndarray:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                "images as arrays must be uint8 (height, width, 3), "
                f"got {image.dtype} {image.shape}"
            )
        return image
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    return decode(data, size)


def _parts(rows: np.ndarray, size: int) -> Iterator[tuple[np.ndarray]]:
    for start in range(0, len(rows), size):
        yield (rows[start : start + size],)


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
