"""``kmm tag``: colours and patterns of pictures, as metadata of documents (slide 5.3)."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm_jax.errors import UserError

if TYPE_CHECKING:
    from kmm_jax.inference.model import Model
    from kmm_jax.tagging.labels import LabelSet
    from kmm_jax.tagging.rows import LabelledVectors

_SHOWN = 5


def add(commands: Any) -> None:
    """Add ``kmm tag``."""
    command = commands.add_parser(
        "tag", help="tag pictures and documents with colours and patterns (네이비색, 꽃무늬)"
    )
    parts = command.add_subparsers(dest="tag_command", required=True, metavar="COMMAND")

    fit = parts.add_parser(
        "fit",
        help="make a tagger: learned from labelled rows, or by prompts alone",
        description="A head over the model's image vectors. A fifth of the rows is kept apart: on "
        "them scores are calibrated and the threshold of each label is chosen (best F1). "
        "--kind zero-shot learns nothing but these, and needs no rows at all.",
    )
    fit.add_argument("model", metavar="MODEL", help="a run or an exported model; or its URL")
    fit.add_argument(
        "source",
        nargs="?",
        metavar="SHARDS",
        help="records that state labels, under labels, attributes, items or boxes",
    )
    fit.add_argument(
        "--labels",
        default="fashion",
        metavar="SET",
        help="a label set by name, or a .json file (default: %(default)s)",
    )
    fit.add_argument(
        "--kind", choices=("linear", "mlp", "zero-shot"), default="linear", help="of the head"
    )
    fit.add_argument("--lang", choices=("ko", "en"), default="ko", help="of zero-shot's prompts")
    fit.add_argument("--output", type=Path, required=True, metavar="TAGGER")
    fit.add_argument("--hidden", type=int, default=128, metavar="N", help="units of an mlp")
    fit.add_argument("--steps", type=int, default=600, metavar="N", help="of training the head")
    fit.add_argument("--seed", type=int, default=0)
    _add_reading(fit)
    fit.set_defaults(run=_fit)

    find = parts.add_parser("find", help="the tags of pictures, with how sure they are")
    find.add_argument("model", metavar="MODEL", help="that the tagger was fitted for")
    find.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    _add_tagger(find)
    find.add_argument("--json", action="store_true", help="for programs")
    find.set_defaults(run=_find)

    apply = parts.add_parser(
        "apply",
        help="write tags into documents, as filters and facets",
        description="From the vectors that the documents' index has: no picture is read and no "
        "model is loaded. Run again, it goes on, and takes only what is new. A tag of the same "
        "name that a document came with stays.",
    )
    apply.add_argument("folder", type=Path, metavar="DOCUMENTS", help="of kmm documents add")
    _add_tagger(apply)
    apply.add_argument(
        "--images",
        choices=("union", "vote", "first"),
        default="union",
        help="of a document with several: what any shows (default), half or more, or the first",
    )
    apply.add_argument(
        "--values",
        choices=("ko", "en", "key"),
        default="ko",
        help="which of a label's names is written (default: %(default)s)",
    )
    apply.add_argument(
        "--name",
        action="append",
        metavar="GROUP=TAG",
        help="call a group's tag so, such as color=색상; repeatable (default: the group's key)",
    )
    apply.set_defaults(run=_apply)

    remove = parts.add_parser("remove", help="take all tags away that kmm tag apply wrote")
    remove.add_argument("folder", type=Path, metavar="DOCUMENTS")
    remove.set_defaults(run=_remove)

    evaluate = parts.add_parser(
        "evaluate", help="accuracy, precision, recall and F1, and what is taken for what"
    )
    evaluate.add_argument("model", metavar="MODEL", help="that the tagger was fitted for")
    evaluate.add_argument("source", metavar="SHARDS", help="records that state labels")
    _add_tagger(evaluate)
    evaluate.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write evaluation.json, evaluation.md and confusion-GROUP.png",
    )
    _add_reading(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_tagger(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tagger", type=Path, required=True, metavar="DIR", help="of kmm tag fit")


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument("--limit", type=int, metavar="ROWS", help="only so many of its first rows")
    command.add_argument("--batch-size", type=int, default=64)


def _fit(arguments: argparse.Namespace) -> int:
    from kmm_jax.inference import load
    from kmm_jax.tagging.fit import FitConfig, fit_tagger, prompt_tagger
    from kmm_jax.tagging.labels import label_set

    labels = label_set(arguments.labels)
    zero_shot = arguments.kind == "zero-shot"
    if arguments.source is None and not zero_shot:
        raise UserError(
            f"a {arguments.kind} head is learned from rows: name shards, or take --kind zero-shot"
        )
    config = None
    if not zero_shot:
        config = FitConfig(
            kind=arguments.kind,
            hidden=arguments.hidden,
            steps=arguments.steps,
            seed=arguments.seed,
        )
    model = load(arguments.model)
    rows = None if arguments.source is None else _rows(arguments, model, labels)
    if config is None:
        tagger = prompt_tagger(
            lambda texts: model.embed_text(texts, "query"),
            labels,
            model=model.hash,
            language=arguments.lang,
            rows=rows,
        )
    else:
        assert rows is not None
        tagger = fit_tagger(rows, labels, model=model.hash, config=config)
    tagger.save(arguments.output)
    told = "" if rows is None else f" from {len(rows):,} images"
    print(f"{arguments.output}: {len(labels)} labels, {arguments.kind}{told}")
    if rows is not None:
        _tell_missing(labels, tagger.rows.tolist(), rows)
    return 0


def _tell_missing(labels: LabelSet, counts: list[int], rows: LabelledVectors) -> None:
    unseen = [one.ko for one, count in zip(labels.labels, counts, strict=True) if not count]
    if unseen:
        print(f"no row has {', '.join(unseen)}: never given", file=sys.stderr)
    for key, words in rows.unknown.items():
        if words:
            some = ", ".join(f"{word} ({count})" for word, count in list(words.items())[:_SHOWN])
            print(
                f"{key}: {sum(words.values()):,} words are no label and their rows were not used "
                f"for it: {some}",
                file=sys.stderr,
            )


def _find(arguments: argparse.Namespace) -> int:
    from kmm_jax.cli.arguments import open_picture
    from kmm_jax.inference import load
    from kmm_jax.tagging.tagger import Tagger

    tagger = Tagger.load(arguments.tagger)
    model = load(arguments.model)
    tagger.check_model(model.hash, str(arguments.model))
    pictures = [open_picture(path) for path in arguments.images]
    probability_NC = tagger.probabilities(model.embed_image(pictures))
    given_NC = tagger.answers(probability_NC)
    answers = []
    for path, probability_C, given_C in zip(
        arguments.images, probability_NC, given_NC, strict=True
    ):
        tags: dict[str, list[dict[str, Any]]] = {}
        for group, columns in zip(tagger.labels.groups, tagger.labels.columns(), strict=True):
            found = [
                {"key": label.key, "name": label.ko, "probability": float(sure), "given": bool(is_)}
                for label, sure, is_ in zip(
                    group.labels, probability_C[columns], given_C[columns], strict=True
                )
            ]
            tags[group.key] = sorted(found, key=lambda one: -one["probability"])
        answers.append({"image": str(path), "tags": tags})
        if not arguments.json:
            print(path)
            for group in tagger.labels.groups:
                said = [
                    f"{one['name']} {one['probability']:.0%}"
                    for one in tags[group.key]
                    if one["given"]
                ]
                print(f"  {group.ko}: {', '.join(said) or '-'}")
    if arguments.json:
        print(json.dumps(answers, ensure_ascii=False, indent=1))
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.search.document_tags import DocumentTagConfig, tag_documents
    from kmm_jax.tagging.tagger import Tagger

    config = DocumentTagConfig(
        images=arguments.images, naming=arguments.values, names=_names(arguments.name or [])
    )
    tagger = Tagger.load(arguments.tagger)
    with RowsBar("documents") as bar:
        found = tag_documents(arguments.folder, tagger, config, tell=bar)
    print(
        f"{arguments.folder}: {found.documents:,} documents tagged, {found.changed:,} of them anew"
        + (f"; {found.own:,} keep a tag of their own" if found.own else "")
    )
    for name, counts in found.labels.items():
        if counts:
            print(f"  {name}: {', '.join(f'{label} {count:,}' for label, count in counts.items())}")
    return 0


def _names(given: list[str]) -> dict[str, str]:
    found = {}
    for each in given:
        key, equals, name = each.partition("=")
        if not equals or not name.strip():
            raise UserError(f"--name {each!r}: write GROUP=TAG, such as color=색상")
        found[key] = name.strip()
    return found


def _remove(arguments: argparse.Namespace) -> int:
    from kmm_jax.search.document_tags import untag_documents

    count = untag_documents(arguments.folder)
    print(f"{arguments.folder}: the tags of {count:,} documents are gone")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from kmm_jax.evaluation import report
    from kmm_jax.evaluation.confusion import draw_confusion
    from kmm_jax.inference import load
    from kmm_jax.tagging.score import label_names, score_tagger
    from kmm_jax.tagging.tagger import Tagger

    tagger = Tagger.load(arguments.tagger)
    model = load(arguments.model)
    tagger.check_model(model.hash, str(arguments.model))
    scored = score_tagger(tagger, _rows(arguments, model, tagger.labels))
    about = {"model": str(arguments.model), "parameters": model.hash, "tagger": tagger.hash}
    results = report.Results(about=about, tables=(scored.table,))
    if arguments.output is not None:
        paths = list(report.write(results, arguments.output))
        for key, matrix in scored.matrices.items():
            paths.append(arguments.output / f"confusion-{key}.png")
            draw_confusion(paths[-1], matrix, label_names(tagger.labels, key))
        for path in paths:
            print(path, file=sys.stderr)
    print(report.to_markdown(results), end="")
    return 0


def _rows(arguments: argparse.Namespace, model: Model, labels: LabelSet) -> LabelledVectors:
    from kmm_jax.cli.progress import RowsBar
    from kmm_jax.data.sources import open_source
    from kmm_jax.tagging.rows import read_labelled

    with RowsBar("images") as bar:
        return read_labelled(
            open_source(arguments.source),
            lambda images: model.embed_image(images, batch_size=arguments.batch_size),
            labels,
            image_size=model.image_size,
            batch_size=arguments.batch_size,
            limit=arguments.limit,
            progress=bar,
        )
