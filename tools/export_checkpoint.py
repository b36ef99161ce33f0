"""Export a run or a model: this library's own folder, or one that another library reads.

    python -m tools.export_checkpoint runs/quickstart/shop/run --output exported/shop
    python -m tools.export_checkpoint runs/shop --output exported/at-400 --step 400
    python -m tools.export_checkpoint models/clip-b32 --output hf/clip --to hf-clip
    python -m tools.export_checkpoint runs/shop --output stablehlo/shop --to stablehlo

The library's own folder loads with `kmm_jax.load`; `hf-clip` with transformers' CLIPModel,
`xlm-roberta` (a text tower without its projection) with XLMRobertaModel, `open-clip`,
`open-clip-coca` and `open-clip-xlm-roberta` with open_clip's create_model("local-dir:...").
`stablehlo` holds the encoders as programs for any batch, which jax.export runs without this
library.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kmm_jax.errors import UserError

_OWN, _PROGRAMS = "kmm_jax", "stablehlo"


def main(argv: list[str] | None = None) -> int:
    from kmm_jax.interop.families import FAMILIES

    others = [name for name, family in FAMILIES.items() if family.files is not None]
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_checkpoint", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", help="a run directory or an exported model, or its URL")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--step", type=int, help="of a run, the checkpoint; its newest whole one by default"
    )
    parser.add_argument(
        "--to",
        choices=(_OWN, *others, _PROGRAMS),
        default=_OWN,
        help=f"who is to read it (default: {_OWN})",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="of the tensors, where another library is to read them",
    )
    parser.add_argument(
        "--platforms",
        default="cpu,cuda,tpu",
        help=f"of --to {_PROGRAMS}: what the programs run on (default: cpu,cuda,tpu)",
    )
    arguments = parser.parse_args(argv)

    import jax

    import kmm_jax
    from kmm_jax.inference import programs
    from kmm_jax.interop import native
    from kmm_jax.interop.conversion import export_weights

    try:
        model = kmm_jax.load(arguments.run, step=arguments.step)
        if arguments.to == _PROGRAMS:
            programs.save(arguments.output, model, platforms=tuple(arguments.platforms.split(",")))
        else:
            exported = native.Exported(
                config=model.config,
                params=jax.device_get(model.params),
                tokenizer=model.tokenizer,
                styled=model.styled,
                step=model.step,
            )
            if arguments.to == _OWN:
                native.save(arguments.output, exported)
            else:
                export_weights(arguments.output, exported, arguments.to, dtype=arguments.dtype)
    except (UserError, OSError) as error:
        print(f"export_checkpoint: {error}", file=sys.stderr)
        return 2
    how = {_OWN: "written and read back equal", _PROGRAMS: "run back and compared"}
    print(f"{arguments.output}: model {model.hash}, {how.get(arguments.to, 'written')}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
