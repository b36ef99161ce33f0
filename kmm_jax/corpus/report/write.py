"""Making the page and the data card of a build."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from kmm_jax.corpus import judge, tables
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.purge import hashes
from kmm_jax.corpus.report import PAGE, card, layout, samples, thumbnails
from kmm_jax.corpus.report.gallery import Gallery
from kmm_jax.corpus.report.layout import Layout
from kmm_jax.corpus.report.measured import Measured, lines_of, measure
from kmm_jax.corpus.report.page import page
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.files import atomic_write, locked, read_json
from kmm_jax.training import dump


def write_report(config: CorpusConfig, folder: Path) -> Path:
    """Write ``report.html`` of the build in ``folder``; returns its path.

    The raw pictures are read where they were, for thumbnails of some; one that is gone has none.

    Raises:
        DataError: nothing was built there, or its tables are gone.
    """
    found = layout.read(folder / "work")
    return write_page(config, folder, found, measure(config, found))


def write_page(config: CorpusConfig, folder: Path, found: Layout, measured: Measured) -> Path:
    """As ``write_report``, where the tables were measured already."""
    manifest = _manifest(folder)
    drawn = samples.draw(found, config.text_rules, hashes.listed(folder / hashes.LIST))
    rows = [
        row
        for reason, of_one in drawn.pictures.items()
        if reason != "decode_error"
        for row in of_one
    ]
    rows += [row for pair in (*drawn.copies, *drawn.near) for row in pair]
    lines = lines_of(config.scores)
    shown = Gallery(found, config.text_rules, lines, thumbnails.read(config, found, rows))
    path = folder / PAGE
    with atomic_write(path, "w") as file:
        file.write(page(config, manifest, measured, drawn, shown))
    return path


def rewrite(folder: Path) -> Path:
    """Make page and data card of a build again, from its tables and its manifest.

    Raises:
        DataError: nothing was built there, its tables are gone, or they are not those that the
            shards were made of: a later build is not finished.
        UserError: a build or purge is at work there.
    """
    _manifest(folder)  # before a lock is left in a folder of anything else
    with locked(folder / ".lock", "a corpus is being built here"):
        return _rewrite(folder)


def _rewrite(folder: Path) -> Path:
    manifest = _manifest(folder)
    try:
        config = dump.from_json(manifest["config"])
    except (KeyError, ConfigError) as error:
        raise DataError(
            f"{folder / 'shards' / 'manifest.json'} holds no config of this version ({error}); "
            "run kmm corpus build again"
        ) from error
    found = layout.read(folder / "work")
    _check_shards(folder, manifest, found)
    measured = measure(config, found)
    card.write(config, folder / "shards", manifest, measured)
    return write_page(config, folder, found, measured)


def _check_shards(folder: Path, manifest: Mapping[str, Any], found: Layout) -> None:
    """The tables are those that the shards were made of.

    The card says it; where there is none, or an older one, as many must have been kept as were
    written. Not the manifest's mark: a purge takes it away.
    """
    written = next((one["rows"] for one in manifest["stages"] if one["name"] == "shards"), None)
    try:
        other = card.of_other_tables(folder / "shards", layout.judged(found))
        kept = sum(
            tables.group_rows(found.table("judged", number))[judge.KEPT]
            for number in range(len(found.pictures))
        )
    except (OSError, IndexError, pa.ArrowException) as error:
        raise DataError(
            f"the tables in {found.work} are gone or damaged ({error}); run kmm corpus build again"
        ) from error
    if other or written not in (None, kept):
        raise DataError(
            f"the tables in {found.work} are of a later build than the shards in "
            f"{folder / 'shards'}: it was begun and is not finished, and a report would tell of "
            "the shards what is not so; finish it first (kmm corpus build with the same "
            "arguments), which makes a report as well"
        )


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / "shards" / "manifest.json"
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise DataError(
            f"{path} is missing or damaged: no corpus was built in {folder}; run kmm corpus build, "
            "or name the folder that was its --output"
        )
    absent = [name for name in ("config", "stages", "shards", "rows", "inputs")
              if name not in manifest]  # fmt: skip
    if absent:
        raise DataError(f"{path} lacks {', '.join(absent)}; run kmm corpus build again")
    return manifest
