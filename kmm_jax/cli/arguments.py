"""Arguments that several commands share."""

from __future__ import annotations

import argparse


def add_config(command: argparse.ArgumentParser, *, name: str, overrides: str) -> None:
    """Add the config and its dotted overrides.

    Args:
        name: of a config that comes along, as an example.
        overrides: examples of them.
    """
    command.add_argument("config", help=f"a config file, or its name under configs/ ({name})")
    command.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help=overrides)
