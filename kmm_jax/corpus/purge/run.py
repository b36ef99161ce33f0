"""A purge: find, write down what will be done, do it, write down what was done."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmm_jax.corpus.purge import hashes as lists
from kmm_jax.corpus.purge.corpus import Corpus
from kmm_jax.corpus.purge.leftovers import sweep
from kmm_jax.corpus.purge.targets import detect
from kmm_jax.files import write_json
from kmm_jax.retrieval import checksums
from kmm_jax.retrieval.purging import Found, Target

FORMAT = "kmm_jax purge receipt 1"


@dataclass(frozen=True, kw_only=True)
class Purged:
    """What a purge did, or would do.

    Attributes:
        receipt: what its file holds: hashes, names and numbers, nothing of what was removed.
        path: of the receipt; None where it was only looked.
    """

    receipt: dict[str, Any]
    path: Path | None


def purge(
    hash_file: Path,
    targets: Sequence[str],
    *,
    receipts: Path | None = None,
    near: bool = False,
    dry_run: bool = False,
    command: str = "",
    others: Callable[[Path], Target | None] = lambda path: None,
) -> Purged:
    """Remove pictures by their hashes from shards, corpora, embeddings and indexes.

    Everything is looked at before anything is changed, and the receipt is there before that too. A
    purge that was killed is completed by the same call; both receipts stay, and together they tell
    of every file. Nothing else may write to the targets meanwhile.

    Args:
        hash_file: see :func:`~kmm_jax.corpus.purge.hashes.read`.
        targets: see :func:`~kmm_jax.corpus.purge.targets.detect`.
        receipts: folder for the receipt, by default ``purge-receipts`` beside ``hash_file``.
        near: also remove pictures that a corpus among the targets found to be near duplicates.
        dry_run: look only.
        command: noted in the receipt.
        others: targets of further kinds, such as ``search.document_purge`` has; None for a path
            that is none.

    Raises:
        DataError: a list or target that is missing, truncated or damaged; nothing was changed.
        UserError: a target of no known kind, or a corpus that is being built.
    """
    asked: dict[str, frozenset[str]] = {}
    for given in lists.read(hash_file):
        asked[lists.fold(given)] = asked.get(lists.fold(given), frozenset()) | lists.forms(given)
    hashes, called = list(asked), frozenset[str]().union(*asked.values())
    receipts = receipts or hash_file.parent / "purge-receipts"
    named = {target: detect(target, receipts, others) for target in targets}
    # A corpus may be named twice, by its folder and by its shards.
    distinct = {target.path.resolve(): given for given, target in reversed(named.items())}
    named = {given: target for given, target in named.items() if given in distinct.values()}
    corpora = [target for target in named.values() if isinstance(target, Corpus)]
    with contextlib.ExitStack() as held:
        if not dry_run:
            for corpus in corpora:
                held.enter_context(corpus.held())
            for target in named.values():
                target.mend()
            sweep(receipts, "purge-*.json")
        near_ones = [corpus.near(called) for corpus in corpora if near]
        added = {one: of for some in near_ones for one, of in some.items()}
        wanted = called.union(added)
        found = {given: target.look(wanted) for given, target in named.items()}
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        receipt: dict[str, Any] = {
            "format": FORMAT,
            "date": now.isoformat(),
            "finished": None,
            "command": command,
            "hashes": _told_of_list(hash_file, hashes, added),
            "targets": [_told(given, target, found[given]) for given, target in named.items()],
            "nowhere": [
                one
                for one, names in asked.items()
                if not any(_has(here, name) for here in found.values() for name in names)
            ],
        }
        if dry_run:
            return Purged(receipt=receipt, path=None)
        path = receipts / f"purge-{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
        note = {"receipt": path.name, "date": now.isoformat()}
        write_json(path, receipt)
        # The lists first: a build started after a kill must not bring anything back.
        for corpus in corpora:
            corpus.remember([*hashes, *sorted(added)], note)
        for given, target in named.items():
            target.remove(found[given], wanted, note)
    for told in receipt["targets"]:
        _tell_after(told, found[told["target"]])
    receipt["finished"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(path, receipt)
    return Purged(receipt=receipt, path=path)


def _told_of_list(file: Path, hashes: Sequence[str], near: dict[str, str]) -> dict[str, Any]:
    described = checksums.describe(file)
    return {
        "file": str(file),
        **described,
        "count": len(hashes),
        "near": dict(sorted(near.items())),
    }


def _told(given: str, target: Target, found: Found) -> dict[str, Any]:
    """A target's part of the receipt, before anything is done."""
    told = {
        "target": given,
        "path": str(target.path.absolute()),
        "kind": target.kind,
        "rows_before": found.rows,
        "removed": found.removed,
        "rows_after": None,
        "files_in_all": found.files,
        "completes_a_stopped_purge": found.unfinished,
        "files": [
            {
                "file": str(one.path),
                "rows_before": one.rows,
                "removed": list(one.hashes),
                "rows_after": one.rows - one.removed,
                "sha256_before": checksums.describe(one.path)["sha256"],
                "sha256_after": None,
            }
            for one in found.leaving
        ],
    }
    if isinstance(target, Corpus):
        told["known_but_in_no_shard"] = list(found.work_only)
        told["list"] = str(target.root / lists.LIST) if target.root else None
        told["page"] = str(target.page) if target.page else None
    return told


def _tell_after(told: dict[str, Any], found: Found) -> None:
    """Complete a target's part of the receipt."""
    told["rows_after"] = told["rows_before"] - told["removed"]
    for file, leaving in zip(told["files"], found.leaving, strict=True):
        there = leaving.path.exists()
        file["sha256_after"] = checksums.describe(leaving.path)["sha256"] if there else None


def _has(found: Found, value: str) -> bool:
    return value in found.work_only or any(value in one.hashes for one in found.leaving)
