"""The documents themselves, in SQLite: what indexes are made of and can be made anew from.

Every change has a number. An index that knows up to which number it is current asks for what came
after, so that one that was killed, lost or added later catches up.

Tags that were computed stand in a table of their own: to put a document in again as it was takes
none of them away, and what only tags changed needs no vector anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kmm_jax.errors import DataError, UserError
from kmm_jax.search.documents import Document, Tag, document

_FORMAT = 1
_MOST_ASKED = 500  # ids in one statement


class Change(NamedTuple):
    """A document as it now is; None where it is gone.

    ``content`` is the number from which on its texts and images are as they are: what came after
    changed tags alone.
    """

    number: int
    id: str
    document: Document | None
    content: int


class DocumentStore:
    """Documents by id, and the changes of them in order.

    Images that were purged are taken up no more. Of them the store keeps a digest of their hash,
    which tells whether an image is one of them, and not the hash.

    Safe against a killed process; against lost power up to the last moments (write-ahead log with
    ``synchronous=FULL``: nothing that was acknowledged is lost).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, made where it is not there.

        Raises:
            DataError: it is damaged, or no store of this version.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(self.path, check_same_thread=False, timeout=30)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _FORMAT):
                raise DataError(f"{self.path} is a store of version {version}, here is {_FORMAT}")
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS documents"
                    " (id TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, json TEXT)"
                )
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS purged (digest BLOB PRIMARY KEY) WITHOUT ROWID"
                )
                # What came later; a program from before leaves it out and means ``number``.
                columns = self._connection.execute("PRAGMA table_info(documents)").fetchall()
                if not any(name == "content" for _, name, *_ in columns):
                    self._connection.execute("ALTER TABLE documents ADD COLUMN content INTEGER")
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS computed"
                    " (id TEXT PRIMARY KEY, by TEXT NOT NULL, tags TEXT NOT NULL)"
                )
                self._connection.execute(f"PRAGMA user_version={_FORMAT}")
        except sqlite3.DatabaseError as error:
            raise DataError(f"{self.path} is damaged: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __len__(self) -> int:
        (count,) = self._connection.execute(
            "SELECT count(*) FROM documents WHERE json IS NOT NULL"
        ).fetchone()
        return int(count)

    @property
    def last(self) -> int:
        """The number of the last change; 0 before the first."""
        (number,) = self._connection.execute("SELECT max(number) FROM documents").fetchone()
        return int(number or 0)

    def put(self, documents: Iterable[Document]) -> int:
        """Put documents in, in the place of those with their ids, without images that were purged.

        Tags that were computed stay with a document whose images do.

        Returns:
            How many are new or changed; to put in what is there already is no change.

        Raises:
            UserError: an id stands twice.
        """
        given = self._without_purged(documents)
        there = self._given(each.id for each in given)
        if len({each.id for each in given}) < len(given):
            raise UserError("a document's id stands twice in one change")
        changed = [each for each in given if there.get(each.id) != each]
        other = [
            each.id
            for each in changed
            if each.id not in there or _hashes(there[each.id]) != _hashes(each)
        ]
        self._change([(each.id, each.to_json()) for each in changed], other)
        return len(changed)

    def delete(self, ids: Iterable[str]) -> int:
        """Take documents out; says how many were there."""
        there = [each.id for each in self.get(dict.fromkeys(ids)).values()]
        self._change([(id, None) for id in there], there)
        return len(there)

    def get(self, ids: Iterable[str]) -> dict[str, Document]:
        """Those of the documents that are there, by id, in the order asked for.

        With the tags that were computed; one that the document was given has precedence.
        """
        ids = list(ids)
        found = {id: _document(text, tags) for id, text, tags in self._rows(ids)}
        return {id: found[id] for id in ids if id in found}

    def _given(self, ids: Iterable[str]) -> dict[str, Document]:
        """The same without tags that were computed."""
        return {id: _document(text) for id, text, _ in self._rows(list(ids))}

    def _rows(self, ids: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
        """Id, JSON and computed tags."""
        for start in range(0, len(ids), _MOST_ASKED):
            some = ids[start : start + _MOST_ASKED]
            yield from self._connection.execute(
                f"SELECT d.id, d.json, c.tags FROM documents d LEFT JOIN computed c ON c.id = d.id "
                f"WHERE d.json IS NOT NULL AND d.id IN ({','.join('?' * len(some))})",
                some,
            ).fetchall()

    def tag(self, by: str, tags: Mapping[str, Mapping[str, Tag]], *, current: int) -> int:
        """Give documents the tags that were computed for them, in the place of those of before.

        Args:
            by: what computed them, for `untagged`.
            tags: by id; empty where there is none. Ids that are no longer there are passed over.
            current: up to which number the indexes are: of what they hold no vector changes.

        Returns:
            How many documents changed.
        """
        changed = 0
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for id, values in tags.items():
                text = json.dumps(dict(values), ensure_ascii=False, sort_keys=True)
                row = self._connection.execute(
                    "SELECT d.number, d.content, c.tags FROM documents d LEFT JOIN computed c"
                    " ON c.id = d.id WHERE d.id = ? AND d.json IS NOT NULL",
                    (id,),
                ).fetchone()
                if row is None:
                    continue
                number, content, before = row
                self._connection.execute(
                    "INSERT OR REPLACE INTO computed (id, by, tags) VALUES (?, ?, ?)",
                    (id, by, text),
                )
                if (before or "{}") == text:
                    continue
                changed += 1
                kept = content if content is not None else number
                self._connection.execute(
                    "UPDATE documents SET number = (SELECT max(number) + 1 FROM documents),"
                    " content = ? WHERE id = ?",
                    (kept if number <= current else None, id),
                )
        return changed

    def untagged(self, by: str, *, most: int) -> Iterator[list[Document]]:
        """Documents whose tags were not computed by ``by``, at most so many at a time.

        They may be tagged meanwhile.
        """
        last = 0
        while True:
            rows = self._connection.execute(
                "SELECT d.number, d.json, c.tags FROM documents d LEFT JOIN computed c"
                " ON c.id = d.id WHERE d.json IS NOT NULL AND d.number > ?"
                " AND (c.by IS NULL OR c.by != ?) ORDER BY d.number LIMIT ?",
                (last, by, most),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [_document(text, tags) for _, text, tags in rows]

    def count_untagged(self, by: str) -> int:
        """How many there are."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM documents d LEFT JOIN computed c ON c.id = d.id"
            " WHERE d.json IS NOT NULL AND (c.by IS NULL OR c.by != ?)",
            (by,),
        ).fetchone()
        return int(count)

    def computed(self) -> list[str]:
        """The ids of documents that have tags that were computed."""
        rows = self._connection.execute("SELECT id FROM computed WHERE tags != '{}' ORDER BY id")
        return [id for (id,) in rows.fetchall()]

    def count_after(self, number: int) -> int:
        """How many documents changed after a number."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM documents WHERE number > ?", (number,)
        ).fetchone()
        return int(count)

    def after(self, number: int, *, most: int) -> Iterator[list[Change]]:
        """What changed after a number, in order, at most so many at a time."""
        while True:
            rows = self._connection.execute(
                "SELECT d.number, d.id, d.json, c.tags, d.content FROM documents d"
                " LEFT JOIN computed c ON c.id = d.id WHERE d.number > ?"
                " ORDER BY d.number LIMIT ?",
                (number, most),
            ).fetchall()
            if not rows:
                return
            yield [
                Change(
                    number,
                    id,
                    None if text is None else _document(text, tags),
                    number if content is None else content,
                )
                for number, id, text, tags, content in rows
            ]
            number = rows[-1][0]

    def all(self) -> Iterator[Document]:
        """Every document, by id; to be read to its end before the next change."""
        for (text,) in self._connection.execute(
            "SELECT json FROM documents WHERE json IS NOT NULL ORDER BY id"
        ):
            yield document(json.loads(text))

    def purged(self, hashes: Iterable[str]) -> set[str]:
        """Those of some images' hashes that were purged."""
        by_digest = {_digest(hash): hash for hash in hashes}
        digests, found = list(by_digest), set()
        for start in range(0, len(digests), _MOST_ASKED):
            some = digests[start : start + _MOST_ASKED]
            rows = self._connection.execute(
                f"SELECT digest FROM purged WHERE digest IN ({','.join('?' * len(some))})", some
            )
            found |= {by_digest[digest] for (digest,) in rows}
        return found

    def refuse(self, hashes: Collection[str]) -> None:
        """Take up images of these hashes no more."""
        with self._connection:
            self._connection.executemany(
                "INSERT OR IGNORE INTO purged VALUES (?)", [(_digest(hash),) for hash in hashes]
            )

    def purge(self, documents: Collection[Document], gone: Collection[str]) -> None:
        """Overwrite documents as they shall be, and take others out, leaving nothing of either.

        What is overwritten is no change that indexes catch up with: they were purged before.

        Raises:
            UserError: another process has the file open for long; nothing is lost by another try.
        """
        connection = self._connection
        connection.execute("PRAGMA secure_delete=ON")
        with connection:
            connection.executemany(
                "UPDATE documents SET json = ? WHERE id = ?",
                [(each.to_json(), each.id) for each in documents],
            )
            # Their numbers stay, so that the next change has a higher one.
            connection.executemany(
                "UPDATE documents SET json = NULL WHERE id = ?", [(id,) for id in gone]
            )
            # What was computed from their images is computed anew: by nobody so far.
            connection.executemany(
                "UPDATE computed SET by = '' WHERE id = ?", [(each.id,) for each in documents]
            )
            connection.executemany("DELETE FROM computed WHERE id = ?", [(id,) for id in gone])
        try:
            # Free pages, and the log of what was written before.
            connection.execute("VACUUM")
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path} is in use ({error}); purge again") from error
        if busy:
            raise UserError(f"{self.path} is being read; purge again once that has ended")

    def _without_purged(self, documents: Iterable[Document]) -> list[Document]:
        given = list(documents)
        purged = self.purged(image.hash for each in given for image in each.images)
        return [without_images(each, purged) for each in given] if purged else given

    def _change(self, rows: Sequence[tuple[str, str | None]], other: Sequence[str]) -> None:
        """Put rows in; of those with ``other`` images what was computed goes."""
        with self._connection:
            # The numbers of two processes must not cross.
            self._connection.execute("BEGIN IMMEDIATE")
            (last,) = self._connection.execute("SELECT max(number) FROM documents").fetchone()
            self._connection.executemany(
                "INSERT OR REPLACE INTO documents (id, number, json) VALUES (?, ?, ?)",
                [
                    (id, number, text)
                    for number, (id, text) in enumerate(rows, start=(last or 0) + 1)
                ],
            )
            self._connection.executemany(
                "DELETE FROM computed WHERE id = ?", [(id,) for id in other]
            )


def without_images(document: Document, hashes: Collection[str]) -> Document:
    """A document without some of its images."""
    images = tuple(each for each in document.images if each.hash not in hashes)
    return dataclasses.replace(document, images=images)


def _digest(hash: str) -> bytes:
    return hashlib.sha256(hash.encode()).digest()


def _document(text: str, computed: str | None = None) -> Document:
    """A document as it stands in the store, with tags that were computed."""
    found = document(json.loads(text))
    if not computed or computed == "{}":
        return found
    more = document({"id": found.id, "title": "", "tags": json.loads(computed)}).tags
    return dataclasses.replace(found, tags={**more, **found.tags})


def _hashes(given: Document) -> list[str]:
    return [image.hash for image in given.images]
