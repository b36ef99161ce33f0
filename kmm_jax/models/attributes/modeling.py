"""A CLIP whose pictures may be asked about one category of things in them (slide 3.1).

B batch, T text positions, D image width, N patches, C text width, E embedding, G patches a side.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Num

from kmm_jax.models.attention import Attention
from kmm_jax.models.attributes.config import AttributesConfig
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.grad_cam import grad_cam
from kmm_jax.models.text import unit
from kmm_jax.models.transformer import ACTIVATIONS, MLP


class AttendFusion(nnx.Module):
    """The category looks at the picture: attention from its vector to the patches, then an FFN."""

    def __init__(self, config: AttributesConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        vision = config.vision

        def norm() -> nnx.LayerNorm:
            return nnx.LayerNorm(vision.width, epsilon=vision.norm_epsilon, dtype=dtype, rngs=rngs)

        self.query = nnx.Linear(config.text.width, vision.width, dtype=dtype, rngs=rngs)
        self.query_norm = norm()
        self.attention = Attention(vision.width, config.heads, dtype=dtype, rngs=rngs)
        self.mlp_norm = norm()
        self.mlp = MLP(
            vision.width, vision.hidden, activation=vision.activation, dtype=dtype, rngs=rngs
        )

    def __call__(
        self,
        patch_BND: Float[Array, "B N D"],
        class_BD: Float[Array, "B D"],
        category_BC: Float[Array, "B C"],
    ) -> Float[Array, "B D"]:
        """What there is of the category in the picture."""
        x_B1D = self.query(category_BC)[:, None]
        x_B1D += self.attention(self.query_norm(x_B1D), patch_BND)
        return (x_B1D + self.mlp(self.mlp_norm(x_B1D)))[:, 0]


class ConcatFusion(nnx.Module):
    """Two layers over the picture's vector and the category's, side by side."""

    def __init__(self, config: AttributesConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        vision = config.vision
        self.activation = vision.activation
        self.up = nnx.Linear(
            vision.width + config.text.width, vision.hidden, dtype=dtype, rngs=rngs
        )
        self.down = nnx.Linear(vision.hidden, vision.width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        patch_BND: Float[Array, "B N D"],
        class_BD: Float[Array, "B D"],
        category_BC: Float[Array, "B C"],
    ) -> Float[Array, "B D"]:
        """What the picture is to the category; patches are not looked at."""
        x_BF = self.up(jnp.concatenate([class_BD, category_BC.astype(class_BD.dtype)], axis=-1))
        return self.down(ACTIVATIONS[self.activation](x_BF))


class Attributes(nnx.Module):
    """Pictures, alone or with a category, and attributes in words, in one space.

    The category's part is weighed by a gate that begins at 0, channel by channel: so the model
    begins as the CLIP whose towers it is given.
    """

    def __init__(self, config: AttributesConfig, *, rngs: nnx.Rngs):
        self.config = config
        dtype = jnp.dtype(config.dtype)
        self.clip = CLIP(config.clip, rngs=rngs)
        make = AttendFusion if config.fusion == "attend" else ConcatFusion
        self.fusion = make(config, dtype=dtype, rngs=rngs)
        self.gate = nnx.Param(jnp.zeros((config.vision.width,)))

    @property
    def logit_scale(self) -> Float[Array, ""]:
        """1 / temperature, at most 100."""
        return self.clip.logit_scale

    def encode_query(
        self,
        image_BHWC: Num[Array, "B H W 3"],
        category_BT: Int[Array, "B T"],
        asked_B: Bool[Array, "B"],
    ) -> Float[Array, "B E"]:
        """Unit vectors of pictures with the category asked for; of the picture alone elsewhere."""
        patch_BND, class_BD = self.clip.vision(image_BHWC)
        assert class_BD is not None  # CLIP saw to the class token
        category_BC = self.clip.text(category_BT)
        more_BD = self.fusion(patch_BND, class_BD, category_BC)
        more_BD = self.gate[...].astype(class_BD.dtype) * more_BD
        class_BD += jnp.where(asked_B[:, None], more_BD, 0)
        return unit(self.clip.image_projection(class_BD))

    def encode_image(self, image_BHWC: Num[Array, "B H W 3"]) -> Float[Array, "B E"]:
        """Unit vectors of pictures alone."""
        return self.clip.encode_image(image_BHWC)

    def encode_text(self, ids_BT: Int[Array, "B T"]) -> Float[Array, "B E"]:
        """Unit vectors of attributes in words."""
        return self.clip.encode_text(ids_BT)

    def heat_map(
        self,
        image_BHWC: Num[Array, "B H W 3"],
        ids_BT: Int[Array, "B T"],
        category_BT: Int[Array, "B T"] | None = None,
    ) -> Float[Array, "B G G"]:
        """What each patch adds to the cosine of picture (and category) and text, by Grad-CAM."""
        if category_BT is None:
            return self.clip.heat_map(image_BHWC, ids_BT)
        text_BE, category_BC = self.encode_text(ids_BT), self.clip.text(category_BT)

        def cosine(patch_BND: Array, class_BD: Array | None) -> Array:
            assert class_BD is not None  # CLIP saw to the class token
            more_BD = self.fusion(patch_BND, class_BD, category_BC)
            class_BD += self.gate[...].astype(class_BD.dtype) * more_BD
            return jnp.einsum("BE,BE->B", unit(self.clip.image_projection(class_BD)), text_BE)

        return grad_cam(self.clip.vision, image_BHWC, cosine)
