"""Published LoRAs added to a Stable Diffusion on the host: W + scale (alpha / rank) B A.

arXiv 2106.09685, section 4.1. What comes of it is a model like any other, and as fast.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kmm_jax.errors import DataError
from kmm_jax.interop.diffusers.folder import Published, flatten_lazily
from kmm_jax.interop.diffusers.lora_names import Target, plain, role_of, targets
from kmm_jax.interop.native import unflatten
from kmm_jax.interop.weights import Weights, open_weights

_SHOWN = 3
# What other kinds of adapters call their tensors.
_OTHERS = {
    r"dora_scale|lora_magnitude_vector": "a DoRA, which also rescales columns (arXiv 2402.09353)",
    r"hada_w|hada_t": "a LoHa, a product of two LoRAs (LyCORIS)",
    r"lokr_w|lokr_t": "a LoKr, a Kronecker product (LyCORIS)",
    r"lora_mid": "a LoCon in three factors (LyCORIS)",
    r"oft_|\.on_input|ia3_|\.diff(_b)?$|\.lora_[AB]\.bias$": "of another kind than LoRA",
}


def merge(model: Published, path: str | Path, scale: float = 1.0) -> Published:
    """The model with a LoRA added to its UNet and text encoders; several are added in turn.

    The sums are computed in float32 and kept in the type of the parameters.

    Args:
        path: a safetensors file of peft, diffusers or kohya's scripts, or a folder with one.
        scale: how much of it; 1 as it was trained, negative against it.

    Raises:
        UserError: no such file, or a pickle.
        DataError: damaged, of another kind than LoRA, or of another model: what does not fit is
            counted and named.
    """
    weights = open_weights(path)
    about = _about(weights)
    _refuse_others(weights, about)
    params = flatten_lazily(model.params)
    new: dict[str, np.ndarray] = {}
    for target, pair in _pairs(weights, model).items():
        change = _product(weights, target, pair) * (scale * _strength(weights, target, pair, about))
        old = new.get(target.ours)
        if old is None:
            old = new[target.ours] = np.array(params[target.ours])
        place = old if target.number is None else old[target.number]
        part = _laid_out(weights, target, change)
        if part.shape != place.shape:
            raise DataError(
                f"{weights.path}: the change of {target.module} has the shape {change.shape}, and "
                f"the layer here {place.shape}, inputs before outputs; it is of another model"
            )
        place[...] = place.astype(np.float32) + part
    return dataclasses.replace(model, params=unflatten({**params, **new}))


def _pairs(weights: Weights, model: Published) -> dict[Target, dict[str, str]]:
    """The names of ``down``, ``up`` and perhaps ``alpha`` for each layer that is adapted."""
    known = targets(model.config)
    found: dict[Target, dict[str, str]] = {}
    strange = []
    for tensor in weights:
        role = role_of(tensor)
        target = role and known.get(plain(role[0]))
        if not role or not target:
            strange.append(tensor)
            continue
        if role[1] in found.setdefault(target, {}):
            raise DataError(f"{weights.path} changes {target.module} twice")
        found[target][role[1]] = tensor
    if strange:
        raise DataError(
            f"{weights.path}: {len(strange)} of {len(weights)} tensors do not belong to this "
            f"model, {', '.join(sorted(strange)[:_SHOWN])}"
            f"{' and others' if len(strange) > _SHOWN else ''}; a LoRA fits the kind of model that "
            "it was trained on: SD 1, SD 2 or SDXL"
        )
    for target, pair in found.items():
        missing = {"down", "up"} - pair.keys()
        if missing:
            raise DataError(
                f"{weights.path} is not whole: of {target.module} it has no {missing.pop()} factor"
            )
    if not found:
        raise DataError(f"{weights.path} holds no LoRA")
    return found


def _product(weights: Weights, target: Target, pair: Mapping[str, str]) -> np.ndarray:
    """B A as PyTorch keeps the layer's weight, float32."""
    down = weights[pair["down"]].astype(np.float32)
    up = weights[pair["up"]].astype(np.float32)
    pointwise = all(side == 1 for side in up.shape[2:])
    if min(down.ndim, up.ndim) < 2 or not pointwise or up.shape[1] != down.shape[0]:
        raise DataError(
            f"{weights.path}: the factors of {target.module} have the shapes {down.shape} and "
            f"{up.shape}, which do not multiply"
        )
    product = up.reshape(up.shape[:2]) @ down.reshape(down.shape[0], -1)
    return product.reshape(up.shape[0], *down.shape[1:])


def _laid_out(weights: Weights, target: Target, change: np.ndarray) -> np.ndarray:
    try:
        return target.layout.taken(change)[0]
    except ValueError as error:
        raise DataError(
            f"{weights.path}: the change of {target.module} has the shape {change.shape}, which is "
            "of another kind of layer"
        ) from error


def _strength(
    weights: Weights, target: Target, pair: Mapping[str, str], about: Mapping[str, Any]
) -> float:
    """Alpha over the rank, from the file, from peft's description, or 1."""
    rank = weights.shape(pair["down"])[0]
    if "alpha" in pair:
        return float(weights[pair["alpha"]].reshape(-1)[0]) / rank
    part, _, path = target.module.partition(".")
    said = about.get(part) or about.get("", {})
    alpha = said.get("lora_alpha", rank)
    for pattern, value in (said.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", path):
            alpha = value
    return float(alpha) / (math.sqrt(rank) if said.get("use_rslora") else rank)


def _about(weights: Weights) -> dict[str, dict[str, Any]]:
    """What peft says of the adapters of each part: inside the file, or in a file beside it."""
    if weights.path.is_dir() or weights.path.stem == "adapter_model":
        return {"": weights.about("adapter_config.json")}
    said = weights.metadata().get("lora_adapter_metadata")
    found: dict[str, dict[str, Any]] = {}
    try:
        for name, value in (json.loads(said) if said else {}).items():
            part, _, key = name.partition(".")
            found.setdefault(part, {})[key] = value
    except (ValueError, AttributeError) as error:
        raise DataError(f"the description in {weights.path} is damaged: {error}") from error
    return found


def _refuse_others(weights: Weights, about: Mapping[str, Mapping[str, Any]]) -> None:
    kinds = {
        kind: name
        for pattern, kind in _OTHERS.items()
        for name in weights
        if re.search(pattern, name)
    }
    for kind, name in kinds.items():
        raise DataError(f"{weights.path} is {kind}: {name}. Only LoRAs are merged here")
    if any(said.get("use_dora") for said in about.values()):
        raise DataError(f"{weights.path} is a DoRA (use_dora). Only LoRAs are merged here")
