"""A model's encoders as StableHLO programs, which ``jax.export`` runs without this library.

A folder holds ``image.stablehlo`` and ``text.stablehlo``, each a function of the parameters and of
a batch of any size; the parameters once, as ``model.safetensors``; ``tokenizer.json``; and
``programs.json``, which says what goes in and comes out. Used elsewhere:

    from jax import export
    from safetensors.numpy import load_file

    params = load_file("model.safetensors")
    image = export.deserialize(bytearray(open("image.stablehlo", "rb").read()))
    vectors = image.call(params, pixels)  # uint8 (B, S, S, 3) -> float32 (B, E)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_directory, read_json, refuse_other, write_json
from kmm_jax.inference.model import Model
from kmm_jax.interop.native import flatten, unflatten
from kmm_jax.interop.weights import save_tensors

FORMAT = "kmm_jax programs 1"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
_MANIFEST = "programs.json"
_WEIGHTS = "model.safetensors"
_CLOSE = 1e-4
_TRIED = (1, 3)  # batch sizes: neither is what the program was traced with


def save(folder: str | Path, model: Model, *, platforms: Sequence[str] = ("cpu",)) -> None:
    """Write the folder, whole or not at all, and run it back against the model itself.

    Args:
        platforms: of ``PLATFORMS``, what the programs run on.

    Raises:
        UserError: the folder holds something else, no such platform, or the programs give other
            vectors than the model.
    """
    folder = Path(folder)
    refuse_other(folder, _is_programs, "folder of programs")
    for platform in platforms:
        if platform not in PLATFORMS:
            raise UserError(f"no platform {platform!r}; there are {', '.join(PLATFORMS)}")
    flat = flatten(jax.device_get(model.params))
    size, length = model.image_size, model.text_length
    inputs = {
        "image": ((size, size, 3), jnp.uint8, model.encode_image_with),
        "text": ((length,), jnp.int32, model.encode_text_with),
    }
    with atomic_directory(folder) as temporary:
        model.tokenizer.save(temporary)
        for name, (shape, dtype, function) in inputs.items():
            program = _exported(function, flat, shape, dtype, platforms)
            (temporary / f"{name}.stablehlo").write_bytes(program)
        save_tensors(temporary / _WEIGHTS, flat, metadata={"format": FORMAT})
        vision = model.config.vision
        write_json(
            temporary / _MANIFEST,
            {
                "format": FORMAT,
                "model": model.hash,
                "platforms": list(platforms),
                "embedding": model.embedding,
                "image": {
                    "program": "image.stablehlo",
                    "input": {"shape": ["batch", size, size, 3], "dtype": "uint8"},
                    "preparation": f"RGB, shorter side to {size} px (bicubic), central square; the "
                    "program normalises",
                    "mean": list(vision.mean),
                    "std": list(vision.std),
                },
                "text": {
                    "program": "text.stablehlo",
                    "input": {"shape": ["batch", length], "dtype": "int32"},
                    "preparation": "tokenizer.json: the beginning, the text cut to fit, the end, "
                    "then padding",
                    "styled": model.styled,
                    "beginning": model.tokenizer.bos_id,
                    "end": model.tokenizer.eos_id,
                    "padding": model.tokenizer.pad_id,
                },
            },
        )
        _compare(temporary, model, inputs, platforms)


def _exported(
    function: Callable[..., Any],
    flat: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    dtype: Any,
    platforms: Sequence[str],
) -> bytes:
    (batch,) = export.symbolic_shape("batch")

    def program(named: Mapping[str, Any], rows: jax.Array) -> jax.Array:
        return function(unflatten(named), rows)

    params = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in flat.items()}
    found = export.export(jax.jit(program), platforms=tuple(platforms))(
        params, jax.ShapeDtypeStruct((batch, *shape), dtype)
    )
    return bytes(found.serialize())


def load(folder: str | Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """``image`` and ``text`` of a folder, each from a batch to unit vectors (B, E).

    Raises:
        DataError: no such folder, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    if not _is_programs(folder):
        raise DataError(f"{folder} holds no programs: its {_MANIFEST} is missing or another's")
    try:
        params = load_file(folder / _WEIGHTS)
        programs = {
            name: export.deserialize(bytearray((folder / f"{name}.stablehlo").read_bytes()))
            for name in ("image", "text")
        }
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{folder} is damaged: {error!r}; export it again") from error
    held = jax.device_put(params)

    def runner(program: Any) -> Callable[[np.ndarray], np.ndarray]:
        return lambda rows: np.asarray(program.call(held, rows))

    return {name: runner(program) for name, program in programs.items()}


def _compare(
    folder: Path, model: Model, inputs: Mapping[str, Any], platforms: Sequence[str]
) -> None:
    """Run the written programs, where they run on this machine."""
    here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if here not in platforms:
        return
    programs = load(folder)
    rng = np.random.default_rng(0)
    high = {"image": 256, "text": model.config.text.vocabulary}
    for name, (shape, dtype, function) in inputs.items():
        for batch in _TRIED:
            rows = rng.integers(0, high[name], (batch, *shape)).astype(dtype)
            expected = np.asarray(jax.jit(function)(model.params, rows))
            error = float(np.abs(programs[name](rows) - expected).max())
            if not error <= _CLOSE:
                raise UserError(
                    f"{folder}: {name}.stablehlo is off by {error:.2g} from the model itself"
                )


def _is_programs(folder: Path) -> bool:
    about = read_json(folder / _MANIFEST)
    return isinstance(about, dict) and about.get("format") == FORMAT
