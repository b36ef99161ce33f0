"""A database of names (slide 5.4): pictures with the names of what they show, from any source.

For each model a collection of the pictures' vectors, which say their names, and one of the names'
own text vectors. Models are asked one by one, and what they say is united (``candidates.py``).

    names.json   0/{images/, names/}   1/{images/, names/}   ranker.json (ranker.py)
"""

from __future__ import annotations

import collections
import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kmm_jax.data.sources import Row, Source
from kmm_jax.errors import DataError, UserError
from kmm_jax.files import read_described, write_json
from kmm_jax.retrieval import store
from kmm_jax.retrieval.collection import Collection
from kmm_jax.retrieval.embedding import (
    MAX_BAD_SHARE,
    Embedder,
    EmbedReport,
    Progress,
    embed_source,
)
from kmm_jax.text.normalize import normalize
from kmm_jax.text.templates import check_template, fill

MANIFEST = "names.json"
NAME = "name"
_FORMAT = "kmm_jax names 1"
_PUT_AT_ONCE = 65_536
_MOST_NAME = 200


class Encoder(Protocol):
    """What makes vectors of pictures.

    Attributes:
        hash: names its weights.
    """

    hash: str

    def embed_image(self, images: Sequence[Any]) -> np.ndarray:
        """(N, D), of length 1."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One model's view of a database.

    Attributes:
        path: where the model is.
        images: vectors of the pictures, with their names in a column.
        names: vectors of the names, which are their ids, with the number of their pictures.
    """

    path: str
    images: Collection
    names: Collection


@dataclasses.dataclass(frozen=True, kw_only=True)
class NameDatabase:
    """Names with pictures, as each of several models sees them.

    Attributes:
        about: how it was made: ``source``, ``field``, ``template``.
    """

    folder: Path
    members: tuple[Member, ...]
    about: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> NameDatabase:
        """Open a folder that `build` made.

        Raises:
            DataError: there is none, or it is damaged.
        """
        place = Path(folder)
        said = read_described(
            place / MANIFEST,
            _FORMAT,
            missing=f"{place} holds no database of names; kmm name build makes one",
        )
        return cls(
            folder=place,
            members=tuple(
                Member(
                    path=each["path"],
                    images=Collection.open(place / str(number) / "images", model_hash=each["hash"]),
                    names=Collection.open(place / str(number) / "names", model_hash=each["hash"]),
                )
                for number, each in enumerate(said["models"])
            ),
            about=said["about"],
        )

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of the models, in their order."""
        return tuple(member.images.model_hash for member in self.members)

    def check_models(self, encoders: Sequence[Encoder]) -> None:
        """Refuse other models than those it was made with.

        Raises:
            UserError: another number of them, another one, or in another order.
        """
        if len(encoders) != len(self.members):
            raise UserError(
                f"{self.folder} was made with {len(self.members)} models, got {len(encoders)}"
            )
        for member, encoder in zip(self.members, encoders, strict=True):
            member.images.check_model(encoder.hash)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did.

    Attributes:
        names, pictures: that can be found.
        nameless: rows of the source without a name.
        bad: rows that could not be read.
        repeated: pictures that stood before, under the same key.
    """

    names: int
    pictures: int
    nameless: int
    bad: int
    repeated: int


def name_of(record: Mapping[str, Any], field: str) -> str:
    """What a record's field says, the first of several; ``labels.type`` looks into ``labels``.

    Returns:
        The name as it is compared and shown; empty where the record says none.
    """
    value: Any = record
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = next(iter(value), None)
    # Columns of numbers name nothing that a person would say.
    return normalize(value)[:_MOST_NAME] if isinstance(value, str) else ""


class NamedRows:
    """The rows of a source that have a name, as a source.

    Attributes:
        names: of each row.
        nameless, bad: how many others there are.
    """

    def __init__(self, source: Source, field: str, *, limit: int | None = None) -> None:
        """Read every record once.

        Raises:
            DataError: no record has a name.
        """
        self.name = source.name
        self._source = source
        self._rows: list[int] = []
        self.names: list[str] = []
        self.nameless = self.bad = 0
        seen: collections.Counter[str] = collections.Counter()
        read = getattr(source, "record", None) or (lambda number: source.read(number).record)
        for number in range(min(len(source), limit or len(source))):
            try:
                record = read(number)
            except DataError:
                self.bad += 1
                continue
            seen.update(record.keys())
            if name := name_of(record, field):
                self._rows.append(number)
                self.names.append(name)
            else:
                self.nameless += 1
        if not self._rows:
            raise DataError(
                f"{source.name}: no record has a text in the field {field!r}; they have "
                + ", ".join(sorted(seen))
            )

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, i: int) -> Row:
        """Row ``i`` of those with a name."""
        return self._source.read(self._rows[i])


def build(
    folder: str | os.PathLike[str],
    source: Source,
    models: Sequence[str],
    *,
    load: Callable[[str], Embedder],
    field: str,
    template: str = "{name}",
    source_url: str | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    max_bad_share: float = MAX_BAD_SHARE,
    tell: Callable[[str, Progress], None] = lambda model, progress: None,
) -> Built:
    """Make a database of names; killed meanwhile, the same call goes on.

    Args:
        models: paths of one or several, each of which is loaded in its turn.
        field: of the records that holds the name, such as ``product_name`` or ``labels.type``.
        template: the sentence that a name's text vector is of.
        tell: called with the model's path and how far it is.

    Raises:
        UserError: there is something in the folder already, or no model.
        DataError: no row has a name, or too many cannot be read.
    """
    place = Path(folder)
    if not models:
        raise UserError("no model: name one or several that see pictures and read names")
    check_template(template)
    about = {"source": source_url or source.name, "field": field, "template": template}
    _refuse_other(place, about)
    rows = _named(source, field, limit, max_bad_share)
    write_json(place / "making.json", about)
    said: list[dict[str, str]] = []
    built: list[Built] = []
    for number, path in enumerate(models):
        model = load(path)
        if model.hash in {each["hash"] for each in said}:
            raise UserError(f"{path} is a model that is named twice; its votes would count twice")
        embedded = place / f"{number}-vectors"
        report = _embedded(embedded, rows, model, path, source_url, batch_size, max_bad_share, tell)
        shutil.rmtree(place / str(number), ignore_errors=True)  # of a build that was killed here
        member = Member(
            path=path,
            images=Collection.create(
                place / str(number) / "images", model_hash=model.hash, dim=model.embedding
            ),
            names=Collection.create(
                place / str(number) / "names", model_hash=model.hash, dim=model.embedding
            ),
        )
        built.append(_put(member, embedded, rows, model, template, report.bad))
        said.append({"path": path, "hash": model.hash})
    write_json(place / MANIFEST, {"format": _FORMAT, "about": about, "models": said})
    for number in range(len(models)):
        shutil.rmtree(place / f"{number}-vectors")
    (place / "making.json").unlink()
    return built[0]


def add(
    folder: str | os.PathLike[str],
    source: Source,
    *,
    load: Callable[[str], Embedder],
    field: str | None = None,
    source_url: str | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    max_bad_share: float = MAX_BAD_SHARE,
    tell: Callable[[str, Progress], None] = lambda model, progress: None,
) -> Built:
    """Put more pictures into a database; those whose keys are there take the old ones' place.

    Names that have no picture any more go. Killed meanwhile, the same call goes on.

    Args:
        field: that holds the name, by default as it was built.

    Raises:
        DataError: no database, no row with a name, or too many that cannot be read.
        UserError: a model is no longer what it was.
    """
    database = NameDatabase.open(folder)
    rows = _named(source, field or database.about["field"], limit, max_bad_share)
    built = []
    for number, member in enumerate(database.members):
        model = load(member.path)
        member.images.check_model(model.hash)
        embedded = database.folder / f"{number}-more"
        report = _embedded(
            embedded, rows, model, member.path, source_url, batch_size, max_bad_share, tell
        )
        built.append(_put(member, embedded, rows, model, database.about["template"], report.bad))
    for number in range(len(database.members)):
        shutil.rmtree(database.folder / f"{number}-more")
    return built[0]


def _named(source: Source, field: str, limit: int | None, max_bad_share: float) -> NamedRows:
    rows = NamedRows(source, field, limit=limit)
    if rows.bad > max_bad_share * (len(rows) + rows.nameless + rows.bad):
        raise DataError(
            f"{source.name}: {rows.bad:,} records are bad, more than {max_bad_share:.1%}"
        )
    return rows


def _embedded(
    place: Path,
    rows: NamedRows,
    model: Embedder,
    path: str,
    source_url: str | None,
    batch_size: int,
    max_bad_share: float,
    tell: Callable[[str, Progress], None],
) -> EmbedReport:
    return embed_source(
        model,
        rows,
        place,
        batch_size=batch_size,
        max_bad_share=max_bad_share,
        source_url=source_url,
        model_path=path,
        progress=lambda progress: tell(path, progress),
    )


def _put(
    member: Member, embedded: Path, rows: NamedRows, model: Embedder, template: str, bad: int
) -> Built:
    found = store.load_embeddings(embedded)
    first = store.first_of_each(found)
    name_of_key: dict[str, str] = {}
    kept = set(first.ids)
    for number, name in enumerate(rows.names):
        try:
            key = rows.read(number).key
        except DataError:
            continue
        if key in kept:
            name_of_key.setdefault(key, name)
    for start in range(0, len(first.ids), _PUT_AT_ONCE):
        ids = first.ids[start : start + _PUT_AT_ONCE]
        columns = {NAME: [name_of_key[id] for id in ids]}
        member.images.put(ids, first.vectors[start : start + _PUT_AT_ONCE], columns)
    counts = member.images.facet(NAME)
    touched = list(dict.fromkeys(name_of_key[id] for id in first.ids))
    vectors = model.embed_text([fill(template, name) for name in touched], "query", batch_size=256)
    member.names.put(touched, vectors, {"pictures": [counts[name] for name in touched]})
    member.names.delete(name for name in member.names.ids() if name not in counts)
    return Built(
        names=len(counts),
        pictures=len(member.images),
        nameless=rows.nameless,
        bad=rows.bad + bad,
        repeated=len(found.ids) - len(first.ids),
    )


def _refuse_other(place: Path, about: Mapping[str, Any]) -> None:
    from kmm_jax.files import read_json

    if (place / MANIFEST).exists():
        raise UserError(f"{place} holds a database of names already; choose another folder")
    if place.exists() and any(place.iterdir()) and read_json(place / "making.json") != about:
        raise UserError(
            f"{place} is no empty folder, and no build from the same source and field; choose "
            "another one"
        )
