"""A generator's training on cached latents over the same on pictures, pictures/s in one run.

python -m tools.bench.latents [--rounds N] [--steps N]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kmm_jax.data.config import SourceConfig, thread_count
from kmm_jax.data.loader import Loader
from kmm_jax.data.sources import open_source
from kmm_jax.generation.latents import Encoder, cache_latents
from kmm_jax.text.clip_bpe import train_clip_bpe
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training import setup as setups
from kmm_jax.training.config_file import load_experiment
from kmm_jax.training.experiment import Experiment
from kmm_jax.training.setup import Setup
from kmm_jax.training.sharding import MeshConfig
from kmm_jax.training.update import make_update, place
from tools import results
from tools.bench.input_pipeline import write_photos

_CONFIG = "diffusion/products"
# Batches that the threads made while the other training ran; they are not timed.
_READY = 3


class Training:
    """A training with its data, as the loop runs it; its batches are made ahead in threads."""

    def __init__(self, experiment: Experiment, setup: Setup, state: Any, loader: Loader) -> None:
        self._rows = experiment.global_batch_size
        self._mesh = setup.mesh
        # A step takes its state's memory over, and another training begins with the same.
        self._state = jax.tree.map(jnp.copy, state)
        self._batches: Generator[dict[str, np.ndarray], None, None] = loader.batches()
        self._update = make_update(
            experiment.task,
            setup.graphdef,
            setup.optimizer,
            setup.learning_rate,
            setup.mesh,
            setup.shardings,
            average=setup.average,
            trained=setup.trained,
        )
        self._compiled: Any = None

    def rate(self, steps: int) -> float:
        """Pictures a second over so many steps; before the first, the step is compiled."""
        if self._compiled is None:
            batch = place(next(self._batches), self._mesh)
            self._compiled = self._update.lower(self._state, batch).compile()
        for _ in range(_READY):
            self._step()
        start = time.perf_counter()
        for _ in range(steps):
            self._step()
        return steps * self._rows / (time.perf_counter() - start)

    def _step(self) -> None:
        batch = place(next(self._batches), self._mesh)
        self._state, metrics = self._compiled(self._state, batch)
        metrics.fetch()

    def close(self) -> None:
        """End the threads."""
        self._batches.close()


def run(*, rounds: int = 5, steps: int = 8) -> dict[str, Any]:
    """Time both in turns, on the same photos of 640 x 480 with the same texts."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        write_photos(folder / "pictures")
        experiment = _on(load_experiment(_CONFIG), str(folder / "pictures"))
        source = open_source(folder / "pictures")
        tokenizer = train_clip_bpe([source.read(0).record["title"]], 540)
        loader = _loader(experiment, tokenizer)
        mesh = setups.prepare_mesh(experiment)
        setup = setups.prepare(
            experiment, mesh, examples_per_epoch=loader.examples, vocabulary=None
        )
        state = setups.fresh_state(experiment, setup)
        encoder = Encoder(
            experiment.task.model.vae,
            jax.device_get(state.params["vae"]),
            size=experiment.data.image_size,
            mirrored=True,
            batch_size=64,
        )
        start = time.perf_counter()
        cache_latents(encoder, source, folder / "latents")
        seconds = time.perf_counter() - start
        cached = _on(experiment, f"latents:{folder / 'latents'}")
        pictures = Training(experiment, setup, state, loader)
        stack.callback(pictures.close)
        latents = Training(cached, setup, state, _loader(cached, tokenizer))
        stack.callback(latents.close)
        both = [(pictures.rate(steps), latents.rate(steps)) for _ in range(rounds)]
        ratio = statistics.median(fast / slow for slow, fast in both)
        return {
            "value": ratio,
            "pictures_per_second": statistics.median(slow for slow, _ in both),
            "latents_per_second": statistics.median(fast for _, fast in both),
            "rounds": [{"pictures": slow, "latents": fast} for slow, fast in both],
            "encoding_per_second": 2 * len(source) / seconds,
            "threads": thread_count(experiment.data),
            "steps": steps,
            "batch": experiment.global_batch_size,
            "image_size": experiment.data.image_size,
        }


def _on(experiment: Experiment, url: str) -> Experiment:
    """The experiment on one device and this source, whose texts are titles."""
    return dataclasses.replace(
        experiment,
        data=dataclasses.replace(
            experiment.data, sources=(SourceConfig(url=url),), fields=(("title", 1.0),)
        ),
        mesh=MeshConfig(data=1),
    )


def _loader(experiment: Experiment, tokenizer: Tokenizer) -> Loader:
    return Loader(experiment.data, tokenizer, global_batch_size=experiment.global_batch_size)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.latents", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of both in turns")
    parser.add_argument("--steps", type=int, default=8, help="of each, a round")
    arguments = parser.parse_args()
    rounds, steps = arguments.rounds, arguments.steps
    values = run(rounds=rounds, steps=steps)
    body = (
        f"Training `configs/{_CONFIG}` ({values['image_size']} pixels, batches of "
        f"{values['batch']}, {values['threads']} threads) on 256 photos of 640 x 480 as JPEG, and "
        f"on their latents as `kmm latents --mirrored` keeps them; {values['steps']} steps of each "
        f"in turns, {len(values['rounds'])} times, loading included. The ratio is the median of "
        "the rounds'.\n\n"
        + results.table(
            ["trained on", "pictures/s"],
            [
                ("pictures", values["pictures_per_second"]),
                ("cached latents", values["latents_per_second"]),
                ("ratio", values["value"]),
            ],
        )
        + f"\n\nEncoding itself, each picture and its mirror, with compiling: "
        f"{values['encoding_per_second']:.0f} pictures/s."
    )
    results.write(
        "latents",
        title="Training on cached latents",
        command=f"python -m tools.bench.latents --rounds {rounds} --steps {steps}",
        values=values,
        body=body,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
