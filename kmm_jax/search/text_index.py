"""Documents by their words: BM25 over Korean morphemes, by the engine Tantivy.

The engine knows no Korean; texts are cut here (``text.morphemes.content_words``) and given to it as
words between spaces. BM25 is its own (Robertson and Zaragoza, 2009; k1 1.2, b 0.75).
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm_jax.errors import DataError, UserError, nearest, require
from kmm_jax.files import read_described, refuse_other, write_json
from kmm_jax.text import morphemes

_ABOUT = "text.json"
_FORMAT = "kmm_jax text index 1"
_ENGINE = "tantivy"
_ID = "id"
_HEAP = 64 << 20  # bytes that a change may hold before it writes
_AT_A_TIME = 1_000  # documents whose words are cut at once


class TextIndex:
    """Finds documents by words of their fields; documents come, are replaced and go.

    A change counts once it is committed, which the engine does by one rename: killed before, the
    index is as it was. One process changes it at a time, any number search.

    Attributes:
        folder: where it is.
        fields: what documents have, such as ``title`` and ``body``.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.fields: tuple[str, ...] = tuple(about["fields"])
        self.cut_by: str = about["cut_by"]
        self._engine = require("tantivy", extra="search")
        builder = self._engine.SchemaBuilder()
        builder.add_text_field(_ID, stored=True, tokenizer_name="raw", index_option="basic")
        for field in self.fields:
            builder.add_text_field(field, tokenizer_name="whitespace", index_option="freq")
        self._schema = builder.build()
        place = folder / _ENGINE
        place.mkdir(exist_ok=True)
        try:
            self._index = self._engine.Index(self._schema, path=str(place))
        except ValueError as error:
            raise DataError(f"{place} is damaged: {error}; make the text index anew") from error
        self._pinned: Any = None
        whitespace = self._engine.TextAnalyzerBuilder(self._engine.Tokenizer.whitespace())
        self._index.register_tokenizer("whitespace", whitespace.build())

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], *, fields: Sequence[str] = ("title", "body")
    ) -> TextIndex:
        """Make an empty one.

        Raises:
            UserError: there is something in the folder already, or Tantivy is not installed.
        """
        folder = Path(folder)
        refuse_other(folder, lambda _: False, "empty folder for a text index")
        if _ID in fields or not fields:
            raise UserError(f"fields are what documents say, without {_ID!r}; got {list(fields)}")
        about = {"format": _FORMAT, "fields": list(fields), "cut_by": _cut_by()}
        write_json(folder / _ABOUT, about)
        return cls(folder, about)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> TextIndex:
        """Open one.

        Raises:
            DataError: there is none, or it is damaged.
            UserError: Tantivy is not installed.
        """
        folder = Path(folder)
        missing = f"{folder} is no text index: no {_ABOUT} there"
        about = read_described(folder / _ABOUT, _FORMAT, missing=missing)
        return cls(folder, about)

    def __len__(self) -> int:
        return int(self._searcher().num_docs)

    def pinned(self) -> TextIndex:
        """The same as it is now, for searching: it sees no later change."""
        other = copy.copy(self)
        other._pinned = self._searcher()
        return other

    def _searcher(self) -> Any:
        if self._pinned is not None:
            return self._pinned
        self._index.reload()
        return self._index.searcher()

    def change(
        self, put: Iterable[tuple[str, Mapping[str, str]]] = (), delete: Iterable[str] = ()
    ) -> None:
        """Put documents in, in the place of those with their ids, and take others out, as one.

        Args:
            put: ids and texts by field; a field may be absent.
            delete: ids; those that are not there are passed over.

        Raises:
            UserError: another process is changing it, or a field that it does not have.
        """
        put = list(put)
        cut = self._cut([texts for _, texts in put])
        with self._writing() as writer:
            for each in [*delete, *(id for id, _ in put)]:
                writer.delete_documents_by_term(_ID, each)
            for (id, _), words in zip(put, cut, strict=True):
                writer.add_document(self._document(id, words))
            writer.commit()
            writer.wait_merging_threads()

    def rewrite(self, documents: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Hold these documents and no other, and leave nothing of the others on the disk.

        Raises:
            UserError: another process is changing it, or a field that it does not have.
        """
        with self._writing() as writer:
            writer.delete_all_documents()
            documents = iter(documents)
            while some := list(itertools.islice(documents, _AT_A_TIME)):
                for (id, _), words in zip(
                    some, self._cut([texts for _, texts in some]), strict=True
                ):
                    writer.add_document(self._document(id, words))
            writer.commit()
            writer.garbage_collect_files()
            writer.wait_merging_threads()

    def search(
        self, text: str, k: int = 10, *, weights: Mapping[str, float] | None = None
    ) -> list[tuple[str, float]]:
        """The best ``k`` ids for the words of a text, with their BM25 scores, best first.

        Equal scores stand in the order of their ids. A text of particles alone finds nothing.

        Args:
            weights: of fields, 1 where not said; what a document's fields score is added up.

        Raises:
            UserError: ``k`` below 1, or a field that is not there.
        """
        if k < 1:
            raise UserError(f"k must be at least 1, found {k}")
        weights = dict(weights or {})
        self._check_fields(weights)
        words = dict.fromkeys(morphemes.content_words([text])[0])
        query, occur = self._engine.Query, self._engine.Occur
        parts = [
            (
                occur.Should,
                query.boost_query(
                    query.term_query(self._schema, field, word, "freq"), weights.get(field, 1.0)
                ),
            )
            for word in words
            for field in self.fields
            if weights.get(field, 1.0)
        ]
        if not parts:
            return []
        searcher = self._searcher()
        hits = searcher.search(query.boolean_query(parts), limit=k).hits
        found = [(searcher.doc(address).get_first(_ID), float(score)) for score, address in hits]
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def _writing(self) -> Any:
        try:
            return self._index.writer(heap_size=_HEAP, num_threads=1)
        except ValueError as error:
            raise UserError(f"{self.folder} is being changed elsewhere: {error}") from error

    def _document(self, id: str, words: Mapping[str, str]) -> Any:
        document = self._engine.Document()
        document.add_text(_ID, id)
        for field, value in words.items():
            document.add_text(field, value)
        return document

    def _cut(self, documents: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        for each in documents:
            self._check_fields(each)
        texts = [text for each in documents for text in each.values()]
        words = iter(morphemes.content_words(texts))
        return [{field: " ".join(next(words)) for field in each} for each in documents]

    def _check_fields(self, given: Iterable[str]) -> None:
        for field in given:
            if field not in self.fields:
                raise UserError(f"no field {field!r} here{nearest(field, self.fields)}")


def _cut_by() -> str:
    return f"kiwipiepy {morphemes.version()}, content words"
