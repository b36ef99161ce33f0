"""SLIP: CLIP's loss, and SimCLR's between two views of each picture (arXiv 2112.12750)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import DataConfig
from kmm_jax.errors import ConfigError
from kmm_jax.losses.contrastive import contrastive_loss
from kmm_jax.losses.simclr import simclr_loss
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.keys import Keys
from kmm_jax.models.partition import RULES, Rule
from kmm_jax.models.slip.config import VIEWS, SLIPConfig
from kmm_jax.models.slip.modeling import SLIP
from kmm_jax.tasks.clip import CLIPTask
from kmm_jax.tasks.fit import check_fits


@dataclasses.dataclass(frozen=True, kw_only=True)
class SLIPTask:
    """Train a SLIP; its batches have two ``views`` of every picture besides its ``image``.

    Attributes:
        ssl_weight: of the loss between views; 1 in the paper.
        ssl_temperature: of that loss; 0.1 in the paper, and not learned.
    """

    model: SLIPConfig
    ssl_weight: float = 1.0
    ssl_temperature: float = 0.1
    sharding_rules: tuple[Rule, ...] = RULES

    def __post_init__(self) -> None:
        if not self.ssl_weight >= 0:
            raise ConfigError(f"task.ssl_weight must be at least 0, got {self.ssl_weight}")
        if not self.ssl_temperature > 0:
            raise ConfigError(f"task.ssl_temperature must be above 0, got {self.ssl_temperature}")

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit the model, before anything is compiled."""
        check_fits(self.model, data=data, vocabulary=vocabulary)
        if len(data.views) != VIEWS:
            raise ConfigError(
                f"SLIP compares {VIEWS} random views of every picture, and data.views has "
                f"{len(data.views)}; give {VIEWS} augmentations, such as those of slip/b16"
            )

    def init(self, key: jax.Array) -> nnx.Module:
        """The model with fresh parameters."""
        return SLIP(self.model, rngs=Keys(key))

    def per_example(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[dict[str, jax.Array], None]:
        """Image and text vectors, and the tower's features of the views; ``key`` is unused.

        The head comes later: its batch norm is over the whole batch.
        """
        return {
            "image": module.encode_image(batch["image"]),
            "text": module.encode_text(batch["text"]),
            "views": module.view_features(batch["views"]),
        }, None

    def over_batch(
        self, module: Any, vectors: Mapping[str, jax.Array], sums: None, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """CLIP's loss, half the sum of both directions, and the weighted loss between views."""
        both, metrics = contrastive_loss(
            vectors["image"], vectors["text"], module.clip.logit_scale, mesh=mesh
        )
        first_NE, second_NE = (module.view_head(vectors["views"][:, view]) for view in range(VIEWS))
        between_views, view_metrics = simclr_loss(
            first_NE, second_NE, temperature=self.ssl_temperature, mesh=mesh
        )
        return both / 2 + self.ssl_weight * between_views, {
            "contrastive_loss": both / 2,
            "ssl_loss": between_views,
            "logit_scale": module.clip.logit_scale,
            **metrics,
            **view_metrics,
        }

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Both losses of a whole batch."""
        return self.over_batch(module, *self.per_example(module, batch, key), mesh)

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call: the functions of a CLIP, of the CLIP in the model."""

        def of_clip(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
            return lambda module, batch: function(module.clip, batch)

        functions = CLIPTask(model=self.model.clip).functions()
        return {name: of_clip(function) for name, function in functions.items()}

    def flops_per_example(self) -> float:
        """Forward operations of one image with one text, two views, and the head."""
        return forward_flops_total(self.model)
