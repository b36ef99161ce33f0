"""Latent diffusion: predict what was added to a picture's latents, given its text (2112.10752)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import SIZES, DataConfig
from kmm_jax.data.latents import About
from kmm_jax.errors import ConfigError
from kmm_jax.losses.diffusion import min_snr_weights, spread_steps, squared_error
from kmm_jax.models.diffusion.config import AnyTextConfig, LatentDiffusionConfig
from kmm_jax.models.diffusion.flops import encode_flops, text_flops, unet_flops
from kmm_jax.models.diffusion.modeling import LatentDiffusion
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule, add_noise, snr, target
from kmm_jax.models.diffusion.partition import RULES
from kmm_jax.models.diffusion.unet import Added
from kmm_jax.models.keys import Keys
from kmm_jax.models.partition import Rule
from kmm_jax.tasks.autoencoder import pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionTask:
    """Train a UNet, and its text encoder unless it is frozen, over a frozen autoencoder.

    ``freeze="vae/.*"`` belongs to it; with ``"(vae|texts)/.*"`` only the UNet learns, as Stable
    Diffusion was trained and is finetuned. Begin from a folder of diffusers by ``--init``.

    Attributes:
        schedule: how much noise each training step has, and what is predicted of it.
        drop_text: share of examples whose text is taken away, so that guidance has something to
            guide from (arXiv 2207.12598).
        min_snr: gamma of min-SNR weighting (arXiv 2303.09556), 5 there; None weighs all alike.
        pad_id: what fills texts up; None for the text encoder's, in Stable Diffusion ``eos_id``.
        second_pad_id: what fills them up for the second of two text encoders; 0 in SDXL.
        zero_dropped: a text taken away is zeros, as SDXL's base was trained and is guided, not the
            states of an empty text.
    """

    model: LatentDiffusionConfig
    schedule: NoiseSchedule = dataclasses.field(default_factory=NoiseSchedule)
    drop_text: float = 0.1
    min_snr: float | None = None
    pad_id: int | None = None
    second_pad_id: int = 0
    zero_dropped: bool = False
    sharding_rules: tuple[Rule, ...] = RULES
    autoencoder: ClassVar[str] = "vae"

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit the model, before anything is compiled."""
        if self.model.unet.in_channels != self.model.vae.latent_channels:
            raise ConfigError("an inpainting UNet, which also sees a mask, cannot be trained here")
        if not 0 <= self.drop_text < 1:
            raise ConfigError(f"task.drop_text must lie from 0 to below 1, got {self.drop_text}")
        self._check_sizes(data)
        for text in self.model.texts:
            self._check_text(text, data, vocabulary)
        if data.styled:
            raise ConfigError("prompts have no style tokens: set data.styled=false")
        step = self.model.vae.factor * self.model.unet.smallest
        if data.image_size % step:
            raise ConfigError(
                f"data.image_size={data.image_size} does not divide by {step}, as this model's "
                "pictures must"
            )

    def _check_sizes(self, data: DataConfig) -> None:
        wanted = self.model.unet.time_ids
        if wanted not in (0, SIZES):
            raise ConfigError(
                f"a UNet that is told {wanted} numbers about a picture cannot be trained here (as "
                f"SDXL's refiner, which takes a score of beauty); SDXL's base, with {SIZES}, can"
            )
        if data.sizes and not wanted:
            raise ConfigError("this UNet is not told of sizes: set data.sizes=false")

    def _check_text(self, reader: AnyTextConfig, data: DataConfig, vocabulary: int | None) -> None:
        if data.text_length != reader.length:
            raise ConfigError(
                f"data.text_length={data.text_length}, but the text encoder takes {reader.length}: "
                "a UNet sees every position, padding included"
            )
        if vocabulary is not None and vocabulary > reader.vocabulary:
            raise ConfigError(
                f"the tokenizer has {vocabulary} tokens, the text encoder {reader.vocabulary}"
            )

    def check_latents(self, about: About) -> None:
        """Refuse latents that this model's autoencoder would not give."""
        vae = self.model.vae
        for name in ("scaling", "shift"):
            ours, theirs = getattr(vae, name), getattr(about, name)
            if abs(ours - theirs) > 1e-9:
                raise ConfigError(
                    f"the latents in data.sources have {name} {theirs}, this model's {ours}; set "
                    f"task.model.vae.{name}={theirs!r}, or make them anew with kmm latents"
                )
        side = about.size // vae.factor
        if about.shape != (side, side, vae.latent_channels):
            raise ConfigError(
                f"the latents of {about.size} pixels in data.sources are {about.shape}, this "
                f"model's {(side, side, vae.latent_channels)}; make them by its autoencoder with "
                "kmm latents"
            )

    def init(self, key: jax.Array) -> nnx.Module:
        """The model with fresh parameters."""
        return LatentDiffusion(self.model, rngs=Keys(key))

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted squared error of the prediction, one noise level an example.

        A batch with ``latents`` (B, h, w, Z), scaled, needs no ``image``. SDXL is told the batch's
        ``time_ids`` (B, 6); without them, that pictures were of this size and not cropped.
        """
        noise_key, step_key, drop_key = jax.random.split(key, 3)
        z_BhwZ = jax.lax.stop_gradient(self.latents(module, batch))
        rows = z_BhwZ.shape[0]
        t_B = spread_steps(step_key, rows, self.schedule.training_steps)
        noise = jax.random.normal(noise_key, z_BhwZ.shape, jnp.float32)
        context_BSE, added = self.conditioned(module, batch, z_BhwZ.shape, drop_key)
        predicted = module.unet(
            add_noise(self.schedule, z_BhwZ, noise, t_B),
            t_B.astype(jnp.float32),
            context_BSE,
            added=added,
        )
        error_B = squared_error(predicted, target(self.schedule, z_BhwZ, noise, t_B))
        metrics = {"squared_error": error_B.mean(), "latent_deviation": z_BhwZ.std()}
        if self.min_snr is None:
            return error_B.mean(), metrics
        weights_B = min_snr_weights(
            snr(self.schedule, t_B), gamma=self.min_snr, prediction=self.schedule.prediction
        )
        return (weights_B * error_B).mean(), metrics

    def latents(self, module: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        """The scaled latents of a batch, (B, h, w, Z): its own, or of its pictures."""
        if "latents" in batch:
            return batch["latents"].astype(jnp.float32)
        return module.vae.encode(pixels(batch["image"]))

    def conditioned(
        self,
        module: Any,
        batch: Mapping[str, jax.Array],
        shape: tuple[int, ...],
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Added | None]:
        """The sequence that the UNet attends to, and what SDXL is told beside it.

        Args:
            shape: of the latents.
            key: takes a share of the texts away.
        """
        ids_BT = batch["text"]
        if key is not None and not self.zero_dropped:
            ids_BT = self.dropped(ids_BT, key)
        found = module.condition(self.encoder_ids(ids_BT))
        context_BSE, pooled_BP = found.context, found.pooled
        if key is not None and self.zero_dropped:
            kept_B1 = ~self.taken_away(ids_BT, key)
            context_BSE = context_BSE * kept_B1[..., None]
            pooled_BP = None if pooled_BP is None else pooled_BP * kept_B1
        if pooled_BP is None:
            return context_BSE, None
        if "time_ids" in batch:
            return context_BSE, Added(pooled_BP, batch["time_ids"])
        height, width = (side * self.model.vae.factor for side in shape[1:3])
        whole = jnp.asarray([height, width, 0, 0, height, width], jnp.float32)
        return context_BSE, Added(pooled_BP, jnp.broadcast_to(whole, (shape[0], SIZES)))

    def encoder_ids(self, ids_BT: jax.Array) -> tuple[jax.Array, ...]:
        """The ids of a batch for each text encoder; the second's differ in what fills them up."""
        if len(self.model.texts) == 1:
            return (ids_BT,)
        ends_BT = ids_BT == self.model.texts[0].eos_id
        behind_BT = jnp.cumsum(ends_BT, axis=1) - ends_BT > 0
        return ids_BT, jnp.where(behind_BT, self.second_pad_id, ids_BT)

    def taken_away(self, ids_BT: jax.Array, key: jax.Array) -> jax.Array:
        """Which texts are, (B, 1) bool."""
        return jax.random.bernoulli(key, self.drop_text, (ids_BT.shape[0], 1))

    def dropped(self, ids_BT: jax.Array, key: jax.Array) -> jax.Array:
        """Ids of which a share are those of an empty text."""
        reader = self.model.texts[0]
        pad_id = reader.pad_id if self.pad_id is None else self.pad_id
        empty_BT = jnp.full_like(ids_BT, pad_id)
        empty_BT = empty_BT.at[:, 0].set(ids_BT[:, 0]).at[:, 1].set(reader.eos_id)
        return jnp.where(self.taken_away(ids_BT, key), empty_BT, ids_BT)

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call.

        ``denoising_error`` gives the squared error of each example (B,) with noise of the batch's
        ``seed`` (B,) at its training step ``step`` (B,).
        """

        def denoising_error(module: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
            z_BhwZ = self.latents(module, batch)

            def normal(seed: jax.Array) -> jax.Array:
                return jax.random.normal(jax.random.key(seed), z_BhwZ.shape[1:], jnp.float32)

            noise = jax.vmap(normal)(batch["seed"])
            context_BSE, added = self.conditioned(module, batch, z_BhwZ.shape)
            predicted = module.unet(
                add_noise(self.schedule, z_BhwZ, noise, batch["step"]),
                batch["step"].astype(jnp.float32),
                context_BSE,
                added=added,
            )
            return squared_error(predicted, target(self.schedule, z_BhwZ, noise, batch["step"]))

        return {"denoising_error": denoising_error}

    def flops_per_example(self) -> float:
        """Forward operations of one example, its latents included."""
        model, side = self.model, self.model.unet.sample_size
        positions = model.texts[0].positions
        return (
            encode_flops(model.vae, side * model.vae.factor, side * model.vae.factor)
            + sum(map(text_flops, model.texts))
            + unet_flops(model.unet, side, side, context=positions)
        )
