"""A Stable Diffusion as a folder that diffusers reads, read and written here.

model_index.json   text_encoder/   tokenizer/   unet/   vae/   scheduler/
and text_encoder_2/, tokenizer_2/ for SDXL
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import ml_dtypes
import numpy as np
from flax import nnx

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_directory, refuse_other, write_json
from kmm_jax.interop.diffusers import configs, names
from kmm_jax.interop.diffusers.text_forms import form_in, form_of
from kmm_jax.interop.names import Rule, put, taken
from kmm_jax.interop.native import unflatten
from kmm_jax.interop.weights import Weights, open_weights, write_weights
from kmm_jax.models.diffusion.autoencoder import Autoencoder
from kmm_jax.models.diffusion.config import (
    AnyTextConfig,
    LatentDiffusionConfig,
    UNetConfig,
    VAEConfig,
)
from kmm_jax.models.diffusion.modeling import abstract
from kmm_jax.models.diffusion.text_encoders import text_encoder
from kmm_jax.models.diffusion.unet import UNet
from kmm_jax.models.keys import abstract_module
from kmm_jax.text.tokenizer import Tokenizer

INDEX = "model_index.json"
_NETWORK = "diffusion_pytorch_model"
_PIPELINES = {
    "StableDiffusionPipeline": 1,
    "StableDiffusionImg2ImgPipeline": 1,
    "StableDiffusionInpaintPipeline": 1,
    "StableDiffusionXLPipeline": 2,
    "StableDiffusionXLImg2ImgPipeline": 2,
    "StableDiffusionXLInpaintPipeline": 2,
    "LatentConsistencyModelPipeline": 1,
}
_VERSION = "0.42.1"  # of diffusers, whose format is written
_IGNORED = r".*\.position_ids"

DType = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """What such a folder holds.

    Attributes:
        params: of a ``LatentDiffusion``, as ``nnx.merge`` takes them.
        tokenizers: one for each text encoder.
        scheduler: the content of ``scheduler_config.json``.
        zero_empty_negative: an absent negative prompt is a sequence of zeros, not the states of an
            empty text (SDXL base).
    """

    config: LatentDiffusionConfig
    params: dict[str, Any]
    tokenizers: tuple[Tokenizer, ...]
    scheduler: Mapping[str, Any]
    zero_empty_negative: bool = False


def is_folder(path: Path) -> bool:
    """Whether this is a folder of diffusers."""
    return (path / INDEX).is_file()


def read(path: str | Path, *, dtype: DType = "float32", variant: str | None = None) -> Published:
    """The model in a folder of diffusers.

    Args:
        dtype: of the parameters and the computation.
        variant: take the files so named (``"fp16"``) where there are several.

    Raises:
        UserError: no such folder, or pickles only.
        DataError: damaged, not whole, or of a network that is not built here.
    """
    folder = Path(path)
    index = described(folder / INDEX)
    pipeline = str(index.get("_class_name", ""))
    if pipeline not in _PIPELINES:
        raise DataError(
            f"{folder / INDEX} is of a {pipeline or 'pipeline without a name'}; read here are "
            f"{', '.join(_PIPELINES)}"
        )
    encoders = ["text_encoder", "text_encoder_2"][: _PIPELINES[pipeline]]
    texts = tuple(
        read_text_encoder(folder / name, dtype=dtype, variant=variant) for name in encoders
    )
    unet = described(folder / "unet" / "config.json")
    vae_config, vae_params = read_autoencoder(folder / "vae", dtype=dtype, variant=variant)
    try:
        config = LatentDiffusionConfig(
            texts=tuple(text for text, _ in texts),
            unet=configs.unet_config(unet, dtype=dtype, where=f"{folder}/unet/config.json"),
            vae=vae_config,
        )
    except ValueError as error:
        raise DataError(f"{folder}: {error}") from error
    shapes = abstract_params(config)
    params = {
        "texts": {number: params for number, (_, params) in enumerate(texts)},
        "unet": fitted(
            unet_rules(config, shapes),
            component(folder / "unet", _NETWORK, variant),
            shapes["unet"],
            dtype,
        ),
        "vae": vae_params,
    }
    return Published(
        config=config,
        params=params,
        tokenizers=tuple(
            form_of(text).read_tokenizer(folder / name.replace("text_encoder", "tokenizer"))
            for name, (text, _) in zip(encoders, texts, strict=True)
        ),
        scheduler=described(folder / "scheduler" / "scheduler_config.json"),
        zero_empty_negative=bool(index.get("force_zeros_for_empty_prompt", len(encoders) > 1)),
    )


def read_text_encoder(
    folder: Path, *, dtype: DType = "float32", variant: str | None = None
) -> tuple[AnyTextConfig, dict[str, Any]]:
    """One text encoder and its parameters.

    Raises:
        UserError, DataError: as ``read``.
    """
    about = described(folder / "config.json")
    form = form_in(about)
    weights = form.named(component(folder, "model", variant))
    config = form.config(weights, about, dtype=dtype, where=f"{folder}/config.json")
    shapes = abstract_text(config)
    return config, fitted(form.rules(config), weights, shapes, dtype)


def read_autoencoder(
    folder: Path, *, dtype: DType = "float32", variant: str | None = None
) -> tuple[VAEConfig, dict[str, Any]]:
    """An autoencoder and its parameters.

    Raises:
        UserError, DataError: as ``read``.
    """
    about = described(folder / "config.json")
    config = configs.vae_config(about, dtype=dtype, where=f"{folder}/config.json")
    shapes = abstract_autoencoder(config)
    rules = names.network_rules(names.shapes_of(shapes))
    weights = names.modern_vae(component(folder, _NETWORK, variant))
    return config, fitted(rules, weights, shapes, dtype)


def write_autoencoder(
    folder: Path, config: VAEConfig, params: Any, *, dtype: DType = "float32"
) -> None:
    """Write an autoencoder into a folder that is not there yet."""
    rules = names.network_rules(names.shapes_of(params))
    _write_part(folder, _NETWORK, configs.vae_json(config), rules, params, dtype)


def component(folder: Path, name: str, variant: str | None = None) -> Weights:
    """The tensors of one part, whole or in pieces.

    Of several variants in a folder the one asked for counts, else the one without.

    Raises:
        UserError: the part is not there, or as a pickle only.
    """
    if not folder.is_dir():
        raise UserError(f"no {folder.name}/ in {folder.parent}: the folder is not whole")
    stem = f"{name}.{variant}" if variant else name
    for file in (
        folder / f"{stem}.safetensors",
        folder / f"{name}.safetensors.index{'.' + variant if variant else ''}.json",
        folder / f"{stem}.safetensors.index.json",
    ):
        if file.is_file():
            return open_weights(file)
    variants = {
        found[1]
        for file in folder.glob(f"{name}.*.safetensors")
        if (found := re.fullmatch(rf"{name}\.(\w+)\.safetensors", file.name))
    }
    if variants:
        wanted = f"variant {variant!r}" if variant else "file without a variant"
        raise UserError(
            f"{folder} has no {wanted} of {name}.safetensors; there is "
            f"{' and '.join(map(repr, sorted(variants)))}: choose it with --variant"
        )
    return open_weights(folder)


def abstract_params(config: LatentDiffusionConfig) -> Any:
    """The shapes of a model's parameters, nested, without making any."""
    return nnx.to_pure_dict(nnx.as_pure(nnx.state(abstract(config))))


def abstract_text(config: AnyTextConfig) -> Any:
    """The shapes of a text encoder's parameters, nested."""
    module = abstract_module(lambda rngs: text_encoder(config, rngs=rngs))
    return nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))


def abstract_unet(config: UNetConfig) -> Any:
    """The shapes of a UNet's parameters, nested."""
    module = abstract_module(lambda rngs: UNet(config, rngs=rngs))
    return nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))


def abstract_autoencoder(config: VAEConfig) -> Any:
    """The shapes of an autoencoder's parameters, nested."""
    module = abstract_module(lambda rngs: Autoencoder(config, rngs=rngs))
    return nnx.to_pure_dict(nnx.as_pure(nnx.state(module)))


def unet_rules(config: LatentDiffusionConfig, shapes: Any) -> list[Rule]:
    """The table of a model's UNet."""
    return names.network_rules(
        names.shapes_of(shapes["unet"]), point_projections=not config.unet.linear_projection
    )


def fitted(
    rules: list[Rule], weights: Weights, shapes: Any, dtype: DType, *, ignored: str = _IGNORED
) -> dict[str, Any]:
    """The nested parameters of one part, in ``dtype``: ``names.taken``."""
    found = taken(rules, weights, names.shapes_of(shapes), ignored=ignored, dtype=DTYPES[dtype])
    return unflatten(found)


def described(file: Path) -> dict[str, Any]:
    """One of a folder's JSON files.

    Raises:
        UserError: it is not there.
        DataError: it is damaged.
    """
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except FileNotFoundError as error:
        raise UserError(
            f"{file} is not there; a Stable Diffusion is a folder with {INDEX} and a folder for "
            "each part, as diffusers saves it"
        ) from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} is damaged: {error}") from error


def write(path: str | Path, model: Published, *, dtype: DType = "float32") -> None:
    """Write a folder that ``read`` and diffusers take, whole or not at all.

    Args:
        dtype: of the tensors on disk.

    Raises:
        UserError: the folder is there and holds something else.
    """
    folder = Path(path)
    refuse_other(folder, is_folder, "model of diffusers")
    config, shapes = model.config, abstract_params(model.config)
    with atomic_directory(folder) as whole:
        for number, text in enumerate(config.texts):
            ending = f"_{number + 1}" if number else ""
            write_text_encoder(
                whole / f"text_encoder{ending}",
                whole / f"tokenizer{ending}",
                text,
                model.params["texts"][number],
                model.tokenizers[number],
                dtype=dtype,
            )
        _write_part(
            whole / "unet",
            _NETWORK,
            configs.unet_json(config.unet),
            unet_rules(config, shapes),
            model.params["unet"],
            dtype,
        )
        write_autoencoder(whole / "vae", config.vae, model.params["vae"], dtype=dtype)
        (whole / "scheduler").mkdir()
        write_json(whole / "scheduler" / "scheduler_config.json", dict(model.scheduler))
        write_json(whole / INDEX, _index(model))


def write_text_encoder(
    folder: Path,
    tokenizer_folder: Path,
    config: AnyTextConfig,
    params: Any,
    tokenizer: Tokenizer,
    *,
    dtype: DType = "float32",
) -> None:
    """Write a text encoder and its tokenizer, each into a folder that is not there yet."""
    form = form_of(config)
    about = form.about(config, tokenizer)
    _write_part(folder, "model", about, form.rules(config), params, dtype)
    if form.code is not None:
        shutil.copyfile(form.code, folder / form.code.name)
    form.save_tokenizer(tokenizer, tokenizer_folder, config.length)


def _write_part(
    folder: Path, name: str, about: Mapping[str, Any], rules: list[Rule], params: Any, dtype: DType
) -> None:
    folder.mkdir()
    # Parts of diffusers name its version, parts of transformers their dtype.
    more = {"_diffusers_version": _VERSION} if "_class_name" in about else {"dtype": dtype}
    write_json(folder / "config.json", {**about, **more})
    write_weights(folder, put(rules, flatten_lazily(params), dtype=DTYPES[dtype]), name=name)


def flatten_lazily(params: Any) -> dict[str, Any]:
    """Flat names to arrays where they are; each is fetched when it is written."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }


def _index(model: Published) -> dict[str, Any]:
    several = len(model.config.texts) > 1
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline" if several else "StableDiffusionPipeline",
        "_diffusers_version": _VERSION,
        "feature_extractor": [None, None],
        "scheduler": ["diffusers", str(model.scheduler.get("_class_name", "PNDMScheduler"))],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    for number, text in enumerate(model.config.texts):
        ending = f"_{number + 1}" if number else ""
        form = form_of(text)
        index |= {
            f"text_encoder{ending}": list(form.encoder(text)),
            f"tokenizer{ending}": list(form.tokenizer),
        }
    if several:
        return {
            **index,
            "image_encoder": [None, None],
            "force_zeros_for_empty_prompt": model.zero_empty_negative,
        }
    return {
        **index,
        "image_encoder": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }
