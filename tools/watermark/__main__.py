"""Train and measure the watermark detector.

    python -m tools.watermark train            # about half an hour; interrupt it and start it again
    python -m tools.watermark measure          # writes docs/results/watermark.*

Needs the photos named by KMM_SHARED_DATA. Only the clothing photos, which may be used for anything,
are trained on; the others are looked at to count false alarms.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kmm_jax.errors import UserError
from tools import results
from tools.watermark import samples, train

_ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.watermark", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train, and write the weights")
    training.add_argument("--folder", type=Path, default=_ROOT / "runs/watermark")
    training.add_argument("--weights", type=Path, help="instead of the package's own file")
    measuring = commands.add_parser("measure", help="measure the weights of the package")
    measuring.add_argument("--output", type=Path, help="instead of docs/results")
    measuring.add_argument("--sheet", type=Path, help="also write a picture of examples here")
    arguments = parser.parse_args(argv)
    try:
        data = samples.folder()
        if arguments.command == "train":
            from kmm_jax.corpus.scoring.watermark import SHIPPED

            backgrounds = samples.Backgrounds(
                photos=samples.photos(data, "train"), drawn=samples.drawn(samples.SHOP_ITEMS)
            )
            model = train.train(train.Plan(), backgrounds, arguments.folder)
            path = arguments.weights or SHIPPED
            print(f"wrote {path}, SHA-256 {train.save(path, model)}", file=sys.stderr)
        else:
            from tools.watermark import measure

            if arguments.output is not None:
                results.FOLDER = arguments.output
            measure.measure(data, arguments.sheet)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
