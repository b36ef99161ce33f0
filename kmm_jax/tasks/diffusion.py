"""Latent diffusion: predict what was added to a picture's latents, given its text (2112.10752)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import DataConfig
from kmm_jax.data.latents import About
from kmm_jax.errors import ConfigError
from kmm_jax.losses.diffusion import min_snr_weights, spread_steps, squared_error
from kmm_jax.models.diffusion.config import LatentDiffusionConfig
from kmm_jax.models.diffusion.flops import encode_flops, text_flops, unet_flops
from kmm_jax.models.diffusion.modeling import LatentDiffusion
from kmm_jax.models.diffusion.noise_schedule import NoiseSchedule, add_noise, snr, target
from kmm_jax.models.diffusion.partition import RULES
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
    """

    model: LatentDiffusionConfig
    schedule: NoiseSchedule = dataclasses.field(default_factory=NoiseSchedule)
    drop_text: float = 0.1
    min_snr: float | None = None
    pad_id: int | None = None
    sharding_rules: tuple[Rule, ...] = RULES
    autoencoder: ClassVar[str] = "vae"

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit the model, before anything is compiled."""
        if len(self.model.texts) > 1 or self.model.unet.time_ids:
            raise ConfigError(
                "a UNet with two text encoders (SDXL) cannot be trained here; SD 1 and 2 can"
            )
        if self.model.unet.in_channels != self.model.vae.latent_channels:
            raise ConfigError("an inpainting UNet, which also sees a mask, cannot be trained here")
        if not 0 <= self.drop_text < 1:
            raise ConfigError(f"task.drop_text must lie from 0 to below 1, got {self.drop_text}")
        reader = self.model.texts[0]
        if data.text_length != reader.length:
            raise ConfigError(
                f"data.text_length={data.text_length}, but the text encoder takes {reader.length}: "
                "a UNet sees every position, padding included"
            )
        if data.styled:
            raise ConfigError("prompts have no style tokens: set data.styled=false")
        if vocabulary is not None and vocabulary > reader.vocabulary:
            raise ConfigError(
                f"the tokenizer has {vocabulary} tokens, the text encoder {reader.vocabulary}"
            )
        step = self.model.vae.factor * self.model.unet.smallest
        if data.image_size % step:
            raise ConfigError(
                f"data.image_size={data.image_size} does not divide by {step}, as this model's "
                "pictures must"
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
        return LatentDiffusion(self.model, rngs=nnx.Rngs(key))

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted squared error of the prediction, one noise level an example.

        A batch with ``latents`` (B, h, w, Z), scaled, needs no ``image``.
        """
        noise_key, step_key, drop_key = jax.random.split(key, 3)
        z_BhwZ = jax.lax.stop_gradient(self.latents(module, batch))
        rows = z_BhwZ.shape[0]
        t_B = spread_steps(step_key, rows, self.schedule.training_steps)
        noise = jax.random.normal(noise_key, z_BhwZ.shape, jnp.float32)
        ids_BT = self.dropped(batch["text"], drop_key)
        predicted = module.unet(
            add_noise(self.schedule, z_BhwZ, noise, t_B),
            t_B.astype(jnp.float32),
            module.condition((ids_BT,)).context,
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

    def dropped(self, ids_BT: jax.Array, key: jax.Array) -> jax.Array:
        """Ids of which a share are those of an empty text."""
        reader = self.model.texts[0]
        pad_id = reader.pad_id if self.pad_id is None else self.pad_id
        empty_BT = jnp.full_like(ids_BT, pad_id)
        empty_BT = empty_BT.at[:, 0].set(ids_BT[:, 0]).at[:, 1].set(reader.eos_id)
        drop_B1 = jax.random.bernoulli(key, self.drop_text, (ids_BT.shape[0], 1))
        return jnp.where(drop_B1, empty_BT, ids_BT)

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
            predicted = module.unet(
                add_noise(self.schedule, z_BhwZ, noise, batch["step"]),
                batch["step"].astype(jnp.float32),
                module.condition((batch["text"],)).context,
            )
            return squared_error(predicted, target(self.schedule, z_BhwZ, noise, batch["step"]))

        return {"denoising_error": denoising_error}

    def flops_per_example(self) -> float:
        """Forward operations of one example, its latents included."""
        model, side = self.model, self.model.unet.sample_size
        positions = model.texts[0].positions
        return (
            encode_flops(model.vae, side * model.vae.factor, side * model.vae.factor)
            + text_flops(model.texts[0])
            + unet_flops(model.unet, side, side, context=positions)
        )
