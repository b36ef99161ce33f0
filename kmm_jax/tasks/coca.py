"""Prompt-CoCa: contrastive and captioning losses from one pass (slides 3.2, arXiv 2205.01917).

Plain CoCa is the same task over data without style tokens (``DataConfig.styled=False``). Finetuned
on captions, on queries (slide 3.2) or on questions with answers (slide 5.4), it is the same task
with other weights and other fields of the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import DataConfig
from kmm_jax.errors import ConfigError
from kmm_jax.losses.captioning import CaptionSums, captioning_mean, captioning_sums
from kmm_jax.losses.contrastive import contrastive_loss
from kmm_jax.models.coca import decoding
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.coca.modeling import CoCa
from kmm_jax.models.flops import forward_flops_total
from kmm_jax.models.keys import Keys
from kmm_jax.models.partition import RULES, Rule
from kmm_jax.tasks.fit import check_fits


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoCaTask:
    """Train a CoCa.

    Attributes:
        contrastive_weight, caption_weight: the lambdas of equation 4; 1 and 2 in the paper. A loss
            of weight 0 is not computed. Without the contrastive one, a model that is finetuned on
            captions forgets how to retrieve (docs/results/caption_tuning.md).
        never_predicted: ids that are no caption targets; padding and the three style tokens, where
            every tokenizer of this library has them.
        never_generated: ids no caption holds besides: ``[BOS]`` and ``[CLS]``.
    """

    model: CoCaConfig
    contrastive_weight: float = 1.0
    caption_weight: float = 2.0
    never_predicted: tuple[int, ...] = (0, 4, 5, 6)
    never_generated: tuple[int, ...] = (1, 3)
    eos_id: int = 2
    sharding_rules: tuple[Rule, ...] = RULES

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit the model, before anything is compiled."""
        answers = not self.contrastive_weight
        check_fits(self.model, data=data, vocabulary=vocabulary, answers=answers)
        for name in ("contrastive_weight", "caption_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"task.{name} must be 0 or more, got {getattr(self, name)}")
        if not self.contrastive_weight and not self.caption_weight:
            raise ConfigError("task.contrastive_weight and task.caption_weight are both 0")

    def init(self, key: jax.Array) -> nnx.Module:
        """The model with fresh parameters."""
        return CoCa(self.model, rngs=Keys(key))

    def per_example(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[dict[str, jax.Array], CaptionSums]:
        """Image and text vectors, and the caption loss summed; ``key`` is unused (no dropout).

        A batch with ``target`` (B, T) bool counts the tokens where it is true alone: an answer, and
        not its question.
        """
        image_BE, text_BE, logits_BTV = module(batch["image"], batch["text"])
        sums = captioning_sums(
            logits_BTV, batch["text"], never=self.never_predicted, only_BT=batch.get("target")
        )
        return {"image": image_BE, "text": text_BE}, sums

    def over_batch(
        self, module: Any, vectors: Mapping[str, jax.Array], sums: CaptionSums, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum of both losses (equation 4), and what to log."""
        caption, metrics = captioning_mean(sums)
        metrics = {"caption_loss": caption, "logit_scale": module.logit_scale, **metrics}
        loss = self.caption_weight * caption
        if not self.contrastive_weight:
            return loss, metrics
        contrastive, contrastive_metrics = contrastive_loss(
            vectors["image"], vectors["text"], module.logit_scale, mesh=mesh
        )
        loss += self.contrastive_weight * contrastive
        return loss, {"contrastive_loss": contrastive, **metrics, **contrastive_metrics}

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Both losses of a whole batch."""
        return self.over_batch(module, *self.per_example(module, batch, key), mesh)

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call: a batch's image and text vectors, captions, answers and heat-maps.

        ``caption`` takes ``image`` and ``prompt``, ``[BOS] [STYLE]`` as int32 (P,), and returns
        greedy ids (B, T) that begin with it. ``answer`` does the same for a prompt for each image,
        ``asked`` (B, T) int32 as ``Tokenizer.asked`` makes it. ``heat_map`` takes ``image`` and
        ``text`` side by side and returns how relevant each patch of an image is to its text,
        (B, G, G).
        """

        never = (*self.never_predicted, *self.never_generated)

        def caption(module: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
            _, image_BQD = module.encode_image(batch["image"])
            return decoding.greedy(
                module.text, image_BQD, batch["prompt"], eos_id=self.eos_id, never=never
            )

        def answer(module: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
            _, image_BQD = module.encode_image(batch["image"])
            return decoding.answer(
                module.text, image_BQD, batch["asked"], eos_id=self.eos_id, never=never
            )

        return {
            "answer": answer,
            "caption": caption,
            "encode_image": lambda module, batch: module.encode_image(batch["image"])[0],
            "encode_text": lambda module, batch: module.encode_text(batch["text"])[0],
            "heat_map": lambda module, batch: module.heat_map(batch["image"], batch["text"]),
        }

    def flops_per_example(self) -> float:
        """Forward operations of one image with one text."""
        return forward_flops_total(self.model)
