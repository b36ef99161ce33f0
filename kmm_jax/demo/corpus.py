"""The demonstration corpus as files: made whole from its worlds, or not at all.

documents.jsonl    what kmm documents add takes
pictures/          their images
judgements.jsonl   what kmm documents evaluate and fit-fusion take
less.jsonl         an image less what a text says
queries/           pictures to search with
corpus.json        what it was made of
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from kmm_jax.demo.facts import GRADES, Entry, Facts, World
from kmm_jax.demo.products import NAME as PRODUCTS
from kmm_jax.demo.products import products
from kmm_jax.demo.queries import ask
from kmm_jax.demo.shop import shop
from kmm_jax.demo.wording import write
from kmm_jax.errors import UserError
from kmm_jax.files import atomic_directory, atomic_write, read_json, refuse_other, write_json
from kmm_jax.search.documents import Document, DocumentImage
from kmm_jax.search.judgements import JudgedQuery, write_judgements

SHOP = "shop"
_ABOUT = "corpus.json"
_FORMAT = "kmm_jax demonstration 1"
_SOURCES = {"listing": "상점", "post": "블로그"}
_TAGS = {"type": "category", "color": "color", "pattern": "pattern"}
_SINGLE_TAGS = ("season", "material", "gender")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """How large a corpus is.

    Attributes:
        sets: ``shop``, ``fashion_products`` or both.
        documents: of the shop, and at most of the products.
        side: of the shop's pictures, pixels.
        texts, images, both, less: judged queries of each world.
    """

    sets: tuple[str, ...] = (SHOP,)
    documents: int = 900
    side: int = 192
    texts: int = 120
    images: int = 80
    both: int = 80
    less: int = 60
    seed: int = 11

    def __post_init__(self) -> None:
        if not self.sets or set(self.sets) - {SHOP, PRODUCTS}:
            raise UserError(f"a demonstration is of {SHOP}, {PRODUCTS} or both, not {self.sets}")


def make_corpus(folder: Path, config: CorpusConfig, *, data: Path | None = None) -> dict[str, Any]:
    """Make the corpus in a folder; where it is already what is asked for, nothing is done.

    Args:
        data: where real photos lie; by default ``KMM_DATA_DIR``.

    Returns:
        What ``corpus.json`` holds; equal for equal corpora.

    Raises:
        UserError: the folder holds something else.
        DataError: the photos are not there.
    """
    wanted = {
        "format": _FORMAT,
        **dataclasses.asdict(config),
        "sets": list(config.sets),
        "code": _code_version(),
    }
    about = read_json(folder / _ABOUT)
    if isinstance(about, dict) and {name: about.get(name) for name in wanted} == wanted:
        return about
    refuse_other(folder, lambda place: (place / _ABOUT).is_file(), "demonstration corpus")
    worlds = [_world(name, config, data) for name in config.sets]
    with atomic_directory(folder) as place:
        things = _write_documents(place, worlds, config.seed)
        counts = _write_queries(place, worlds, things, config)
        about = {**wanted, "documents_made": len(things), "queries": counts, "grades": GRADES}
        write_json(place / _ABOUT, about)
    return about


def _world(name: str, config: CorpusConfig, data: Path | None) -> World:
    if name == SHOP:
        # Not every picture is good for a query: of some, nothing like them is in a document.
        pictures = 4 * (config.images + config.both)
        return shop(
            documents=config.documents, pictures=pictures, side=config.side, seed=config.seed
        )
    return products(data, documents=config.documents)


def _write_documents(place: Path, worlds: Sequence[World], seed: int) -> dict[str, list[Facts]]:
    things: dict[str, list[Facts]] = {}
    (place / "pictures").mkdir()
    with atomic_write(place / "documents.jsonl", "w") as file:
        for world in worlds:
            for number, entry in enumerate(world.entries):
                id = f"{world.name}-{number}"
                made = _document(place, id, world, entry, Random(f"demo/{seed}/{id}/text"))
                file.write(made.to_json() + "\n")
                things[id] = [dict(each) for each in entry.things]
    return things


def _document(place: Path, id: str, world: World, entry: Entry, rng: Random) -> Document:
    title, body = write(entry, world.lexicon, rng)
    images = []
    for number, photo in enumerate(entry.photos):
        path = f"pictures/{id}-{number}.jpg"
        (place / path).write_bytes(photo)
        images.append(DocumentImage(hash=hashlib.sha256(photo).hexdigest()[:20], path=path))
    since = datetime.datetime(2026, 1, 1, 9, tzinfo=datetime.timezone(datetime.timedelta(hours=9)))
    return Document(
        id=id,
        title=title,
        body=body,
        images=tuple(images),
        time=since + datetime.timedelta(hours=rng.randrange(24 * 330)),
        source=_SOURCES[entry.kind],
        tags=_tags(entry, rng),
    )


def _tags(entry: Entry, rng: Random) -> dict[str, Any]:
    """What facets show: all that is true, whether the text says it or not."""
    tags: dict[str, Any] = {}
    for key, name in _TAGS.items():
        if values := dict.fromkeys(thing[key] for thing in entry.things if key in thing):
            tags[name] = tuple(values)
    for key in _SINGLE_TAGS:
        if key in entry.things[0]:
            tags[key] = entry.things[0][key]
    if entry.kind == "listing":
        tags["price"] = 1000 * rng.randrange(9, 120) - 100
    return tags


def _write_queries(
    place: Path, worlds: Sequence[World], things: dict[str, list[Facts]], config: CorpusConfig
) -> dict[str, int]:
    queries: list[JudgedQuery] = []
    less: list[JudgedQuery] = []
    (place / "queries").mkdir()
    for world in worlds:
        asked = ask(
            world,
            things,
            texts=config.texts,
            images=config.images,
            both=config.both,
            less=config.less,
            seed=config.seed,
        )
        queries += asked.queries
        less += asked.less
        for path, photo in asked.pictures.items():
            (place / path).write_bytes(photo)
    write_judgements(place / "judgements.jsonl", queries)
    write_judgements(place / "less.jsonl", less)
    kinds = ("text", "image", "both")
    counts = {kind: sum(one.kind == kind for one in queries) for kind in kinds}
    return {**counts, "less": len(less)}


@functools.cache
def _code_version() -> str:
    """A hash of what a corpus is made by: other drawings or wordings are another corpus."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    names = ("facts", "wording", "shop", "products", "queries", "corpus")
    paths = [here / f"{name}.py" for name in names]
    for path in [*paths, *sorted((here.parent / "data" / "shop").glob("*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def to_text(about: dict[str, Any]) -> str:
    """One line about a corpus, for a terminal."""
    counts = ", ".join(f"{count} {kind}" for kind, count in about["queries"].items())
    return f"{about['documents_made']:,} documents; judged queries: {counts}"
