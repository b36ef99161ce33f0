"""Tags of documents from their images (slide 5.3), from the vectors that the index has.

No picture is read and no model runs. What is tagged is noted with the document, so that a killed
run goes on, and only new documents are left for the next one.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from kmm_jax.errors import UserError, nearest
from kmm_jax.retrieval.collection import Collection
from kmm_jax.search.document_search import DocumentSearch, check_documents
from kmm_jax.search.documents import RESERVED, Document, DocumentImage, Tag
from kmm_jax.tagging.labels import Naming
from kmm_jax.tagging.tagger import Tagger

_BATCH = 256  # documents tagged at a time

Images = Literal["union", "vote", "first"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DocumentTagConfig:
    """How labels of images become tags of a document.

    Attributes:
        images: of a document with several: ``union``, what any of them shows, as whoever filters
            by it wants to see that; ``vote``, what half of them or more show; ``first`` alone.
        naming: which of a label's names is written.
        names: what a group's tag is called, by the group's key; its key where it is not said.

    Raises:
        UserError: no such way, or a name that a tag cannot have.
    """

    images: Images = "union"
    naming: Naming = "ko"
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for value, choices in ((self.images, Images), (self.naming, Naming)):
            if value not in get_args(choices):
                raise UserError(f"no {value!r}{nearest(value, get_args(choices))}")
        for name in self.names.values():
            if not name.strip() or name in RESERVED:
                raise UserError(f"a tag cannot be called {name!r}")

    def mark(self, tagger: Tagger) -> str:
        """Of all that tags depend on."""
        about = json.dumps([self.images, self.naming, dict(self.names)], sort_keys=True)
        return f"{tagger.hash}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagged:
    """What was done.

    Attributes:
        documents: that were tagged now.
        changed: those whose tags became others.
        labels: how many of them have each label, by the tag's name, the commonest first.
        own: of how many a tag of the same name was given with them, which stays.
    """

    documents: int
    changed: int
    labels: Mapping[str, Mapping[str, int]]
    own: int


def tag_documents(
    folder: str | os.PathLike[str],
    tagger: Tagger,
    config: DocumentTagConfig | None = None,
    *,
    tell: Callable[[int, int], None] | None = None,
) -> Tagged:
    """Tag all documents that this tagger has not tagged so.

    Args:
        tell: called with the number of documents done, and of all that are to be.

    Raises:
        DataError: no documents there.
        UserError: they are of another model, wait for vectors, or have a tag of another type.
    """
    config = config or DocumentTagConfig()
    names = _names(tagger, config)
    search = _opened(folder, tagger)
    _check_columns(search, names.values())
    _catch_up(search)
    mark = config.mark(tagger)
    total, done, changed, own = search.store.count_untagged(mark), 0, 0, 0
    labels: dict[str, collections.Counter[str]] = {
        name: collections.Counter() for name in names.values()
    }
    for documents in search.store.untagged(mark, most=_BATCH):
        found = {
            id: {names[key]: values for key, values in tags.items()}
            for id, tags in _tags(search, tagger, documents, config).items()
        }
        for tags in found.values():
            for name, values in tags.items():
                labels[name].update(values)
        changed += search.store.tag(mark, found, current=search.current)
        _catch_up(search)
        own += sum(_has_own(search, found))
        done += len(documents)
        if tell:
            tell(done, total)
    return Tagged(
        documents=done,
        changed=changed,
        labels={name: dict(found.most_common()) for name, found in labels.items()},
        own=own,
    )


def untag_documents(folder: str | os.PathLike[str]) -> int:
    """Take all tags away that were computed; says of how many documents.

    Raises:
        DataError: no documents there.
        UserError: some wait for vectors.
    """
    search = _opened(folder)
    _catch_up(search)
    ids = search.store.computed()
    for start in range(0, len(ids), _BATCH):
        some: dict[str, dict[str, Tag]] = {id: {} for id in ids[start : start + _BATCH]}
        search.store.tag("", some, current=search.current)
        _catch_up(search)
    return len(ids)


def _names(tagger: Tagger, config: DocumentTagConfig) -> dict[str, str]:
    keys = [group.key for group in tagger.labels.groups]
    for key in config.names:
        if key not in keys:
            raise UserError(f"the tagger has no group {key!r}{nearest(key, keys)}")
    names = {key: config.names.get(key, key) for key in keys}
    if len(set(names.values())) < len(names):
        raise UserError(f"two groups cannot have the same tag: {', '.join(names.values())}")
    if wrong := [name for name in names.values() if name in RESERVED]:
        raise UserError(f"a tag cannot be called {wrong[0]!r}; give it another name")
    return names


class _NoModel:
    """Stands in for the model whose vectors are there: none is made anew."""

    def __init__(self, hash: str, dim: int) -> None:
        self.hash, self.embedding = hash, dim

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        raise UserError(
            f"{len(texts)} documents are not searched yet, as an earlier kmm documents add was cut "
            "short; run that again first"
        )

    def embed_image(self, images: Sequence[Any]) -> np.ndarray:
        return self.embed_text(["" for _ in images])


def _opened(folder: str | os.PathLike[str], tagger: Tagger | None = None) -> DocumentSearch:
    check_documents(folder)
    titles = Collection.open(Path(folder) / "titles", engine="exact")
    if tagger is not None:
        tagger.check_model(titles.model_hash, str(folder))
    return DocumentSearch(folder, _NoModel(titles.model_hash, titles.dim))


def _check_columns(search: DocumentSearch, names: Iterable[str]) -> None:
    """A column has one type: refuse a tag that documents have as something else."""
    known = search.view().columns
    for name in names:
        kind = known.get(name, "null")
        if "list" not in kind and kind != "null":
            raise UserError(
                f"documents in {search.folder} have a tag {name!r} of their own, of the type "
                f"{kind}, and computed ones are lists of texts; write them under another name "
                f"(--name {name}=...)"
            )


def _no_picture(image: DocumentImage) -> Image.Image:
    raise UserError(
        f"{image.path} has no vector yet, as an earlier kmm documents add was cut short; run that "
        "again first"
    )


def _catch_up(search: DocumentSearch) -> None:
    search.catch_up(_no_picture, again=False)


def _tags(
    search: DocumentSearch,
    tagger: Tagger,
    documents: Sequence[Document],
    config: DocumentTagConfig,
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Of each document its labels by group; none of one without images that are searched."""
    vectors = [search.images_of(document)[1] for document in documents]
    counts = [len(each) for each in vectors]
    if not sum(counts):
        return {document.id: {} for document in documents}
    given_NC = tagger.answers(tagger.probabilities(np.concatenate(vectors)))
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    ends = np.cumsum(counts)
    for document, count, end in zip(documents, counts, ends, strict=True):
        shown_KC = given_NC[end - count : end]
        given_C = _together(shown_KC, config.images)
        found[document.id] = tagger.named(given_C, config.naming)
    return found


def _together(given_KC: np.ndarray, images: Images) -> np.ndarray:
    """Labels (C,) of a document from those of its K images."""
    if not len(given_KC):
        return np.zeros(given_KC.shape[1], bool)
    if images == "first":
        first: np.ndarray = given_KC[0]
        return first
    share_C = given_KC.mean(axis=0)
    found: np.ndarray = share_C > 0 if images == "union" else share_C >= 0.5
    return found


def _has_own(search: DocumentSearch, found: Mapping[str, Mapping[str, Any]]) -> list[bool]:
    """Of each document that was tagged, whether it has one of the tags from elsewhere."""
    there = search.store.get(found)
    return [
        any(there[id].tags.get(name) != values for name, values in tags.items())
        for id, tags in found.items()
        if id in there
    ]
