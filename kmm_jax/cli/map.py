"""``kmm map``: images, texts and both together of one or several models in two dimensions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import UserError, nearest

if TYPE_CHECKING:
    from kmm_jax.text.styles import Style


def add(commands: Any) -> None:
    """Add ``kmm map``."""
    command = commands.add_parser(
        "map",
        help="draw a map of the embedding space: images, texts and both together",
        description="Embed a source's images, the first text of each and both together, and draw "
        "where they lie: one panel for each model or each step, side by side.",
    )
    command.add_argument(
        "models", nargs="+", metavar="MODEL", help="run directories or exported models; or URLs"
    )
    command.add_argument("source", metavar="SOURCE", help="shards, folder+tsv:... or tfds:...")
    command.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="for map.png, .svg and .json"
    )
    command.add_argument(
        "--steps", metavar="N,N...", help="of one run: a panel for each of these checkpoints"
    )
    command.add_argument(
        "--titles", metavar="TITLES", help="of the panels, comma-separated (default: model, step)"
    )
    command.add_argument("--field", default="query", help="which texts (default: %(default)s)")
    command.add_argument(
        "--style", help="of the texts (default: the field's own; plain: no style token)"
    )
    command.add_argument("--label", metavar="KEY", help="colour the points by this label")
    command.add_argument(
        "--limit",
        type=int,
        default=500,
        metavar="ROWS",
        help="read only the first rows (default: %(default)s)",
    )
    command.add_argument("--method", choices=("tsne", "umap"), default="tsne")
    command.add_argument(
        "--perplexity",
        type=float,
        default=30.0,
        help="of t-SNE, about how many neighbours a point keeps (default: %(default)g)",
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--batch-size", type=int, default=64, metavar="N")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Embed, place, draw, and say where the pictures are."""
    places = _places(arguments)
    titles = _titles(arguments.titles, len(places))
    style = _style(arguments.style, arguments.field)
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output must be a folder, but {arguments.output} is a file")
    from kmm_jax import inference
    from kmm_jax.evaluation.embedding_map import check_map, embedding_map
    from kmm_jax.evaluation.map_figure import write_map
    from kmm_jax.evaluation.map_panels import panel_of

    check_map(method=arguments.method, perplexity=arguments.perplexity, seed=arguments.seed)
    panels = []
    for number, (path, step) in enumerate(places):
        model = inference.load(path, step=step)
        title = titles[number] if titles else _title(path, model.step, one=bool(arguments.steps))
        panels.append(
            panel_of(
                model,
                arguments.source,
                title=title,
                field=arguments.field,
                style=style,
                label=arguments.label,
                limit=arguments.limit,
                batch_size=arguments.batch_size,
                progress=_line(f"{title}: ", "rows"),
            )
        )
    found = embedding_map(
        panels,
        method=arguments.method,
        perplexity=arguments.perplexity,
        seed=arguments.seed,
        progress=_line("", "panels placed"),
    )
    for written in write_map(found, arguments.output):
        print(written)
    return 0


def _places(arguments: argparse.Namespace) -> list[tuple[str, int | None]]:
    """A path and a step for each panel."""
    if arguments.steps is None:
        return [(path, None) for path in arguments.models]
    words = [word.strip() for word in arguments.steps.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise UserError(f"--steps takes numbers, each once, such as 40,300; got {arguments.steps}")
    if len(arguments.models) > 1:
        raise UserError(
            f"--steps are of one run, got {len(arguments.models)} models: "
            f"{', '.join(arguments.models)}"
        )
    return [(arguments.models[0], int(word)) for word in words]


def _titles(text: str | None, panels: int) -> list[str]:
    titles = [title.strip() for title in text.split(",")] if text is not None else []
    if titles and len(titles) != panels:
        raise UserError(f"--titles names {len(titles)} panels, but there are {panels}")
    return titles


def _title(path: str, step: int | None, *, one: bool) -> str:
    """The step alone where all panels are of one run."""
    if one:
        return f"step {step}"
    name = path.rstrip("/").rpartition("/")[2] or path
    return name if step is None else f"{name}, step {step}"


def _style(text: str | None, field: str) -> Style | None:
    from kmm_jax.text.styles import STYLES, style_of

    if text is None:
        return style_of(field)
    known: dict[str, Style | None] = {**{style: style for style in STYLES}, "plain": None}
    if text not in known:
        raise UserError(f"no text style {text!r}{nearest(text, known)}")
    return known[text]


def _line(before: str, counted: str) -> Callable[[int, int], None] | None:
    """A line of a terminal that counts; nothing into a file."""
    if not sys.stderr.isatty():
        return None

    def say(done: int, total: int) -> None:
        end = "\n" if done >= total else ""
        words = f"{before}{done:,} of {total:,} {counted}"
        print(f"\r\033[K{words}", end=end, file=sys.stderr, flush=True)

    return say
