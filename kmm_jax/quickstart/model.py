"""The small Prompt-CoCa that the quickstart, and what else needs a model soon, trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kmm_jax.errors import UserError
from kmm_jax.inference.loading import load_model, read
from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.quickstart.prepare import Prepared
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.loop import train

CONFIG = "coca/shop"


def experiment_of(
    chosen: Mapping[str, str], prepared: Prepared, overrides: tuple[str, ...] = ()
) -> Experiment:
    """The config ``coca/shop`` fitted to prepared data.

    Args:
        chosen: overrides of a recipe.
        overrides: of the user, which count more.
    """
    from kmm_jax.text.tokenizer import Tokenizer

    # A small set of texts has fewer pieces than were asked for; the model needs no more.
    vocabulary = Tokenizer.load(prepared.tokenizer).vocab_size
    given = {
        "data.sources.0.url": prepared.train,
        "tokenizer": str(prepared.tokenizer),
        "task.model.text.vocabulary": str(vocabulary),
        **chosen,
    }
    return load_experiment(CONFIG, [*(f"{path}={v}" for path, v in given.items()), *overrides])


def train_whole(experiment: Experiment, work: Path) -> None:
    """Train in ``work/run``, or go on there.

    Raises:
        UserError: it was interrupted.
    """
    if train(experiment, work / "run").end != "finished":
        raise UserError("interrupted; the same command continues where it stopped")


def export(work: Path) -> Model:
    """What was trained in ``work/run`` as an exported model in ``work/model``."""
    folder = work / "model"
    native.save(folder, read(work / "run"))
    return load_model(folder)
