"""Making the page and the data card of a build."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.purge import hashes
from kmm_jax.corpus.report import PAGE, card, layout, samples, thumbnails
from kmm_jax.corpus.report.gallery import Gallery
from kmm_jax.corpus.report.layout import Layout
from kmm_jax.corpus.report.measured import Measured, lines_of, measure
from kmm_jax.corpus.report.page import page
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.files import atomic_write, read_json
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
        DataError: nothing was built there, or its tables are gone.
    """
    manifest = _manifest(folder)
    try:
        config = dump.from_json(manifest["config"])
    except (KeyError, ConfigError) as error:
        raise DataError(
            f"{folder / 'shards' / 'manifest.json'} holds no config of this version ({error}); "
            "run kmm corpus build again"
        ) from error
    found = layout.read(folder / "work")
    measured = measure(config, found)
    card.write(config, folder / "shards", manifest, measured)
    return write_page(config, folder, found, measured)


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / "shards" / "manifest.json"
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise DataError(
            f"{path} is missing or damaged: no corpus was built in {folder}; run kmm corpus build, "
            "or name the folder that was its --output"
        )
    return manifest
