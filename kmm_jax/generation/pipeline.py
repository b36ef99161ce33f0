"""A text-to-image model ready for use: requests in, pictures out.

B pictures, H height, W width, h w Z of the latents.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image

from kmm_jax.errors import UserError
from kmm_jax.generation import decoding, prompts
from kmm_jax.generation.program import Known, denoise_latents, starting_noise
from kmm_jax.generation.request import Request
from kmm_jax.generation.schedulers.build import make_table
from kmm_jax.generation.schedulers.config import SchedulerConfig, for_sampler, parse
from kmm_jax.generation.schedulers.table import Table
from kmm_jax.models.diffusion.config import LatentDiffusionConfig
from kmm_jax.models.diffusion.modeling import LatentDiffusion, abstract
from kmm_jax.text.tokenizer import Tokenizer

_BATCH = PartitionSpec("data")
_EVERYWHERE = PartitionSpec()

Tell = Callable[[int, int], None]


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


class Pipeline:
    """Text to image, image to image and inpainting with one model.

    Programs are compiled once for a number of pictures, their size and the number of steps; another
    prompt, seed, guidance scale or sampler runs the same program. Pictures are split over the
    devices of this machine, each computed whole on one.

    Attributes:
        config, tokenizers, scheduler: of the model.
        hash: what identifies it in the settings of a picture, if anything.
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
        devices: Sequence[jax.Device] | None = None,
    ):
        """``params`` as ``nnx.merge`` takes them; they are put on every device."""
        self.config = config
        self.tokenizers = tuple(tokenizers)
        self.scheduler = scheduler if isinstance(scheduler, SchedulerConfig) else parse(scheduler)
        self.name = name
        self._zero_empty = zero_empty_negative
        devices = list(devices or jax.local_devices())
        self._mesh = jax.make_mesh(
            (len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices
        )
        module = abstract(config)
        self._whole = nnx.graphdef(module)
        self._unet = nnx.graphdef(module.unet)
        self.params = jax.device_put(params, NamedSharding(self._mesh, _EVERYWHERE))
        self._programs: dict[Any, Any] = {}
        self._listener: Callable[[Any], None] | None = None

    @property
    def compiled(self) -> int:
        """How many programs were compiled so far."""
        return len(self._programs)

    def generate(
        self, request: Request, *, progress: Tell | None = None, tile: int = 0
    ) -> Generated:
        """The pictures of a request.

        Args:
            progress: called with the number of steps done, and of all.
            tile: decode in tiles of so many latents along a side; 0 decodes pictures whole.

        Raises:
            UserError: something in the request does not fit the model.
        """
        height, width = self._size(request)
        scheduler = self.scheduler_of(request.sampler)
        strength = request.strength if request.image is not None else 1.0
        table = make_table(scheduler, request.steps, strength=strength, eta=request.eta)
        prompts.say_what_is_cut(request.prompts, self.tokenizers, self.config)
        # Whole rows for every device; what only fills up is cut off again.
        rows = -(-request.pictures // self._mesh.size) * self._mesh.size
        prompted = self._prompted(request, height, width, rows)
        seed_B = jnp.asarray(_filled(np.asarray(request.picture_seeds, np.uint32), rows))
        shape = self._latent_shape(height, width)
        if request.latents is None:
            noise_BhwZ = self._run("noise", starting_noise, (seed_B,), static=(shape,))
        else:
            noise_BhwZ = jnp.asarray(_filled(self._given(request, shape), rows))
        known = self._known(request, height, width, rows)
        self._listener = progress and functools.partial(_tell, progress, len(table))
        latents_BhwZ = self._denoised(
            noise_BhwZ, seed_B, prompted, known, table, request.guidance, tells=progress is not None
        )
        images_BHWC = self._run(
            "decode",
            functools.partial(_decoded, self._whole, tile),
            (latents_BhwZ,),
            params=self.params,
            static=(tile,),
        )
        count = request.pictures
        return Generated(
            images=np.asarray(images_BHWC)[:count],
            latents=np.asarray(latents_BhwZ)[:count],
            settings=self._settings(request, height, width),
        )

    def scheduler_of(self, sampler: str | None) -> SchedulerConfig:
        """The model's own sampler, or another over the same noise schedule."""
        return self.scheduler if sampler is None else for_sampler(self.scheduler, sampler)

    def encode(self, image_BHWC: np.ndarray) -> np.ndarray:
        """The scaled latents (B, h, w, Z) of uint8 pictures, at the mean of their distribution."""
        rows = -(-len(image_BHWC) // self._mesh.size) * self._mesh.size
        images = jnp.asarray(_filled(image_BHWC, rows))
        found = self._run(
            "encode", functools.partial(_encoded, self._whole), (images,), params=self.params
        )
        return np.asarray(found)[: len(image_BHWC)]

    def _denoised(
        self,
        noise_BhwZ: jax.Array,
        seed_B: jax.Array,
        prompted: Any,
        known: Known | None,
        table: Table,
        guidance: float,
        *,
        tells: bool,
    ) -> jax.Array:
        split = known
        shared = None
        if known is not None:
            shared = known.from_noise
            split = known._replace(from_noise=None)  # type: ignore[arg-type]

        def sampled(params: Any, given: Any, scalars: Any) -> jax.Array:
            noise_BhwZ, seed_B, prompted, known = given
            table, guidance, from_noise = scalars
            if known is not None:
                known = known._replace(from_noise=from_noise)
            return denoise_latents(
                self._unet,
                self.config.unet,
                params,
                noise_BhwZ,
                seed_B,
                prompted,
                known,
                table,
                guidance,
                tell=self._heard if tells else None,
            )

        scalars = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), table),
            jnp.float32(guidance),
            shared,
        )
        return self._run(
            "denoise",
            sampled,
            ((noise_BhwZ, seed_B, prompted, split),),
            params=self.params["unet"],
            shared=(scalars,),
            static=(tells,),
        )

    def _heard(self, done: Any) -> None:
        """Pass on to whoever listens now: a compiled program outlives the call it was made for."""
        if self._listener is not None:
            self._listener(done)

    def _run(
        self,
        name: str,
        function: Callable[..., Any],
        split: tuple[Any, ...],
        *,
        params: Any = None,
        shared: tuple[Any, ...] = (),
        static: tuple[Any, ...] = (),
    ) -> Any:
        """A function over pictures, compiled once for each form of its arguments.

        Args:
            split: arguments with a leading dimension of pictures, which are split over devices.
            params: the first argument, if there is one; whole on every device, as ``shared`` are.
        """
        placed = jax.device_put(split, NamedSharding(self._mesh, _BATCH))
        everywhere = jax.device_put(shared, NamedSharding(self._mesh, _EVERYWHERE))
        arguments = (*(() if params is None else (params,)), *placed, *everywhere)
        leaves, tree = jax.tree.flatten(arguments)
        key = (name, static, tree, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves))
        if key not in self._programs:
            bound = functools.partial(function, shape=static[0]) if name == "noise" else function
            specs = (
                *(() if params is None else (_EVERYWHERE,)),
                *(_BATCH,) * len(placed),
                *(_EVERYWHERE,) * len(everywhere),
            )
            mapped = jax.shard_map(
                bound, mesh=self._mesh, in_specs=specs, out_specs=_BATCH, check_vma=False
            )
            self._programs[key] = jax.jit(mapped).lower(*arguments).compile()
        return self._programs[key](*arguments)

    def _prompted(self, request: Request, height: int, width: int, rows: int) -> Any:
        def ids(texts: Sequence[str]) -> tuple[np.ndarray, ...]:
            found = prompts.prompt_ids(texts, self.tokenizers, self.config)
            return tuple(_filled(each, rows) for each in found)

        negatives = request.picture_negatives
        guided = request.guided and not self.config.unet.guidance_width
        wanted = ids(request.picture_prompts)
        unwanted = ids(negatives) if guided else None
        sizes = None
        if self.config.unet.time_ids:
            sizes = prompts.time_ids(height, width, rows)
        empty_B = _filled(np.asarray([not each for each in negatives]), rows)

        def conditioned(params: Any, given: Any) -> Any:
            model = nnx.merge(self._whole, params)
            return prompts.conditions(model, *given, skip=request.skip, zero_empty=self._zero_empty)

        return self._run(
            "condition",
            conditioned,
            ((wanted, unwanted, sizes, empty_B),),
            params=self.params,
            static=(request.skip,),
        )

    def _size(self, request: Request) -> tuple[int, int]:
        """Height and width in pixels, as asked, as the image's, or as the model was trained."""
        own = self.config.unet.sample_size * self.config.vae.factor
        step = self.config.vae.factor * self.config.unet.smallest
        height, width = request.height or own, request.width or own
        if request.image is not None:
            sides = np.asarray(request.image).shape[-3:-1]
            height, width = (side // step * step for side in sides)
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
        latents = np.asarray(request.latents, np.float32)
        if latents.ndim == 3:
            latents = np.broadcast_to(latents, (request.pictures, *latents.shape))
        if latents.shape[1:] == (shape[2], *shape[:2]):
            latents = latents.transpose(0, 2, 3, 1)  # as PyTorch keeps them
        if latents.shape != (request.pictures, *shape):
            raise UserError(
                f"latents of {latents.shape}, but {request.pictures} pictures of this size have "
                f"{(request.pictures, *shape)}, or with the channels first as PyTorch has them"
            )
        return latents

    def _known(self, request: Request, height: int, width: int, rows: int) -> Known | None:
        channels, latents = self.config.unet.in_channels, self.config.vae.latent_channels
        if request.image is None:
            if channels > latents:
                raise UserError(
                    "this UNet is for inpainting: give an image, and a mask of what to make anew"
                )
            return None
        images = _images(request, height, width)
        masks = _masks(request, height, width)
        encoded = _filled(self.encode(images), rows)
        mask_Bhw1 = _filled(_shrunk(masks, self.config.vae.factor), rows)
        masked = None
        if channels > latents:
            # Grey is 0 from -1 to 1: 127.5 as a byte, rounded up.
            grey = np.where(masks[..., None], 128, images).astype(np.uint8)
            masked = jnp.asarray(_filled(self.encode(grey), rows))
        inpaints = request.mask is not None
        return Known(
            latents=jnp.asarray(encoded),
            mask=jnp.asarray(mask_Bhw1),
            masked=masked,
            from_noise=jnp.asarray(inpaints and request.strength >= 1.0),
        )

    def _settings(self, request: Request, height: int, width: int) -> list[dict[str, Any]]:
        sampler = request.sampler or type(self.scheduler.sampler).__name__.lower()
        shared = {
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
        if request.image is not None:
            shared |= {"strength": request.strength, "inpainting": request.mask is not None}
        return [
            {**shared, "prompt": prompt, "negative": negative, "seed": seed}
            for prompt, negative, seed in zip(
                request.picture_prompts,
                request.picture_negatives,
                request.picture_seeds,
                strict=True,
            )
        ]


def _tell(progress: Tell, steps: int, done: Any) -> None:
    progress(int(done), steps)


def _decoded(graphdef: Any, tile: int, params: Any, z_BhwZ: jax.Array) -> jax.Array:
    model: LatentDiffusion = nnx.merge(graphdef, params)
    return decoding.to_uint8(decoding.decode(model.vae, z_BhwZ, tile=tile))


def _encoded(graphdef: Any, params: Any, image_BHWC: jax.Array) -> jax.Array:
    model: LatentDiffusion = nnx.merge(graphdef, params)
    return model.vae.encode(image_BHWC.astype(jnp.float32) / 127.5 - 1)


def _filled(array_BX: np.ndarray, rows: int) -> np.ndarray:
    """With its last row again, up to ``rows``."""
    more = rows - len(array_BX)
    return np.concatenate([array_BX, np.repeat(array_BX[-1:], more, axis=0)]) if more else array_BX


def _images(request: Request, height: int, width: int) -> np.ndarray:
    """The images to start from, one a picture, cut at the middle to size."""
    images = np.asarray(request.image)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise UserError(
            f"an image to start from is (H, W, 3) uint8, got {images.shape} {images.dtype}"
        )
    images = _each(images, request.pictures, 3, "images")
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    return images[:, top : top + height, left : left + width]


def _masks(request: Request, height: int, width: int) -> np.ndarray:
    if request.mask is None:
        return np.ones((request.pictures, height, width), bool)
    masks, image = np.asarray(request.mask), np.asarray(request.image)
    if masks.dtype != np.bool_ or masks.shape[-2:] != image.shape[-3:-1]:
        raise UserError(
            f"the mask is {masks.shape} {masks.dtype}, the image {image.shape}: a mask is bool of "
            "the image's height and width, True where it is made anew"
        )
    masks = _each(masks, request.pictures, 2, "masks")
    top, left = (masks.shape[1] - height) // 2, (masks.shape[2] - width) // 2
    return masks[:, top : top + height, left : left + width]


def _each(array: np.ndarray, pictures: int, dimensions: int, what: str) -> np.ndarray:
    if array.ndim == dimensions:
        return np.broadcast_to(array, (pictures, *array.shape))
    if len(array) != pictures:
        raise UserError(f"{len(array)} {what} for {pictures} pictures; give one, or one for each")
    return array


def _shrunk(mask_BHW: np.ndarray, factor: int) -> np.ndarray:
    """A mask for latents, (B, h, w, 1) float32: the pixel at the corner of each decides."""
    return mask_BHW[:, ::factor, ::factor, None].astype(np.float32)
