"""``kmm classnames``: the Korean and English class names that come with the library."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    """Add ``kmm classnames``."""
    command = commands.add_parser(
        "classnames", help="list class sets, or the Korean or English names in one"
    )
    command.add_argument("set", nargs="?", metavar="SET", help="list the names of this set")
    command.add_argument("--lang", choices=("ko", "en"), default="ko")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the sets, or one set."""
    from kmm_jax.text.classnames import class_set, class_sets

    if arguments.set is None:
        sets = [class_set(name) for name in class_sets()]
        if arguments.json:
            rows = {one.name: {"classes": len(one), "description": one.description} for one in sets}
            print(json.dumps(rows, ensure_ascii=False, indent=2))
            return 0
        for one in sets:
            print(f"{one.name:<26} {len(one):>4}  {one.description}")
        return 0
    one = class_set(arguments.set)
    names = dict(zip(one.keys, one.names(arguments.lang), strict=True))
    if arguments.json:
        print(json.dumps(names, ensure_ascii=False, indent=2))
        return 0
    width = max(map(len, names))
    for key, name in names.items():
        print(f"{key:<{width}}  {name}")
    return 0
