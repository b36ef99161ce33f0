"""``kmm evaluate``: what a trained model knows, in tables with their chance and protocol."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from kmm_jax.errors import UserError, nearest, require

if TYPE_CHECKING:
    from kmm_jax.evaluation.evaluate import Evaluation, Plan
    from kmm_jax.text.styles import Style

_TASKS = (
    "zero_shot",
    "linear_probe",
    "knn",
    "retrieval",
    "modality_gap",
    "localisation",
    "captions",
    "queries",
    "questions",
)
_LEARNED = ("linear_probe", "knn")


def add(commands: Any) -> None:
    """Add ``kmm evaluate``."""
    command = commands.add_parser(
        "evaluate",
        help="score a model: zero-shot classes, learned classes, image-text retrieval, captions, "
        "queries, answers",
    )
    command.add_argument(
        "model", metavar="MODEL", help="a run directory or an exported model; or its URL"
    )
    command.add_argument("source", metavar="SOURCE", help="shards, folder+tsv:... or tfds:...")
    command.add_argument(
        "--tasks",
        help=f"comma-separated, of {', '.join(_TASKS)} "
        "(default: retrieval, and zero_shot where --classes are given)",
    )
    command.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="SET",
        help="class set (kmm classnames; shop_types, shop_colours, shop_patterns; a .json file); "
        "repeat it, each with its --label, for several",
    )
    command.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY",
        help="the label that names the class; for linear_probe and knn without --classes",
    )
    command.add_argument(
        "--train-source",
        metavar="SOURCE",
        help="the rows that linear_probe and knn learn labels from",
    )
    command.add_argument(
        "--train-limit", type=int, metavar="ROWS", help="learn only from its first rows"
    )
    command.add_argument("--lang", choices=("ko", "en"), default="ko")
    command.add_argument(
        "--candidates",
        choices=("all", "present"),
        default="all",
        help="choose among all classes of the set, or only those that occur in SOURCE",
    )
    command.add_argument(
        "--styles",
        default="query,prompt,shopping",
        help="zero-shot in each of these styles (default: %(default)s; plain: no style token)",
    )
    command.add_argument(
        "--fields",
        default="query",
        help="texts for retrieval and modality_gap (default: %(default)s)",
    )
    command.add_argument(
        "--field-style", metavar="STYLE", help="their style (default: each field's own)"
    )
    command.add_argument(
        "--phrases",
        default="full",
        help="localisation calls things by colour, pattern and type (full), by the type alone "
        "(type), or by both in turn (full,type) (default: %(default)s)",
    )
    command.add_argument(
        "--phrase-style",
        default="query",
        metavar="STYLE",
        help="the phrases' style (default: %(default)s; plain: no style token)",
    )
    command.add_argument(
        "--caption-field",
        default="caption",
        metavar="FIELD",
        help="texts to hold captions against (default: %(default)s)",
    )
    command.add_argument(
        "--caption-styles",
        default="prompt",
        metavar="STYLES",
        help="caption in these styles (default: %(default)s)",
    )
    command.add_argument(
        "--caption-method",
        choices=("greedy", "beam", "nucleus"),
        default="greedy",
        help="how captions are decoded (default: %(default)s)",
    )
    command.add_argument(
        "--tokenizer",
        choices=("words", "morphemes", "english"),
        default="words",
        help="how captions and their texts are cut before they are counted: between spaces, by "
        "the Korean analyser Kiwi, or as tables of COCO do (default: %(default)s)",
    )
    command.add_argument(
        "--query-fields",
        default="query",
        metavar="FIELDS",
        help="queries to hold those made of the images against (default: %(default)s)",
    )
    command.add_argument("--limit", type=int, metavar="ROWS", help="read only the first rows")
    command.add_argument("--batch-size", type=int, default=64)
    command.add_argument(
        "--output", metavar="DIR", help="write evaluation.json, .md and confusion pictures there"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the tables, and write them if asked to."""
    plan = _plan(arguments)
    from kmm_jax import inference
    from kmm_jax.evaluation import report
    from kmm_jax.evaluation.evaluate import evaluate

    evaluation = evaluate(
        inference.load(arguments.model),
        arguments.source,
        plan,
        limit=arguments.limit,
        train_source=arguments.train_source,
        train_limit=arguments.train_limit,
        batch_size=arguments.batch_size,
        progress=_progress if sys.stderr.isatty() else None,
    )
    if arguments.output:
        _write(evaluation, Path(arguments.output))
    if arguments.json:
        print(json.dumps(report.to_json(evaluation.results), ensure_ascii=False, indent=2))
    else:
        print(report.to_markdown(evaluation.results), end="")
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    """What the options ask for; wrong ones are refused before the model is loaded."""
    from kmm_jax.evaluation.box_targets import Phrase
    from kmm_jax.evaluation.captions import Mention
    from kmm_jax.evaluation.classes import named_classes
    from kmm_jax.evaluation.evaluate import Plan
    from kmm_jax.text.styles import style_of

    default = "zero_shot,retrieval" if arguments.classes else "retrieval"
    tasks = _names(arguments.tasks or default, "task", _TASKS)
    if "zero_shot" in tasks and not arguments.classes:
        raise UserError(
            "zero_shot needs --classes and --label, such as: "
            "--classes shop_types --label type (kmm classnames lists the sets)"
        )
    learned = [task for task in _LEARNED if task in tasks]
    _check_learned(arguments, learned)
    labels = arguments.label
    # A learned class needs no name, so that more labels may follow those of the class sets.
    fit = (
        len(labels) >= len(arguments.classes) if learned else len(labels) == len(arguments.classes)
    )
    if not fit or len(set(labels)) < len(labels):
        raise UserError(
            f"{len(arguments.classes)} --classes, but --label {', '.join(arguments.label) or '-'}; "
            "every class set needs the label it belongs to, such as: "
            "--classes fashion_article_types --label type"
        )
    if "captions" in tasks and arguments.tokenizer == "morphemes":
        require("kiwipiepy", extra="korean")
    if arguments.output and Path(arguments.output).exists() and not Path(arguments.output).is_dir():
        raise UserError(f"--output must be a folder, but {arguments.output} is a file")
    classes = [named_classes(name, arguments.lang) for name in arguments.classes]
    pairs = tuple(zip(classes, labels[: len(classes)], strict=True))
    given = _styles(arguments.field_style, "field-style") if arguments.field_style else ()
    if len(given) > 1:
        raise UserError(f"--field-style takes one style, got {arguments.field_style}")
    phrases = cast("list[Phrase]", _names(arguments.phrases, "kind of phrase", get_args(Phrase)))
    phrase_styles = _styles(arguments.phrase_style, "phrase-style")
    if len(phrase_styles) > 1:
        raise UserError(f"--phrase-style takes one style, got {arguments.phrase_style}")
    fields = _split(arguments.fields) if {"retrieval", "modality_gap"} & set(tasks) else []
    styled = tuple((field, given[0] if given else style_of(field)) for field in fields)
    return Plan(
        classify=pairs if "zero_shot" in tasks else (),
        styles=_styles(arguments.styles, "styles"),
        candidates=arguments.candidates,
        retrieval=styled if "retrieval" in tasks else (),
        modality_gap=styled if "modality_gap" in tasks else (),
        linear_probe=tuple(labels) if "linear_probe" in tasks else (),
        knn=tuple(labels) if "knn" in tasks else (),
        localisation=tuple((phrase, phrase_styles[0]) for phrase in phrases)
        if "localisation" in tasks
        else (),
        caption_field=arguments.caption_field,
        caption_styles=_styles(arguments.caption_styles, "caption-styles")
        if "captions" in tasks
        else (),
        caption_method=arguments.caption_method,
        caption_tokenizer=arguments.tokenizer,
        mentions=tuple(Mention(classes=one, label=label) for one, label in pairs),
        queries=tuple(_split(arguments.query_fields)) if "queries" in tasks else (),
        questions="questions" in tasks,
    )


def _check_learned(arguments: argparse.Namespace, learned: list[str]) -> None:
    """Refuse a classifier without rows to learn from, and such rows without a classifier."""
    if learned and not (arguments.train_source and arguments.label):
        raise UserError(
            f"{' and '.join(learned)} learn{'' if len(learned) > 1 else 's'} from other rows; say "
            "which, and which of their labels, such as: "
            "--train-source 'data/train-*.tar' --label type"
        )
    if not learned and (arguments.train_source or arguments.train_limit is not None):
        raise UserError(
            f"--train-source and --train-limit are for {' and '.join(_LEARNED)}; ask for them with "
            f"--tasks {','.join(_LEARNED)}"
        )
    if "linear_probe" in learned:
        require("sklearn", extra="analysis")


def _styles(text: str, option: str) -> tuple[Style | None, ...]:
    from kmm_jax.text.styles import STYLES

    known: dict[str, Style | None] = {**{style: style for style in STYLES}, "plain": None}
    return tuple(known[name] for name in _names(text, f"text style in --{option}", known))


def _names(text: str, kind: str, known: Any) -> list[str]:
    names = _split(text)
    for name in names:
        if name not in known:
            raise UserError(f"no {kind} {name!r}{nearest(name, known)}")
    if not names or len(set(names)) < len(names):
        raise UserError(f"each {kind} once and at least one, got {text!r}")
    return names


def _split(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _write(evaluation: Evaluation, folder: Path) -> None:
    from kmm_jax.evaluation import report
    from kmm_jax.evaluation.confusion import draw_confusion
    from kmm_jax.evaluation.encoders import style_name
    from kmm_jax.evaluation.evaluate import confusion_name

    for label, result in evaluation.classified.items():
        for style, scores in result.styles.items():
            name = confusion_name(label, style_name(style))
            draw_confusion(folder / name, scores.matrix_CC, result.classes.names)
    for (task, label), found in evaluation.learned.items():
        draw_confusion(folder / confusion_name(label, task), found.matrix_CC, found.keys)
    report.write(evaluation.results, folder)


def _progress(done: int, total: int) -> None:
    print(f"\r{done:,} of {total:,} rows", end="\n" if done >= total else "", file=sys.stderr)
