"""``kmm heatmap``: where in a picture a model sees what a phrase says."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import DataError, UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from kmm_jax.inference.model import Model
    from kmm_jax.text.styles import Style

_STYLES = ("prompt", "query", "shopping")
# More than any model here takes; larger JPEGs are decoded at a part of their size.
_LEAST_SIDE = 640


def add(commands: Any) -> None:
    """Add ``kmm heatmap``."""
    command = commands.add_parser(
        "heatmap",
        help="show where in a picture a model sees what phrases say",
        description="Draw, for each picture, the relevance of its parts to each phrase, and all "
        "phrases together. Any text is a phrase: a name, a description, a definition.",
    )
    command.add_argument("model", metavar="MODEL", help="a run or an exported model; or its URL")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures")
    command.add_argument(
        "--phrase",
        action="append",
        required=True,
        metavar="TEXT",
        help='such as "빨간 셔츠" or "비 올 때 쓰는 것"; repeat it for several',
    )
    command.add_argument("--output", type=Path, metavar="OUT.png", help="draw them there")
    command.add_argument("--style", choices=_STYLES, default="query", help="of the phrases")
    command.add_argument(
        "--floor",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="how far a map gets from its minimum to its maximum where it counts: within the box "
        "of a phrase, and for its colour where all are drawn together (default: %(default)s)",
    )
    command.add_argument("--side", type=int, default=240, metavar="N", help="of a panel, pixels")
    command.add_argument(
        "--json",
        action="store_true",
        help="print the maximum and a box of every phrase, in pixels of the picture",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the heat-maps; draw them, print them, or both."""
    phrases = _phrases(arguments)
    images = [_opened(path, arguments.side) for path in arguments.images]
    from kmm_jax.evaluation.encoders import finite
    from kmm_jax.evaluation.heat_sheet import HeatPicture, write_heat_sheet
    from kmm_jax.inference import load

    model = load(arguments.model)
    _say_what_is_cut(model, phrases, arguments.style)
    pairs = [(image, phrase) for image, _ in images for phrase in phrases]
    asked_images, asked_phrases = zip(*pairs, strict=True)
    heat_NGG = finite(model.heat_map(asked_images, asked_phrases, arguments.style), "heat-map")
    pictures = [
        HeatPicture(image=image, name=path.name, heat_PGG=heat_PGG)
        for (image, _), path, heat_PGG in zip(
            images,
            arguments.images,
            heat_NGG.reshape(len(images), len(phrases), *heat_NGG.shape[1:]),
            strict=True,
        )
    ]
    if arguments.output:
        write_heat_sheet(
            arguments.output, phrases, pictures, floor=arguments.floor, side=arguments.side
        )
        print(f"drawn: {arguments.output}", file=sys.stderr)
    if arguments.json:
        found = {
            "model": str(model.path),
            "model_hash": model.hash,
            "style": arguments.style if model.styled else None,
            "pictures": [
                {
                    "image": str(path),
                    "size": size,
                    "phrases": [
                        {"phrase": phrase, **_place(heat_GG, size, model, arguments.floor)}
                        for phrase, heat_GG in zip(phrases, picture.heat_PGG, strict=True)
                    ],
                }
                for path, (_, size), picture in zip(arguments.images, images, pictures, strict=True)
            ],
        }
        print(json.dumps(found, ensure_ascii=False, indent=2))
    return 0


def _phrases(arguments: argparse.Namespace) -> list[str]:
    """The phrases asked for, each once; wrong options are refused before the model is loaded."""
    from kmm_jax.evaluation.heat_sheet import MOST_PHRASES

    if not arguments.output and not arguments.json:
        raise UserError("nothing to do: give --output heat.png, --json or both")
    if arguments.output and arguments.output.suffix.lower() != ".png":
        raise UserError(f"--output {arguments.output} must end in .png")
    if not 0 <= arguments.floor <= 1:
        raise UserError(f"--floor is a share from 0 to 1, got {arguments.floor}")
    if not 64 <= arguments.side <= 2048:
        raise UserError(f"--side must be from 64 to 2048 pixels, got {arguments.side}")
    phrases = list(dict.fromkeys(phrase.strip() for phrase in arguments.phrase))
    if "" in phrases:
        raise UserError("--phrase '' says nothing to look for; give words")
    if arguments.output and len(phrases) > MOST_PHRASES:
        raise UserError(
            f"{len(phrases)} phrases are too many to tell apart in one picture; give "
            f"{MOST_PHRASES} at most, or --json without --output"
        )
    return phrases


def _opened(path: Path, side: int) -> tuple[Image, tuple[int, int]]:
    """A picture, large enough for model and panel, and its own width and height."""
    from kmm_jax.data.images import open_rgb, upright_size

    if not path.is_file():
        raise UserError(f"{path} is no file; give pictures")
    data = path.read_bytes()
    try:
        return open_rgb(data, max(side, _LEAST_SIDE)), upright_size(data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _say_what_is_cut(model: Model, phrases: list[str], style: Style) -> None:
    for phrase in phrases:
        if model.tokenizer.truncates(phrase, style if model.styled else None, model.text_length):
            print(
                f"read only to its {model.text_length}th token, where the model's texts end: "
                f"{phrase}",
                file=sys.stderr,
            )


def _place(
    heat_GG: np.ndarray, size: tuple[int, int], model: Model, floor: float
) -> dict[str, Any]:
    """Where the maximum lies, and the box around it, in pixels of a picture of this size.

    Both are None where the map is flat: then no place is more relevant than another.
    """
    from kmm_jax.data.boxes import from_centre
    from kmm_jax.evaluation.heat import peak, region_box

    low, high = float(heat_GG.min()), float(heat_GG.max())
    maximum, box = None, None
    if high > low:
        x, y = peak(heat_GG)
        maximum = [round(edge, 1) for edge in from_centre((x, y, x, y), size)[:2]]
        around = from_centre(region_box(heat_GG, model.image_size, floor), size)
        box = [round(edge, 1) for edge in around]
    return {"maximum": maximum, "box": box, "lowest": low, "highest": high}
