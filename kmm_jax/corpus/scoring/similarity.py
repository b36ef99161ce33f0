"""How well a picture and its texts agree, by any dual encoder (slide 2.2: the KELIP score)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kmm_jax.corpus import beside
from kmm_jax.corpus.scoring.encoder import encoder
from kmm_jax.corpus.scoring.protocol import Sample, Values
from kmm_jax.text.styles import Style

_TITLE, _QUERY = "title_kelip_score", "query_kelip_score"
_NAME, _CAPTION = "product_name_kelip_score", "caption_kelip_score"

OF_ONE = (_TITLE, _NAME)
"""Columns of texts of which a record has one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similarity:
    """Cosine of the picture's vector and that of each of its texts.

    A text below its threshold leaves the row; a row that has none left is rejected. Which threshold
    is best, ``kmm corpus sweep`` finds.

    Attributes:
        model: a run, or a model exported or imported, by path or URL; None leaves the score out.
        least_title: threshold of titles, captions and names of products; None only measures.
        least_query: threshold of queries; None only measures.
        title_style, query_style, name_style: of titles and captions, queries, names of products,
            for models trained with style tokens.
        batch: pictures a call.
    """

    model: str | None = None
    least_title: float | None = None
    least_query: float | None = None
    title_style: Style = "prompt"
    query_style: Style = "query"
    name_style: Style = "shopping"
    batch: int = 64

    name = "similarity"
    of_texts = True

    @property
    def side(self) -> int:
        """The model's."""
        return encoder(self.model).image_size

    def columns(self) -> dict[str, pa.DataType]:
        """A number for each text."""
        return {column: pa.list_(pa.float64()) for column in (_TITLE, _QUERY, _NAME, _CAPTION)}

    def identity(self) -> Any:
        """The model, as it knows itself."""
        styles = self.title_style, self.query_style, self.name_style
        return ["similarity 2", encoder(self.model).hash, styles]

    def load(self) -> _Cosine:
        """The model, compiled at its first batch."""
        return _Cosine(self)

    def judge(self, row: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
        """The row with the texts that agree with the picture."""
        row = _keeping(row, _TITLE, ("titles", "title_counts"), self.least_title)
        row = _keeping(row, _QUERY, ("query", "query_count"), self.least_query)
        if self.least_title is not None and row["beside"]:
            stays = {c: [score >= self.least_title for score in row[c]] for c in (_NAME, _CAPTION)}
            scores = {
                column: [score for score, stay in zip(row[column], keep, strict=True) if stay]
                for column, keep in stays.items()
            }
            kept = beside.keeping(row["beside"], all(stays[_NAME]), stays[_CAPTION])
            row = {**row, **scores, "beside": kept}
        has_text = row["titles"] or row["query"] or beside.has_text(row["beside"])
        return row, None if has_text else "similarity"

    def thresholds(self) -> dict[str, tuple[str, float]]:
        """Of each kind of text, where it is drawn."""
        lines = {
            _TITLE: self.least_title,
            _NAME: self.least_title,
            _CAPTION: self.least_title,
            _QUERY: self.least_query,
        }
        return {column: ("least", line) for column, line in lines.items() if line is not None}


def _keeping(
    row: Mapping[str, Any], scored: str, texts: Sequence[str], least: float | None
) -> Mapping[str, Any]:
    if least is None:
        return row
    stays = [score >= least for score in row[scored]]
    return {
        **row,
        **{
            column: [value for value, keep in zip(row[column], stays, strict=True) if keep]
            for column in (scored, *texts)
        },
    }


class _Cosine:
    def __init__(self, settings: Similarity) -> None:
        self._settings = settings
        self._model = encoder(settings.model)

    def score(self, samples: Sequence[Sample]) -> list[Values]:
        """One number a text; texts that come more than once are embedded once."""
        settings = self._settings
        pictures = [sample.pixels_HWC for sample in samples]
        images_NE = self._model.embed_image(pictures, batch_size=settings.batch)
        found = {
            _TITLE: self._cosines(images_NE, [s.titles for s in samples], settings.title_style),
            _QUERY: self._cosines(images_NE, [s.queries for s in samples], settings.query_style),
            _NAME: self._cosines(images_NE, [s.names for s in samples], settings.name_style),
            _CAPTION: self._cosines(images_NE, [s.captions for s in samples], settings.title_style),
        }
        return [
            {column: of_all[n] for column, of_all in found.items()} for n in range(len(samples))
        ]

    def _cosines(
        self, images_NE: np.ndarray, texts: Sequence[Sequence[str]], style: Style
    ) -> list[list[float]]:
        distinct = sorted({text for of_one in texts for text in of_one})
        if not distinct:
            return [[] for _ in texts]
        places = {text: place for place, text in enumerate(distinct)}
        vectors_TE = self._model.embed_text(distinct, style)
        return [
            [round(float(image_E @ vectors_TE[places[text]]), 5) for text in of_one]
            for image_E, of_one in zip(images_NE, texts, strict=True)
        ]
