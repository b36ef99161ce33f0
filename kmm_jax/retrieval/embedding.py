"""From a source and a model to embeddings on disk."""

from __future__ import annotations

import collections
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.bad_rows import BadRowError, BadRows
from kmm_jax.data.images import decode
from kmm_jax.data.reading import in_order
from kmm_jax.data.schema import texts
from kmm_jax.data.sources import Row, Source
from kmm_jax.errors import DataError, UserError, nearest
from kmm_jax.retrieval import store
from kmm_jax.retrieval.settings import VectorType
from kmm_jax.text.styles import FIELD_STYLES, STYLES, Style

_LISTED = 20
MAX_BAD_SHARE = 0.01
"""The share of unusable rows that stops an export, as it stops a training."""


class Embedder(Protocol):
    """What of a model is used here; ``kmm_jax.load`` gives one."""

    hash: str

    @property
    def image_size(self) -> int:
        """Side of the images it takes, pixels."""
        ...

    @property
    def embedding(self) -> int:
        """Dimension of its vectors."""
        ...

    def embed_image(self, images: Sequence[Any], *, batch_size: int) -> np.ndarray:
        """Unit vectors (N, E) of images."""
        ...

    def embed_text(
        self, texts: Sequence[str], style: Style | None, *, batch_size: int
    ) -> np.ndarray:
        """Unit vectors (N, E) of texts."""
        ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an export is: rows read and bad rows met by this process, and its seconds."""

    done: int
    bad: int
    total: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """What an export did.

    Attributes:
        rows: of the source.
        computed: rows that were read now; the others lay in whole parts already.
        bad: rows left out now, those without a text of the style too.
        messages: why, for the first 20 of them.
        finished: whether all parts are there, those of other processes too.
    """

    rows: int
    computed: int
    bad: int
    messages: list[str]
    finished: bool


def embed_source(
    model: Embedder,
    source: Source,
    folder: str | os.PathLike[str],
    *,
    kind: store.Kind = "image",
    style: Style = "query",
    batch_size: int = 64,
    part_rows: int = 8192,
    max_bad_share: float = MAX_BAD_SHARE,
    source_url: str | None = None,
    model_path: str | None = None,
    dtype: VectorType = "float32",
    progress: Callable[[Progress], None] = lambda _: None,
    process_index: int = 0,
    process_count: int = 1,
) -> EmbedReport:
    """Embed every good row of ``source`` into ``folder``; goes on where it was stopped.

    A bad row is left out and counted; too many stop the export. Ids are the rows' keys.

    Args:
        kind: ``"image"``, or ``"text"``: of each row, the text of ``style`` (its likeliest query,
            or the first of its titles and captions, or of its product name and attributes); a row
            with none is left out, and is not bad for that.
        max_bad_share: of the rows, the highest that may be bad. Judged while rows are read, see
            :class:`~kmm_jax.data.bad_rows.BadRows`, and of images once more over all parts, those
            of earlier calls and other processes too.
        source_url: what ``open_source`` opens again, by default the source's name. An export of
            another URL into the same folder is refused.
        model_path: noted, so that the model can be found again.
        dtype: that the vectors are kept as.
        progress: called after each batch.
        process_index, process_count: see :func:`~kmm_jax.retrieval.store.export_embeddings`.

    Raises:
        DataError: not one good row, or too many bad ones; names the first. Whole parts stay, the
            export does not become whole.
        UserError: an unknown style, or a folder that holds another export.
    """
    if style not in STYLES:
        raise UserError(f"no text style {style!r}{nearest(str(style), STYLES)}")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, found {batch_size}")
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share must be in [0, 1], found {max_bad_share}")
    bad_rows = BadRows([(source.name, len(source))], max_share=max_bad_share)
    counts: collections.Counter[str] = collections.Counter()
    messages: list[str] = []
    started = time.monotonic()
    pool = ThreadPoolExecutor(_threads(), thread_name_prefix="kmm-embed")

    def read(number: int) -> tuple[str, Any] | DataError:
        try:
            row = source.read(number)
            if kind == "text":
                return row.key, _text(row.key, row.record, style)
            return row.key, _pixels(row, model.image_size)
        except DataError as error:
            return error

    def embed(values: list[Any]) -> np.ndarray:
        if kind == "text":
            return model.embed_text(values, style, batch_size=batch_size)
        return model.embed_image(values, batch_size=batch_size)

    def judge(number: int, made: object) -> None:
        try:
            if isinstance(made, DataError) and not isinstance(made, _NoTextError):
                bad_rows.bad(0, number, made)
            else:
                bad_rows.good(0, number)
        except DataError:
            messages.clear()  # its own message lists them
            raise

    def compute(start: int, stop: int) -> tuple[list[str], np.ndarray]:
        ids: list[str] = []
        vectors = [np.zeros((0, model.embedding), np.float32)]
        pending: list[Any] = []
        rows = in_order(pool, read, range(start, stop), ahead=2 * batch_size)
        for number, made in zip(range(start, stop), rows, strict=True):
            counts["done"] += 1
            if isinstance(made, DataError):
                counts["bad"] += 1
                if len(messages) < _LISTED:
                    messages.append(f"row {number}: {made}")
            else:
                ids.append(made[0])
                pending.append(made[1])
            judge(number, made)
            if len(pending) == batch_size or (pending and number == stop - 1):
                vectors.append(embed(pending))
                pending = []
                seconds = time.monotonic() - started
                progress(
                    Progress(
                        done=counts["done"], bad=counts["bad"], total=len(source), seconds=seconds
                    )
                )
        return ids, np.concatenate(vectors)

    folder = Path(folder)
    manifest = folder / store.MANIFEST
    was_whole = manifest.is_file()
    origin = {"source": source_url or source.name}
    if kind == "text":
        origin["style"] = style
    try:
        store.export_embeddings(
            folder,
            rows=len(source),
            part_rows=part_rows,
            compute=compute,
            kind=kind,
            model_hash=model.hash,
            dim=model.embedding,
            origin=origin,
            metadata={"model_path": model_path},
            dtype=dtype,
            process_index=process_index,
            process_count=process_count,
        )
    except DataError as error:
        if messages:
            raise DataError(f"{error}\n  " + "\n  ".join(messages)) from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    finished = manifest.is_file()
    if finished and kind == "image":
        try:
            _check_whole(manifest, max_bad_share, messages)
        except DataError:
            # A whole export that stood here before, made with a higher limit, is not taken away.
            if not was_whole:
                manifest.unlink(missing_ok=True)
            raise
    return EmbedReport(
        rows=len(source),
        computed=counts["done"],
        bad=counts["bad"],
        messages=messages,
        finished=finished,
    )


def _check_whole(manifest: Path, max_bad_share: float, messages: list[str]) -> None:
    """Judge all parts, of which this call may have computed few."""
    about = json.loads(manifest.read_text("utf-8"))
    total = about["source_rows"]
    bad = total - about["rows"]
    if bad > max_bad_share * total:
        raise DataError(
            f"{manifest.parent}: {bad:,} of the {total:,} rows are bad, {bad / total:.1%}; the "
            f"limit max_bad_share is {max_bad_share:.1%}. Mend the data and choose a new folder, "
            "or raise the limit" + "".join(f"\n  {message}" for message in messages)
        )


class _NoTextError(BadRowError):
    """The row is whole, but has no text of the style."""


def _pixels(row: Row, size: int) -> np.ndarray:
    try:
        return resize_centre(decode(row.image, size), size)
    except DataError as error:
        raise BadRowError("image", str(error), key=row.key) from error


def _text(key: str, record: dict[str, Any], style: Style) -> str:
    """The record's text of a style: the one of most weight, the first of several."""
    wanted = [one for one in texts(record) if FIELD_STYLES[one[0]] == style]
    if not wanted:
        fields = ", ".join(field for field, each in FIELD_STYLES.items() if each == style)
        raise _NoTextError("text", f"{key}: no text in {fields}", key=key)
    return max(wanted, key=lambda one: one[2])[1]


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 16)
