"""Takes rows out of embeddings and indexes on disk, by id: whole files before and after."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.errors import ConfigError, DataError
from kmm_jax.files import write_json
from kmm_jax.retrieval import checksums, index_files, store
from kmm_jax.retrieval.index import Index
from kmm_jax.retrieval.settings import IndexSettings, for_rows

IsGone = Callable[[str], bool]
"""Whether the row with this id leaves."""


def parts(folder: Path) -> list[Path]:
    """The parts of an export, finished or not."""
    return sorted(folder.glob("part-*-of-*.parquet"))


def ids_of_part(path: Path) -> list[str]:
    """The ids of a part, in order.

    Raises:
        DataError: it is damaged.
    """
    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read(["id"])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise DataError(f"{path} is damaged: {error}; remove it and run kmm embed again") from error
    return list(table.column("id").to_pylist())


def remove_from_part(path: Path, is_gone: IsGone) -> None:
    """Write a part again without some rows; :func:`refresh_manifest` has to follow.

    Raises:
        DataError: it is damaged.
    """
    identity = store.identity_of(path)
    if identity is None:
        raise DataError(f"{path} is damaged: it is no part of an export; run kmm embed again")
    table = store.read_part(path, identity["dim"])
    ids = table.column("id").to_pylist()
    kept = np.flatnonzero([not is_gone(each) for each in ids])
    vectors_ND = store.matrix(table, identity["dim"])[kept]
    store.write_part(path, [ids[row] for row in kept], vectors_ND, identity, limit=len(ids))


def refresh_manifest(folder: Path, names: Iterable[str], note: Sequence[Mapping[str, Any]]) -> None:
    """Say in an export's manifest what its parts ``names`` hold now; once more changes nothing.

    Args:
        note: added to its metadata under ``purged``.

    Raises:
        DataError: there is no manifest, or it is damaged.
    """
    manifest = store.read_manifest(folder)
    changed = set(names)
    for part in manifest["parts"]:
        if part["file"] in changed:
            path = folder / part["file"]
            rows = pq.read_metadata(path).num_rows
            purged = part.get("purged", 0) + part["rows"] - rows
            part |= {"rows": rows, **checksums.describe(path), "purged": purged}
    manifest["rows"] = sum(part["rows"] for part in manifest["parts"])
    manifest["metadata"] = _noted(manifest["metadata"], note)
    del manifest["seal"]
    write_json(folder / store.MANIFEST, checksums.sealed(manifest))


def ids_of_index(folder: Path) -> Sequence[str]:
    """The ids of an index, in order.

    Raises:
        DataError: no index, or a damaged one.
    """
    index_files.read_description(folder)
    return index_files.read_ids(folder / index_files.IDS)


def remove_from_index(folder: Path, is_gone: IsGone, note: Sequence[Mapping[str, Any]]) -> None:
    """Build an index again without some rows; settings chosen by its size are chosen anew.

    ScaNN has no removal from its files, and its partition would still tell of what was removed.

    Raises:
        DataError: no index, or a damaged one.
        UserError: the engine it asks for does not run here.
    """
    index = Index.load(folder, engine="exact")
    kept = np.flatnonzero([not is_gone(each) for each in index.ids])
    settings = _settings(IndexSettings(**index.info()["settings"]), len(index), len(kept))
    metadata = _noted(index.metadata, note)
    if "spans" in metadata:
        metadata["spans"] = _spans(metadata["spans"], kept)
    Index.build(
        folder,
        [index.ids[row] for row in kept.tolist()],
        index_files.map_vectors(folder / index_files.VECTORS)[kept],
        model_hash=index.model_hash,
        settings=settings,
        metadata=metadata,
    )


def discard_index(folder: Path) -> None:
    """Remove an index altogether, so that at any moment it is whole or none."""
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    restore_index(folder, discard=True)


def restore_index(folder: Path, *, discard: bool = False) -> None:
    """Mend what a killed build or removal left: the old index under its own name, or none."""
    aside = _aside(folder)
    if not folder.exists() and (aside / index_files.INDEX).exists() and not discard:
        aside.rename(folder)
    # Its description first: without that, what is left counts as no index.
    (aside / index_files.INDEX).unlink(missing_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    index_files.remove_leftovers(folder)


def _aside(folder: Path) -> Path:
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.old")


def _settings(settings: IndexSettings, before: int, after: int) -> IndexSettings:
    by_size = replace(settings, layout="auto", leaves=None, leaves_to_search=None, reorder=None)
    if for_rows(by_size, before) == settings:
        return by_size
    try:
        return for_rows(settings, after)
    except ConfigError:  # too few are left for the layout
        return by_size


def _spans(spans: Sequence[Sequence[int]], kept: np.ndarray) -> list[list[int]]:
    """As ``Embeddings.spans`` of an export that lost the same rows."""
    found, first, removed = [], 0, 0
    for start, stop, count in spans:
        stay = int(((kept >= first) & (kept < first + count)).sum())
        found.append([start - removed, stop, stay])
        first, removed = first + count, removed + count - stay
    return found


def _noted(metadata: Mapping[str, Any], note: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    before = list(metadata.get("purged") or [])
    return {**metadata, "purged": before + [one for one in note if one not in before]}
