"""CoCa: Contrastive Captioners are Image-Text Foundation Models (arXiv 2205.01917).

B batch, N patches, G patches along a side, Q queries, T text positions, D width, E embedding,
V vocabulary, L layers.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from kmm_jax.models.attention import Attention
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.grad_cam import grad_cam
from kmm_jax.models.text import TokenEmbedding, unit
from kmm_jax.models.transformer import Layer, Stack
from kmm_jax.models.vision import VisionTransformer


class AttentionalPooler(nnx.Module):
    """One attention layer from learned queries to a sequence (section 3.2)."""

    def __init__(
        self,
        queries: int,
        width: int,
        heads: int,
        *,
        context_width: int,
        norm_epsilon: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.dtype = dtype
        # Small, so that every query begins as the mean of the sequence.
        self.queries = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (queries, width)))
        self.attention = Attention(
            width, heads, context_width=context_width, dtype=dtype, rngs=rngs
        )
        self.norm = nnx.LayerNorm(width, epsilon=norm_epsilon, dtype=dtype, rngs=rngs)

    def __call__(self, context_BSC: Float[Array, "B S C"]) -> Float[Array, "B Q D"]:
        """Pool a sequence to one vector a query."""
        queries = self.queries[...].astype(self.dtype)
        queries_BQD = jnp.broadcast_to(queries, (context_BSC.shape[0], *queries.shape))
        return self.norm(self.attention(queries_BQD, context_BSC))


class TextDecoder(nnx.Module):
    """The decoder's two halves: text alone, then text with the image (section 3.2)."""

    def __init__(self, config: CoCaConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        text = config.text
        self.config = text

        def stack(depth: int, *, cross: bool) -> Stack:
            return Stack(
                lambda rngs: Layer(
                    text.width,
                    text.heads,
                    text.hidden,
                    cross=cross,
                    activation=text.activation,
                    norm_epsilon=text.norm_epsilon,
                    dtype=dtype,
                    rngs=rngs,
                ),
                depth,
                remat=text.remat,
                rngs=rngs,
            )

        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(text.width, epsilon=text.norm_epsilon, dtype=dtype, rngs=rngs)

        # [CLS] takes the position after the longest text.
        self.embedding = TokenEmbedding(
            text.vocabulary, text.length + 1, text.width, dtype=dtype, rngs=rngs
        )
        self.unimodal = stack(text.unimodal_depth, cross=False)
        self.cls_norm = norm()
        self.multimodal = stack(text.multimodal_depth, cross=True)
        self.norm = norm()
        if not text.tie_embeddings:
            self.logits = nnx.Linear(
                text.width,
                text.vocabulary,
                use_bias=False,
                dtype=dtype,
                kernel_init=nnx.initializers.normal(0.02),
                rngs=rngs,
            )

    def encode(
        self, ids_BT: Int[Array, "B T"]
    ) -> tuple[Float[Array, "B D"], Float[Array, "B T D"]]:
        """The unimodal half: the vector at ``[CLS]``, and the text's states.

        ``[CLS]`` stands right behind its text, before the padding, with the position embedding of
        the last place. Attention is causal, so ``[CLS]`` sees its text and no padding, the text
        does not see ``[CLS]``, and no mask is needed, which cuDNN would take as a bias and work out
        a gradient for. States at padding mean nothing, and no text position attends to them.
        """
        batch, length = ids_BT.shape
        if length != self.config.length:
            raise ValueError(
                f"texts of {length} tokens given to a model of text.length={self.config.length}"
            )
        cls_B1 = jnp.full((batch, 1), self.config.cls_id, ids_BT.dtype)
        x_BTD = self.embedding(jnp.concatenate([ids_BT, cls_B1], axis=1))
        end_B11 = jnp.sum(ids_BT != self.config.pad_id, axis=1)[:, None, None]
        behind_BT1 = jnp.arange(length + 1)[:, None] == end_B11
        x_BTD = self.unimodal(jnp.where(behind_BT1, x_BTD[:, -1:], x_BTD), causal=True)
        cls_B1D = jnp.take_along_axis(x_BTD, end_B11, axis=1)
        return self.cls_norm(cls_B1D[:, 0]), x_BTD[:, :-1]

    def decode(
        self, states_BTD: Float[Array, "B T D"], image_BQD: Float[Array, "B Q D"]
    ) -> Float[Array, "B T V"]:
        """The multimodal half: float32 logits of the token after each position."""
        return self.predict(self.multimodal(states_BTD, image_BQD, causal=True))

    def predict(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """Float32 logits from the last layer's states."""
        x_BTD = self.norm(x_BTD)
        if self.config.tie_embeddings:
            return self.embedding.attend(x_BTD).astype(jnp.float32)
        return self.logits(x_BTD).astype(jnp.float32)


class CoCa(nnx.Module):
    """Image encoder, poolers and text decoder with one contrastive and one captioning output."""

    def __init__(self, config: CoCaConfig, *, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.dtype)
        width = config.text.width

        def pooler(queries: int, context_width: int) -> AttentionalPooler:
            return AttentionalPooler(
                queries,
                width,
                config.pooler_heads,
                context_width=context_width,
                norm_epsilon=config.text.norm_epsilon,
                dtype=dtype,
                rngs=rngs,
            )

        def projection(inputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, config.embedding, use_bias=False, dtype=dtype, rngs=rngs)

        self.vision = VisionTransformer(config.vision, dtype=dtype, rngs=rngs)
        self.generative_pooler = pooler(config.queries, config.vision.width)
        if config.pooling != "cls":
            cascade = config.pooling == "cascade"
            self.contrastive_pooler = pooler(1, width if cascade else config.vision.width)
        self.image_projection = projection(
            config.vision.width if config.pooling == "cls" else width
        )
        self.text = TextDecoder(config, dtype=dtype, rngs=rngs)
        self.text_projection = projection(width)
        self.log_scale = nnx.Param(jnp.asarray(-math.log(config.temperature), jnp.float32))

    @property
    def logit_scale(self) -> Float[Array, ""]:
        """1 / temperature; kept within CLIP's bound of 100 (arXiv 2103.00020, section 2.5)."""
        return jnp.exp(jnp.minimum(self.log_scale[...], math.log(100.0)))

    def encode_image(
        self, image_BHWC: Num[Array, "B H W 3"]
    ) -> tuple[Float[Array, "B E"], Float[Array, "B Q D"]]:
        """Unit vectors of images, and the vectors a caption attends to."""
        patches_BND, class_BD = self.vision(image_BHWC)
        image_BQD = self.generative_pooler(patches_BND)
        return self._contrastive(patches_BND, class_BD, image_BQD), image_BQD

    def _contrastive(
        self, patches_BND: Array, class_BD: Array | None, image_BQD: Array
    ) -> Float[Array, "B E"]:
        if class_BD is not None:
            pooled_BD = class_BD
        elif self.config.pooling == "cascade":
            pooled_BD = self.contrastive_pooler(image_BQD)[:, 0]
        else:
            pooled_BD = self.contrastive_pooler(patches_BND)[:, 0]
        return unit(self.image_projection(pooled_BD))

    def heat_map(
        self, image_BHWC: Num[Array, "B H W 3"], ids_BT: Int[Array, "B T"]
    ) -> Float[Array, "B G G"]:
        """What each patch adds to the cosine of its image and its text, by Grad-CAM; 0 or more."""
        text_BE, _ = self.encode_text(ids_BT)

        def cosine(patches_BND: Array, class_BD: Array | None) -> Array:
            image_BQD = self.generative_pooler(patches_BND)
            image_BE = self._contrastive(patches_BND, class_BD, image_BQD)
            return jnp.einsum("BE,BE->B", image_BE, text_BE)

        return grad_cam(self.vision, image_BHWC, cosine)

    def encode_text(
        self, ids_BT: Int[Array, "B T"]
    ) -> tuple[Float[Array, "B E"], Float[Array, "B T D"]]:
        """Unit vectors of texts, and the states the multimodal half goes on from."""
        cls_BD, states_BTD = self.text.encode(ids_BT)
        return unit(self.text_projection(cls_BD)), states_BTD

    def __call__(
        self, image_BHWC: Num[Array, "B H W 3"], ids_BT: Int[Array, "B T"]
    ) -> tuple[Float[Array, "B E"], Float[Array, "B E"], Float[Array, "B T V"]]:
        """Image vectors, text vectors, and logits of the token after each text position.

        Both losses come from this one pass (section 3.2).
        """
        image_BE, image_BQD = self.encode_image(image_BHWC)
        text_BE, states_BTD = self.encode_text(ids_BT)
        return image_BE, text_BE, self.text.decode(states_BTD, image_BQD)
