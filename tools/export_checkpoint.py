"""Export a trained run: safetensors, config.json and the tokenizer, read back and compared.

    python -m tools.export_checkpoint runs/quickstart/shop/run --output exported/shop
    python -m tools.export_checkpoint runs/shop --output exported/at-400 --step 400

The folder loads with ``kmm_jax.load``; ``model.safetensors`` is read by anything that reads
safetensors, with names such as ``vision.blocks.layers.attention.query.kernel``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kmm_jax.errors import UserError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.export_checkpoint", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", help="a run directory, or its URL")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--step", type=int, help="the checkpoint; its newest whole one by default")
    arguments = parser.parse_args(argv)

    import jax

    import kmm_jax
    from kmm_jax.interop import native

    try:
        model = kmm_jax.load(arguments.run, step=arguments.step)
        native.save(
            arguments.output,
            native.Exported(
                config=model.config,
                params=jax.device_get(model.params),
                tokenizer=model.tokenizer,
                styled=model.styled,
                step=model.step,
            ),
        )
    except (UserError, OSError) as error:
        print(f"export_checkpoint: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.output}: model {model.hash}, written and read back equal")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
