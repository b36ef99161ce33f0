"""OneR: one tower for images, texts and both together (slides 3.3, arXiv 2211.11153).

``F(X|Y)`` of the slides is the final [CLS] where the queries come from X's stream and keys and
values from Y's: at every layer from Y's own, unconditional stream at that layer, through the same
weights. Where in Y's stream they come from is our choice; talk and paper do not say.

B batch, N patches, T text positions, S positions of both, G side of the grid, D width, E embedding,
P patch side, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num

from kmm_jax.models.oner.config import ImageInputConfig, OneRConfig, Scored
from kmm_jax.models.oner.head import Head, Kind, Passes, kind_of
from kmm_jax.models.stem import ConvStem
from kmm_jax.models.text import TokenEmbedding, unit
from kmm_jax.models.transformer import KeyValue, Layer, Stack
from kmm_jax.models.vision import normalised, patchify, sincos_positions

_IMAGE, _TEXT = 0, 1

_Four = tuple[Array, Array, Array, Array]


class Stream(NamedTuple):
    """What enters the tower.

    Attributes:
        x_BSD: embedded positions, [CLS] first.
        valid_BS: which of them are no padding; None where all are.
    """

    x_BSD: Float[Array, "B S D"]
    valid_BS: Bool[Array, "B S"] | None

    @property
    def mask(self) -> Bool[Array, "B 1 1 S"] | None:
        """Where to attend."""
        return None if self.valid_BS is None else self.valid_BS[:, None, None, :]


class Contextual(NamedTuple):
    """All final vectors of an image and of a text, each alone and each in the other's context."""

    image: Float[Array, "B N+1 D"]
    text: Float[Array, "B T+1 D"]
    image_given_text: Float[Array, "B N+1 D"]
    text_given_image: Float[Array, "B T+1 D"]


class ImageInput(nnx.Module):
    """Pixels to one embedded position a patch."""

    def __init__(self, config: ImageInputConfig, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        self.dtype = dtype
        self.patch_embedding: nnx.Linear | ConvStem
        if config.stem == "conv":
            self.patch_embedding = ConvStem(
                config.patch_size, width, norm_epsilon=1e-6, dtype=dtype, rngs=rngs
            )
        else:
            self.patch_embedding = nnx.Linear(
                3 * config.patch_size**2, width, dtype=dtype, rngs=rngs
            )
        if config.positions == "sincos":
            positions = sincos_positions(config.side, width)
        else:
            positions = nnx.initializers.normal(0.02)(rngs.params(), (config.patches, width))
        self.positions = nnx.Param(positions)

    def __call__(
        self, image_BHWC: Num[Array, "B H W 3"], masked_BN: Bool[Array, "B N"] | None = None
    ) -> Float[Array, "B N D"]:
        """Patch embeddings without positions; pixels of masked patches are the mean's.

        A convolution would carry them over into the patches beside.
        """
        pixels_BHWC = self.pixels(image_BHWC).astype(self.dtype)
        if masked_BN is not None:
            size, side = self.config.patch_size, self.config.side
            hidden_BGG = masked_BN.reshape(-1, side, side)
            hidden_BHW = hidden_BGG.repeat(size, axis=1).repeat(size, axis=2)
            pixels_BHWC = jnp.where(hidden_BHW[..., None], 0, pixels_BHWC)
        linear = self.config.stem == "linear"
        return self.patch_embedding(
            patchify(pixels_BHWC, self.config.patch_size) if linear else pixels_BHWC
        )

    def pixels(self, image_BHWC: Num[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        """What is embedded, in float32; ``image_BHWC`` is uint8, or float scaled to [0, 1]."""
        config = self.config
        return normalised(
            image_BHWC, config.image_size, mean=config.mean, std=config.std, dtype=jnp.float32
        )


class Masking(nnx.Module):
    """What masked modelling adds: the vector at masked places, and the prediction of pixels.

    Words are predicted by their own embedding.
    """

    def __init__(self, config: OneRConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        width = config.tower.width
        self.vector = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (width,)))
        self.pixels = nnx.Linear(width, 3 * config.vision.patch_size**2, dtype=dtype, rngs=rngs)
        self.words_norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)


class OneR(nnx.Module):
    """One tower, one head; the teacher of a student is another instance of the same."""

    def __init__(self, config: OneRConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.dtype = dtype = jnp.dtype(config.dtype)
        tower, width = config.tower, config.tower.width
        normal = nnx.initializers.normal(0.02)
        self.vision = ImageInput(config.vision, width, dtype=dtype, rngs=rngs)
        self.text = TokenEmbedding(
            config.text.vocabulary, config.text.length, width, dtype=dtype, rngs=rngs
        )
        self.types = nnx.Param(normal(rngs.params(), (2, width)))
        self.class_embedding = nnx.Param(normal(rngs.params(), (width,)))
        self.input_norm = nnx.LayerNorm(width, epsilon=tower.norm_epsilon, dtype=dtype, rngs=rngs)
        self.blocks = Stack(
            lambda rngs: Layer(
                width,
                tower.heads,
                tower.hidden,
                activation=tower.activation,
                norm_epsilon=tower.norm_epsilon,
                dtype=dtype,
                rngs=rngs,
            ),
            tower.depth,
            remat=tower.remat,
            rngs=rngs,
        )
        self.norm = nnx.LayerNorm(width, epsilon=tower.norm_epsilon, dtype=dtype, rngs=rngs)
        self.head = Head(width, config.head, dtype=dtype, rngs=rngs)
        self.text_head = (
            Head(width, config.head, dtype=dtype, rngs=rngs) if config.head.apart else None
        )
        self.masking = Masking(config, dtype=dtype, rngs=rngs) if config.masking else None
        self.log_scale = (
            nnx.Param(jnp.asarray(-math.log(config.temperature), jnp.float32))
            if config.learned_temperature
            else None
        )

    @property
    def logit_scale(self) -> Float[Array, ""]:
        """1 / temperature, at most 100 where it is learned."""
        if self.log_scale is None:
            return jnp.asarray(1 / self.config.temperature, jnp.float32)
        return jnp.exp(jnp.minimum(self.log_scale[...], math.log(100.0)))

    def image_sequence(
        self, image_BHWC: Num[Array, "B H W 3"], masked_BN: Bool[Array, "B N"] | None = None
    ) -> Stream:
        """[CLS] and the patches, those ``masked_BN`` hidden."""
        x_BND = self._masked(self.vision(image_BHWC, masked_BN), masked_BN)
        x_BND += self.vision.positions[...].astype(self.dtype)
        return Stream(self._with_class(self._typed(x_BND, _IMAGE)), None)

    def text_sequence(
        self, ids_BT: Int[Array, "B T"], masked_BT: Bool[Array, "B T"] | None = None
    ) -> Stream:
        """[CLS] and the tokens, those ``masked_BT`` hidden; padding is not attended to."""
        x_BTD = self._masked(self.text.tokens(ids_BT), masked_BT)
        x_BTD += self.text.positions[...][: ids_BT.shape[1]].astype(self.dtype)
        valid_BT = ids_BT != self.config.text.pad_id
        valid_BS = jnp.pad(valid_BT, ((0, 0), (1, 0)), constant_values=True)
        return Stream(self._with_class(self._typed(x_BTD, _TEXT)), valid_BS)

    def joined(self, image: Stream, text: Stream) -> Stream:
        """(I, T): one [CLS], the patches, the tokens."""
        assert text.valid_BS is not None
        x_BSD = jnp.concatenate([image.x_BSD, text.x_BSD[:, 1:]], axis=1)
        whole_BN = jnp.ones(image.x_BSD.shape[:2], bool)
        return Stream(x_BSD, jnp.concatenate([whole_BN, text.valid_BS[:, 1:]], axis=1))

    def _masked(self, x_BSD: Array, masked_BS: Array | None) -> Array:
        if masked_BS is None:
            return x_BSD
        assert self.masking is not None
        return jnp.where(masked_BS[..., None], self.masking.vector[...].astype(x_BSD.dtype), x_BSD)

    def _typed(self, x_BSD: Array, modality: int) -> Array:
        return x_BSD + self.types[...][modality].astype(self.dtype)

    def _with_class(self, x_BSD: Array) -> Array:
        class_B1D = jnp.broadcast_to(
            self.class_embedding[...].astype(self.dtype), (x_BSD.shape[0], 1, x_BSD.shape[2])
        )
        return self.input_norm(jnp.concatenate([class_B1D, x_BSD], axis=1))

    def tower(self, sequence: Stream) -> Float[Array, "B S D"]:
        """All final vectors, F(X|X) being the first."""
        return self.norm(self.blocks(sequence.x_BSD, mask=sequence.mask))

    def contextual(self, image: Stream, text: Stream) -> Contextual:
        """Those whose first are F(I|I), F(T|T), F(I|T) and F(T|I).

        In each layer both streams' keys and values are computed once, and serve the streams
        themselves and those in their context.
        """

        def apply(layer: Layer, streams: _Four) -> _Four:
            image_BND, text_BTD, image_given_BND, text_given_BTD = streams
            of_image, of_text = layer.context(image_BND), layer.context(text_BTD)
            return (
                layer.given(image_BND, of_image, mask=image.mask),
                layer.given(text_BTD, of_text, mask=text.mask),
                layer.given(image_given_BND, of_text, mask=text.mask),
                layer.given(text_given_BTD, of_image, mask=image.mask),
            )

        start = (image.x_BSD, text.x_BSD, image.x_BSD, text.x_BSD)
        return Contextual(*(self.norm(x_BSD) for x_BSD in self.blocks.scan(apply, start)))

    def project(self, passes: Passes, *, predict: bool) -> dict[str, Float[Array, "B E"]]:
        """Vectors of all passes of a step by batch statistics, whose running values are moved.

        Args:
            passes: [CLS] of the tower; "image", "text" and, by any other names, mixtures.
            predict: through the predictor too; a student's, and not a teacher's.
        """
        if self.text_head is None:
            return self.head.in_training(passes, predict=predict)
        done: dict[str, Array] = {}
        for name, x_BD in passes.items():
            done |= self._of(kind_of(name)).in_training({name: x_BD}, predict=predict)
        return done

    def _of(self, kind: Kind) -> Head:
        if self.text_head is None or kind == "image":
            return self.head
        if kind == "both":
            raise ValueError("a model with two heads has none for an image with a text")
        return self.text_head

    def encode_image(
        self, image_BHWC: Num[Array, "B H W 3"], *, scored: Scored | None = None
    ) -> Float[Array, "B E"]:
        """Unit vectors of images, from the output ``scored`` (the configuration's by default)."""
        class_BD = self.tower(self.image_sequence(image_BHWC))[:, 0]
        return self._vectors(class_BD, "image", scored)

    def encode_text(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
        """Unit vectors of texts."""
        return self._vectors(self.tower(self.text_sequence(ids_BT))[:, 0], "text", None)

    def encode_pair(
        self,
        image_BHWC: Num[Array, "B H W 3"],
        ids_BT: Int[Array, "B T"],
        *,
        scored: Scored | None = None,
    ) -> Float[Array, "B E"]:
        """Unit vectors of images together with texts: F(I,T|I,T) of the slides.

        A model with two heads, which has none for both, gives the mean of the two vectors.
        """
        if self.text_head is not None:
            image_BE = self.encode_image(image_BHWC, scored=scored)
            return unit(image_BE + self.encode_text(ids_BT))
        both = self.joined(self.image_sequence(image_BHWC), self.text_sequence(ids_BT))
        return self._vectors(self.tower(both)[:, 0], "both", scored)

    def heat_map(
        self,
        image_BHWC: Num[Array, "B H W 3"],
        ids_BT: Int[Array, "B T"],
        *,
        scored: Scored | None = None,
    ) -> Float[Array, "B G G"]:
        """The cosine of each patch's vector with the text's: localisation without gradients.

        A patch's vector is F([CLS] | patch): the final [CLS] where, in every layer, it has the one
        patch to attend to. The patches' own outputs would not do, for no loss ever asked anything
        of them: on the shop's pictures of several things they point right a third as often. Slides
        3.3 show patch-text similarity and not what stands for a patch, so this is our choice.
        """
        patch_BND = self.patch_vectors(image_BHWC)
        patch_BNE = self._vectors(patch_BND, "image", scored)
        heat_BN = jnp.einsum("BNE,BE->BN", patch_BNE, self.encode_text(ids_BT))
        side = self.config.vision.side
        return heat_BN.reshape(-1, side, side)

    def patch_vectors(self, image_BHWC: Num[Array, "B H W 3"]) -> Float[Array, "B N D"]:
        """F([CLS] | patch) of every patch, before the head."""
        x_BSD = self.image_sequence(image_BHWC).x_BSD
        class_BND = jnp.broadcast_to(x_BSD[:, :1], x_BSD[:, 1:].shape)

        def apply(layer: Layer, streams: tuple[Array, Array]) -> tuple[Array, Array]:
            x_BSD, class_BND = streams
            context = layer.context(x_BSD)
            patches = KeyValue(context.key[:, 1:], context.value[:, 1:])
            return layer.given(x_BSD, context), layer.given_each(class_BND, patches)

        return self.norm(self.blocks.scan(apply, (x_BSD, class_BND))[1])

    def _vectors(self, x_BD: Array, kind: Kind, scored: Scored | None) -> Array:
        predict = (scored or self.config.head.scored) == "predictor" and kind != "text"
        return unit(self._of(kind).in_use(x_BD, kind, predict=predict))

    def predicted_pixels(self, final_BSD: Float[Array, "B S D"]) -> Float[Array, "B N 3PP"]:
        """The pixels of every patch, from the final vectors of a stream that begins with them."""
        assert self.masking is not None
        return self.masking.pixels(final_BSD[:, 1 : 1 + self.config.vision.patches])

    def word_vectors(self, final_BSD: Float[Array, "B S D"]) -> Float[Array, "B T D"]:
        """What words are told from (``text.attend``): of a stream whose last vectors are words."""
        assert self.masking is not None
        return self.masking.words_norm(final_BSD[:, -self.config.text.length :])


def statistics(module: Any) -> Any:
    """The running statistics of a model's batch norms, nested as its parameters are."""
    return nnx.to_pure_dict(nnx.as_pure(nnx.state(module, nnx.BatchStat)))
