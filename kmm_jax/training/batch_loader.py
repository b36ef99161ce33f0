"""Where the loop's batches come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import jax

from kmm_jax.errors import ConfigError
from kmm_jax.training.cached_latents import check_settings
from kmm_jax.training.experiment import Experiment


class BadRowMetrics(Protocol):
    """The count of unusable rows."""

    def metrics(self) -> dict[str, float]:
        """Values to log, by name."""
        ...


class BatchLoader(Protocol):
    """What the loop needs of a loader; ``kmm_jax.data.loader.Loader`` is the one there is."""

    @property
    def examples(self) -> int:
        """Rows in an epoch."""
        ...

    @property
    def bad_rows(self) -> BadRowMetrics:
        """The rows that could not be used."""
        ...

    def batches(self, start_step: int = 0) -> Any:
        """A generator of this process's rows of each global batch from ``start_step`` on."""
        ...


def open_loader(
    experiment: Experiment, run_dir: Path, tokenizer_file: Path | None
) -> tuple[BatchLoader, int]:
    """This process's loader of the experiment's data, and the tokenizer's size.

    Raises:
        ConfigError: no tokenizer is named, it fills texts up with another id than the model takes
            for padding, the batch cannot be shared, or latents are not those of the model.
        DataError: data or tokenizer cannot be read.
    """
    from kmm_jax.data.loader import Loader
    from kmm_jax.data.pair_loader import PairLoader
    from kmm_jax.data.text_pairs import TextPairs
    from kmm_jax.text.tokenizer import Tokenizer

    if tokenizer_file is None:
        raise ConfigError("the experiment names no tokenizer; give tokenizer=FOLDER")
    tokenizer = Tokenizer.load(tokenizer_file)
    shares = {
        "global_batch_size": experiment.global_batch_size,
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }
    if isinstance(experiment.data, TextPairs):
        return PairLoader(experiment.data, tokenizer, **shares), tokenizer.vocab_size
    _check_padding(experiment, tokenizer.pad_id)
    log_path = run_dir / "bad_rows.jsonl"
    loader = Loader(experiment.data, tokenizer, **shares, log_path=log_path)
    check_settings(experiment.task, loader.latents)
    return loader, tokenizer.vocab_size


def _check_padding(experiment: Experiment, pad_id: int) -> None:
    """Refuse a model that would take padding for text; not every model has to know padding."""
    text = getattr(getattr(experiment.task, "model", None), "text", None)
    taken = getattr(text, "pad_id", pad_id)
    if taken != pad_id:
        raise ConfigError(
            f"the tokenizer {experiment.tokenizer} fills texts up with the token {pad_id}, but the "
            f"model takes {taken} for padding; set task.model.text.pad_id={pad_id}"
        )
