"""Configurations of networks in the original layout: sizes by the tensors, the rest by a base.

What tensors do not show (heads, groups of norms, the scaling of latents, the activation of a text
tower) is read off a folder of diffusers of the same kind, and is that of Stable Diffusion 1, 2 and
XL where the folder has no such file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kmm_jax.errors import DataError
from kmm_jax.interop.diffusers import configs
from kmm_jax.interop.diffusers.folder import DType, described
from kmm_jax.interop.families.open_clip import text_config as open_clip_config
from kmm_jax.interop.weights import Weights
from kmm_jax.models.clip.config import TextTowerConfig
from kmm_jax.models.diffusion.config import TextEncoderConfig, UNetConfig, VAEConfig

_Config = TypeVar("_Config", UNetConfig, VAEConfig, TextTowerConfig)

_HEAD = 64  # width of a head in SD 2, SDXL and every published text tower
_HEADS = 8  # in SD 1, at every level
_TIME_IDS = 6
_SAMPLES = {"epsilon": 64, "v_prediction": 96}  # latents along a side of SD 2, by what it predicts
_XL_SAMPLE = 128
_UNET_WIDTH, _VAE_WIDTH = 320, 128  # of the first level, in all of them
_FACTOR = 8  # pixels for one latent, in all of them
_XL_SCALING = 0.13025


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """What a file is of, as far as sizes alone do not tell.

    Attributes:
        xl: SDXL.
        prediction: what its UNet predicts.
        dtype: of the computation.
        base: a folder of diffusers, whose ``config.json`` files count where they are there; None
            for none.
    """

    xl: bool
    prediction: str
    dtype: DType
    base: Path | None

    def about(self, part: str) -> tuple[dict[str, Any] | None, str]:
        """What the base says of one part, and where."""
        file = Path() if self.base is None else self.base / part / "config.json"
        return (described(file) if self.base is not None and file.is_file() else None), str(file)


def unet_config(weights: Weights, prefix: str, kind: Kind, *, pooled: int | None) -> UNetConfig:
    """The configuration of the UNet below ``prefix``.

    Args:
        pooled: width of the text vector that is added to the timestep, if any is.

    Raises:
        DataError: tensors are missing, or the base is of another model.
    """

    def shape(name: str) -> tuple[int, ...]:
        return weights.shape(f"{prefix}{name}.weight")

    def depth(block: str) -> int:
        return weights.count(rf"{re.escape(prefix + block)}\.1\.transformer_blocks\.(\d+)\.")

    head = re.escape(prefix)
    blocks = weights.count(rf"{head}input_blocks\.(\d+)\.")
    ends = [
        number
        for number in range(blocks)
        if f"{prefix}input_blocks.{number}.0.op.weight" in weights
    ]
    layers = (ends[0] if ends else blocks) - 1
    firsts = [f"input_blocks.{1 + level * (layers + 1)}" for level in range(len(ends) + 1)]
    linear = len(shape("middle_block.1.proj_in")) == 2
    sizes: dict[str, Any] = {
        "in_channels": shape("input_blocks.0.0")[1],
        "out_channels": shape("out.2")[0],
        "widths": tuple(shape(f"{first}.0.out_layers.3")[0] for first in firsts),
        "layers": layers,
        "transformers": tuple(map(depth, firsts)),
        "middle_transformers": depth("middle_block"),
        "context_width": shape("middle_block.1.transformer_blocks.0.attn2.to_k")[1],
        "linear_projection": linear,
        "guidance_width": 0,
    }
    if kind.xl:
        joined = shape("label_emb.0.0")[1]
        pooled = pooled or 0
        if joined <= pooled or (joined - pooled) % _TIME_IDS:
            raise DataError(
                f"{weights.path}: the UNet takes {joined} numbers beside the timestep, which are "
                f"not a text vector of {pooled} and {_TIME_IDS} sizes, as SDXL's"
            )
        sizes |= {
            "time_ids": _TIME_IDS,
            "pooled_width": pooled,
            "time_id_width": (joined - pooled) // _TIME_IDS,
        }

    def standard() -> UNetConfig:
        _must_be(sizes["widths"][0], _UNET_WIDTH, "the UNet")
        # The width of heads is a choice of SD 2 and of what came after.
        if linear:
            heads = tuple(width // _HEAD for width in sizes["widths"])
        else:
            heads = (_HEADS,) * len(firsts)
        plain = _SAMPLES.get(kind.prediction if linear else "epsilon", _SAMPLES["epsilon"])
        sample = _XL_SAMPLE if kind.xl else plain
        return UNetConfig(**sizes, heads=heads, sample_size=sample, dtype=kind.dtype)

    return _agreed(
        weights,
        sizes,
        kind,
        "unet",
        read=lambda about, where: configs.unet_config(about, dtype=kind.dtype, where=where),
        standard=standard,
        free={"in_channels"},  # an inpainting model has more, and all else of a plain base
    )


def autoencoder_config(weights: Weights, prefix: str, kind: Kind) -> VAEConfig:
    """The configuration of the autoencoder below ``prefix``.

    Raises:
        DataError: tensors are missing, or the base is of another model.
    """

    def shape(name: str) -> tuple[int, ...]:
        return weights.shape(f"{prefix}{name}.weight")

    head = re.escape(prefix)
    levels = weights.count(rf"{head}encoder\.down\.(\d+)\.block\.")
    sizes: dict[str, Any] = {
        "in_channels": shape("encoder.conv_in")[1],
        "latent_channels": shape("decoder.conv_in")[1],
        "widths": tuple(shape(f"encoder.down.{level}.block.0.conv2")[0] for level in range(levels)),
        "layers": weights.count(rf"{head}encoder\.down\.0\.block\.(\d+)\."),
        "middle_attention": f"{prefix}encoder.mid.attn_1.q.weight" in weights,
        "quant": f"{prefix}quant_conv.weight" in weights,
        "post_quant": f"{prefix}post_quant_conv.weight" in weights,
    }

    def standard() -> VAEConfig:
        _must_be(sizes["widths"][0], _VAE_WIDTH, "the autoencoder")
        sample = _XL_SAMPLE if kind.xl else _SAMPLES["epsilon"]
        more: dict[str, Any] = {"scaling": _XL_SCALING} if kind.xl else {}
        return VAEConfig(**sizes, **more, sample_size=sample * _FACTOR, dtype=kind.dtype)

    return _agreed(
        weights,
        sizes,
        kind,
        "vae",
        read=lambda about, where: configs.vae_config(about, dtype=kind.dtype, where=where),
        standard=standard,
    )


def clip_config(
    weights: Weights, prefix: str, kind: Kind, part: str, *, eos_id: int
) -> TextEncoderConfig:
    """Of a tower with the names of transformers: OpenAI's CLIP L/14.

    Args:
        part: the folder of the base that describes it.
        eos_id: the tokenizer's.
    """
    head = f"{prefix}text_model."
    vocabulary, width = weights.shape(f"{head}embeddings.token_embedding.weight")
    sizes: dict[str, Any] = {
        "vocabulary": vocabulary,
        "length": weights.shape(f"{head}embeddings.position_embedding.weight")[0],
        "width": width,
        "depth": weights.count(rf"{re.escape(head)}encoder\.layers\.(\d+)\."),
        "hidden": weights.shape(f"{head}encoder.layers.0.mlp.fc1.weight")[0],
    }
    tower = _tower(
        weights,
        sizes,
        kind,
        part,
        lambda: TextTowerConfig(
            **sizes, heads=_heads(width), activation="quick_gelu", eos_id=eos_id
        ),
    )
    return TextEncoderConfig(tower=tower, dtype=kind.dtype)


def open_clip_encoder_config(
    weights: Weights, prefix: str, kind: Kind, part: str, *, eos_id: int, projects: bool
) -> TextEncoderConfig:
    """Of a tower with the names of open_clip: H/14 without its last layer (SD 2), bigG/14 (SDXL).

    A whole tower is there with its projection, which SD 2 has no use for: that says whether there
    is a last layer to leave out.

    Args:
        projects: keep the projection, and the last layer with it.
    """
    found = open_clip_config(weights.without(prefix), activation="gelu", about={})
    whole = f"{prefix}text_projection" in weights
    if projects and not whole:
        raise DataError(f"{weights.path} has no tensor {prefix}text_projection; it is not whole")
    said = (kind.about(part)[0] or {}).get("num_hidden_layers")
    known = not projects and said in (found.depth, found.depth - 1)
    depth = int(said or 0) if known else found.depth - (whole and not projects)
    sizes: dict[str, Any] = {
        "vocabulary": found.vocabulary,
        "length": found.length,
        "width": found.width,
        "depth": depth,
        "hidden": found.hidden,
    }
    tower = _tower(
        weights,
        sizes,
        kind,
        part,
        lambda: dataclasses.replace(
            found, depth=depth, heads=_heads(found.width), pooling="eos", eos_id=eos_id
        ),
    )
    projection = weights.shape(f"{prefix}text_projection")[1] if projects else None
    return TextEncoderConfig(tower=tower, projection=projection, dtype=kind.dtype)


def _heads(width: int) -> int:
    if width % _HEAD:
        raise ValueError(f"a text tower of width {width} does not divide into heads of {_HEAD}")
    return width // _HEAD


def _must_be(width: int, known: int, what: str) -> None:
    if width != known:
        raise ValueError(f"the first level of {what} has {width} channels, not {known}")


def _tower(
    weights: Weights,
    sizes: dict[str, Any],
    kind: Kind,
    part: str,
    standard: Callable[[], TextTowerConfig],
) -> TextTowerConfig:
    def read(about: Mapping[str, Any], where: str) -> TextTowerConfig:
        said = configs.text_config(
            about, width=about.get("hidden_size", 512), dtype=kind.dtype, projects=False
        )
        return said.tower

    return _agreed(weights, sizes, kind, part, read=read, standard=standard)


def _agreed(
    weights: Weights,
    sizes: Mapping[str, Any],
    kind: Kind,
    part: str,
    *,
    read: Callable[[Mapping[str, Any], str], _Config],
    standard: Callable[[], _Config],
    free: frozenset[str] | set[str] = frozenset(),
) -> _Config:
    """The base's configuration with the sizes of the tensors, which it must have but for ``free``.

    Raises:
        DataError: it has others; names them.
    """
    about, where = kind.about(part)
    try:
        if about is None:
            return standard()
        said = read(about, where)
        different = [
            f"{name} {getattr(said, name)} for {size}"
            for name, size in sizes.items()
            if name not in free and getattr(said, name) != size
        ]
        if different:
            raise DataError(
                f"{where} is of another model than {weights.path}: {', '.join(different)}; name a "
                "base of the same kind"
            )
        return dataclasses.replace(said, **sizes)
    except ValueError as error:
        raise DataError(
            f"{weights.path}: {error}. What tensors do not show is taken as in Stable Diffusion "
            f"1, 2 and XL where the base has no {part}/config.json; name one that has"
        ) from error
