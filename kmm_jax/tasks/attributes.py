"""Attribute search: a picture with a category against attributes in words (slide 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import DataConfig, has_statements
from kmm_jax.errors import ConfigError
from kmm_jax.losses.contrastive import Stated, contrastive_loss
from kmm_jax.models.attributes.config import AttributesConfig
from kmm_jax.models.attributes.modeling import Attributes
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.keys import Keys
from kmm_jax.models.partition import RULES, Rule
from kmm_jax.tasks.fit import check_fits


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributesTask:
    """Train an attribute search model; its batches are of statements (``data/statements.py``).

    The loss is CLIP's, but that an attribute which is known to be true of another row's picture, as
    it is asked about there, is no counterexample to it.
    """

    model: AttributesConfig
    sharding_rules: tuple[Rule, ...] = RULES

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit the model, before anything is compiled."""
        check_fits(self.model, data=data, vocabulary=vocabulary)
        if not has_statements(data):
            raise ConfigError(
                "attributes are learned from statements, and data.fields has none; set "
                "data.fields=(('statements', 1.0),)"
            )

    def init(self, key: jax.Array) -> nnx.Module:
        """The model with fresh parameters."""
        return Attributes(self.model, rngs=Keys(key))

    def per_example(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[dict[str, Any], None]:
        """Vectors of both sides, and the codes of what is stated and known; ``key`` is unused."""
        return {
            "query": module.encode_query(batch["image"], batch["category"], batch["asked"]),
            "text": module.encode_text(batch["text"]),
            "stated": Stated(batch["statement"], batch["known"]),
        }, None

    def over_batch(
        self, module: Any, vectors: Mapping[str, Any], sums: None, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Half the sum of both directions."""
        both, metrics = contrastive_loss(
            vectors["query"],
            vectors["text"],
            module.logit_scale,
            mesh=mesh,
            stated=vectors["stated"],
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
        """What evaluators call: unit vectors of pictures, alone or with a category, and of texts.

        ``encode_query`` takes ``image``, ``category`` (B, T) int32 and ``asked`` (B,) bool;
        ``heat_map`` is as a CLIP's.
        """
        return {
            "encode_image": lambda module, batch: module.encode_image(batch["image"]),
            "encode_text": lambda module, batch: module.encode_text(batch["text"]),
            "encode_query": lambda module, batch: module.encode_query(
                batch["image"], batch["category"], batch["asked"]
            ),
            "heat_map": lambda module, batch: module.heat_map(batch["image"], batch["text"]),
        }

    def flops_per_example(self) -> float:
        """Forward operations of one picture with a category and one attribute."""
        return forward_flops_total(self.model)
