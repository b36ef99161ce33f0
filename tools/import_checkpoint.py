"""Import another library's weights: a folder that `kmm_jax.load` and `kmm train --init` take.

    python -m tools.import_checkpoint clip-vit-base-patch32 --output models/clip-b32
    python -m tools.import_checkpoint openai.safetensors --activation quick_gelu \
        --tokenizer bpe_simple_vocab_16e6.txt.gz --output models/openai-b32
    python -m tools.import_checkpoint kelip/ --output models/kelip

Whose weights they are is seen from their names: CLIPModel of Hugging Face, CLIP and CoCa of
open_clip, OpenAI's CLIP, KELIP, SLIP. Only safetensors is read, in one file or in parts; a pickle
is turned into it by `python -m tools.convert_pickle`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kmm_jax.errors import UserError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.import_checkpoint", description=__doc__.splitlines()[0]
    )
    parser.add_argument("weights", type=Path, help="a folder, or a .safetensors file")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="a folder with tokenizer.json, or OpenAI's bpe_simple_vocab_16e6.txt.gz; by default "
        "beside the weights",
    )
    parser.add_argument(
        "--activation",
        choices=("gelu", "quick_gelu", "gelu_tanh"),
        help="where no configuration lies beside the weights",
    )
    parser.add_argument("--heads", type=int, help="of the image tower, likewise")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the computation; the weights are kept in float32 (default: float32)",
    )
    arguments = parser.parse_args(argv)

    from kmm_jax.interop import native
    from kmm_jax.interop.conversion import import_weights
    from kmm_jax.interop.families.base import Hints
    from kmm_jax.models.summary import summarise

    try:
        exported, family = import_weights(
            arguments.weights,
            tokenizer=arguments.tokenizer,
            hints=Hints(
                activation=arguments.activation, heads=arguments.heads, dtype=arguments.dtype
            ),
        )
        native.save(arguments.output, exported)
    except (UserError, OSError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        return 2
    size = summarise(exported.config)["total"]
    print(f"{arguments.output}: {family.title}, {size:,} parameters, model {exported.hash}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
