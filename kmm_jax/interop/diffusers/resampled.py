"""A resampled text encoder in a folder of diffusers: sizes, names, and the code that runs it there.

``text_encoder/`` holds beside its weights the file ``resampled_text_encoder.py``, which diffusers
runs with ``trust_remote_code=True``; here the weights are read by this table and no code is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm_jax.errors import DataError
from kmm_jax.interop.families.base import Hints
from kmm_jax.interop.families.xlm_roberta import tower, tower_about, tower_rules
from kmm_jax.interop.names import SAME, TURNED, Rule, linear, norm
from kmm_jax.interop.weights import Weights
from kmm_jax.models.diffusion.config import ResampledTextEncoderConfig
from kmm_jax.text.tokenizer import Tokenizer

MODULE = "resampled_text_encoder"
MODEL_TYPE = "resampled_text_encoder"
CLASS = "ResampledTextEncoder"
_CONFIG_CLASS = "ResampledTextConfig"
_TOWER = "tower."

CODE = Path(__file__).with_name(f"{MODULE}.py")
"""What is copied into the folder; it knows torch and transformers alone."""


def config(
    weights: Weights, about: Mapping[str, Any], *, dtype: str, where: str
) -> ResampledTextEncoderConfig:
    """The configuration of a published encoder.

    Raises:
        DataError: a size is not said, or sizes that cannot be.
    """
    try:
        hints = Hints(length=int(about["length"]))
        read = tower(weights, _TOWER, hints, about["tower"], projection="linear")
        return ResampledTextEncoderConfig(
            tower=read,
            positions=about["positions"],
            width=about["hidden_size"],
            depth=about["resampler_layers"],
            heads=about["resampler_heads"],
            hidden=about["resampler_hidden"],
            projection=about["projection_dim"],
            norm_epsilon=about["layer_norm_eps"],
            eos_id=about["eos_token_id"],
            dtype=dtype,
        )
    except KeyError as error:
        raise DataError(f"{where} does not say {error}; write the model anew") from error
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def about(config: ResampledTextEncoderConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """The ``config.json`` with which the code in the folder builds the same encoder."""
    return {
        "architectures": [CLASS],
        "model_type": MODEL_TYPE,
        "auto_map": {"AutoConfig": f"{MODULE}.{_CONFIG_CLASS}", "AutoModel": f"{MODULE}.{CLASS}"},
        "tower": tower_about(config.tower, tokenizer),
        "length": config.length,
        "positions": config.positions,
        "hidden_size": config.width,
        "resampler_layers": config.depth,
        "resampler_heads": config.heads,
        "resampler_hidden": config.hidden,
        "projection_dim": config.projection,
        "layer_norm_eps": config.norm_epsilon,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
    }


def rules(config: ResampledTextEncoderConfig) -> list[Rule]:
    """The table of its tensors."""
    theirs, ours = "layers.{layer}", "blocks.layers"
    projection = [Rule("projection.weight", ("projection.kernel",), TURNED)]
    return [
        *tower_rules(_TOWER, "tower"),
        Rule("queries", ("queries",), SAME),
        *(
            rule
            for each in ("attention_norm", "cross_norm", "mlp_norm")
            for rule in norm(f"{theirs}.{each}", f"{ours}.{each}")
        ),
        *(
            rule
            for part in ("attention", "cross_attention")
            for name in ("query", "key", "value", "out")
            for rule in linear(f"{theirs}.{part}.{name}", f"{ours}.{part}.{name}")
        ),
        *(
            rule
            for name in ("up", "down")
            for rule in linear(f"{theirs}.mlp.{name}", f"{ours}.mlp.{name}")
        ),
        *linear("output", "output"),
        *norm("norm", "norm"),
        *(projection if config.projection is not None else []),
    ]
