"""A Stable Diffusion from one form to the other: a single file to a folder of diffusers, and back.

    python -m tools.convert_generator v1-5-pruned-emaonly.safetensors --base stable-diffusion-v1-5 \
        --output sd15
    python -m tools.convert_generator generator-ko --output generator-ko.safetensors --dtype float16
    python -m tools.convert_generator runs/products --output products.safetensors

What --output is called decides: NAME.safetensors is one file in the original layout, as ComfyUI
and Stable Diffusion WebUI read; any other name a folder. A single file holds no tokenizer and no
settings of a sampler: they are taken from --base, and left behind on the way back.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kmm_jax.errors import UserError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.convert_generator", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "model", type=Path, help="a .safetensors file, a folder of diffusers, or a generator's run"
    )
    parser.add_argument(
        "--base", type=Path, help="of a file: a folder of diffusers of the same kind"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="NAME.safetensors, or a folder to write"
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="of the tensors on disk (default: %(default)s)",
    )
    parser.add_argument("--variant", help="of a folder's files, such as fp16")
    arguments = parser.parse_args(argv)

    from kmm_jax.generation.runs import model_at
    from kmm_jax.interop.diffusers import folder, single_file

    output = arguments.output
    try:
        if output.suffix == single_file.SUFFIX and output.exists():
            raise UserError(f"{output} exists; choose another name")
        model = model_at(arguments.model, base=arguments.base, variant=arguments.variant)
        if output.suffix == single_file.SUFFIX:
            single_file.write(output, model, dtype=arguments.dtype)
        else:
            folder.write(output, model, dtype=arguments.dtype)
    except (UserError, OSError) as error:
        print(f"convert_generator: {error}", file=sys.stderr)
        return 2
    print(f"{output}: written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
