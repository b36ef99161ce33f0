"""The page of what was measured, and the picture of recall against speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools import results
from tools.bench.neighbours.engines import NAMES, OURS
from tools.bench.neighbours.measuring import MODES, Record


def body(measured: Sequence[Record], picture: str, libraries: Mapping[str, str]) -> str:
    """The page's text and tables.

    Args:
        libraries: versions of what is compared.
    """
    versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
    parts = [
        _INTRODUCTION,
        f"Compared: {versions}.",
        f"![Queries a second by recall@10]({picture})",
    ]
    for each in measured:
        about = each["vectors"]
        where = ", ".join(
            f"{name.replace('_', ' ')} {about[name]}"
            for name in ("generator", "source", "kind", "model_hash", "seed", "queries")
            if about.get(name) is not None
        )
        parts += [f"## {about['name']}", f"Vectors: {where}.", _verdict(each), _speed(each)]
        parts += ["### Build and memory", _builds(each), "### What was tried", _grid(each)]
    return "\n\n".join(parts)


def _verdict(each: Record) -> str:
    """Where ours is first, and where it is not."""
    said = []
    for target, timed in each["timed"].items():
        for mode in MODES:
            ratios = {
                name: found[mode]["ours_over_it"]
                for name, found in timed["engines"].items()
                if name != OURS and mode in found
            }
            if OURS not in timed["engines"]:
                said.append(f"- recall@10 {target}: ours does not reach it")
                break
            if not ratios:
                continue
            name, least = min(ratios.items(), key=lambda pair: pair[1])
            place = "**first**" if least >= 1 else "not first"
            said.append(
                f"- recall@10 {target}, {MODES[mode]}: ours is {place}, {least:.2f} times "
                f"{NAMES[name]}"
            )
    return "\n".join(said)


def _speed(each: Record) -> str:
    rows = []
    for target, timed in each["timed"].items():
        for name, words in NAMES.items():
            chosen = each["chosen"].get(name, {}).get(target)
            if name not in each["chosen"]:
                continue
            found = timed["engines"].get(name)
            if found is None or chosen is None:
                rows.append((target, words, "no setting of the grid reaches it", *[""] * 8))
                continue
            rows.append(
                (
                    target,
                    words,
                    _words({**chosen["build"], **chosen["search"]}),
                    f"{found['recall']:.3f} ± {found['error']:.3f}",
                    *(f"{found[mode]['queries_per_second']:,.0f}" for mode in MODES),
                    *(
                        ""
                        if name == OURS or OURS not in timed["engines"]
                        else f"{found[mode]['ours_over_it']:.2f}"
                        for mode in MODES
                    ),
                    f"{found['memory_bytes'] / 1e6:,.0f}",
                )
            )
    return results.table(
        ("recall@10 wanted", "engine", "settings", "reached", "q/s, one thread, alone",
         "one thread, batch", "all threads, batch", "ours over it, alone", "batch", "all threads",
         "memory, MB"),
        rows,
    )  # fmt: skip


def _builds(each: Record) -> str:
    rows = [
        (
            NAMES[name],
            _words(one["build"]),
            f"{one['seconds']:,.1f}",
            f"{one['processor_seconds']:,.1f}",
            f"{one['bytes'] / 1e6:,.0f}",
            f"{one['tuning_seconds']:,.0f}" if "tuning_seconds" in one else "",
        )
        for name, builds in each["built"].items()
        for one in builds
    ]
    return results.table(
        ("engine", "settings of the build", "build, s", "processor s", "files, MB", "tuning, s"),
        rows,
    )


def _grid(each: Record) -> str:
    grid = each["grid"]
    lines = [
        f"- {NAMES[name]}: builds "
        + "; ".join(_words(one) for one in grid["builds"][name])
        + "; searches "
        + "; ".join(_sequence(one) for one in grid["searches"][name])
        for name in each["built"]
        if name != OURS
    ]
    tried = each["built"][OURS][0]["tried"]
    built = {
        (one["leaves"], one["dims_per_block"], one["anisotropic_threshold"]): None for one in tried
    }
    ours = "; ".join(
        (f"{leaves:,} leaves" if leaves else "no tree")
        + f", {dims} dimensions a block, threshold {threshold}"
        for leaves, dims, threshold in built
    )
    return "\n".join(
        [
            *lines,
            f"- {NAMES[OURS]}: the tuner (`kmm index tune --recall {grid['tuned_for']} --builds "
            f"{grid['our_builds']}`) built {ours}, and for each number rescored found the fewest "
            "leaves; for other recalls its index is searched otherwise (`kmm index retune`)",
        ]
    )


def _sequence(searches: Sequence[Mapping[str, Any]]) -> str:
    names = list(searches[0])
    return ", ".join(
        f"{name} {', '.join(dict.fromkeys(str(one[name]) for one in searches))}" for name in names
    )


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value is not None
    )


def draw(measured: Sequence[Record], path: Path) -> None:
    """Queries a second against recall, one thread and each query by itself, one panel a set."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    from kmm_jax.files import atomic_write

    count = len(measured)
    figure, axes = pyplot.subplots(
        1, count, figsize=(5.2 * count, 4.2), squeeze=False, layout="constrained"
    )
    for place, each in zip(axes[0], measured, strict=True):
        for name, points in each["points"].items():
            line = front([(one["recall"], 1 / one["seconds"]) for one in points])
            style = {"linewidth": 2.4, "zorder": 3} if name == OURS else {"linewidth": 1.2}
            if line:
                place.plot(*zip(*line, strict=True), marker=".", label=NAMES[name], **style)
        place.set(title=each["vectors"]["name"], xlabel="recall@10", yscale="log", xlim=(0.8, 1.0))
        place.grid(alpha=0.3, which="both")
    axes[0][0].set_ylabel("queries a second of one core, each by itself")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (recall, speed) than which none is both more accurate and faster, by recall."""
    kept: list[tuple[float, float]] = []
    for recall, speed in sorted(points, key=lambda point: (-point[0], -point[1])):
        if not kept or speed > kept[-1][1]:
            kept.append((recall, speed))
    return kept[::-1]


_INTRODUCTION = """Engines over the same unit vectors, cosine similarity, 10 found of each
query, as their own users call them: a query in, ids and scores out (ids of the others are looked up
in a list of Python). What is true is told by exact search.

Settings of the search are chosen by half of the queries, with one rule for all engines: the fastest
that was measured whose recall, less its standard error, reaches what is wanted, by processor
seconds of one core, each query asked by itself. Then all engines, each in a process of its own,
take turns over other queries, which chose nothing: *reached* is the recall on these, q/s are
medians over the rounds, *ours over it* the median of the rounds' ratios. One thread is one core
that the process is bound to. Memory is what a fresh process holds more of once it has loaded the
index and its ids and answered 100 queries. Build seconds are those of the clock with all cores, for
ours with checks of the vectors, checksums and a measurement of recall; the vectors themselves are
among the files of each engine."""
