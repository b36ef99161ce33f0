"""``kmm ask``: a question about a picture, answered by a CoCa."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import DataError, UserError

if TYPE_CHECKING:
    from PIL.Image import Image

# More than any model here takes; larger JPEGs are decoded at a part of their size.
_LEAST_SIDE = 640
_MOST = 50


def add(commands: Any) -> None:
    """Add ``kmm ask``."""
    command = commands.add_parser(
        "ask",
        help="ask a question about a picture",
        description="Print the answer of a model that was trained on questions "
        "(configs/coca/shop_vqa.py).",
    )
    command.add_argument("model", metavar="MODEL", help="a run or an exported model; or its URL")
    command.add_argument("image", type=Path, metavar="IMAGE", help="a picture")
    command.add_argument("question", metavar="QUESTION", help='such as "무슨 색이야?"')
    command.add_argument(
        "--top",
        type=int,
        metavar="N",
        help="print the N likeliest answers, each behind its probability",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask; wrong options are refused before the model is loaded."""
    from kmm_jax.text.normalize import normalize

    if not normalize(arguments.question):
        raise UserError('the question is empty; ask something, such as "무슨 색이야?"')
    if arguments.top is not None and not 1 <= arguments.top <= _MOST:
        raise UserError(f"--top is a number of answers from 1 to {_MOST}, got {arguments.top}")
    image = _opened(arguments.image)
    from kmm_jax.inference import load

    model = load(arguments.model)
    if arguments.top is None and not arguments.json:
        print(model.answer([image], [arguments.question])[0])
    else:
        found = model.answers(image, arguments.question, top=arguments.top or 1)
        if arguments.json:
            told = {
                "model": str(model.path),
                "model_hash": model.hash,
                "image": str(arguments.image),
                "question": arguments.question,
                "answers": [{"answer": words, "probability": p} for words, p in found],
            }
            print(json.dumps(told, ensure_ascii=False, indent=2))
        else:
            for words, p in found:
                print(f"{p:.3f}  {words}")
    if model.tokenizer.truncates_question(arguments.question, model.text_length):
        print(
            f"the question was cut: the model's texts end at {model.text_length} tokens, the "
            "answer's included",
            file=sys.stderr,
        )
    return 0


def _opened(path: Path) -> Image:
    from kmm_jax.data.images import open_rgb

    if not path.is_file():
        raise UserError(f"{path} is no file; give a picture")
    try:
        return open_rgb(path.read_bytes(), _LEAST_SIDE)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
