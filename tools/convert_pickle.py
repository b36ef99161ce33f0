"""Turn a PyTorch pickle (.pt, .pth, .bin, .ckpt) into safetensors: tensors, and nothing else.

    python -m tools.convert_pickle slip_base_cc3m_40ep.pt --output slip.safetensors
    python -m tools.convert_pickle pytorch_model.bin --output kelip.safetensors
    python -m tools.convert_pickle ViT-B-32.pt --output openai-b32.safetensors --torchscript

Needs PyTorch, which the library itself does not. A pickle may run any program when it is read;
PyTorch reads this one with `weights_only=True`, which lets tensors and plain values through and
refuses the rest. OpenAI's archives are TorchScript: reading one loads its code without running it
(`--torchscript`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmm_jax.errors import DataError, UserError, require
from kmm_jax.files import atomic_write

# Where training scripts keep the weights among the rest of what they save.
_INSIDE = ("state_dict", "model_state_dict", "model", "module", "params_ema")


def tensors(path: Path, *, torchscript: bool = False, ema: bool = False) -> dict[str, Any]:
    """The named tensors of a pickle.

    Raises:
        UserError: PyTorch is not installed, or the file holds no named tensors.
        DataError: it is damaged, or holds something else than tensors and plain values.
    """
    torch = require("torch", extra="test")
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        if torchscript:
            found: Any = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and PyTorch raise their own, and nothing narrower
        text = str(error).splitlines()[0]
        advice = (
            "if it is one of OpenAI's archives, give --torchscript"
            if "TorchScript" in str(error) or "torchscript" in str(error)
            else "it is damaged, or holds more than tensors, which is not loaded"
        )
        raise DataError(f"{path} cannot be read ({text}); {advice}") from error
    for name in ("ema", "model_ema", *_INSIDE) if ema else _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    named = dict(_named(found, ""))
    if not named:
        raise UserError(f"{path} holds no named tensors")
    return named


def _named(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return
    for name, inner in value.items():
        if hasattr(inner, "detach"):
            yield f"{prefix}{name}", inner
        else:
            yield from _named(inner, f"{prefix}{name}.")


def save(named: Mapping[str, Any], output: Path) -> None:
    """Write them whole or not at all; tensors that share memory are written out each."""
    from safetensors.torch import save

    plain = {name: value.detach().clone().contiguous() for name, value in named.items()}
    content = save(plain, metadata={"format": "pt"})
    with atomic_write(output) as file:
        file.write(content)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.convert_pickle", description=__doc__.splitlines()[0]
    )
    parser.add_argument("pickle", type=Path, help="a file of PyTorch's")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors to write")
    parser.add_argument("--torchscript", action="store_true", help="an archive such as OpenAI's")
    parser.add_argument(
        "--ema", action="store_true", help="the averaged weights, where the file holds both"
    )
    arguments = parser.parse_args(argv)
    try:
        if arguments.output.suffix != ".safetensors":
            raise UserError(f"--output {arguments.output}: name it .safetensors")
        named = tensors(arguments.pickle, torchscript=arguments.torchscript, ema=arguments.ema)
        save(named, arguments.output)
    except (UserError, OSError) as error:
        print(f"convert_pickle: {error}", file=sys.stderr)
        return 2
    count = sum(value.numel() for value in named.values())
    print(f"{arguments.output}: {len(named)} tensors, {count:,} numbers")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
