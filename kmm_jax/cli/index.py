"""``kmm index``: indexes that are built once, and collections that grow."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kmm_jax.cli import index_serve
from kmm_jax.cli.arguments import bytes_of, part_of
from kmm_jax.errors import UserError


def add(commands: Any) -> None:
    """Add ``kmm index``."""
    index = commands.add_parser("index", help="build an index, let one grow, or say what one is")
    actions = index.add_subparsers(dest="index_command", required=True, metavar="COMMAND")
    build = actions.add_parser("build", help="from embeddings to a searched index")
    build.add_argument("embeddings", type=Path, metavar="EMBEDDINGS")
    build.add_argument("--output", type=Path, required=True, metavar="DIR")
    build.add_argument("--engine", choices=("auto", "scann", "exact"), default="auto")
    build.set_defaults(run=_build)
    tune = actions.add_parser(
        "tune",
        help="build an index several ways, and keep the fastest that finds enough",
        description="Find settings for your own vectors: other numbers of leaves and other hashes "
        "are built, and each is searched in several ways. The fastest whose recall@10 reaches what "
        "is wanted is kept, and what was tried is kept with it (kmm index info --json).",
    )
    tune.add_argument("embeddings", type=Path, metavar="EMBEDDINGS")
    tune.add_argument("--output", type=Path, required=True, metavar="DIR")
    tune.add_argument(
        "--queries",
        type=Path,
        metavar="EMBEDDINGS",
        help="such as will be asked, texts for an index of images say (default: its own vectors, "
        "each without itself among the found)",
    )
    tune.add_argument("--builds", type=int, metavar="N", help="at most (default: what it takes)")
    tune.set_defaults(run=_tune, engine="scann")
    retune = actions.add_parser(
        "retune",
        help="search an index as fast as another recall lets; nothing is built",
        description="Measure anew how many leaves are searched and how many vectors scored again, "
        "and note it in the index.",
    )
    retune.add_argument("index", type=Path, metavar="DIR")
    retune.add_argument("--recall", type=float, required=True, metavar="R", help="recall@10 wanted")
    retune.add_argument("--queries", type=Path, metavar="EMBEDDINGS", help="as for tune")
    retune.set_defaults(run=_retune)
    grow = actions.add_parser(
        "add",
        help="put embeddings into a collection, which is made if it is not there",
        description="A collection is an index that grows: rows are added, replaced and removed "
        "while others search it.",
    )
    grow.add_argument("collection", type=Path, metavar="DIR")
    grow.add_argument("embeddings", type=Path, metavar="EMBEDDINGS")
    grow.add_argument(
        "--columns",
        type=Path,
        metavar="TABLE",
        help="what to filter by: Parquet, TSV, CSV or JSON lines, with a column id or image_hash",
    )
    grow.set_defaults(run=_add)
    bulk = actions.add_parser(
        "bulk",
        help="a collection of more embeddings than memory holds",
        description="Write a collection segment by segment; memory stays that of one of them. Run "
        "again, it goes on after the segments that are whole.",
    )
    bulk.add_argument("collection", type=Path, metavar="DIR")
    bulk.add_argument("embeddings", type=Path, metavar="EMBEDDINGS")
    bulk.add_argument(
        "--columns",
        type=Path,
        metavar="TABLE",
        help="as for add; of Parquet only a segment's rows are in memory",
    )
    bulk.add_argument(
        "--memory",
        type=bytes_of,
        metavar="SIZE",
        help="that a segment's building may take, such as 16GiB (default: half of the machine's)",
    )
    bulk.add_argument(
        "--segment-rows", type=int, metavar="N", help="rather than by memory: rows of a segment"
    )
    bulk.add_argument(
        "--shard",
        type=part_of,
        default=(0, 1),
        metavar="I/N",
        help="only the I-th (from 0) of N stretches of the embeddings, for the I-th host",
    )
    bulk.set_defaults(run=_bulk)
    for command in (build, tune, grow, bulk):
        add_settings(command)
        command.add_argument(
            "--recall",
            type=float,
            required=command is tune,
            metavar="R",
            help="recall@10 wanted, such as 0.95: the fewest leaves and rescored vectors that "
            "reach it are measured and kept",
        )
        command.add_argument(
            "--keep-first",
            action="store_true",
            help="where an id stands more than once, keep its first vector; else that is refused",
        )
    remove = actions.add_parser("remove", help="take rows out of a collection")
    remove.add_argument("collection", type=Path, metavar="DIR")
    remove.add_argument("ids", nargs="*", metavar="ID")
    remove.add_argument("--ids", dest="file", type=Path, metavar="FILE", help="one id a line")
    remove.add_argument("--erase", action="store_true", help="from the disk too, at once")
    remove.set_defaults(run=_remove)
    compact = actions.add_parser("compact", help="join a collection's segments into one")
    compact.add_argument("collection", type=Path, metavar="DIR")
    compact.set_defaults(run=_compact)
    info = actions.add_parser("info", help="what an index or a collection holds, how it searches")
    info.add_argument("index", type=Path, metavar="DIR")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)
    index_serve.add(actions)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add the settings of an index that depend on how many vectors there will be."""
    command.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the vectors on disk; bfloat16 takes half the bytes (default: float32)",
    )
    command.add_argument(
        "--rescore",
        choices=("memory", "mapped"),
        help="where vectors of candidates come from: memory that holds all of them (default), or "
        "the memory-mapped file, where memory holds hashes alone",
    )
    command.add_argument(
        "--leaves-to-search",
        type=int,
        metavar="N",
        help="of each tree; fewer are faster and find less (default: twice their square root)",
    )


def settings_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_settings` added, as far as it was given."""
    names = ("dtype", "rescore", "leaves_to_search", "recall")
    found = {name: getattr(arguments, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _embeddings(arguments: argparse.Namespace) -> Any:
    from kmm_jax.retrieval.store import first_of_each, load_embeddings

    embeddings = load_embeddings(arguments.embeddings)
    return first_of_each(embeddings) if arguments.keep_first else embeddings


def _build(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.index import Index
    from kmm_jax.retrieval.settings import IndexSettings

    embeddings = _embeddings(arguments)
    settings = IndexSettings(engine=arguments.engine, **settings_given(arguments))
    index = Index.of_embeddings(arguments.output, embeddings, settings=settings)
    print(f"{arguments.output}: {len(index):,} vectors, {index.info()['engine']}")
    return 0


def _tune(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.index import Index
    from kmm_jax.retrieval.learning import Tuning
    from kmm_jax.retrieval.settings import IndexSettings

    if arguments.builds is not None and arguments.builds < 1:
        raise UserError(f"--builds must be at least 1, found {arguments.builds}")
    embeddings = _embeddings(arguments)
    queries = _queries(arguments, embeddings.model_hash)

    def told(best: Any) -> None:
        print(_searched(best.as_json()), file=sys.stderr, flush=True)

    index = Index.of_embeddings(
        arguments.output,
        embeddings,
        settings=IndexSettings(engine=arguments.engine, **settings_given(arguments)),
        tuning=Tuning(queries=queries, thorough=True, builds=arguments.builds, told=told),
    )
    _print_tuned(arguments.output, index)
    return 0


def _retune(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.collection_files import is_collection
    from kmm_jax.retrieval.index import Index

    if is_collection(arguments.index):
        raise UserError(
            f"{arguments.index} is a collection, whose segments find their settings when they are "
            "written: make it with kmm index add --recall, or build an index of its vectors"
        )
    index = Index.load(arguments.index)
    index.retune(arguments.recall, _queries(arguments, index.model_hash))
    _print_tuned(arguments.index, index)
    return 0


def _queries(arguments: argparse.Namespace, model_hash: str) -> Any:
    """The vectors of ``--queries``, if they were given."""
    from kmm_jax.retrieval.store import load_embeddings

    if arguments.queries is None:
        return None
    asked = load_embeddings(arguments.queries)
    if asked.model_hash != model_hash:
        raise UserError(
            f"{arguments.queries} comes from the model {asked.model_hash!r}, what is searched from "
            f"{model_hash!r}; embed both with one model"
        )
    return asked.vectors


def _print_tuned(folder: Path, index: Any) -> None:
    info = index.info()
    print(f"{folder}: {len(index):,} vectors, {info['engine']}")
    if (tuning := info["tuning"]) is not None:
        print(
            f"recall@10 {info['recall@10']:.3f} +- {tuning['error']:.3f}, on "
            f"{tuning['measured_on']:,} queries that chose nothing"
        )


def _searched(tried: dict[str, Any]) -> str:
    """What was built, and the fastest search of it that finds enough."""
    built = f"{tried['leaves']:,} leaves, " if tried["leaves"] else "no tree, "
    leaves = f"{tried['leaves_to_search']:,} searched, " if tried["leaves"] else ""
    return (
        f"{built}{tried['dims_per_block']} dimensions a block, threshold "
        f"{tried['anisotropic_threshold']}: {leaves}{tried['reorder']:,} rescored, recall@10 "
        f"{tried['recall']:.3f}, {tried['microseconds']:,.0f} microseconds"
    )


def _add(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.collection import Collection
    from kmm_jax.retrieval.collection_files import is_collection
    from kmm_jax.retrieval.settings import IndexSettings
    from kmm_jax.retrieval.tables import read_columns

    given = settings_given(arguments)
    embeddings = _embeddings(arguments)
    ids = embeddings.ids
    columns = read_columns(arguments.columns, ids) if arguments.columns else None
    if is_collection(arguments.collection):
        collection = Collection.open(arguments.collection, model_hash=embeddings.model_hash)
        made = collection.info()["settings"]
        for name, value in given.items():
            if made.get(name) != value:
                raise UserError(
                    f"{arguments.collection} was made with {name} {made.get(name)!r}, not "
                    f"{value!r}; a collection keeps what it was made with: leave it out, or make "
                    "another"
                )
    else:
        collection = Collection.create(
            arguments.collection,
            model_hash=embeddings.model_hash,
            dim=embeddings.vectors.shape[1],
            settings=IndexSettings(**given),
            metadata={"kind": embeddings.kind, **embeddings.metadata},
        )
    replaced = collection.put(ids, embeddings.vectors, columns)
    print(
        f"{arguments.collection}: {len(collection):,} vectors, {len(ids) - replaced:,} of them "
        f"new, {replaced:,} in the place of others"
    )
    return 0


def _bulk(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval import checksums
    from kmm_jax.retrieval.bulk import Built, build_collection
    from kmm_jax.retrieval.settings import IndexSettings
    from kmm_jax.retrieval.store_rows import StoredRows
    from kmm_jax.retrieval.tables import read_columns

    rows = StoredRows(arguments.embeddings, arguments.shard)
    table = arguments.columns
    origin = {"embeddings": rows.manifest["seal"], "shard": list(arguments.shard)}
    if table is not None:
        if not table.is_file():
            raise UserError(f"{table} is no file")
        origin["columns"] = checksums.describe(table)

    def progress(now: Built) -> None:
        print(
            f"{now.segments:,} of {now.of_segments:,} segments, {now.rows:,} vectors, "
            f"{now.seconds:,.0f} s",
            file=sys.stderr,
            flush=True,
        )

    built = build_collection(
        arguments.collection,
        rows,
        model_hash=rows.manifest["model_hash"],
        settings=IndexSettings(**settings_given(arguments)),
        segment_rows=arguments.segment_rows,
        memory=arguments.memory,
        columns=None if table is None else lambda ids: read_columns(table, ids),
        keep_first=arguments.keep_first,
        origin=origin,
        metadata={"kind": rows.manifest["kind"], **rows.manifest["metadata"]},
        progress=progress,
    )
    before = f", {built.before:,} of them written before" if built.before else ""
    print(f"{arguments.collection}: {built.rows:,} vectors in {built.segments:,} segments{before}")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.collection import Collection

    ids = list(arguments.ids)
    if arguments.file is not None:
        if not arguments.file.is_file():
            raise UserError(f"--ids {arguments.file} is no file")
        ids += [line for line in arguments.file.read_text("utf-8").splitlines() if line]
    if not ids:
        raise UserError("nothing to remove: name ids, or a file of them with --ids")
    collection = Collection.open(arguments.collection)
    count = collection.delete(ids, erase=arguments.erase)
    if count < len(set(ids)):
        print(f"{len(set(ids)) - count:,} ids were not there", file=sys.stderr)
    print(f"{arguments.collection}: {len(collection):,} vectors, {count:,} fewer")
    return 0


def _compact(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.collection import Collection

    collection = Collection.open(arguments.collection)
    collection.compact()
    print(f"{arguments.collection}: {len(collection):,} vectors in one segment")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from kmm_jax.retrieval.collection import Collection
    from kmm_jax.retrieval.collection_files import is_collection
    from kmm_jax.retrieval.index import Index

    grows = is_collection(arguments.index)
    info = (Collection.open if grows else Index.load)(arguments.index).info()
    if arguments.json:
        print(json.dumps(info, ensure_ascii=False, indent=2))
        return 0
    metadata = info["metadata"]
    size = f"{info['bytes'] / 1e6:,.2f} MB" if not grows else f"version {info['version']}"
    dtype, recall = info["settings"]["dtype"], info.get("recall@10")
    wanted = info["settings"]["recall"]
    lines = {
        "vectors": f"{info['rows']:,} of dimension {info['dim']:,}, {dtype}, {size}",
        "of": metadata.get("kind"),
        "engine": info.get("engine"),
        "recall@10": f"{recall:.3f} of exact search, when it was built" if recall else None,
        "wanted": f"recall@10 {wanted}" if wanted else None,
        "columns": ", ".join(f"{name} {kind}" for name, kind in info.get("columns", {}).items()),
        "model": metadata.get("model_path"),
        "model hash": info["model_hash"],
        "source": metadata.get("source"),
        "style": metadata.get("style"),
    }
    print(info["folder"])
    for name, value in lines.items():
        if value:
            print(f"{name:<12}{value}")
    for segment in info.get("segments", ()):
        recall = segment["recall@10"]
        more = f", recall@10 {recall:.3f}" if recall is not None else ""
        gone = f", {segment['gone']:,} gone" if segment["gone"] else ""
        print(f"{'segment':<12}{segment['rows']:,} rows{gone}, {segment['engine']}{more}")
    return 0
