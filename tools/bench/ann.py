"""Nearest neighbours: the settings that we find, faiss HNSW and IVF-PQ, and hnswlib.

    python -m tools.bench.ann [--embeddings DIR | --model MODEL --source SOURCE] [--quick]

On a million clustered vectors of 256 dimensions, and on embeddings where they are given (an export
of ``kmm embed``, or a model and a source that the tool exports): queries a second at recall@10 of
0.90, 0.95 and 0.99, with one thread and all, seconds to build, memory. Some 40 minutes on two cores
at rest; ``--quick`` takes 20,000 vectors of 64 dimensions and about a minute, and writes nothing to
``docs/results``. What was measured is kept in ``--work`` (12 GB): run again, it goes on.

faiss and hnswlib come with ``pip install 'kmm-jax[ann]'``; without them ours is measured alone.
Writes ``docs/results/ann.json``, ``ann.md`` and ``ann.svg``.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kmm_jax.cli import main as cli
from kmm_jax.errors import UserError
from tools import results
from tools.bench.neighbours import engines, report
from tools.bench.neighbours.measuring import Grid, Measurer, Record
from tools.bench.neighbours.vectors import Vectors, make_clustered, make_of_embeddings

_MODULE = "tools.bench.ann"
# Steps of a seventh or so, so that no engine must do much more than it needs.
_EFFORTS = (
    10, 12, 14, 16, 18, 21, 24, 28, 32, 37, 42, 48, 56, 64, 74, 86, 100, 115, 132, 152, 175, 200,
    230, 265, 305, 350, 400, 460, 530, 610,
)  # fmt: skip
_PROBES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
_FACTORS = (1, 2, 4, 8, 16, 32)
_GRAPHS = ({"M": 16, "ef_construction": 200}, {"M": 32, "ef_construction": 100})
_BY_EFFORT = (tuple({"ef": effort} for effort in _EFFORTS),)
_BY_PROBES = tuple(
    tuple({"probes": probes, "k_factor": factor} for probes in _PROBES) for factor in _FACTORS
)
_SEARCHES = {"faiss_hnsw": _BY_EFFORT, "hnswlib": _BY_EFFORT, "faiss_ivfpq": _BY_PROBES}


def grid_of(rows: int, dim: int, *, quick: bool = False) -> Grid:
    """What is tried at this size.

    Lists of IVF are the usual one to four square roots of the rows, as powers of two; codes are of
    8 bits for 4 dimensions, and of 4 bits for 2, which are scanned faster.
    """
    lists = [2 ** round(math.log2(factor * math.sqrt(rows))) for factor in (1, 4)]
    codes = [f"PQ{dim // 4}", f"PQ{dim // 2}x4fs"]
    quantised = [{"lists": count, "code": code} for count in lists for code in codes]
    graphs = _GRAPHS[:1] if quick else _GRAPHS
    return Grid(
        builds={
            "faiss_hnsw": graphs,
            "hnswlib": graphs,
            "faiss_ivfpq": quantised[:2] if quick else quantised,
        },
        searches=_SEARCHES,
        our_builds=2 if quick else 5,
        timed=100 if quick else 250,
        rounds=3 if quick else 5,
    )


def minutes_of(rows: int, dim: int, grid: Grid, names: Sequence[str], cores: int) -> float:
    """Until it is measured on a machine at rest, roughly: most of it is building."""
    numbers = rows * dim
    seconds = 0.0
    for name in names:
        if name == engines.OURS:
            leaves = 2 * math.sqrt(rows)
            each = numbers * (1e-10 * leaves * (1 + 12 * min(1, 1e5 / rows)) + 3e-7)
            seconds += (1 + grid.our_builds) * each
            continue
        for settings in grid.builds[name]:
            if "M" in settings:
                seconds += numbers * 5e-9 * settings["ef_construction"] * (1 + settings["M"] / 16)
            else:
                lists = settings["lists"]
                sample = 10 * engines.SAMPLE_A_LIST * max(lists, 256)
                seconds += dim * lists * (rows + sample) * 7e-11 + numbers * 4e-7
    searched = 60 * len(names) * min(1.0, rows / 1e6) ** 0.5 + 20 * len(names) * len(grid.targets)
    return (seconds / cores + searched * grid.timed / 250) / 60


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {_MODULE}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--embeddings", type=Path, metavar="DIR", help="an export of kmm embed")
    parser.add_argument("--model", metavar="MODEL", help="to embed --source with")
    parser.add_argument("--source", metavar="SOURCE", help="shards, as kmm embed takes them")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/bench-ann"), metavar="DIR", help="kept in between"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="clustered")
    parser.add_argument("--dim", type=int, default=256, metavar="D", help="clustered")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is clustered")
    parser.add_argument("--engines", nargs="+", choices=list(engines.NAMES), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small, a minute; prints the page")
    arguments = parser.parse_args(argv)
    if (arguments.model is None) != (arguments.source is None):
        parser.error("--model and --source go together")
    names = [engines.OURS]
    for name in arguments.engines or engines.NAMES:
        if reason := engines.missing(name):
            print(f"{engines.NAMES[name]}: not measured: {reason}", file=sys.stderr)
        elif name != engines.OURS:
            names.append(name)
    if reason := engines.missing(engines.OURS):
        raise UserError(f"there is nothing to compare with: {reason}")
    rows, dim = (20_000, 64) if arguments.quick else (arguments.rows, arguments.dim)
    cores = len(os.sched_getaffinity(0))
    sets: list[Vectors] = []
    for made in _sets(arguments, rows, dim):
        sets.append(made)
        about = made.about
        grid = grid_of(about["rows"], about["dim"], quick=arguments.quick)
        print(
            f"{about['name']}: some {minutes_of(*made.rows.shape, grid, names, cores):,.0f} "
            f"minutes on {cores} cores at rest",
            file=sys.stderr,
        )
    given = "--model MODEL --source SOURCE" if arguments.model else "--embeddings DIR"
    command = f"python -m {_MODULE}" + (f" {given}" if len(sets) > 1 else "")
    measured: list[Record] = []
    for made in sets:
        grid = grid_of(*made.rows.shape, quick=arguments.quick)
        started = time.perf_counter()
        measured.append(Measurer(made, made.folder.parent, grid, names).measured())
        print(f"{made.about['name']}: {time.perf_counter() - started:,.0f} s", file=sys.stderr)
    libraries = engines.versions()
    page = report.body(measured, "ann.svg", libraries)
    if arguments.quick:
        report.draw(measured, arguments.work / "ann.svg")
        print(page)
        return 0
    report.draw(measured, results.FOLDER / "ann.svg")
    results.write(
        "ann",
        title="Nearest neighbours, beside faiss and hnswlib",
        command=command,
        values={"sets": measured, "libraries": libraries},
        body=page,
    )
    return 0


def _sets(arguments: argparse.Namespace, rows: int, dim: int) -> Iterator[Vectors]:
    """Each in a folder of its own, with all that is measured of it."""
    place = arguments.work / f"clustered-{rows}x{dim}-{arguments.seed}"
    yield make_clustered(place / "vectors", rows, dim, arguments.seed)
    embeddings = arguments.embeddings
    if embeddings is None and arguments.model is not None:
        embeddings = arguments.work / "embeddings"
        if code := cli(["embed", arguments.model, arguments.source, "--output", str(embeddings)]):
            raise SystemExit(code)
    if embeddings is not None:
        from kmm_jax.retrieval.store import read_manifest

        place = arguments.work / f"embeddings-{read_manifest(embeddings)['seal'][:12]}"
        yield make_of_embeddings(place / "vectors", embeddings)
    else:
        print("no embeddings: give --embeddings, or --model and --source", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
