"""One pass over a source in order, for evaluation: centred images, no randomness."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.bad_rows import BadRows
from kmm_jax.data.config import DataConfig, thread_count
from kmm_jax.data.images import open_rgb
from kmm_jax.data.pipeline import read_row
from kmm_jax.data.reading import in_order
from kmm_jax.data.sequences import SequenceMaker, sequence
from kmm_jax.data.sources import Source
from kmm_jax.data.statements import Described
from kmm_jax.errors import DataError


def evaluation_batches(
    source: Source,
    config: DataConfig,
    batch_size: int,
    *,
    tokenizer: SequenceMaker | None = None,
    limit: int | None = None,
    bad_rows: BadRows | None = None,
) -> Generator[dict[str, np.ndarray], None, None]:
    """The rows of ``source`` in order, once, in batches that all have ``batch_size`` rows.

    A batch holds ``image`` (B, S, S, 3) uint8, ``valid`` (B,) bool and ``row`` (B,) int32, the
    position in the source; with a ``tokenizer`` also ``text`` (B, L) int32 (and ``target``, see
    ``data/sequences.py``): the row's first text in the first of ``config.fields`` that it has (a
    row with none is bad). The last batch is filled
    up with rows of zeros, ``valid`` false and ``row`` -1. Only the first ``limit`` rows are read.
    Of ``config``, ``sources``, ``augment``, ``views`` and ``seed`` are not used.

    Bad rows are left out and counted in ``bad_rows`` (one for this pass if not given, with the
    limit of ``config``).

    Raises:
        DataError: too many bad rows, or no good one.
    """
    total = len(source) if limit is None else min(limit, len(source))
    if bad_rows is None:
        bad_rows = BadRows([(source.name, total)], max_share=config.max_bad_share)
    rows = _good_rows(source, config, total, tokenizer, bad_rows)
    found = 0
    try:
        while part := list(itertools.islice(rows, batch_size)):
            found += len(part)
            yield _batch(part, batch_size)
    finally:
        rows.close()
    if not found:
        raise DataError(
            f"{source.name}: not one readable row of {total}:\n  " + "\n  ".join(bad_rows.listing())
        )


def _good_rows(
    source: Source,
    config: DataConfig,
    total: int,
    tokenizer: SequenceMaker | None,
    bad_rows: BadRows,
) -> Generator[dict[str, np.ndarray], None, None]:
    fields = tuple(field for field, _ in config.fields)

    def make(number: int) -> dict[str, np.ndarray] | DataError:
        try:
            good = read_row(
                source,
                number,
                fields=None if tokenizer is None else fields,
                decode=functools.partial(open_rgb, min_side=config.image_size),
            )
        except DataError as error:
            return error
        made = {
            "image": resize_centre(good.picture, config.image_size),
            "valid": np.array(True),
            "row": np.array(number, np.int32),
        }
        if tokenizer is not None:
            field, found, _ = min(good.texts, key=lambda one: fields.index(one[0]))
            text = found.first() if isinstance(found, Described) else found
            made |= sequence(tokenizer, field, text, config)
        return made

    threads = thread_count(config)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="kmm-evaluation-data")
    try:
        for number, made in enumerate(in_order(pool, make, range(total), ahead=4 * threads)):
            if isinstance(made, DataError):
                bad_rows.bad(0, number, made)
            else:
                bad_rows.good(0, number)
                yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batch(part: list[dict[str, np.ndarray]], batch_size: int) -> dict[str, np.ndarray]:
    batch = {
        name: np.zeros((batch_size, *value.shape), value.dtype) for name, value in part[0].items()
    }
    batch["row"][:] = -1
    for row, made in enumerate(part):
        for name, value in made.items():
            batch[name][row] = value
    return batch
