"""CoCa: Contrastive Captioners are Image-Text Foundation Models (arXiv 2205.01917).

B batch, N patches, G patches along a side, Q queries, T text positions, D width, E embedding,
V vocabulary, L layers.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num

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
        query_norm: bool = False,
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
        self.query_norm = (
            nnx.LayerNorm(width, epsilon=norm_epsilon, dtype=dtype, rngs=rngs)
            if query_norm
            else None
        )

    def __call__(self, context_BSC: Float[Array, "B S C"]) -> Float[Array, "B Q D"]:
        """Pool a sequence to one vector a query."""
        queries = self.queries[...].astype(self.dtype)
        if self.query_norm is not None:
            queries = self.query_norm(queries)
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
                    cross_ffn=cross and text.cross_ffn,
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
        if text.own_cls:
            vector = nnx.initializers.normal(0.02)(rngs.params(), (text.width,))
            self.cls_embedding = nnx.Param(vector)
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
        length = ids_BT.shape[1]
        if length != self.config.length:
            raise ValueError(
                f"texts of {length} tokens given to a model of text.length={self.config.length}"
            )
        x_BTD = self._with_cls(ids_BT)
        if self.config.cls_place == "last":
            x_BTD = self.unimodal(x_BTD, causal=True, mask=self._open_clip_mask(ids_BT))
            return self.cls_norm(x_BTD[:, -1]), x_BTD[:, :-1]
        end_B11 = jnp.sum(ids_BT != self.config.pad_id, axis=1)[:, None, None]
        behind_BT1 = jnp.arange(length + 1)[:, None] == end_B11
        x_BTD = self.unimodal(jnp.where(behind_BT1, x_BTD[:, -1:], x_BTD), causal=True)
        cls_B1D = jnp.take_along_axis(x_BTD, end_B11, axis=1)
        return self.cls_norm(cls_B1D[:, 0]), x_BTD[:, :-1]

    def _with_cls(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B S D"]:
        """What enters the first layer: the text and, at the last place, ``[CLS]``."""
        batch, length = ids_BT.shape
        cls_id = 0 if self.config.own_cls else self.config.cls_id
        cls_B1 = jnp.full((batch, 1), cls_id, ids_BT.dtype)
        x_BSD = self.embedding(jnp.concatenate([ids_BT, cls_B1], axis=1))
        if self.config.own_cls:
            cls_D = self.cls_embedding[...] + self.embedding.positions[...][length]
            x_BSD = x_BSD.at[:, -1].set(cls_D.astype(x_BSD.dtype))
        return x_BSD

    def _open_clip_mask(self, ids_BT: Int[Array, "B T"]) -> Bool[Array, "B 1 S S"]:
        """What open_clip lets be attended to, the same for every position.

        Its mask of padding stands one place too far right (its ``correct_cls_mask`` is off for the
        weights it released): open are the first place, and each after a token that is no padding.
        """
        batch, length = ids_BT.shape
        open_BT = ids_BT != self.config.pad_id
        open_BS = jnp.concatenate([jnp.ones((batch, 1), bool), open_BT], axis=1)
        return jnp.broadcast_to(open_BS[:, None, None], (batch, 1, length + 1, length + 1))

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
                query_norm=config.query_norm,
                norm_epsilon=config.text.norm_epsilon,
                dtype=dtype,
                rngs=rngs,
            )

        def projection(inputs: int) -> nnx.Linear:
            return nnx.Linear(inputs, config.embedding, use_bias=False, dtype=dtype, rngs=rngs)

        self.vision = VisionTransformer(config.vision, dtype=dtype, rngs=rngs)
        self.generative_pooler = pooler(config.queries, config.vision.width)
        if config.pooling in ("cascade", "parallel"):
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
        return self._pooled(*self.vision(image_BHWC))

    def _pooled(
        self, patches_BND: Array, class_BD: Array | None
    ) -> tuple[Float[Array, "B E"], Float[Array, "B Q D"]]:
        """The image's vector and what a caption attends to, from what the encoder gives."""
        if self.config.pooling == "first":
            assert class_BD is not None  # the configuration saw to the class token
            everything_BSD = jnp.concatenate([class_BD[:, None], patches_BND], axis=1)
            pooled_BQD = self.generative_pooler(everything_BSD)
            return unit(self.image_projection(pooled_BQD[:, 0])), pooled_BQD[:, 1:]
        image_BQD = self.generative_pooler(patches_BND)
        if class_BD is not None:
            pooled_BD = class_BD
        elif self.config.pooling == "cascade":
            pooled_BD = self.contrastive_pooler(image_BQD)[:, 0]
        else:
            pooled_BD = self.contrastive_pooler(patches_BND)[:, 0]
        return unit(self.image_projection(pooled_BD)), image_BQD

    def heat_map(
        self, image_BHWC: Num[Array, "B H W 3"], ids_BT: Int[Array, "B T"]
    ) -> Float[Array, "B G G"]:
        """What each patch adds to the cosine of its image and its text, by Grad-CAM; 0 or more."""
        text_BE, _ = self.encode_text(ids_BT)

        def cosine(patches_BND: Array, class_BD: Array | None) -> Array:
            image_BE, _ = self._pooled(patches_BND, class_BD)
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
