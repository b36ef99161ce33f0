"""Weights that a generator's training begins with: published ones, or our own runs."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmm_jax.errors import ConfigError, UserError
from kmm_jax.generation.runs import autoencoder_run, is_run, published_run, task_of
from kmm_jax.interop.diffusers import folder as folders
from kmm_jax.interop.diffusers.folder import Published
from kmm_jax.interop.diffusers.names import shapes_of
from kmm_jax.interop.diffusers.opening import open_autoencoder, open_model, refuse_base
from kmm_jax.interop.diffusers.single_file import is_generator
from kmm_jax.models.diffusion.config import LatentDiffusionConfig, VAEConfig
from kmm_jax.tasks.autoencoder import AutoencoderTask
from kmm_jax.tasks.diffusion import DiffusionTask
from kmm_jax.text.adopted import padded_with
from kmm_jax.text.tokenizer import FILE_NAME, Tokenizer

_SHOWN = 5


class GeneratorWeights:
    """The weights at ``path`` for a latent diffusion model; read once, when first asked for.

    Args:
        path: a folder of diffusers, whole or its ``vae/`` alone; a single file of the original
            layout, likewise; or a run that trained a generator or an autoencoder. Parts that it
            lacks begin fresh.
        base: of a single file, a folder of the same kind.
        task: whose model it is, where it reads texts by two encoders.
        tell: takes sentences about what was taken over.
    """

    def __init__(
        self,
        path: Path,
        config: LatentDiffusionConfig,
        *,
        base: Path | None = None,
        task: DiffusionTask | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.path, self._base = path, base
        self._config, self._task, self._tell = config, task, tell
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @functools.cached_property
    def _found(self) -> Published | tuple[VAEConfig, dict[str, Any]]:
        if is_run(self.path):
            refuse_base(self.path, self._base)
            if isinstance(task_of(self.path), AutoencoderTask):
                return autoencoder_run(self.path)
            return published_run(self.path)
        if folders.is_folder(self.path) or is_generator(self.path):
            return open_model(self.path, base=self._base)
        return open_autoencoder(self.path, base=self._base)

    def tokenizer(self) -> Path:
        """The ``tokenizer.json`` that the weights were trained with; it lives as long as this.

        Raises:
            UserError: they are an autoencoder's, which reads no text.
        """
        found = self._found
        if not isinstance(found, Published):
            raise UserError(f"{self.path} is an autoencoder and has no tokenizer; name one")
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="kmm_jax-")
        folder = Path(self._folder.name) / "tokenizer"
        found.tokenizers[0].save(folder)
        return folder / FILE_NAME

    def params(self, tokenizer: Path | None) -> dict[str, Any]:
        """The parameters for the model; parts that begin fresh are not among them.

        Raises:
            ConfigError: they do not fit, or belong to another tokenizer.
        """
        found = self._found
        if not isinstance(found, Published):
            config, params = found
            self._check_scaling(config)
            self._check_shapes({"vae": params})
            self._tell(f"{self.path}: the autoencoder is taken, the rest begins fresh")
            return {"vae": params}
        if tokenizer is not None and Tokenizer.load(tokenizer) != found.tokenizers[0]:
            raise ConfigError(
                f"the tokenizer {tokenizer} is not that of the weights at {self.path}, whose token "
                "embeddings belong to other ids; set tokenizer=@init"
            )
        self._check_scaling(found.config.vae)
        self._check_shapes(found.params)
        self._check_two_encoders(found)
        self._tell(f"{self.path}: text encoder, UNet and autoencoder are taken")
        return found.params

    def _check_two_encoders(self, given: Published) -> None:
        """Whether training reads and takes away texts as the weights do."""
        if self._task is None or len(given.tokenizers) == 1:
            return
        first, second = given.tokenizers
        if self._task.second_pad_id != second.pad_id:
            raise ConfigError(
                f"the second tokenizer at {self.path} fills texts up with {second.pad_id}; set "
                f"task.second_pad_id={second.pad_id}"
            )
        if padded_with(first, second.pad_id) != second:
            raise ConfigError(
                f"the two tokenizers at {self.path} differ in more than what fills texts up, and "
                "a run has one for both"
            )
        if self._task.zero_dropped != given.zero_empty_negative:
            raise ConfigError(
                f"the model at {self.path} is guided away from "
                + ("zeros" if given.zero_empty_negative else "an empty text")
                + f"; set task.zero_dropped={str(given.zero_empty_negative).lower()}"
            )

    def _check_scaling(self, given: VAEConfig) -> None:
        ours = self._config.vae
        for name in ("scaling", "shift"):
            if abs(getattr(ours, name) - getattr(given, name)) > 1e-9:
                raise ConfigError(
                    f"the latents at {self.path} have {name} {getattr(given, name)}; set "
                    f"task.model.vae.{name}={getattr(given, name)!r}"
                )

    def _check_shapes(self, params: Any) -> None:
        whole = folders.abstract_params(self._config)
        wanted = shapes_of({part: whole[part] for part in params})
        given = shapes_of(params)
        different = [
            f"  {name}: {given.get(name, 'not there')} -> {wanted.get(name, 'not wanted')}"
            for name in sorted(wanted.keys() | given.keys())
            if wanted.get(name) != given.get(name)
        ]
        if different:
            more = f"\n  ... and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
            raise ConfigError(
                f"the parameters at {self.path} do not fit this model:\n"
                + "\n".join(different[:_SHOWN])
                + more
            )
