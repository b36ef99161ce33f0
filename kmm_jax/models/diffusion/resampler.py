"""A text encoder of a form that is not its tower's: XLM-RoBERTa, and queries that gather from it.

As the Perceiver resampler of Flamingo (arXiv 2204.14198, section 3.1.1): learned queries attend to
what was read, whatever its length, and give a fixed number of vectors.

B batch, T tokens, Q positions, R width of the tower, D width of the sequence, P of the pooled text.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Int

from kmm_jax.models.clip.xlm_roberta import XLMRoberta
from kmm_jax.models.diffusion.config import ResampledTextEncoderConfig
from kmm_jax.models.diffusion.text_encoder import TextStates
from kmm_jax.models.transformer import Layer, Stack


class ResampledTextEncoder(nnx.Module):
    """A tower over tokens, and a query for each position of the sequence and one for its end.

    The last norm stands behind the projection, as a CLIP's last norm does: the sequence has the
    form of its teacher's, whose norm it can begin with.
    """

    def __init__(self, config: ResampledTextEncoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.dtype = dtype = jnp.dtype(config.dtype)
        width, epsilon = config.tower.width, config.norm_epsilon
        self.tower = XLMRoberta(config.tower, dtype=dtype, rngs=rngs)
        init = nnx.initializers.normal(0.02)
        self.queries = nnx.Param(init(rngs.params(), (config.positions + 1, width)))
        self.blocks = Stack(
            lambda rngs: Layer(
                width,
                config.heads,
                config.hidden,
                cross=True,
                norm_epsilon=epsilon,
                dtype=dtype,
                rngs=rngs,
            ),
            config.depth,
            remat=config.tower.remat,
            rngs=rngs,
        )
        self.output = nnx.Linear(width, config.width, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(config.width, epsilon=epsilon, dtype=dtype, rngs=rngs)
        if config.projection is not None:
            self.projection = nnx.Linear(
                config.width, config.projection, use_bias=False, dtype=dtype, rngs=rngs
            )

    def __call__(
        self, ids_BT: Int[Array, "B T"], *, skip: int = 0, normed: bool = True
    ) -> TextStates:
        """The states of prompts, ``hidden`` (B, Q, D) and ``pooled`` (B, P).

        ``pooled`` is what the query behind the last position gathered: the place of a text's end,
        where a CLIP is read, is not known of a text in another language.

        Raises:
            ValueError: layers to skip, or states without the last norm: there are none.
        """
        if skip or not normed:
            raise ValueError(
                f"skip={skip}, normed={normed}: a resampled text encoder has states behind its "
                "last layer and norm alone"
            )
        read_BTR = self.tower.states(ids_BT)
        mask_B11T = self.tower.open(ids_BT)[:, None, None]
        queries = self.queries[...].astype(self.dtype)
        x_BQR = jnp.broadcast_to(queries, (ids_BT.shape[0], *queries.shape))
        x_BQR = self.blocks.scan(
            lambda layer, x_BQR: layer(x_BQR, read_BTR, context_mask=mask_B11T), x_BQR
        )
        x_BQD = self.norm(self.output(x_BQR))
        hidden_BQD, pooled_BP = x_BQD[:, :-1], x_BQD[:, -1]
        if self.config.projection is not None:
            pooled_BP = self.projection(pooled_BP)
        return TextStates(hidden_BQD, pooled_BP)
