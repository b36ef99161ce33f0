"""XLM-RoBERTa as a text tower, for texts of many languages (arXiv 1911.02116, 1907.11692).

B batch, T text positions, D width, E embedding, H heads.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from kmm_jax.models.attention import Attention
from kmm_jax.models.clip.config import XLMRobertaConfig
from kmm_jax.models.transformer import MLP, Stack


class XLMRobertaEmbedding(nnx.Module):
    """Token, position and token type, summed and normalised."""

    def __init__(self, config: XLMRobertaConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        init = nnx.initializers.normal(0.02)
        self.dtype, self.pad_id = dtype, config.pad_id
        self.tokens = nnx.Embed(
            config.vocabulary, config.width, dtype=dtype, embedding_init=init, rngs=rngs
        )
        self.positions = nnx.Param(init(rngs.params(), (config.positions, config.width)))
        self.token_types = nnx.Param(init(rngs.params(), (config.token_types, config.width)))
        self.norm = nnx.LayerNorm(config.width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)

    def __call__(
        self, ids_BT: Int[Array, "B T"], open_BT: Bool[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """Embed tokens; ``open_BT`` is False at padding, which is not counted as a position."""
        place_BT = self.pad_id + jnp.cumsum(open_BT, axis=1) * open_BT
        positions_BTD = self.positions[...][place_BT].astype(self.dtype)
        alone_D = self.token_types[...][0].astype(self.dtype)
        return self.norm(self.tokens(ids_BT) + positions_BTD + alone_D)


class PostNormLayer(nnx.Module):
    """Self-attention and an FFN, each added to its input and the sum normalised."""

    def __init__(self, config: XLMRobertaConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        width = config.width

        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(width, epsilon=config.norm_epsilon, dtype=dtype, rngs=rngs)

        self.attention = Attention(width, config.heads, dtype=dtype, rngs=rngs)
        self.attention_norm = norm()
        self.mlp = MLP(width, config.hidden, activation=config.activation, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()

    def __call__(
        self, x_BTD: Float[Array, "B T D"], *, mask: Bool[Array, "B #H #T T"]
    ) -> Float[Array, "B T D"]:
        """One layer over a whole text."""
        x_BTD = self.attention_norm(x_BTD + self.attention(x_BTD, mask=mask))
        return self.mlp_norm(x_BTD + self.mlp(x_BTD))


class XLMRoberta(nnx.Module):
    """The encoder, read at its first token, at the mean of all, or at each."""

    def __init__(self, config: XLMRobertaConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config = config
        self.embedding = XLMRobertaEmbedding(config, dtype=dtype, rngs=rngs)
        self.blocks = Stack(
            lambda rngs: PostNormLayer(config, dtype=dtype, rngs=rngs),
            config.depth,
            remat=config.remat,
            rngs=rngs,
        )

    def open(self, ids_BT: Int[Array, "B T"]) -> Bool[Array, "B T"]:
        """Where there is text, and no padding."""
        return ids_BT != self.config.pad_id

    def states(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """The vector at each token; at padding one that says nothing."""
        open_BT = self.open(ids_BT)
        mask_B11T = open_BT[:, None, None]
        return self.blocks.scan(
            lambda layer, x_BTD: layer(x_BTD, mask=mask_B11T), self.embedding(ids_BT, open_BT)
        )

    def __call__(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B D"]:
        """One vector a text, whatever the padding behind it."""
        open_BT, x_BTD = self.open(ids_BT), self.states(ids_BT)
        if self.config.pooling == "first":
            return x_BTD[:, 0]
        share_BT = open_BT / jnp.maximum(open_BT.sum(axis=1, keepdims=True), 1)
        return jnp.einsum("BT,BTD->BD", share_BT, x_BTD.astype(jnp.float32))


class ProjectionMLP(nnx.Module):
    """Two layers without biases, gelu between, a width halfway (open_clip's ``text.proj``)."""

    def __init__(self, width: int, embedding: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        hidden = (width + embedding) // 2
        self.up = nnx.Linear(width, hidden, use_bias=False, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(hidden, embedding, use_bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x_BD: Float[Array, "B D"]) -> Float[Array, "B E"]:
        """Project vectors."""
        return self.down(jax.nn.gelu(self.up(x_BD), approximate=False))
