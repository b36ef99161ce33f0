"""Export a run or a model: this library's own folder, or one that another library reads.

    python -m tools.export_checkpoint runs/quickstart/shop/run --output exported/shop
    python -m tools.export_checkpoint runs/shop --output exported/at-400 --step 400
    python -m tools.export_checkpoint models/clip-b32 --output hf/clip --to hf-clip
    python -m tools.export_checkpoint runs/shop --output stablehlo/shop --to stablehlo
    python -m tools.export_checkpoint runs/products --output generator --to diffusers
    python -m tools.export_checkpoint runs/korean --output korean --to diffusers --teacher generator
    python -m tools.export_checkpoint runs/vae --output vae --to diffusers --pictures SHARDS

The library's own folder loads with `kmm_jax.load`; `hf-clip` with transformers' CLIPModel,
`xlm-roberta` (a text tower without its projection) with XLMRobertaModel, `open-clip`,
`open-clip-coca` and `open-clip-xlm-roberta` with open_clip's create_model("local-dir:...").
`stablehlo` holds the encoders as programs for any batch, which jax.export runs without this
library. `diffusers` takes runs of generators, of Korean text encoders (with the model whose UNet
they were taught for) and of autoencoders (with pictures by which their latents are scaled).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_OWN, _PROGRAMS, _DIFFUSERS = "kmm_jax", "stablehlo", "diffusers"


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
        choices=(_OWN, *others, _PROGRAMS, _DIFFUSERS),
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
    parser.add_argument(
        "--teacher", type=Path, help="of a text encoder's run: the model that taught it"
    )
    parser.add_argument(
        "--base", type=Path, help="of a single-file --teacher: a folder of its kind"
    )
    parser.add_argument("--pictures", help="of an autoencoder's run: shards to measure latents by")
    arguments = parser.parse_args(argv)

    import jax

    import kmm_jax
    from kmm_jax.inference import programs
    from kmm_jax.interop import native
    from kmm_jax.interop.conversion import export_weights

    try:
        if arguments.to == _DIFFUSERS:
            return _to_diffusers(arguments)
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


def _to_diffusers(arguments: argparse.Namespace) -> int:
    from kmm_jax.files import atomic_directory
    from kmm_jax.generation.runs import (
        autoencoder_run,
        is_run,
        model_at,
        published_run,
        task_of,
        with_measured_scaling,
    )
    from kmm_jax.generation.teaching import with_student
    from kmm_jax.interop.diffusers import folder
    from kmm_jax.tasks.autoencoder import AutoencoderTask
    from kmm_jax.tasks.text_distillation import TextDistillationTask

    run = Path(arguments.run)
    if not is_run(run):
        raise UserError(f"{run} is no run directory; --to diffusers takes runs of generators")
    task = task_of(run)
    if isinstance(task, AutoencoderTask):
        if arguments.pictures is None:
            raise UserError(
                "an autoencoder's latents are scaled to unit deviation: give --pictures SHARDS"
            )
        config, params = autoencoder_run(run)
        images = _pictures(arguments.pictures, config.sample_size)
        config = with_measured_scaling(config, params, images)
        with atomic_directory(arguments.output) as place:
            folder.write_autoencoder(place / "vae", config, params, dtype=arguments.dtype)
        print(f"{arguments.output}: scaling {config.scaling:.5f}, shift {config.shift:.5f}")
        return 0
    if isinstance(task, TextDistillationTask):
        if arguments.teacher is None:
            raise UserError("a text encoder goes with its UNet: give --teacher MODEL")
        model = with_student(model_at(arguments.teacher, base=arguments.base), run)
    else:
        model = published_run(run)
    folder.write(arguments.output, model, dtype=arguments.dtype)
    print(f"{arguments.output}: written")
    return 0


def _pictures(shards: str, size: int) -> Iterator[np.ndarray]:
    """Some 2,000 pictures of shards, in batches."""
    import numpy as np

    from kmm_jax.data.config import DataConfig
    from kmm_jax.data.evaluation_reader import evaluation_batches
    from kmm_jax.data.sources import open_source

    config = DataConfig(sources=(), image_size=size, text_length=4, styled=False)
    batches = evaluation_batches(open_source(shards), config, 64)
    for batch in itertools.islice(batches, 32):
        yield np.asarray(batch["image"])


if __name__ == "__main__":
    raise SystemExit(main())
