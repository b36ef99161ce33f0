"""``kmm check-parity``: whether two models give the same vectors of a user's own images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from kmm_jax.inference.parity import Deviation, Parity

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def add(commands: Any) -> None:
    """Add ``kmm check-parity``."""
    command = commands.add_parser(
        "check-parity",
        help="hold a model against its original on your own images and texts",
        description="Compare a model of this library with another: a run with its export, an "
        "import with the PyTorch original (a folder of transformers or open_clip). Both compute in "
        "float32 on the same pixels and tokens.",
        epilog="exit codes: 0 equal within the tolerance, 1 not, 2 a mistake in the call",
    )
    command.add_argument("model", metavar="MODEL", help="a run or an exported model; or its URL")
    command.add_argument(
        "original", metavar="ORIGINAL", help="another such model, or the original's folder"
    )
    command.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="pictures, or folders of them"
    )
    command.add_argument(
        "--texts",
        type=Path,
        metavar="FILE",
        help="a text a line (default: Korean and English sentences that come along)",
    )
    command.add_argument(
        "--style",
        choices=("prompt", "query", "shopping"),
        default="query",
        help="of the texts, for models with style tokens (default: %(default)s)",
    )
    command.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest error, relative to the largest value of the vectors (default: %(default)s)",
    )
    command.add_argument(
        "--own-preprocessing",
        action="store_true",
        help="let ORIGINAL cut and resize the files its own way, to see that difference as well",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print; 1 where they differ by more than the tolerance."""
    if not arguments.tolerance > 0:
        raise UserError(f"--tolerance must be above 0, got {arguments.tolerance}")
    images = [file for path in arguments.images for file in _pictures(path)]
    lines = _lines(arguments.texts) if arguments.texts else None
    from kmm_jax.inference import load
    from kmm_jax.inference.parity import TEXTS, check_parity, open_other

    model, other = load(arguments.model), open_other(arguments.original)
    found = check_parity(
        model,
        other,
        images,
        lines or TEXTS,
        style=arguments.style,
        own_preprocessing=arguments.own_preprocessing,
        tolerance=arguments.tolerance,
    )
    if arguments.json:
        print(json.dumps(found.to_json(), ensure_ascii=False, indent=2))
    else:
        print(_table(found))
    return 0 if found.within else 1


def _pictures(path: Path) -> list[Path]:
    """The file, or the pictures in a folder by name."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} is not there; give pictures, or folders of them")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise UserError(f"{path} holds no pictures ({', '.join(_SUFFIXES)})")
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8: {error}") from error
    found = [line for line in lines if line]
    if not found:
        raise UserError(f"{path} holds no text; give one a line")
    return found


def _table(found: Parity) -> str:
    def row(name: str, of: Deviation) -> str:
        return (
            f"{name:<8} {of.rows:>5} {of.least_cosine:>12.8f} {of.mean_cosine:>12.8f} "
            f"{of.error:>9.1e}  {of.worst}"
        )

    pixels = "each its own preprocessing" if found.own_preprocessing else "the same pixels"
    bound = f"{found.tolerance:g}, relative to the largest value"
    verdict = f"equal within {bound}" if found.within else f"they DIFFER by more than {bound}"
    return "\n".join(
        [
            f"{found.model} against {found.original}, in float32, {pixels}",
            "",
            f"{'vectors':<8} {'rows':>5} {'least cosine':>12} {'mean cosine':>12} {'error':>9}  "
            "furthest",
            row("images", found.image),
            row("texts", found.text),
            "",
            f"temperature {found.temperature:.6g} and {found.original_temperature:.6g}: error "
            f"{found.temperature_error:.1e}",
            f"image -> text at these temperatures: KL divergence {found.mean_divergence:.1e} nats "
            f"in the mean, {found.largest_divergence:.1e} at most; the best text is the same for "
            f"{100 * found.top1:.1f} %, of the {found.k} best {100 * found.topk:.1f} % are shared",
            "",
            verdict,
        ]
    )
