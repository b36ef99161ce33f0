"""Imbalance met by generated pictures: a tagger of colours and patterns (docs/results/tags.*).

    KMM_DATA_DIR=FOLDER python -m tools.tags --work runs/tags     # some 45 minutes on two cores
    python -m tools.tags --worlds shop                            # the shop alone, without data

Two worlds with rare labels, each with a generator trained on its training rows alone; a tagger
trained in five ways with several seeds. What is done is not done again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm_jax.errors import UserError
from kmm_jax.tagging.score import rarest_third
from tools import results

if TYPE_CHECKING:
    from tools.tags.painter import Painted
    from tools.tags.worlds import World

NAME = "tags"
_WORLDS = ("shop", "products")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.tags",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="default: KMM_DATA_DIR")
    parser.add_argument("--work", type=Path, default=Path("runs/tags"))
    parser.add_argument("--worlds", default=",".join(_WORLDS))
    parser.add_argument("--rows", type=int, help="training rows (default: 1200, and all photos)")
    parser.add_argument("--autoencoder-steps", type=int, default=1000)
    parser.add_argument("--generator-steps", type=int, default=900)
    parser.add_argument("--steps", type=int, default=300, help="of the tagger")
    parser.add_argument("--each", type=int, default=100, help="generated pictures of a label")
    parser.add_argument(
        "--target", type=int, default=120, help="training rows from which on none is rare"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--generator",
        action="append",
        default=[],
        metavar="WORLD=FOLDER",
        help="paint with this one, which understands Korean prompts; that it saw no test or "
        "validation row (nor any other of this data than training rows) is for you to know",
    )
    parser.add_argument("--try", dest="trial", action="store_true", help="print, write no results")
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments, parser)
    except UserError as error:
        print(f"tags: {error}", file=sys.stderr)
        return 2


def _command(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """What was asked, without where data and work lie on this machine."""
    words = ["python -m tools.tags"]
    for name, value in vars(arguments).items():
        if name in ("data", "work", "trial", "generator") or value == parser.get_default(name):
            continue
        words.append(f"--{name.replace('_', '-')} {value}")
    words += [f"--generator {each.partition('=')[0]}=..." for each in arguments.generator]
    return " ".join(words)


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from kmm_jax.training.compile_cache import use_compile_cache
    from tools.tags import page

    use_compile_cache()
    names = arguments.worlds.split(",")
    if unknown := [name for name in names if name not in _WORLDS]:
        raise UserError(f"no world {unknown[0]!r}; there are {', '.join(_WORLDS)}")
    given = dict(each.partition("=")[::2] for each in arguments.generator)
    if strange := [name for name in given if name not in names]:
        raise UserError(f"--generator {strange[0]}=...: that is none of {', '.join(names)}")
    rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    values: dict[str, Any] = {"seeds": arguments.seeds, "worlds": {}}
    for name in names:
        world = _world(name, arguments)
        painted = _painted(world, arguments, given.get(name))
        values["worlds"][name] = _measured(world, painted, arguments)
        rows |= _shown(world, painted)
    text, picture = page.body(values), page.drawing(rows)
    if arguments.trial:
        picture.save(arguments.work / f"{NAME}.png")
        print(text)
        return 0
    picture.save(results.FOLDER / f"{NAME}.png", optimize=True)
    results.write(
        NAME,
        title="Rare colours and patterns by generated pictures",
        command=_command(arguments, parser),
        values=values,
        body=text,
    )
    return 0


def _place(arguments: argparse.Namespace) -> Path:
    """Other rows are another study."""
    place: Path = arguments.work / f"rows-{arguments.rows or 'all'}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _world(name: str, arguments: argparse.Namespace) -> World:
    from tools.tags import worlds

    if name == "shop":
        return worlds.shop(_place(arguments), rows=arguments.rows or 1200)
    data = arguments.data or Path(os.environ.get("KMM_DATA_DIR", ""))
    if not data.is_dir():
        raise UserError("name the folder of Fashion Product Images with --data or KMM_DATA_DIR")
    return worlds.products(_place(arguments), data, rows=arguments.rows)


def _painted(world: World, arguments: argparse.Namespace, given: str | None) -> Painted:
    from tools import generator_runs
    from tools.tags import painter

    work = _place(arguments)
    if given is not None:
        generator = Path(given)
    else:
        scale = generator_runs.Scale(
            autoencoder_steps=arguments.autoencoder_steps,
            generator_steps=arguments.generator_steps,
        )
        generator = painter.painter(world, work, scale)
    return painter.paint(world, generator, painter.wanted(world, arguments.each), work)


def _measured(world: World, painted: Painted, arguments: argparse.Namespace) -> dict[str, Any]:
    from tools.tags import measure
    from tools.tags.worlds import TEST, VALIDATION

    trainer = measure.Trainer(
        world=world,
        painted=painted,
        keep=_place(arguments) / "answers",
        target=arguments.target,
        steps=arguments.steps,
    )
    mix, mixes = measure.chosen_mix(trainer)
    print(f"{world.name}: {mix}", file=sys.stderr, flush=True)
    found = measure.measured(trainer, mix, arguments.seeds)
    counts = np.concatenate(world.counts())
    return {
        "said": world.said,
        "labels": [name for group in world.groups for name in group.names],
        "counts": counts.tolist(),
        "tests": np.concatenate(world.counts(TEST)).tolist(),
        "rare": rarest_third(counts).tolist(),
        "validation": len(world.rows(VALIDATION)),
        "test": len(world.rows(TEST)),
        "painted": len(painted.labels),
        "each": arguments.each,
        "mix": str(mix),
        "mixes": mixes,
        **found,
    }


def _shown(world: World, painted: Painted) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pictures of the rarest labels, trained on and generated."""
    from tools.tags.worlds import TRAIN

    rare = set(rarest_third(np.concatenate(world.counts())).tolist())
    train = world.rows(TRAIN)
    found, start = {}, 0
    for place, group in enumerate(world.groups):
        for label, name in enumerate(group.names):
            if start + label in rare:
                real = world.images[train[world.labels[train, place] == label]]
                made = painted.images[painted.labels[:, place] == label]
                found[f"{name} ({world.name})"] = (real, made)
        start += len(group.names)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
