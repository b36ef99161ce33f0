"""Batches by step: decode, augment and tokenise in threads; the position is the step alone."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kmm_jax.data.bad_rows import BadRows
from kmm_jax.data.config import DataConfig, SourceConfig, batch_shapes, thread_count
from kmm_jax.data.evaluation_reader import evaluation_batches
from kmm_jax.data.latents import About, LatentSource, shape_of
from kmm_jax.data.pipeline import Example, examples
from kmm_jax.data.sequences import SequenceMaker, sequence
from kmm_jax.data.sources import Source, open_source
from kmm_jax.errors import ConfigError

__all__ = ["DataConfig", "Loader", "SourceConfig", "evaluation_batches"]

# A thread takes several rows at a time: fewer hand-overs, yet even shares and a quick end.
_CHUNKS_PER_THREAD = 4
_LARGEST_CHUNK = 32


class Loader:
    """The training batches of one process.

    A batch holds ``image`` (B, S, S, 3) uint8, ``text`` (B, L) int32 and ``valid`` (B,) bool, where
    B is ``global_batch_size / process_count``: rows ``process_index * B`` onwards of the global
    batch. With ``config.views``, V of them, it holds ``views`` (B, V, S, S, 3) uint8 as well, and
    with the field ``questions`` a ``target`` (B, L) bool (``data/sequences.py``). Sources of
    latents give ``latents`` (B, h, w, Z) float32 in place of ``image`` (``data/latents.py``), and
    ``config.sizes`` adds ``time_ids`` (B, 6) float32.
    Batches depend on the configuration and the step, not on the number of processes, of threads,
    or on where reading began.

    Attributes:
        examples: rows in an epoch: those of all sources together, bad ones included.
        bad_rows: the rows that could not be used so far; ``bad_rows.metrics()``.
        sources: the sources, opened, in the order of the configuration.
        latents: whose latents the sources hold; None where they hold pictures.

    Raises:
        ConfigError: no source, a global batch that the processes cannot share equally, or latents
            that do not go with each other or with the configuration.
        DataError: a source is missing, empty or truncated, or its first row shows that none can
            be used.
    """

    def __init__(
        self,
        config: DataConfig,
        tokenizer: SequenceMaker,
        *,
        global_batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
        log_path: Path | None = None,
    ) -> None:
        if not config.sources:
            raise ConfigError("data.sources is empty; name at least one source to train on")
        if global_batch_size < 1 or global_batch_size % process_count:
            raise ConfigError(
                f"global_batch_size {global_batch_size} cannot be shared equally by "
                f"{process_count} processes; choose a multiple of {process_count}"
            )
        self._config = config
        self._tokenizer = tokenizer
        self._global_rows = global_batch_size
        self._rows = global_batch_size // process_count
        self._first = process_index * self._rows
        self.sources: tuple[Source, ...] = tuple(open_source(one.url) for one in config.sources)
        self.latents = shared_about(config, self.sources)
        self.examples = sum(map(len, self.sources))
        self.bad_rows = BadRows(
            [(source.name, len(source)) for source in self.sources],
            max_share=config.max_bad_share,
            log_path=log_path,
        )
        self._examples = examples(config, self.sources, self.bad_rows)
        # Grain sets up its statistics on the first access, and not safely from several threads;
        # this one also finds data that cannot be read at all before anything is compiled.
        self._text(self._examples[self._first])

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """This process's part of the global batch ``step``, from 0."""
        with self._threads() as pool:
            return self._submit(pool, step).result()

    def batches(self, start_step: int = 0) -> Generator[dict[str, np.ndarray], None, None]:
        """The batches from ``start_step`` on, without end, prepared ahead in threads.

        Close the generator to end the threads; rows in hand are finished first.
        """
        threads = thread_count(self._config)
        ahead = 1 + -(-2 * threads // self._rows)
        with self._threads() as pool:
            pending = collections.deque(
                self._submit(pool, step) for step in range(start_step, start_step + ahead)
            )
            step = start_step + ahead
            while True:
                batch = pending.popleft().result()
                pending.append(self._submit(pool, step))
                step += 1
                yield batch

    @contextlib.contextmanager
    def _threads(self) -> Generator[ThreadPoolExecutor, None, None]:
        pool = ThreadPoolExecutor(thread_count(self._config), thread_name_prefix="kmm-data")
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> _Pending:
        if step < 0:
            raise ConfigError(f"steps count from 0, found {step}")
        batch = {
            name: np.empty(shape, dtype)
            for name, (shape, dtype) in batch_shapes(self._config, self._rows).items()
        }
        batch["valid"][:] = True
        even = self._rows // (_CHUNKS_PER_THREAD * thread_count(self._config))
        chunk = min(max(even, 1), _LARGEST_CHUNK)
        first = step * self._global_rows + self._first
        starts = range(0, self._rows, chunk)
        return _Pending(
            batch,
            [
                pool.submit(self._fill, batch, first, start, min(start + chunk, self._rows))
                for start in starts
            ],
        )

    def _fill(self, batch: dict[str, np.ndarray], first: int, start: int, stop: int) -> None:
        """Rows ``start`` to ``stop`` of the batch whose row 0 is the example ``first``."""
        for row in range(start, stop):
            example = self._examples[first + row]
            for name, value in {**example.arrays, **self._text(example)}.items():
                batch[name][row] = value

    def _text(self, example: Example) -> dict[str, np.ndarray]:
        return sequence(self._tokenizer, example.field, example.text, self._config)


def shared_about(config: DataConfig, sources: Sequence[Source]) -> About | None:
    """Whose latents the sources hold, all of them the same's; None where they hold pictures.

    Raises:
        ConfigError: latents that do not go with each other or with the configuration.
    """
    found = [source for source in sources if isinstance(source, LatentSource)]
    if not found:
        return None
    shape_of([one.url for one in config.sources])  # refuses pictures beside them
    first, about = found[0], found[0].about
    for source in found[1:]:
        for name in ("autoencoder", "scaling", "shift", "size", "shape"):
            ours, theirs = getattr(about, name), getattr(source.about, name)
            if ours != theirs:
                raise ConfigError(
                    f"{first.name} has latents of {name} {ours} and {source.name} of {theirs}; "
                    "encode both by the same autoencoder and size"
                )
    if config.image_size != about.size:
        raise ConfigError(
            f"data.image_size={config.image_size}, but {first.name} has latents of pictures of "
            f"{about.size} pixels; set data.image_size={about.size}, or encode them anew"
        )
    if config.views or config.augment.recolours:
        what = "views" if config.views else f"augment.{config.augment.recolours}"
        raise ConfigError(
            f"data.{what} changes pixels, and {first.name} has latents; take it away, or train on "
            "pictures"
        )
    return about


class _Pending:
    """A batch whose rows are being filled in."""

    def __init__(self, batch: dict[str, np.ndarray], parts: list[Future[None]]) -> None:
        self._batch = batch
        self._parts = parts

    def result(self) -> dict[str, np.ndarray]:
        for part in self._parts:
            part.result()
        return self._batch
