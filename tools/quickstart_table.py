"""The quickstart's scores on every data set it was run on, as ``docs/results/quickstart.*``.

make quickstart; make quickstart DATA=fashion_products; make quickstart DATA=cifar10
python -m tools.quickstart_table
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tools import results


def rows(found: dict[str, dict[str, Any]]) -> list[tuple[Any, ...]]:
    """One line a score: data, measure, score, chance, how many times chance."""

    def line(data: str, name: str, value: float, chance: float | None) -> tuple[Any, ...]:
        return (
            data,
            name,
            f"{100 * value:.1f} %",
            "" if chance is None else f"{100 * chance:.1f} %",
            f"{value / chance:.1f}" if chance else "",
        )

    lines = []
    for data, values in found.items():
        zero_shot = values["zero_shot"]
        name = f"zero-shot {zero_shot['label']}"
        for style, top1 in zero_shot["styles"].items():
            lines.append(line(data, f"{name}, [{style.upper()}]", top1, zero_shot["chance"]))
        for direction in ("text_to_image", "image_to_text"):
            part = values[direction]
            for k in (1, 5, 10):
                what = f"{direction.replace('_', '-')} R@{k}, gallery {part['gallery']:.0f}"
                lines.append(line(data, what, part[f"r{k}"], part[f"chance_r{k}"]))
        lines.append(line(data, "ScaNN recall@10 against exact", values["scann"]["recall10"], None))
        lines.append((data, "minutes, all stages", f"{values['seconds'] / 60:.1f}", "", ""))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.quickstart_table", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    parser.add_argument(
        "--table-only", action="store_true", help="write the table anew from the runs in the JSON"
    )
    arguments = parser.parse_args()
    if arguments.table_only:
        kept = results.read("quickstart")
        if not kept:
            parser.error("there is no docs/results/quickstart.json yet")
        _write(kept["data"], origin=kept["provenance"])
        return 0
    output = arguments.output
    found = {
        file.parent.name: json.loads(file.read_text("utf-8"))
        for file in sorted(output.glob("*/results.json"), reverse=True)
    }
    if not found:
        print(f"no results under {output}; run make quickstart first", file=sys.stderr)
        return 2
    _write(found)
    return 0


def _write(found: dict[str, dict[str, Any]], *, origin: dict[str, Any] | None = None) -> None:
    command = "; ".join(f"make quickstart DATA={name}" for name in found)
    table = results.table(["data", "measure", "score", "chance", "times chance"], rows(found))
    results.write(
        "quickstart",
        title="The quickstart on each data set",
        command=command,
        values={"data": found},
        body="Held-out rows; of the shop, combinations of type, colour and pattern never seen in "
        "training. Zero-shot: classes that occur, all Korean templates averaged. Retrieval: the "
        f"recipe's text field, any positive counts.\n\n{table}",
        origin=None if origin is None else {**origin, "command": command},
    )


if __name__ == "__main__":
    raise SystemExit(main())
