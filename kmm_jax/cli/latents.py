"""``kmm latents``: pictures encoded once, to train a generator on often."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from kmm_jax.cli.arguments import absolute_source, add_base, add_export


def add(commands: Any) -> None:
    """Add ``kmm latents``."""
    command = commands.add_parser(
        "latents",
        help="encode a source's pictures once, to train a generator on their latents",
        description="Write shards of latents, which kmm train takes as data.sources.0.url="
        "latents:DIR. Run again, it goes on after the shards that are whole.",
    )
    command.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a folder of diffusers, a single file, or a run of a generator or an autoencoder",
    )
    add_base(command)
    command.add_argument(
        "source", metavar="SOURCE", help="shards, folder+tsv:... or tfds:name/split"
    )
    command.add_argument("--output", type=Path, required=True, metavar="DIR")
    command.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="of the central square, the side (default: the autoencoder's)",
    )
    command.add_argument(
        "--mirrored", action="store_true", help="encode the mirrored pictures as well"
    )
    command.add_argument("--batch-size", type=int, default=16, metavar="N")
    command.add_argument("--shard-rows", type=int, default=1000, metavar="N")
    command.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the encoder's computation (default: %(default)s)",
    )
    command.add_argument("--variant", metavar="NAME", help="of the weights' files, such as fp16")
    add_export(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Encode, and say what was done."""
    import dataclasses

    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.data.sources import open_source
    from kmm_jax.generation.latents import Encoder, autoencoder_at, cache_latents
    from kmm_jax.training.compile_cache import use_compile_cache

    url = absolute_source(arguments.source)
    source = open_source(url)
    use_compile_cache()
    config, params = autoencoder_at(arguments.model, base=arguments.base, variant=arguments.variant)
    encoder = Encoder(
        dataclasses.replace(config, dtype=arguments.dtype),
        params,
        size=arguments.size or config.sample_size,
        mirrored=arguments.mirrored,
        batch_size=arguments.batch_size,
    )
    index, count = arguments.process
    with RowsBar("latents") as bar:
        report = cache_latents(
            encoder,
            source,
            arguments.output,
            shard_rows=arguments.shard_rows,
            max_bad_share=arguments.max_bad_share,
            source_url=url,
            progress=bar,
            process_index=index,
            process_count=count,
        )
    for message in report.messages:
        print(f"left out: {message}", file=sys.stderr)
    print(
        f"{arguments.output}: {report.read:,} of {report.rows:,} rows read, {report.bad:,} left "
        f"out; autoencoder {encoder.autoencoder}"
        + ("" if report.finished else "; waiting for the shards of other processes")
    )
    return 0
