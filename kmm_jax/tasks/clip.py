"""CLIP: the contrastive loss alone (arXiv 2103.00020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import DataConfig
from kmm_jax.losses.contrastive import contrastive_loss
from kmm_jax.models.clip.config import CLIPConfig
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.keys import Keys
from kmm_jax.models.partition import RULES, Rule
from kmm_jax.tasks.fit import check_fits


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPTask:
    """Train a CLIP."""

    model: CLIPConfig
    sharding_rules: tuple[Rule, ...] = RULES

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit the model, before anything is compiled."""
        check_fits(self.model, data=data, vocabulary=vocabulary)

    def init(self, key: jax.Array) -> nnx.Module:
        """The model with fresh parameters."""
        return CLIP(self.model, rngs=Keys(key))

    def per_example(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[dict[str, jax.Array], None]:
        """Image and text vectors; ``key`` is unused."""
        return {
            "image": module.encode_image(batch["image"]),
            "text": module.encode_text(batch["text"]),
        }, None

    def over_batch(
        self, module: Any, vectors: Mapping[str, jax.Array], sums: None, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Half the sum of both directions, as CLIP has it."""
        both, metrics = contrastive_loss(
            vectors["image"], vectors["text"], module.logit_scale, mesh=mesh
        )
        return both / 2, {
            "contrastive_loss": both / 2,
            "logit_scale": module.logit_scale,
            **metrics,
        }

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss of a whole batch."""
        return self.over_batch(module, *self.per_example(module, batch, key), mesh)

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call: unit vectors of a batch's images and of its texts, and heat-maps.

        ``heat_map`` takes ``image`` and ``text`` side by side and returns how relevant each patch
        of an image is to its text, (B, G, G).
        """
        return {
            "encode_image": lambda module, batch: module.encode_image(batch["image"]),
            "encode_text": lambda module, batch: module.encode_text(batch["text"]),
            "heat_map": lambda module, batch: module.heat_map(batch["image"], batch["text"]),
        }

    def flops_per_example(self) -> float:
        """Forward operations of one image with one text."""
        return forward_flops_total(self.model)
