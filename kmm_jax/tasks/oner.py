"""OneR and the rows beside it: one tower, a momentum teacher, mixtures of both modalities.

Slides 3.3, with F of the student first and of the teacher (a bar) second in ``ctr``:

    ITC = ctr(F(I), F'(T)) + ctr(F(T), F'(I))
    XMC = ctr((F(I) + F(T)) / 2,     (F'(I) + F'(T)) / 2)
    CIC = ctr((F(I|T) + F(T|I)) / 2, (F'(I|I) + F'(T|T)) / 2)
    CMC = ctr(F(I,T|I,T),            (F'(I|I) + F'(T|T)) / 2)

``F(X|X)`` is ``F(X)``. ``ctr`` is MoCo v3's (arXiv 2104.02057, equation 1), from queries to the
keys of the whole batch. Neither talk nor paper says what follows, and it is our choice: means are
taken of the tower's [CLS], before the head; the three mixed terms are not symmetrised, and each is
added once to the two directions of ITC (their weights are fields); where a batch carries another
view of the picture, the teacher sees that one.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from kmm_jax.data.config import DataConfig
from kmm_jax.errors import ConfigError
from kmm_jax.losses.masked import MaskedSums, masked_pixels, masked_words
from kmm_jax.losses.momentum_contrast import momentum_contrast
from kmm_jax.models.flops import oner_step_flops
from kmm_jax.models.keys import Keys
from kmm_jax.models.oner.config import OneRConfig
from kmm_jax.models.oner.modeling import OneR, statistics
from kmm_jax.models.partition import RULES, Rule
from kmm_jax.models.text import unit
from kmm_jax.models.vision import patchify
from kmm_jax.tasks.fit import check_fits
from kmm_jax.training.task import STATISTICS, Statistics

# Padding, [BOS], [EOS], [CLS] and the style tokens, which every tokenizer here has there.
_SPECIAL = 7


class Masked(NamedTuple):
    """Sums of masked modelling; zeros where there is none."""

    pixels: MaskedSums
    words: MaskedSums


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneRTask:
    """Train a one-tower model by the contrast of a student with its teacher.

    Attributes:
        itc, xmc, cic, cmc: weights of the four terms; a term of weight 0 is not computed.
        teacher: the module that gives the keys; the loop binds it (``taught_by``).
    """

    model: OneRConfig
    itc: float = 1.0
    xmc: float = 0.0
    cic: float = 0.0
    cmc: float = 0.0
    sharding_rules: tuple[Rule, ...] = RULES
    teacher: Any = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        weights = (self.itc, self.xmc, self.cic, self.cmc)
        if min(weights) < 0 or max(weights) == 0:
            raise ConfigError(f"the weights itc, xmc, cic, cmc must be 0 or more, got {weights}")
        if self.mixed and self.model.head.apart:
            raise ConfigError(
                "a model with two heads (task.model.head.apart) has none for an image with a text: "
                "only ITC can train it; set xmc, cic and cmc to 0"
            )

    @property
    def mixed(self) -> bool:
        """Whether some term mixes the modalities."""
        return max(self.xmc, self.cic, self.cmc) > 0

    def check(self, *, data: DataConfig, vocabulary: int | None) -> None:
        """Refuse data or a tokenizer that does not fit the model, before anything is compiled."""
        check_fits(self.model, data=data, vocabulary=vocabulary)
        if len(data.views) > 1:
            raise ConfigError(
                f"data.views has {len(data.views)} further views; OneR takes one for its teacher, "
                "or none"
            )

    def init(self, key: jax.Array) -> nnx.Module:
        """The model with fresh parameters."""
        return OneR(self.model, rngs=Keys(key))

    def taught_by(self, teacher: Any) -> OneRTask:
        """The same task with its teacher."""
        taught = copy.copy(self)
        object.__setattr__(taught, "teacher", teacher)
        return taught

    def per_example(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[dict[str, jax.Array], Masked]:
        """Final [CLS] of the student and the teacher by pass, and the sums of masked modelling."""
        masked_BN, masked_BT = self._places(batch, key)
        image = module.image_sequence(batch["image"], masked_BN)
        text = module.text_sequence(batch["text"], masked_BT)
        vectors: dict[str, jax.Array] = {}
        final_image = final_text = None
        if self.cic:
            found = module.contextual(image, text)
            final_image, final_text = found.image, found.text
            vectors["image_given_text"] = found.image_given_text[:, 0]
            vectors["text_given_image"] = found.text_given_image[:, 0]
        elif self.itc or self.xmc:
            final_image, final_text = module.tower(image), module.tower(text)
        if final_image is not None and final_text is not None:
            vectors["image"], vectors["text"] = final_image[:, 0], final_text[:, 0]
        final_both = None
        if self.cmc:
            final_both = module.tower(module.joined(image, text))
            vectors["both"] = final_both[:, 0]
        sums = self._masked(
            module, batch, (masked_BN, masked_BT), (final_image, final_text, final_both)
        )
        view = batch["views"][:, 0] if "views" in batch else batch["image"]
        for name, stream in (
            ("teacher_image", self.teacher.image_sequence(view)),
            ("teacher_text", self.teacher.text_sequence(batch["text"])),
        ):
            vectors[name] = jax.lax.stop_gradient(self.teacher.tower(stream)[:, 0])
        return vectors, sums

    def over_batch(
        self, module: Any, vectors: Mapping[str, jax.Array], sums: Masked, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, Any]]:
        """The weighted sum of the terms, and what to log."""
        student, teacher = self._passes(vectors)
        query = {k: unit(x) for k, x in module.project(student, predict=True).items()}
        keys = self.teacher.project(teacher, predict=False)
        key = {kind: jax.lax.stop_gradient(unit(x)) for kind, x in keys.items()}
        metrics: dict[str, Any] = {
            STATISTICS: Statistics(statistics(module), statistics(self.teacher))
        }
        loss = jnp.zeros(())

        def contrast(name: str, one: str, other: str) -> jax.Array:
            value, hits = momentum_contrast(query[one], key[other], module.logit_scale, mesh=mesh)
            metrics[f"{name}_accuracy"] = hits
            return value if self.model.learned_temperature else 2 * value / module.logit_scale

        if self.itc:
            metrics["itc_loss"] = contrast("image_to_text", "image", "text") + contrast(
                "text_to_image", "text", "image"
            )
            loss += self.itc * metrics["itc_loss"]
        for name, weight in (("xmc", self.xmc), ("cic", self.cic), ("cmc", self.cmc)):
            if weight:
                metrics[f"{name}_loss"] = contrast(name, name, "both")
                loss += weight * metrics[f"{name}_loss"]
        if self.model.masking is not None:
            for name, part, weight in (
                ("masked_pixels", sums.pixels, self.model.masking.image_weight),
                ("masked_words", sums.words, self.model.masking.text_weight),
            ):
                metrics[f"{name}_loss"] = part.mean
                loss += weight * part.mean
        if self.model.learned_temperature:
            metrics["logit_scale"] = module.logit_scale
        # A space that has fallen together has none of it; 1 is that of unit vectors over a sphere.
        metrics["spread"] = _spread(key["image"])
        return loss, metrics

    def loss(
        self, module: Any, batch: Mapping[str, jax.Array], key: jax.Array, mesh: Mesh
    ) -> tuple[jax.Array, dict[str, Any]]:
        """The loss of a whole batch."""
        return self.over_batch(module, *self.per_example(module, batch, key), mesh)

    def functions(self) -> dict[str, Callable[[Any, Mapping[str, jax.Array]], Any]]:
        """What evaluators call: unit vectors of images, of texts, of both, and heat-maps.

        Which output they are of, ``head.scored`` says. ``heat_map`` is (B, G, G) float32.
        """
        return {
            "encode_image": lambda module, batch: module.encode_image(batch["image"]),
            "encode_text": lambda module, batch: module.encode_text(batch["text"]),
            "encode_pair": lambda module, batch: module.encode_pair(batch["image"], batch["text"]),
            "heat_map": lambda module, batch: module.heat_map(batch["image"], batch["text"]),
        }

    def flops_per_example(self) -> float:
        """A third of what a training step of one example takes: the teacher only goes forward."""
        return (
            oner_step_flops(
                self.model,
                alone=max(self.itc, self.xmc, self.cic) > 0,
                contextual=self.cic > 0,
                joined=self.cmc > 0,
                mixtures=sum(weight > 0 for weight in (self.xmc, self.cic)),
            )
            / 3
        )

    def _passes(
        self, vectors: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """What goes through the heads of the student and of the teacher."""
        student: dict[str, jax.Array] = {}
        if self.itc:
            student |= {"image": vectors["image"], "text": vectors["text"]}
        if self.xmc:
            student["xmc"] = (vectors["image"] + vectors["text"]) / 2
        if self.cic:
            student["cic"] = (vectors["image_given_text"] + vectors["text_given_image"]) / 2
        if self.cmc:
            student["cmc"] = vectors["both"]
        image, text = vectors["teacher_image"], vectors["teacher_text"]
        teacher = {"image": image, "text": text}
        if self.mixed:
            teacher["both"] = (image + text) / 2
        return student, teacher

    def _places(
        self, batch: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array | None, jax.Array | None]:
        """Which patches and which words are hidden."""
        masking = self.model.masking
        if masking is None:
            return None, None
        image_key, text_key = jax.random.split(key)
        rows = len(batch["image"])
        masked_BN = jax.random.bernoulli(
            image_key, masking.image_share, (rows, self.model.vision.patches)
        )
        masked_BT = jax.random.bernoulli(text_key, masking.text_share, batch["text"].shape)
        return masked_BN, masked_BT & (batch["text"] >= _SPECIAL)

    def _masked(
        self,
        module: OneR,
        batch: Mapping[str, jax.Array],
        masked: tuple[jax.Array | None, jax.Array | None],
        final: tuple[jax.Array | None, ...],
    ) -> Masked:
        """Sums over the passes of one modality and, where there is one, that of both."""
        masked_BN, masked_BT = masked
        image, text, both = final
        none = MaskedSums(jnp.zeros(()), jnp.zeros(()))
        pixels = words = none
        if masked_BN is not None and masked_BT is not None:
            target_BNP = patchify(
                module.vision.pixels(batch["image"]), self.model.vision.patch_size
            )
            for stream in (image, both):
                if stream is not None:
                    found = masked_pixels(module.predicted_pixels(stream), target_BNP, masked_BN)
                    pixels = MaskedSums(*jax.tree.map(jnp.add, pixels, found))
            for stream in (text, both):
                if stream is not None:
                    found = masked_words(
                        module.word_vectors(stream), module.text.attend, batch["text"], masked_BT
                    )
                    words = MaskedSums(*jax.tree.map(jnp.add, words, found))
        return Masked(pixels, words)


def _spread(unit_BE: jax.Array) -> jax.Array:
    """Root mean squared distance from the mean, of unit vectors."""
    return jnp.sqrt(jnp.maximum(1 - jnp.square(unit_BE.mean(axis=0)).sum(), 0))
