"""What a Korean text encoder begins from: its teacher's weights, and queries of the UNet.

B pictures, T positions, Q queries, K width of a layer.
"""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kmm_jax.data.parallel import read_pairs
from kmm_jax.errors import ConfigError
from kmm_jax.generation.prompts import prompt_ids
from kmm_jax.generation.runs import model_at, restored, task_of
from kmm_jax.generation.schedulers.build import make_table
from kmm_jax.generation.schedulers.config import for_sampler, parse
from kmm_jax.generation.student import first_params
from kmm_jax.generation.tower_weights import tower_tokenizer
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.models.diffusion.config import UNetConfig
from kmm_jax.models.diffusion.distillation import Distillation, DistillationConfig
from kmm_jax.models.diffusion.modeling import LatentDiffusion, abstract
from kmm_jax.models.diffusion.responder import chosen_queries, collected_queries
from kmm_jax.models.keys import abstract_module
from kmm_jax.tasks.text_distillation import TextDistillationTask
from kmm_jax.text.tokenizer import FILE_NAME, Tokenizer
from kmm_jax.training.beginning import OF_WEIGHTS

_PROMPTS = 32  # of which queries are taken
_STEPS = 4  # noise levels at which queries are taken, along a real run


class TeacherWeights:
    """Where the distillation of a published model's text encoder begins.

    Args:
        model: the teacher, with the UNet that it speaks to.
        tokenizer: the student's.
        prompts: English ones, of which the UNet's queries are taken.
        weights: that a resampled student's tower begins with; None for a fresh one.
    """

    def __init__(
        self,
        model: Published,
        config: DistillationConfig,
        tokenizer: Tokenizer,
        *,
        prompts: Sequence[str],
        seed: int = 0,
        weights: Path | None = None,
    ) -> None:
        self._model, self._config, self._own = model, config, tokenizer
        self._prompts, self._seed, self._weights = list(prompts), seed, weights
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def tokenizer(self) -> Path:
        """The student's ``tokenizer.json``; it lives as long as this."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="kmm_jax-")
        folder = Path(self._folder.name) / "tokenizer"
        self._own.save(folder)
        return folder / FILE_NAME

    def params(self, tokenizer: Path | None) -> dict[str, Any]:
        """The parameters of a ``Distillation``, but for what begins afresh in a resampled student.

        Raises:
            UserError: the student's tokenizer is no extension of the teacher's.
            ConfigError: weights that the student has no place for, or another tokenizer's.
        """
        model, config = self._model, self._config
        found: dict[str, Any] = {
            "teacher": model.params["texts"][0],
            "student": first_params(config.student, model, self._own, self._weights),
            "responders": self._responders(),
        }
        if config.whole_unet:
            found["unet"] = model.params["unet"]
        return found

    def _responders(self) -> dict[int, Any]:
        queries = unet_queries(
            self._model, self._prompts, count=self._config.queries, seed=self._seed
        )
        layers = cross_attention_params(self._model.params["unet"], self._config.unet)
        return {
            number: {**layer, "queries": np.asarray(query)}
            for number, (layer, query) in enumerate(zip(layers, queries, strict=True))
        }


def cross_attention_params(params: Any, config: UNetConfig) -> list[dict[str, Any]]:
    """``to_k`` and ``to_v`` of each layer of cross-attention, in the order in which they run."""

    def level(block: Any) -> list[dict[str, Any]]:
        transformers = block.get("attentions", {})
        return [
            {name: layer["attn2"][name] for name in ("to_k", "to_v")}
            for number in sorted(transformers)
            for _, layer in sorted(transformers[number]["transformer_blocks"].items())
        ]

    levels = range(len(config.widths))
    down = [each for number in levels for each in level(params["down_blocks"][number])]
    up = [each for number in levels for each in level(params["up_blocks"][number])]
    return down + level(params["mid_block"]) + up


def unet_queries(
    model: Published, prompts: Sequence[str], *, count: int, seed: int = 0
) -> list[np.ndarray]:
    """Queries (Q, K) of each layer of cross-attention, from a short real run of DDIM."""
    graphdef = nnx.graphdef(abstract(model.config))
    table = make_table(for_sampler(parse(model.scheduler), "ddim"), _STEPS)
    ids = prompt_ids(prompts, model.tokenizers, model.config)

    @jax.jit
    def run(params: Any, ids: Any, key: jax.Array) -> list[jax.Array]:
        module: LatentDiffusion = nnx.merge(graphdef, params)
        context = module.condition(ids).context
        unet = model.config.unet
        shape = (len(prompts), unet.sample_size, unet.sample_size, unet.in_channels)
        x = jax.random.normal(key, shape)
        gathered: list[list[jax.Array]] = []
        for step in range(len(table)):
            timestep = jnp.full((len(prompts),), table.timesteps[step], jnp.float32)
            with collected_queries() as queries:
                output = module.unet(x, timestep, context)
            gathered.append(queries)
            clean = table.clean_from_x[step] * x + table.clean_from_output[step] * output
            x = jnp.tensordot(
                jnp.asarray(table.weights_nOB[step, 0, :4], jnp.float32),
                jnp.stack([x, jnp.zeros_like(x), clean, output]),
                axes=1,
            )
        layers = [jnp.concatenate(each) for each in zip(*gathered, strict=True)]
        return chosen_queries(layers, count, jax.random.fold_in(key, 1))

    return [np.asarray(each) for each in run(model.params, ids, jax.random.key(seed))]


def teacher_weights(path: Path, experiment: Any, *, base: Path | None = None) -> TeacherWeights:
    """The beginning of a run of ``TextDistillationTask``, for a published model or a run of one.

    Queries are taken of the first English texts of the data.

    Args:
        base: of a single file, a folder of the same kind.

    Raises:
        ConfigError: the experiment names no tokenizer.
        UserError, DataError: no such model, or data that cannot be read.
    """
    own, weights = _own_tokenizer(experiment), experiment.task.student_weights
    model = model_at(path, base=base)
    pairs = itertools.islice(read_pairs(Path(experiment.data.files[0][0])), _PROMPTS)
    return TeacherWeights(
        model,
        experiment.task.model,
        own,
        prompts=[english for _, english in pairs],
        seed=experiment.seed,
        weights=None if weights is None else Path(weights),
    )


def _own_tokenizer(experiment: Any) -> Tokenizer:
    weights = experiment.task.student_weights
    if experiment.tokenizer == OF_WEIGHTS and weights is not None:
        return tower_tokenizer(Path(weights))
    if experiment.tokenizer in (None, OF_WEIGHTS):
        raise ConfigError(
            "name the student's tokenizer: tokenizer=FOLDER. One that begins as its teacher has an "
            "extension of its teacher's (`kmm tokenizer extend`), a resampled one any; tokenizer="
            "@init is that of task.student_weights"
        )
    return Tokenizer.load(experiment.tokenizer)


def with_student(teacher: Published, run: Path) -> Published:
    """The teacher's model with the text encoder that a run trained, and its tokenizer.

    Raises:
        ConfigError: a run of another task.
        DataError: no checkpoint.
    """
    task = task_of(run)
    if not isinstance(task, TextDistillationTask):
        raise ConfigError(f"{run} is a run of {type(task).__name__}, not of a text encoder")
    config = task.model
    module = abstract_module(lambda rngs: Distillation(config, rngs=rngs))
    params = restored(run, module)
    return dataclasses.replace(
        teacher,
        config=dataclasses.replace(teacher.config, texts=(config.student,)),
        params={**teacher.params, "texts": {0: params["student"]}},
        tokenizers=(Tokenizer.load(run / "tokenizer"),),
    )
