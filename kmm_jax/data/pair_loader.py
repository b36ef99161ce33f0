"""Batches of parallel texts, Korean and English, by step."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np

from kmm_jax.data.parallel import read_pairs
from kmm_jax.data.text_pairs import TextPairs
from kmm_jax.errors import ConfigError, DataError
from kmm_jax.text.tokenizer import Tokenizer


class PairLoader:
    """The training batches of one process: ``korean``, ``english``, ``teacher`` (B, T) int32.

    ``english`` are the student's ids of what ``teacher`` are the teacher's ids of; each tokenizer
    fills texts up with its own padding, to the length of its own encoder. A batch depends
    on configuration and step alone.

    Attributes:
        examples: pairs in all files.
    """

    def __init__(
        self,
        config: TextPairs,
        tokenizer: Tokenizer,
        *,
        global_batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        if global_batch_size % process_count:
            raise ConfigError(
                f"global_batch_size {global_batch_size} cannot be shared equally by "
                f"{process_count} processes"
            )
        self._config, self._tokenizer = config, tokenizer
        self._teacher = Tokenizer.load(config.teacher_tokenizer)
        self._global_rows = global_batch_size
        rows = global_batch_size // process_count
        self._own = slice(process_index * rows, (process_index + 1) * rows)
        self._pairs = [list(read_pairs(Path(path))) for path, _ in config.files]
        for (path, _), pairs in zip(config.files, self._pairs, strict=True):
            if not pairs:
                raise DataError(f"{path} holds no pair of texts")
        weights = np.asarray([weight for _, weight in config.files])
        self._shares = weights / weights.sum()
        self.examples = sum(map(len, self._pairs))
        self.bad_rows = _NoBadRows()

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """This process's part of the global batch ``step``."""
        rng = np.random.default_rng((self._config.seed, step))
        files = rng.choice(len(self._pairs), self._global_rows, p=self._shares)
        places, empty = rng.random(self._global_rows), rng.random(self._global_rows)
        chosen = [
            ("", "")
            if nothing < self._config.empty
            else self._pairs[file][int(place * len(self._pairs[file]))]
            for file, place, nothing in zip(files, places, empty, strict=True)
        ][self._own]
        length = self._config.text_length
        korean, english = [ko for ko, _ in chosen], [en for _, en in chosen]
        return {
            "korean": self._tokenizer.sequences(korean, None, length),
            "english": self._tokenizer.sequences(english, None, length),
            "teacher": self._teacher.sequences(english, None, self._config.taught_length),
        }

    def batches(self, start_step: int = 0) -> Generator[dict[str, np.ndarray], None, None]:
        """The batches from ``start_step`` on, without end."""
        step = start_step
        while True:
            yield self.batch(step)
            step += 1


class _NoBadRows:
    """Tables are checked when they are read."""

    def metrics(self) -> dict[str, float]:
        return {}
