"""Import another library's weights: a folder that `kmm_jax.load` and `kmm train --init` take.

    python -m tools.import_checkpoint clip-vit-base-patch32 --output models/clip-b32
    python -m tools.import_checkpoint openai.safetensors --activation quick_gelu \
        --tokenizer bpe_simple_vocab_16e6.txt.gz --output models/openai-b32
    python -m tools.import_checkpoint kelip/ --output models/kelip
    python -m tools.import_checkpoint XLM-Roberta-Large-Vit-B-32 --image openai.safetensors \
        --activation quick_gelu --output models/m-clip
    python -m tools.import_checkpoint watermark.safetensors --output detectors/laion

Whose weights they are is seen from their names: CLIPModel of Hugging Face, CLIP and CoCa of
open_clip, OpenAI's CLIP, KELIP, SLIP. A text tower alone (M-CLIP's, an XLMRobertaModel to train
from) goes with the images of the CLIP that --image names. LAION's watermark detector becomes a
folder for the corpus: `watermark.weights=detectors/laion`. Only safetensors is read, in one file or
in parts; a pickle is turned into it by `python -m tools.convert_pickle`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from kmm_jax.interop.weights import Weights


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
        "--image",
        type=Path,
        help="where WEIGHTS are a text tower alone, those of the CLIP whose images go with it",
    )
    parser.add_argument(
        "--length",
        type=int,
        help="of an XLM-RoBERTa, the tokens that texts are cut to (default: 77, as CLIP's)",
    )
    parser.add_argument(
        "--activation",
        choices=("gelu", "quick_gelu", "gelu_tanh"),
        help="where no configuration lies beside the weights",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        help="of LAION's watermark detector, the side that pictures are squashed to (default: 256, "
        "as its own scripts)",
    )
    parser.add_argument("--heads", type=int, help="of the image tower, likewise")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the computation; the weights are kept in float32 (default: float32)",
    )
    arguments = parser.parse_args(argv)

    from kmm_jax.interop import detectors, native
    from kmm_jax.interop.conversion import import_weights
    from kmm_jax.interop.families.base import Hints
    from kmm_jax.models.summary import summarise

    try:
        if (weights := detectors.recognise(arguments.weights)) is not None:
            return _detector(weights, arguments)
        if arguments.image_size is not None:
            raise UserError(
                f"--image-size is of a watermark detector, and {arguments.weights} is none; a "
                "model's own is in its weights (another is for training: task.model.vision)"
            )
        exported, family = import_weights(
            arguments.weights,
            tokenizer=arguments.tokenizer,
            image=arguments.image,
            hints=Hints(
                activation=arguments.activation,
                heads=arguments.heads,
                length=arguments.length,
                dtype=arguments.dtype,
            ),
        )
        native.save(arguments.output, exported)
    except (UserError, OSError) as error:
        print(f"import_checkpoint: {error}", file=sys.stderr)
        return 2
    size = summarise(exported.config)["total"]
    print(f"{arguments.output}: {family.title}, {size:,} parameters, model {exported.hash}")
    return 0


def _detector(weights: Weights, arguments: argparse.Namespace) -> int:
    from kmm_jax.interop import detectors

    model = detectors.from_timm(weights, arguments.weights)
    size = arguments.image_size or detectors.DetectorConfig().image_size
    config = detectors.save(arguments.output, model, image_size=size)
    print(
        f"{arguments.output}: LAION's watermark detector, of pictures of {config.image_size} px; "
        f"score a corpus by it with watermark.weights={arguments.output} watermark.most=0.5"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
