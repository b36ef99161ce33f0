"""A Stable Diffusion in one file of the original layout, read and written here.

model.diffusion_model.*            the UNet
first_stage_model.*                the autoencoder
cond_stage_model.transformer.*     SD 1: the text tower, as transformers names it
cond_stage_model.model.*           SD 2: as open_clip does
conditioner.embedders.0.transformer.*, conditioner.embedders.1.model.*    SDXL: one of each

Such a file has no tokenizer and no settings of a sampler: these come from a folder of diffusers of
the same kind, the base. Averages that training kept beside the weights (``model_ema.*``) are not
looked at, as diffusers does not.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_write
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers import names
from kmm_jax.interop.diffusers.folder import DTYPES, INDEX, DType, Published
from kmm_jax.interop.diffusers.ldm_configs import (
    Kind,
    autoencoder_config,
    clip_config,
    open_clip_encoder_config,
    unet_config,
)
from kmm_jax.interop.diffusers.ldm_names import ldm_autoencoder_name, ldm_name
from kmm_jax.interop.diffusers.text_forms import form_in, form_of
from kmm_jax.interop.families.open_clip import text_tower_rules
from kmm_jax.interop.names import SAME, Rule, put
from kmm_jax.interop.weights import Weights, open_weights, save_tensors
from kmm_jax.models.diffusion.config import (
    AnyTextConfig,
    LatentDiffusionConfig,
    TextEncoderConfig,
    UNetConfig,
    VAEConfig,
)
from kmm_jax.text.tokenizer import Tokenizer

SUFFIX = ".safetensors"
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_SCHEDULER = Path("scheduler", "scheduler_config.json")
_XL = f"{_UNET}label_emb.0.0.weight"
_IN = f"{_UNET}input_blocks.0.0.weight"
_IN_CHANNELS = (4, 9)  # and of an inpainting model


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Text:
    """Where a text encoder lies.

    Attributes:
        prefix: of its tensors in the file.
        part: its folder in a base; its tokenizer's is called alike.
        names: whose names its tensors have.
        projects: whether its projection is used.
    """

    prefix: str
    part: str
    names: Literal["transformers", "open_clip"]
    projects: bool = False

    @property
    def tokenizer(self) -> str:
        """The folder of its tokenizer in a base."""
        return self.part.replace("text_encoder", "tokenizer")


_TEXTS_1 = (
    _Text(prefix="cond_stage_model.transformer.", part="text_encoder", names="transformers"),
)
_TEXTS_2 = (_Text(prefix="cond_stage_model.model.", part="text_encoder", names="open_clip"),)
_TEXTS_XL = (
    _Text(prefix="conditioner.embedders.0.transformer.", part="text_encoder", names="transformers"),
    _Text(
        prefix="conditioner.embedders.1.model.",
        part="text_encoder_2",
        names="open_clip",
        projects=True,
    ),
)

# What looks like such a file and is another model, by the first tensor that shows it.
_OTHERS = {
    r"control_model\.": "a ControlNet",
    r"conditioner\.embedders\.0\.model\.": "SDXL's refiner",
    r"edm_mean": "Playground 2.5, of other noise levels",
    r"noise_augmentor\.|embedder\.": "an unCLIP, which is also guided by pictures",
    r"depth_model\.": "a depth-to-image model",
    r"model\.diffusion_model\.label_emb\.weight": "an upscaler",
    r"lora_(unet|te)|.*\.lora_(A|B|down|up)\.": "a LoRA, which goes with a model as --lora",
    r"(down_blocks|mid_block|encoder\.down_blocks|text_model)\.": "one part of a folder of "
    "diffusers, which is named as a whole",
}


def is_generator(path: Path) -> bool:
    """Whether this is a file with more than an autoencoder.

    Raises:
        UserError, DataError: a pickle, or damaged.
    """
    return path.is_file() and holds_generator(open_weights(path))


def holds_generator(weights: Weights) -> bool:
    """Whether there is a UNet in the original layout."""
    return _IN in weights


def read(
    path: str | Path,
    *,
    base: str | Path | None = None,
    dtype: DType = "float32",
    variant: str | None = None,
) -> Published:
    """The model in a file.

    What it predicts is what the file says (``v_pred``, ``modelspec.prediction_type``) or else the
    base's sampler. A text encoder or autoencoder that the file leaves out is the base's.

    Args:
        base: a folder of diffusers of the same kind: its tokenizers, sampler and ``config.json``
            files; by default the folder that the file lies in.
        dtype: of the parameters and the computation.
        variant: of the base's weights, where one of its parts is needed.

    Raises:
        UserError: no such file, a pickle, or no base.
        DataError: damaged, not whole, of a network that is not built here, or a base of another
            kind.
    """
    weights = open_weights(path)
    _refuse_others(weights)
    beside = _base(weights.path, base)
    scheduler = _with_prediction(weights, folders.described(beside / _SCHEDULER))
    kind = Kind(
        xl=_XL in weights,
        prediction=str(scheduler.get("prediction_type", "epsilon")),
        dtype=dtype,
        base=beside,
    )
    texts, tokenizers = [], []
    for place in _texts_in(weights):
        text, text_params, tokenizer = _text(weights, place, kind, variant)
        texts.append((text, text_params))
        tokenizers.append(tokenizer)
    unet = unet_config(weights, _UNET, kind, pooled=texts[-1][0].projection)
    vae = _autoencoder(weights, _VAE, kind, variant)
    try:
        config = LatentDiffusionConfig(
            texts=tuple(each for each, _ in texts), unet=unet, vae=vae[0]
        )
    except ValueError as error:
        raise DataError(f"{weights.path}, with the base {beside}: {error}") from error
    shapes = folders.abstract_unet(unet)
    return Published(
        config=config,
        params={
            "texts": {number: params for number, (_, params) in enumerate(texts)},
            "unet": folders.fitted(_unet_rules(unet, shapes), weights.below(_UNET), shapes, dtype),
            "vae": vae[1],
        },
        tokenizers=tuple(tokenizers),
        scheduler=scheduler,
        zero_empty_negative=_zero_empty_negative(beside, xl=kind.xl),
    )


def read_autoencoder(
    path: str | Path,
    *,
    base: str | Path | None = None,
    dtype: DType = "float32",
    variant: str | None = None,
) -> tuple[VAEConfig, dict[str, Any]]:
    """The autoencoder of a file, which may hold nothing else: then without its prefix, perhaps.

    Args:
        base: a folder of diffusers with ``vae/config.json``; only a file that holds a whole model
            does without.

    Raises:
        UserError, DataError: as ``read``.
    """
    weights = open_weights(path)
    whole = holds_generator(weights)
    alone = not weights.below(_VAE) and "encoder.conv_in.weight" in weights
    if whole or not (alone or weights.below(_VAE)):
        _refuse_others(weights)
    kind = Kind(
        xl=_XL in weights,
        prediction="epsilon",
        dtype=dtype,
        base=None if whole and base is None else _base(weights.path, base, needs=Path("vae")),
    )
    return _autoencoder(weights, "" if alone else _VAE, kind, variant)


def write(path: str | Path, model: Published, *, dtype: DType = "float32") -> None:
    """Write a model as one file, whole or not at all; a file of that name is replaced.

    Its tokenizers and its sampler stay behind: a folder of the model is its base.

    Args:
        dtype: of the tensors on disk.

    Raises:
        UserError: the name does not end in .safetensors, or the layout has no place for a part.
    """
    file = Path(path)
    if file.suffix != SUFFIX:
        raise UserError(f"{file}: a single file is called NAME{SUFFIX}")
    tensors = dict(_tensors(model, dtype))
    # As kohya's scripts and Stability's specification of metadata have it.
    prediction = {"epsilon": "epsilon", "v_prediction": "v"}.get(
        str(model.scheduler.get("prediction_type", "epsilon"))
    )
    said = {"modelspec.prediction_type": prediction} if prediction else {}
    with atomic_write(file) as opened:
        save_tensors(Path(opened.name), tensors, metadata={"format": "pt", **said})


def _tensors(model: Published, dtype: DType) -> Iterator[tuple[str, np.ndarray]]:
    config = model.config
    if any(not isinstance(text, TextEncoderConfig) for text in config.texts):
        raise UserError(
            "the original layout holds the text towers of a CLIP, and this model reads texts by "
            "another encoder; keep it as a folder"
        )
    unet, vae = model.params["unet"], model.params["vae"]
    parts = [
        (_unet_rules(config.unet, unet), unet),
        (_autoencoder_rules(config.vae, vae, _VAE), vae),
    ]
    linear, several = config.unet.linear_projection, len(config.texts) > 1
    places = _TEXTS_XL if several else _TEXTS_2 if linear else _TEXTS_1
    for number, (text, place) in enumerate(zip(config.texts, places, strict=True)):
        assert isinstance(text, TextEncoderConfig)
        parts.append((_text_rules(text, place), model.params["texts"][number]))
    for rules, params in parts:
        yield from put(rules, folders.flatten_lazily(params), dtype=DTYPES[dtype])


def _unet_rules(config: UNetConfig, shapes: Any) -> list[Rule]:
    rules = names.network_rules(
        names.shapes_of(shapes), point_projections=not config.linear_projection
    )
    found = []
    for rule in rules:
        module, _, leaf = rule.theirs.rpartition(".")
        original = ldm_name(module, config)
        if original is None:
            raise UserError(
                f"the original layout has no place for {module} of this UNet; keep the model as a "
                "folder"
            )
        found.append(dataclasses.replace(rule, theirs=f"{_UNET}{original}.{leaf}"))
    return found


def _autoencoder_rules(config: VAEConfig, shapes: Any, prefix: str) -> list[Rule]:
    found = []
    for rule in names.network_rules(names.shapes_of(shapes)):
        module, _, leaf = rule.theirs.rpartition(".")
        original = ldm_autoencoder_name(module, len(config.widths))
        matrix = leaf == "weight" and re.search(r"\.attn_1\.(q|k|v|proj_out)$", original)
        layout = names.POINT if matrix else rule.layout
        found.append(Rule(f"{prefix}{original}.{leaf}", rule.ours, layout))
    return found


def _text_rules(config: TextEncoderConfig, place: _Text) -> list[Rule]:
    if place.names == "transformers":
        rules = names.text_encoder_rules(config)
        return [dataclasses.replace(rule, theirs=place.prefix + rule.theirs) for rule in rules]
    projection = Rule(f"{place.prefix}text_projection", ("projection.kernel",), SAME)
    return [
        *text_tower_rules(place.prefix, "tower"),
        *([projection] if config.projection is not None else []),
    ]


def _texts_in(weights: Weights) -> tuple[_Text, ...]:
    if _XL in weights:
        return _TEXTS_XL
    linear = len(weights.shape(f"{_UNET}middle_block.1.proj_in.weight")) == 2
    return _TEXTS_2 if linear else _TEXTS_1


def _text(
    weights: Weights, place: _Text, kind: Kind, variant: str | None
) -> tuple[AnyTextConfig, dict[str, Any], Tokenizer]:
    """A text encoder of the file, else of the base, and its tokenizer."""
    assert kind.base is not None
    own = weights.below(place.prefix)
    about, where = kind.about(place.part)
    if not own:
        config, params = folders.read_text_encoder(
            kind.base / place.part, dtype=kind.dtype, variant=variant
        )
        return config, params, form_of(config).read_tokenizer(kind.base / place.tokenizer)
    form = form_in(about or {})
    if form is not form_in({}):
        raise DataError(
            f"{where} is of another kind of text encoder than the one in {weights.path}; name a "
            "base of the same kind"
        )
    tokenizer_folder = kind.base / place.tokenizer
    if not tokenizer_folder.is_dir():
        raise DataError(
            f"{weights.path} has {len(_texts_in(weights))} text encoders, and the base "
            f"{kind.base} no {place.tokenizer}/; name a base of the same kind"
        )
    tokenizer = form.read_tokenizer(tokenizer_folder)
    if place.names == "transformers":
        own, ignored = _with_prefix(own, place), r"(.*position_ids|text_projection.*|logit_scale)"
        config = clip_config(own, place.prefix, kind, place.part, eos_id=tokenizer.eos_id)
    else:
        config = open_clip_encoder_config(
            own, place.prefix, kind, place.part, eos_id=tokenizer.eos_id, projects=place.projects
        )
        last = rf"transformer\.resblocks\.{config.tower.depth}\..*"
        ignored = rf"(logit_scale|attn_mask|text_projection|{last})"
    if tokenizer.vocab_size > config.vocabulary:
        raise DataError(
            f"the tokenizer in {tokenizer_folder} has {tokenizer.vocab_size} tokens and the text "
            f"encoder in {weights.path} {config.vocabulary}; name a base of the same kind"
        )
    params = folders.fitted(
        _text_rules(config, place),
        own,
        folders.abstract_text(config),
        kind.dtype,
        ignored=re.escape(place.prefix) + ignored,
    )
    return config, params, tokenizer


def _with_prefix(own: Weights, place: _Text) -> Weights:
    """As transformers names them; some tools leave its own prefix out."""
    found = names.with_prefix(own.without(place.prefix))
    return found.renamed({name: place.prefix + name for name in found})


def _autoencoder(
    weights: Weights, prefix: str, kind: Kind, variant: str | None
) -> tuple[VAEConfig, dict[str, Any]]:
    own = weights.below(prefix) if prefix else weights
    if not own:
        if kind.base is None:
            raise DataError(f"{weights.path} holds no autoencoder ({_VAE}*)")
        return folders.read_autoencoder(kind.base / "vae", dtype=kind.dtype, variant=variant)
    config = autoencoder_config(own, prefix, kind)
    shapes = folders.abstract_autoencoder(config)
    # What its own training kept beside it: discriminator and average.
    ignored = re.escape(prefix) + r"(loss|model_ema)\..*"
    rules = _autoencoder_rules(config, shapes, prefix)
    return config, folders.fitted(rules, own, shapes, kind.dtype, ignored=ignored)


def _base(file: Path, given: str | Path | None, *, needs: Path = _SCHEDULER) -> Path:
    """The folder that says what the file does not.

    Raises:
        UserError: none was named, and the file's own is none; or there is no such folder.
    """
    if given is None:
        if (file.parent / needs).exists():
            return file.parent
        raise UserError(
            f"{file} is a single file, which holds no tokenizer and no settings of a sampler: name "
            "a folder of diffusers of the same kind (Stable Diffusion 1, 2 or XL) by --base FOLDER "
            "(base= in Python). Its tokenizer/, scheduler/ and config.json files are read and no "
            "weights but of parts that the file lacks"
        )
    place = Path(given)
    if not (place / needs).exists():
        raise UserError(
            f"the base {place} has no {needs}; name a folder as diffusers saves it, of which "
            "tokenizer/, scheduler/ and the config.json files are enough"
        )
    return place


def _refuse_others(weights: Weights) -> None:
    """Refuse what is no Stable Diffusion 1, 2 or XL in this layout."""
    for pattern, kind in _OTHERS.items():
        if shown := weights.matching(pattern):
            raise DataError(
                f"{weights.path} is {kind} ({shown[0]}); what is read from one file is Stable "
                "Diffusion 1, 2 or XL"
            )
    if not holds_generator(weights):
        heads = sorted({name.split(".")[0] for name in weights})
        raise DataError(
            f"{weights.path} holds no UNet ({_UNET}*) of Stable Diffusion 1, 2 or XL in the "
            f"original layout; its tensors begin with {', '.join(heads[:5])}"
        )
    channels = weights.shape(_IN)[1]
    if channels not in _IN_CHANNELS:
        raise DataError(
            f"{weights.path}: its UNet takes {channels} channels, where text to image has "
            f"{_IN_CHANNELS[0]} and inpainting {_IN_CHANNELS[1]}; no other is built here"
        )


def _with_prediction(weights: Weights, scheduler: dict[str, Any]) -> dict[str, Any]:
    """The sampler's settings with what the file says of itself."""
    said = {"v": "v_prediction", "epsilon": "epsilon"}.get(
        weights.metadata().get("modelspec.prediction_type", "")
    )
    # Empty tensors, with which finetuned SDXLs say how they were trained.
    if "v_pred" in weights:
        said = "v_prediction"
    zero_snr = {"rescale_betas_zero_snr": True} if "ztsnr" in weights else {}
    return {**scheduler, **({"prediction_type": said} if said else {}), **zero_snr}


def _zero_empty_negative(base: Path, *, xl: bool) -> bool:
    file = base / INDEX
    index = folders.described(file) if file.is_file() else {}
    return bool(index.get("force_zeros_for_empty_prompt", xl))
