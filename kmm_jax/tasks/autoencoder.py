"""An autoencoder between pictures and latents (arXiv 2112.10752, 3.1), without its adversary.

The published ones are trained with a perceptual loss and a discriminator as well, for which weights
of another network would be needed; here absolute error, edges and the divergence of the latents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import DataConfig
from kmm_jax.errors import ConfigError
from kmm_jax.losses.diffusion import reconstruction_error
from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.config import VAEConfig
from kmm_jax.models.diffusion.flops import decode_flops, encode_flops
from kmm_jax.models.diffusion.partition import AUTOENCODER_RULES
from kmm_jax.models.keys import Keys
from kmm_jax.models.partition import Rule


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderTask:
    """Train an autoencoder on the pictures of the data; its texts are not used.

    Attributes:
        kl_weight: of the divergence of the latents from the standard normal distribution, in nats a
            number.
    """

    model: VAEConfig
    kl_weight: float = 1e-3
    sharding_rules: tuple[Rule, ...] = AUTOENCODER_RULES

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse pictures that the model cannot halve so often."""
        if data.image_size % self.model.factor:
            raise ConfigError(
                f"data.image_size={data.image_size} does not divide by {self.model.factor}, as "
                "this autoencoder's pictures must"
            )

    def init(self, key: jax.Array) -> nnx.Module:
        """The model with fresh parameters."""
        return Autoencoder(self.model, rngs=Keys(key))

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Reconstruction from a draw of the latents, and their divergence."""
        image_BHW3 = pixels(batch["image"])
        posterior = module.posterior(image_BHW3)
        noise = jax.random.normal(key, posterior.mean.shape, jnp.float32)
        again_BHW3 = module.decode_unscaled(posterior.sample(noise))
        error = reconstruction_error(again_BHW3, image_BHW3).mean()
        kl = posterior.kl().mean() / posterior.mean[0].size
        return error + self.kl_weight * kl, {
            "reconstruction_error": error,
            "kl": kl,
            "latent_deviation": posterior.mean.std(),
        }

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call: ``reconstruct`` gives pictures (B, H, W, 3) from -1 to 1."""

        def reconstruct(module: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
            return module.decode(module.encode(pixels(batch["image"])))

        return {"reconstruct": reconstruct}

    def flops_per_example(self) -> float:
        """Forward operations of one picture."""
        side = self.model.sample_size
        return encode_flops(self.model, side, side) + decode_flops(self.model, side, side)


def pixels(image_BHW3: jax.Array) -> jax.Array:
    """Bytes as numbers from -1 to 1."""
    return image_BHW3.astype(jnp.float32) / 127.5 - 1.0
