"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import DataError, UserError


def add_config(command: argparse.ArgumentParser, *, name: str, overrides: str) -> None:
    """Add the config and its dotted overrides.

    Args:
        name: of a config that comes along, as an example.
        overrides: examples of them.
    """
    command.add_argument("config", help=f"a config file, or its name under configs/ ({name})")
    command.add_argument("overrides", nargs="*", metavar="PATH=VALUE", help=overrides)


def add_export(command: argparse.ArgumentParser) -> None:
    """Add what commands share that read a whole source into a folder."""
    command.add_argument(
        "--max-bad-share",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="more bad rows than this stop it (default: %(default)s)",
    )
    command.add_argument(
        "--process",
        type=part_of,
        default=(0, 1),
        metavar="I/N",
        help="the I-th (from 0) of N processes that share the work and the folder",
    )


def add_base(command: argparse.ArgumentParser, *, of: str = "a single-file MODEL") -> None:
    """Add the folder that says of a single-file Stable Diffusion what the file does not."""
    command.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help=f"of {of}: a folder of diffusers of the same kind (SD 1, 2 or XL), for the tokenizer, "
        "the sampler and the config.json files; no weights need lie there",
    )


def absolute_source(url: str) -> str:
    """``url`` with its local paths made absolute, so that it means the same from elsewhere."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "folder+tsv":
        paths, question, options = rest.partition("?")
        absolute = ",".join(str(Path(path).absolute()) for path in paths.split(","))
        return f"{scheme}:{absolute}{question}{options}"
    if "://" in url or (colon and scheme == "tfds"):
        return url
    if colon and scheme == "selection":
        return f"{scheme}:{Path(rest).absolute()}"
    return str(Path(rest if colon and scheme == "shards" else url).absolute())


def part_of(text: str) -> tuple[int, int]:
    """``I/N``, as numbers; for argparse."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I below N, such as 0/4")
    return int(match[1]), int(match[2])


_UNITS = {"": 1, **{f"{kilo}iB": 1024**power for power, kilo in enumerate("KMGTP", start=1)}}
_UNITS |= {f"{kilo}B": 1000**power for power, kilo in enumerate("KMGTP", start=1)}


def bytes_of(text: str) -> int:
    """Of ``256GiB``, ``64GB`` or a number; for argparse."""
    match = re.fullmatch(r"([\d.]+) ?([KMGTP]i?B)?", text)
    try:
        size = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    except ValueError:
        size = 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 256GiB or 64GB")
    return size


def open_picture(path: Path) -> Any:
    """The picture that ``--image`` names.

    Raises:
        UserError: there is no such file.
        DataError: it is no picture.
    """
    from kmm_jax.data.images import open_rgb

    if not path.is_file():
        raise UserError(f"--image {path} is no file")
    try:
        return open_rgb(path.read_bytes(), 640)
    except DataError as error:
        raise DataError(f"--image {path}: {error}") from error


def pictures_below(folder: Path | None) -> Callable[[str], Any]:
    """What opens pictures by their paths below a folder; DataError where that cannot be."""
    from kmm_jax.search.pictures import PictureFolder

    return PictureFolder(folder).open


def parse_where(given: Sequence[str]) -> dict[str, Any]:
    """Conditions from the command line; of several on one column the last counts."""
    found: dict[str, Any] = {}
    for each in given:
        if each.lstrip().startswith("{"):
            try:
                found |= json.loads(each)
            except ValueError as error:
                raise UserError(f"--where {each!r} is no JSON: {error}") from error
            continue
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise UserError(f"--where {each!r}: write COLUMN=VALUE, such as color=빨강")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    """A number or true, false, null as such, all else as text; in quotes text whatever it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value
