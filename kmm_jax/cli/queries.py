"""Queries of the command line: a text, a picture or a part of it, and terms with signs."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from kmm_jax.retrieval.terms import Term

_MARK = "takes_terms"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What is looked for.

    Attributes:
        text: in words; empty for none.
        image: the picture, whole; None for none.
        terms: what else it should be like or unlike, their pictures opened.
        said: the terms as they were written.
    """

    text: str
    image: Image | None
    terms: Sequence[Term]
    said: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.text) or self.image is not None or bool(self.terms)


def add_query(command: argparse.ArgumentParser, example: str) -> None:
    """Add the text, its terms, the picture and the part of it that counts."""
    command.add_argument(
        "text",
        nargs="*",
        default=[],
        metavar="TEXT",
        help=f"such as {example}; and terms, each behind a sign and a space: '+ 꽃무늬' "
        "'- 빨간색*0.5' '+ @bag.jpg' '+ @outfit.jpg[신발]'",
    )
    command.add_argument("--image", type=Path, metavar="FILE", help="search by this picture")
    command.add_argument(
        "--box",
        metavar="X0,Y0,X1,Y1",
        help="the part of --image that counts, in shares of its width and height",
    )
    command.add_argument(
        "--locate", metavar="TEXT", help="the part of --image where the model sees this (신발)"
    )
    command.add_argument(
        "--whole",
        type=float,
        default=0.0,
        metavar="W",
        help="with --box or --locate: how much of the whole picture counts beside the part, 0 to 1",
    )
    command.add_argument(
        "--restyle",
        metavar="PROMPT",
        help="make --image over first, by --generator, and search with what it becomes",
    )
    command.add_argument("--generator", type=Path, metavar="MODEL", help="for --restyle")
    command.add_argument(
        "--strength", type=float, default=0.6, metavar="S", help="of --restyle: how far, 0 to 1"
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of --restyle")
    command.add_argument("--steps", type=int, default=25, metavar="N", help="of --restyle")
    command.add_argument(
        "--restyled", type=Path, metavar="OUT.png", help="keep what --image became"
    )
    command.add_argument(
        "--text-weight", type=float, default=0.5, metavar="W", help="with --image: 0 to 1"
    )
    command.set_defaults(**{_MARK: True})


def take_terms(arguments: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Give a query the terms that stand behind an option; returns what is none."""
    if not getattr(arguments, _MARK, False):
        return list(rest)
    from kmm_jax.retrieval.terms import is_composed

    arguments.text = [*arguments.text, *(word for word in rest if is_composed(word))]
    return [word for word in rest if not is_composed(word)]


def query_of(arguments: argparse.Namespace) -> Asked:
    """What is looked for; wrong options are refused before a model is loaded.

    Raises:
        UserError: two plain texts, terms that are none, or a part of no picture.
    """
    from kmm_jax.cli.arguments import open_picture
    from kmm_jax.retrieval.terms import check_count, is_composed, opened, parse_terms

    said = [word for word in arguments.text if is_composed(word)]
    plain = [word for word in arguments.text if not is_composed(word)]
    if len(plain) > 1:
        raise UserError(
            f"one text, or each further one behind a sign, such as '+ {plain[1]}': "
            f"got {len(plain)} texts"
        )
    if not 0 <= arguments.whole <= 1:
        raise UserError(f"--whole is from 0 to 1, got {arguments.whole}")
    if arguments.restyle is None and (arguments.restyled or arguments.generator):
        raise UserError("--generator and --restyled are of --restyle PROMPT")
    if arguments.restyle is not None:
        if arguments.image is None or arguments.generator is None:
            raise UserError("--restyle makes --image FILE over by --generator MODEL: name both")
        if not arguments.restyle.strip():
            raise UserError("--restyle says nothing; say what the picture should become")
        if not 0 < arguments.strength <= 1:
            raise UserError(f"--strength is above 0 and at most 1, got {arguments.strength}")
        if arguments.restyled and arguments.restyled.suffix.lower() != ".png":
            raise UserError(f"--restyled {arguments.restyled} must end in .png")
    if arguments.image is None and (arguments.box or arguments.locate):
        raise UserError("--box and --locate are parts of a picture: name it with --image")
    if arguments.box and arguments.locate:
        raise UserError("--box and --locate: give one of them")
    terms = [term for word in said for term in parse_terms(word)]
    check_count(len(terms))
    return Asked(
        text=plain[0] if plain else "",
        image=open_picture(arguments.image) if arguments.image else None,
        terms=opened(terms, open_picture),
        said=said,
    )


def restyled(asked: Asked, arguments: argparse.Namespace) -> Asked:
    """The same with the picture made over, where that is asked for."""
    if arguments.restyle is None or asked.image is None:
        return asked
    import numpy as np

    from kmm_jax.files import atomic_write
    from kmm_jax.generation.loading import load_pipeline
    from kmm_jax.generation.picture_file import png
    from kmm_jax.generation.restyle import restyling

    pipeline = load_pipeline(arguments.generator)
    request = restyling(
        asked.image,
        arguments.restyle,
        side=pipeline.side,
        strength=arguments.strength,
        steps=arguments.steps,
        seed=arguments.seed,
    )
    found = pipeline.generate(request)
    if arguments.restyled:
        print("no safety filter ran: look at pictures before you show them", file=sys.stderr)
        with atomic_write(arguments.restyled) as file:
            file.write(png(np.asarray(found.images)[0], found.settings[0]))
    return dataclasses.replace(asked, image=found.pictures()[0])


def part_of_picture(asked: Asked, arguments: argparse.Namespace, model: Any) -> Image | None:
    """The picture to search by, cut to what counts.

    Raises:
        UserError: no box, or the model cannot look for a text.
    """
    from kmm_jax.retrieval.regions import checked_box, cropped, find_box

    if asked.image is None or not (arguments.box or arguments.locate):
        return asked.image
    if arguments.locate:
        box = find_box(model, asked.image, arguments.locate)
    else:
        try:
            box = checked_box([float(each) for each in arguments.box.split(",")])
        except ValueError as error:
            raise UserError(f"--box {arguments.box!r}: write X0,Y0,X1,Y1, as 0,0.5,1,1") from error
    return cropped(asked.image, box)


def vector_of_picture(
    asked: Asked, part: Image | None, arguments: argparse.Namespace, model: Any
) -> np.ndarray | None:
    """The vector (D,) of the part of the picture that counts, with ``--whole`` of the whole one."""
    from kmm_jax.retrieval.compose import compose

    if part is None:
        return None
    if part is asked.image or not arguments.whole:
        return compose(None, model.embed_image([part])[0])
    of_part, of_whole = model.embed_image([part, asked.image])
    return compose(of_part, of_whole, 1 - arguments.whole)
