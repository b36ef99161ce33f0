"""``kmm models``: every preset with its size."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Add ``kmm models``."""
    command = commands.add_parser("models", help="list every preset: parameters and FLOPs")
    command.add_argument("name", nargs="*", help="only these presets")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table; nothing is allocated, whatever the size."""
    from kmm_jax.models import registry
    from kmm_jax.models.summary import summarise

    rows = {name: summarise(registry.preset(name)) for name in (arguments.name or registry.PRESETS)}
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(
        f"{'preset':<14} {'pixels':>6} {'image':>9} {'text':>9} {'paper':>9} {'all':>9}"
        f" {'GFLOP':>8}"
    )
    for name, row in rows.items():
        sizes = " ".join(
            f"{row[part] / 1e6:>8.1f}M" for part in ("image", "text", "paper_total", "total")
        )
        print(f"{name:<14} {row['image_size']:>6} {sizes} {row['flops'] / 1e9:>8.2f}")
    print(
        "\nimage, text: as the model's paper counts them (CoCa: without poolers and projections); "
        "paper: their sum "
        "(OneR: what both share once);\nall: every parameter; GFLOP: one example's forward pass."
    )
    return 0
