"""Shards and a tokenizer for a data set: made once, kept."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from kmm_jax.data.schema import texts
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError
from kmm_jax.files import read_json, write_json
from kmm_jax.quickstart.recipes import Recipe
from kmm_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """Where the shards and the tokenizer are.

    Attributes:
        train, test: globs of shards, as ``open_source`` takes them.
    """

    train: str
    test: str
    tokenizer: Path


def prepare(name: str, recipe: Recipe, output: Path, *, folder: Path | None) -> Prepared:
    """Make what is not there yet: ``output/data`` and ``output/data/tokenizer``.

    Other data, or another size of the vocabulary, than before makes another tokenizer. ``folder``
    is where the real sets lie (``KMM_DATA_DIR``); the shop needs none.

    Raises:
        DataError: the data set is not there.
    """
    data = output / "data"
    made = _shards(name, recipe, data, folder)
    prepared = Prepared(
        train=str(data / "train-*.tar"), test=str(data / "test-*.tar"), tokenizer=data / "tokenizer"
    )
    _tokenizer(prepared, {**made, "vocabulary": recipe.vocabulary}, data)
    return prepared


def prepare_together(
    recipes: Mapping[str, Recipe], output: Path, *, folder: Path | None, vocabulary: int
) -> Prepared:
    """The same for one model of several sets: ``output/data/NAME`` for each, one tokenizer.

    Raises:
        DataError: a data set is not there.
    """
    data = output / "data"
    made = {name: _shards(name, each, data / name, folder) for name, each in recipes.items()}
    prepared = Prepared(
        train=str(data / "*" / "train-*.tar"),
        test=str(data / "*" / "test-*.tar"),
        tokenizer=data / "tokenizer",
    )
    _tokenizer(prepared, {**made, "vocabulary": vocabulary}, data)
    return prepared


def _tokenizer(prepared: Prepared, wanted: dict[str, Any], data: Path) -> None:
    # Beside the tokenizer: a folder with anything else in it is not taken for one.
    note = data / "tokenizer_made_from.json"
    if not (prepared.tokenizer / "tokenizer.json").is_file() or read_json(note) != wanted:
        tokenizer = Tokenizer.train(_texts(prepared.train), vocab_size=wanted["vocabulary"])
        tokenizer.save(prepared.tokenizer)
        write_json(note, wanted)


def _shards(name: str, recipe: Recipe, data: Path, folder: Path | None) -> dict[str, Any]:
    """Write the shards that are missing; returns what tells these shards from others."""
    if name == "shop":
        from kmm_jax.data.shop import write_shop

        # It knows itself whether what it drew before is still what it would draw now.
        return write_shop(
            data, train=recipe.train, test=recipe.test, seed=0, image_size=recipe.made_size
        )
    from kmm_jax.data.datasets import open_rows

    # Written last: shards without it are those of a run that was interrupted.
    done = data / "data.json"
    wanted = {"data": name, "train": recipe.train, "test": recipe.test}
    if read_json(done) == wanted:
        return wanted
    splits: tuple[tuple[Literal["train", "test"], int], ...] = (
        ("train", recipe.train),
        ("test", recipe.test),
    )
    for split, limit in splits:
        with ShardWriter(data, prefix=split) as writer:
            for record, image in open_rows(name, folder, split, limit=limit):
                writer.write(record, image)
        if not writer.rows:
            raise DataError(f"{name}: no {split} rows were found")
        print(f"  {writer.rows:,} {split} rows", file=sys.stderr)
    write_json(done, wanted)
    return wanted


def _texts(url: str) -> Iterator[str]:
    source = open_source(url)
    for i in range(len(source)):
        for _, text, _ in texts(source.read(i).record):
            yield text
