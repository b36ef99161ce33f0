"""A text-to-image model ready for use: requests in, pictures out.

B pictures, H height, W width, h w Z of the latents.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from kmm_jax.errors import UserError
from kmm_jax.generation import decoding, prompts
from kmm_jax.generation.compiled import Programs, filled
from kmm_jax.generation.program import Known, advance_latents, begin_latents, starting_noise
from kmm_jax.generation.request import Request
from kmm_jax.generation.schedulers.build import make_table
from kmm_jax.generation.schedulers.config import SchedulerConfig, name_of, parse, to_file
from kmm_jax.generation.schedulers.table import Table
from kmm_jax.generation.starting_image import image_size, images_and_masks, shrunk
from kmm_jax.models.diffusion.config import LatentDiffusionConfig
from kmm_jax.models.diffusion.modeling import LatentDiffusion, abstract
from kmm_jax.text.tokenizer import Tokenizer

Tell = Callable[[int, int], None]
Run = Callable[..., Any]
"""``Programs.run``, or ``Programs.compile``, which takes and gives shapes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generated:
    """What came of a request.

    Attributes:
        images: (B, H, W, 3) uint8.
        latents: (B, h, w, Z) float32, scaled: to go on from.
        settings: of each picture, plain values that make it again.
    """

    images: np.ndarray
    latents: np.ndarray
    settings: list[dict[str, Any]]

    def pictures(self) -> list[Image.Image]:
        """The images as PIL has them."""
        return [Image.fromarray(image) for image in self.images]


class _Made(NamedTuple):
    """Pictures (B, H, W, 3) and latents (B, h, w, Z), and by which sampler, of which size."""

    images: Any
    latents: Any
    sampler: str
    height: int
    width: int


class Pipeline:
    """Text to image, image to image and inpainting with one model.

    Programs are compiled once for a number of pictures, their size and the number of steps; another
    prompt, seed, guidance scale or sampler runs the same program. Pictures are split over the
    devices of this machine, each computed whole on one.

    Attributes:
        config, tokenizers: of the model.
        scheduler: the content of its ``scheduler_config.json``.
        name, loras: what the settings of a picture call the model, and what is merged into it.
        programs: what was compiled so far.
    """

    def __init__(
        self,
        config: LatentDiffusionConfig,
        params: Any,
        tokenizers: Sequence[Tokenizer],
        scheduler: Mapping[str, Any] | SchedulerConfig,
        *,
        zero_empty_negative: bool = False,
        name: str = "",
        loras: Sequence[str] = (),
        devices: Sequence[jax.Device] | None = None,
    ):
        """``params`` as ``nnx.merge`` takes them; they are put on every device."""
        self.config = config
        self.tokenizers = tuple(tokenizers)
        # Read when a sampler is asked for: a model whose own is not known here has the others.
        given = to_file(scheduler) if isinstance(scheduler, SchedulerConfig) else scheduler
        self.scheduler = dict(given)
        self.name, self.loras = name, tuple(loras)
        self._zero_empty = zero_empty_negative
        self.programs = Programs(devices or jax.local_devices())
        module = abstract(config)
        self._whole = nnx.graphdef(module)
        self._unet = nnx.graphdef(module.unet)
        self.params = self.programs.everywhere(params)

    @property
    def compiled(self) -> int:
        """How many programs were compiled so far."""
        return len(self.programs.compiled)

    @property
    def side(self) -> int:
        """Pixels along a side of the pictures that the model was trained for."""
        return self.config.unet.sample_size * self.config.vae.factor

    def generate(
        self, request: Request, *, progress: Tell | None = None, tile: int = 0
    ) -> Generated:
        """The pictures of a request.

        Args:
            progress: called with the number of steps done, and of all. The steps are then started
                from here one by one, by a program that serves every number of them.
            tile: decode in tiles of so many latents along a side; 0 decodes pictures whole.

        Raises:
            UserError: something in the request does not fit the model.
        """
        made = self._made(request, self.programs.run, progress, tile)
        count = request.pictures
        latents = np.asarray(made.latents)[:count]
        _say_what_is_lost(latents)
        return Generated(
            images=np.asarray(made.images)[:count],
            latents=latents,
            settings=self._settings(request, made.sampler, made.height, made.width),
        )

    def compile(self, request: Request, *, progress: bool = False, tile: int = 0) -> int:
        """Compile all that requests of this form need, and compute nothing.

        Of the form are the numbers of pictures and of steps, their size, whether there is guidance,
        an image and a mask; what the prompts, seeds and images are does not matter. A server calls
        it before it takes requests.

        Args:
            progress, tile: as `generate` will be called.

        Returns:
            How many programs were compiled that were not yet.

        Raises:
            UserError: something in the request does not fit the model.
        """
        before = self.compiled
        self._made(request, self.programs.compile, (lambda *_: None) if progress else None, tile)
        return self.compiled - before

    def _made(self, request: Request, run: Run, progress: Tell | None, tile: int) -> _Made:
        """Latents and pictures, or their shapes, with rows up to a whole number for each device."""
        if tile < 0:
            raise UserError(f"tile is a number of latents, or 0 for no tiles; got {tile}")
        height, width = self._size(request)
        self._check_layers(request.skip)
        scheduler = self.scheduler_of(request.sampler)
        strength = request.strength if request.image is not None else 1.0
        table = make_table(scheduler, request.steps, strength=strength, eta=request.eta)
        guided = request.guided and not self.config.unet.guidance_width
        texts = [*request.prompts, *(each or "" for each in request.picture_negatives if guided)]
        prompts.say_what_is_cut(texts, self.tokenizers, self.config)
        # Whole rows for every device; what only fills up is cut off again.
        rows = self.programs.rows(request.pictures)
        shape = self._latent_shape(height, width)
        seed_B = jnp.asarray(filled(np.asarray(request.picture_seeds, np.uint32), rows))
        given = None if request.latents is None else self._given(request, shape)
        known = self._known(request, height, width, rows, run)
        if given is None:
            make = functools.partial(starting_noise, shape=shape)
            noise_BhwZ = run("noise", make, (seed_B,), static=(shape,))
        else:
            noise_BhwZ = jnp.asarray(filled(given, rows))
        prompted = self._prompted(request, height, width, rows, run, guided=guided)
        latents_BhwZ = self._denoised(
            noise_BhwZ,
            (noise_BhwZ, seed_B, prompted, known),
            table,
            request.guidance,
            progress,
            run,
        )
        images_BHWC = run(
            "decode",
            functools.partial(_decoded, self._whole, tile),
            (latents_BhwZ,),
            params=self.params,
            static=(tile,),
        )
        return _Made(images_BHWC, latents_BhwZ, name_of(scheduler.sampler), height, width)

    def scheduler_of(self, sampler: str | None) -> SchedulerConfig:
        """The model's own sampler, or another over the same noise schedule.

        Raises:
            ConfigError: a sampler or an option of one that is not supported.
        """
        # Whatever the file says or leaves out, as diffusers' pipelines of SD 1 and 2 have it too:
        # latents are not pixels, and go far beyond -1 and 1.
        says: dict[str, Any] = {"clip_sample": False}
        if len(self.config.texts) == 1:
            says["steps_offset"] = 1
        return parse({**self.scheduler, **says}, sampler)

    def encode(self, image_BHWC: np.ndarray, mask_BHW: np.ndarray | None = None) -> np.ndarray:
        """The scaled latents (B, h, w, Z) of uint8 pictures, at the mean of their distribution.

        Args:
            mask_BHW: bool, True where the pictures are made grey before.
        """
        found = self._latents_of(image_BHWC, mask_BHW, self.programs.run)
        return np.asarray(found)[: len(image_BHWC)]

    def _latents_of(self, image_BHWC: np.ndarray, mask_BHW: np.ndarray | None, run: Run) -> Any:
        given = (image_BHWC,) if mask_BHW is None else (image_BHWC, mask_BHW)
        rows = self.programs.rows(len(image_BHWC))
        return run(
            "encode",
            functools.partial(_encoded, self._whole),
            tuple(jnp.asarray(filled(each, rows)) for each in given),
            params=self.params,
        )

    def _denoised(
        self,
        noise_BhwZ: jax.Array,
        given: tuple[Any, ...],
        table: Table,
        guidance: float,
        progress: Tell | None,
        run: Run,
    ) -> jax.Array:
        """Latents of noise: by one program, or by one a step where someone wants to hear of it.

        A program that calls back into Python would be no shorter and could not be kept by JAX's
        compile cache.
        """
        count = len(table)
        table = jax.tree.map(np.float32, table)
        state = run(
            "begin",
            lambda noise, known, table: begin_latents(noise, known, table),
            (noise_BhwZ, given[-1]),
            shared=(table.part(0, 1),),
        )
        length = 1 if progress else count
        for first in range(0, count, length):
            before = state
            state = run(
                "denoise",
                functools.partial(advance_latents, self._unet, self.config.unet),
                (state, *given),
                params=self.params["unet"],
                shared=(table.part(first, first + length), np.float32(guidance), np.int32(first)),
            )
            if progress:
                # One step is told of while the next is computed.
                jax.block_until_ready(before)
                if first:
                    progress(first, count)
        latents_BhwZ: jax.Array = jax.block_until_ready(state[0])
        if progress:
            progress(count, count)
        return latents_BhwZ

    def _prompted(
        self, request: Request, height: int, width: int, rows: int, run: Run, *, guided: bool
    ) -> Any:
        def ids(texts: Sequence[str]) -> tuple[np.ndarray, ...]:
            found = prompts.prompt_ids(texts, self.tokenizers, self.config)
            return tuple(filled(each, rows) for each in found)

        negatives = request.picture_negatives
        wanted = ids(request.picture_prompts)
        unwanted = ids([each or "" for each in negatives]) if guided else None
        sizes = None
        if self.config.unet.time_ids:
            sizes = prompts.time_ids(height, width, rows)
        absent_B = filled(np.asarray([each is None for each in negatives]), rows)

        def conditioned(params: Any, given: Any) -> Any:
            model = nnx.merge(self._whole, params)
            return prompts.conditions(
                model, *given, skip=request.skip, zero_absent=self._zero_empty
            )

        return run(
            "condition",
            conditioned,
            ((wanted, unwanted, sizes, absent_B),),
            params=self.params,
            static=(request.skip,),
        )

    def _check_layers(self, skip: int) -> None:
        several = len(self.config.texts) > 1
        most = min(text.skippable for text in self.config.texts) - several
        if not 0 <= skip <= most:
            raise UserError(
                f"skip (--clip-skip) is {skip}; of this model's text encoder 0 to {most} layers "
                "can be left out"
            )

    def _size(self, request: Request) -> tuple[int, int]:
        """Height and width in pixels, as asked, as the image's, or as the model was trained."""
        step = self.config.vae.factor * self.config.unet.smallest
        if request.image is not None:
            height, width = image_size(request, step)
        else:
            height = self.side if request.height is None else request.height
            width = self.side if request.width is None else request.width
        for name, side in (("height", height), ("width", width)):
            if side < step or side % step:
                raise UserError(
                    f"{name} {side} does not divide by {step}, as this model's sides must; take "
                    f"{max(step, round(side / step) * step)}"
                )
        return height, width

    def _latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        factor = self.config.vae.factor
        return height // factor, width // factor, self.config.vae.latent_channels

    def _given(self, request: Request, shape: tuple[int, int, int]) -> np.ndarray:
        try:
            latents = np.asarray(request.latents, np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"latents are an array of numbers: {error}") from error
        if latents.ndim == 3:
            latents = np.broadcast_to(latents, (request.pictures, *latents.shape))
        if latents.shape[1:] == (shape[2], *shape[:2]) != shape:
            latents = latents.transpose(0, 2, 3, 1)  # as PyTorch keeps them
        if latents.shape != (request.pictures, *shape):
            raise UserError(
                f"latents of {latents.shape}, but {request.pictures} pictures of this size have "
                f"{(request.pictures, *shape)}, or with the channels first as PyTorch has them"
            )
        return latents

    def _known(
        self, request: Request, height: int, width: int, rows: int, run: Run
    ) -> Known | None:
        inpaints = self.config.unet.in_channels > self.config.vae.latent_channels
        if request.image is None:
            if inpaints:
                raise UserError(
                    "this UNet is for inpainting: give an image, and a mask of what to make anew"
                )
            return None
        images, masks = images_and_masks(request, height, width)

        def encoded(images: np.ndarray, masks: np.ndarray | None = None) -> Any:
            # One image for all pictures fills its rows alone: the last of them is that image too.
            found = self._latents_of(images, masks, run)
            return found if found.shape[0] == rows else filled(found, rows)

        masked = None
        if inpaints:
            both = np.broadcast_shapes(images.shape[:1], masks.shape[:1])
            masked = encoded(
                np.broadcast_to(images, both + images.shape[1:]),
                np.broadcast_to(masks, both + masks.shape[1:]),
            )
        anew = request.mask is not None and request.strength >= 1.0
        return Known(
            latents=encoded(images),
            mask=jnp.asarray(filled(shrunk(masks, self.config.vae.factor), rows)),
            masked=masked,
            from_noise=jnp.full(rows, anew),
        )

    def _settings(
        self, request: Request, sampler: str, height: int, width: int
    ) -> list[dict[str, Any]]:
        shared: dict[str, Any] = {
            "model": self.name,
            "sampler": sampler,
            "steps": request.steps,
            "guidance": request.guidance,
            "height": height,
            "width": width,
            "clip_skip": request.skip,
            "eta": request.eta,
            "dtype": self.config.unet.dtype,
        }
        if self.loras:
            shared["loras"] = list(self.loras)
        if request.image is not None:
            shared |= {"strength": request.strength, "inpainting": request.mask is not None}
        if request.latents is not None:
            shared["latents"] = "given"  # no seed makes this picture again
        return [
            {**shared, "prompt": prompt, "negative": negative, "seed": seed}
            for prompt, negative, seed in zip(
                request.picture_prompts,
                request.picture_negatives,
                request.picture_seeds,
                strict=True,
            )
        ]


def _decoded(graphdef: Any, tile: int, params: Any, z_BhwZ: jax.Array) -> jax.Array:
    model: LatentDiffusion = nnx.merge(graphdef, params)
    return decoding.to_uint8(decoding.decode(model.vae, z_BhwZ, tile=tile))


def _encoded(
    graphdef: Any, params: Any, image_BHWC: jax.Array, mask_BHW: jax.Array | None = None
) -> jax.Array:
    model: LatentDiffusion = nnx.merge(graphdef, params)
    image_BHWC = image_BHWC.astype(jnp.float32) / 127.5 - 1
    if mask_BHW is not None:
        image_BHWC = jnp.where(mask_BHW[..., None], 0.0, image_BHWC)
    # One after the other, as pictures are decoded.
    return jax.lax.map(lambda image: model.vae.encode(image[None])[0], image_BHWC)


def _say_what_is_lost(latents: np.ndarray) -> None:
    lost = [number for number, each in enumerate(latents) if not np.isfinite(each).all()]
    if lost:
        print(
            f"pictures {', '.join(map(str, lost))} (from 0) are not numbers any more and come out "
            "black: try --dtype float32 or less guidance",
            file=sys.stderr,
        )
