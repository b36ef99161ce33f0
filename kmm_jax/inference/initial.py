"""Parameters to begin a run from: another run's, an export's or another library's, fitted to it."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kmm_jax.errors import ConfigError
from kmm_jax.inference.agreement import disagreements
from kmm_jax.inference.loading import imported, in_use, of_another_library, read
from kmm_jax.inference.vocabulary import swap
from kmm_jax.interop.native import Exported, flatten, parameter_shapes, unflatten
from kmm_jax.models.attributes.config import AttributesConfig
from kmm_jax.models.clip.config import CLIPConfig
from kmm_jax.models.coca.config import CoCaConfig
from kmm_jax.models.registry import ModelConfig
from kmm_jax.models.slip.config import SLIPConfig
from kmm_jax.models.vision import resize_positions
from kmm_jax.text.tokenizer import FILE_NAME, Tokenizer
from kmm_jax.training.beginning import OF_WEIGHTS
from kmm_jax.training.parameter_names import chosen
from kmm_jax.training.run_place import location

_POSITIONS = ("vision/positions", "clip/vision/positions")  # the latter over a CLIP
_TOKENS = ("text/embedding/tokens/embedding", "text/tokens/embedding")  # the latter of a OneR
_LOGITS = "text/logits/kernel"
_SHOWN = 5

# Of a CLIP's text tower, what a CoCa calls its unimodal half.
_CLIP_IN_COCA = (("text/blocks/", "text/unimodal/"), ("text/norm/", "text/cls_norm/"))


class InitialWeights:
    """The weights at ``path``, for a model of ``config``; read once, when first asked for.

    Args:
        path: a run's folder or URL, an exported folder, or another library's folder or file of
            safetensors, whichever ``interop`` knows.
        fresh: regex of parameters of the model that begin fresh, whether the weights have them or
            not; see ``training.parameter_names``.
        dropped: regex of parameters of the weights that are left out.
        swap_vocabulary: take another tokenizer than the weights', and make its embeddings of
            theirs (``inference.vocabulary``).
        tell: takes sentences about what was taken over.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        config: ModelConfig,
        *,
        fresh: str | None = None,
        dropped: str | None = None,
        swap_vocabulary: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.path = location(path)
        self._config, self._fresh, self._dropped = config, fresh, dropped
        self._swap, self._tell = swap_vocabulary, tell
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @functools.cached_property
    def exported(self) -> Exported:
        """What is at the path.

        Raises:
            DataError: nothing usable, or damaged.
            UserError: weights of an unknown family, or without what belongs to them.
        """
        if not of_another_library(self.path):
            return read(self.path)
        exported, family = imported(self.path)
        self._tell(f"{self.path}: {family.title}")
        return exported

    def tokenizer(self) -> Path:
        """The ``tokenizer.json`` that the weights were trained with; it lives as long as this."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="kmm_jax-")
        folder = Path(self._folder.name) / "tokenizer"
        self.exported.tokenizer.save(folder)
        return folder / FILE_NAME

    def params(self, tokenizer: str | os.PathLike[str] | None) -> dict[str, Any]:
        """The parameters for the model; what begins fresh is not among them.

        Positions are resized to the size of the pictures (CoCa, section 4.1).

        Args:
            tokenizer: the folder or file of the one to train with; None where texts come as ids.

        Returns:
            Nested dicts of float32 NumPy arrays, as a new module of ``config`` has them.

        Raises:
            DataError: no model there.
            ConfigError: settings or parameters that do not agree; all are listed. Or another
                tokenizer, to whose ids the token embeddings would not belong.
        """
        config = self._config
        wanted = {path.replace(".", "/"): shape for path, shape in parameter_shapes(config).items()}
        exported = _as_family(config, self.exported)
        given = {path.replace(".", "/"): leaf for path, leaf in flatten(exported.params).items()}
        fresh = self._matching(self._fresh, wanted, "--init-fresh")
        left_out = self._matching(self._dropped, given, "--init-drop")
        taken = (wanted.keys() & given.keys()) - fresh - left_out
        swapped = self._fit_vocabulary(exported.tokenizer, tokenizer, given, taken)
        if lines := disagreements(config, exported.config, taken, swapped=swapped):
            raise ConfigError(
                f"the model of this run is not that of the weights at {self.path}:\n"
                + "\n".join(lines)
                + "\nMake them equal; only the size of the pictures may differ (and by "
                "--swap-vocabulary the tokenizer)"
            )
        for name in taken.intersection(_POSITIONS):
            given[name] = self._resized(given[name], wanted[name])
        different = [
            f"  {name}: {given[name].shape if name in given else 'not there'} -> "
            f"{wanted.get(name, 'not wanted')}"
            for name in sorted((wanted.keys() - fresh) | (given.keys() - fresh - left_out))
            if name not in taken or given[name].shape != wanted[name]
        ]
        if different:
            more = f"\n  ... and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
            raise ConfigError(
                f"the parameters at {self.path} do not fit this model:\n"
                + "\n".join(different[:_SHOWN])
                + more
                + "\nName those of the model that shall begin fresh by --init-fresh REGEX, and "
                "those of the weights to leave out by --init-drop REGEX"
            )
        self._report(wanted, fresh, given.keys() - taken)
        named = {name.replace("/", "."): given[name] for name in sorted(taken)}
        return unflatten(named)

    def _matching(self, pattern: str | None, names: Iterable[str], setting: str) -> frozenset[str]:
        return frozenset() if pattern is None else chosen(pattern, names, setting=setting)

    def _fit_vocabulary(
        self,
        before: Tokenizer,
        tokenizer: str | os.PathLike[str] | None,
        given: dict[str, np.ndarray],
        taken: Iterable[str],
    ) -> bool:
        """Whether embeddings were made for another tokenizer; those in ``given`` then are."""
        if tokenizer is None:
            return False
        now = Tokenizer.load(tokenizer)
        _check_marks(self._config, now, tokenizer)
        of_tokens = [name for name in taken if name.removeprefix("clip/") in _TOKENS]
        if now.fingerprint == before.fingerprint or not of_tokens:
            return False
        if not self._swap:
            raise self._another_tokenizer(before, now, tokenizer)
        made = swap(before, now, rows=self._config.text.vocabulary)
        for name in of_tokens:
            given[name] = made.rows(given[name])
        if _LOGITS in taken:
            given[_LOGITS] = made.rows(given[_LOGITS].T).T
        self._tell(f"vocabulary: {made}")
        return True

    def _another_tokenizer(
        self, before: Tokenizer, now: Tokenizer, folder: str | os.PathLike[str]
    ) -> ConfigError:
        own: str | Path = f"{self.path}/tokenizer"
        if of_another_library(self.path):
            own = OF_WEIGHTS
        elif isinstance(self.path, Path) and (self.path / FILE_NAME).is_file():
            own = self.path
        return ConfigError(
            f"{self.path} was trained with the tokenizer {own} ({_short(before)}), and this run "
            f"names {folder} ({_short(now)}): the same ids mean other pieces of text, so that its "
            "token embeddings would be scrambled. Make them anew for this run's tokenizer by "
            f"--swap-vocabulary, or keep that of the weights. Train with tokenizer={own}"
        )

    def _resized(self, positions_ND: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if positions_ND.shape == shape:
            return positions_ND
        vision = self._config.vision
        class_token = getattr(vision, "class_token", False)
        if math.isqrt(len(positions_ND) - class_token) ** 2 != len(positions_ND) - class_token:
            return positions_ND  # of another kind altogether, which the shapes will tell
        resized = resize_positions(
            jax.numpy.asarray(positions_ND), vision.patches, class_token=class_token
        )
        self._tell(
            f"position embeddings resized from {len(positions_ND) - class_token} patches to "
            f"{vision.patches}"
        )
        return np.asarray(resized)

    def _report(
        self, wanted: dict[str, tuple[int, ...]], fresh: frozenset[str], left: Iterable[str]
    ) -> None:
        def counted(names: Iterable[str]) -> str:
            return f"{sum(math.prod(wanted[name]) for name in names):,}"

        self._tell(f"begins with {counted(wanted.keys() - fresh)} parameters of {self.path}")
        if fresh:
            self._tell(f"{counted(fresh)} parameters begin fresh: {_folded(fresh)}")
        if left := set(left):
            self._tell(f"left out of the weights: {_folded(left)}")


def initial_params(
    path: str | os.PathLike[str],
    config: ModelConfig,
    *,
    tokenizer: str | os.PathLike[str] | None,
    **options: Any,
) -> dict[str, Any]:
    """The parameters at ``path`` for a model of ``config``: ``InitialWeights.params``."""
    return InitialWeights(path, config, **options).params(tokenizer)


def _as_family(config: ModelConfig, exported: Exported) -> Exported:
    """The weights under the names that the family of ``config`` has for them."""
    given, params = exported.config, exported.params
    if isinstance(config, SLIPConfig | AttributesConfig) and isinstance(given, CLIPConfig):
        return dataclasses.replace(exported, params={"clip": params})
    if isinstance(config, SLIPConfig | AttributesConfig):
        return exported
    exported = in_use(exported)
    if not (isinstance(config, CoCaConfig) and isinstance(exported.config, CLIPConfig)):
        return exported
    named = {}
    for path, leaf in flatten(exported.params).items():
        path = path.replace(".", "/")
        for before, now in _CLIP_IN_COCA:
            path = now + path.removeprefix(before) if path.startswith(before) else path
        named[path.replace("/", ".")] = leaf
    return dataclasses.replace(exported, params=unflatten(named))


def _check_marks(config: ModelConfig, words: Tokenizer, folder: str | os.PathLike[str]) -> None:
    """Whether the model reads texts at, and passes over, what the tokenizer puts there."""
    text: Any = config.text
    ids = {"eos_id": words.eos_id, "pad_id": words.pad_id, "cls_id": words.cls_id}
    if getattr(text, "pooling", "eos") != "eos":
        del ids["eos_id"]
    if getattr(text, "own_cls", False):
        del ids["cls_id"]
    wrong = [
        f"task.model.text.{field}={number}"
        for field, number in ids.items()
        if number is not None and getattr(text, field, number) != number
    ]
    if wrong:
        raise ConfigError(
            f"the tokenizer {folder} has other special tokens than the model expects; set "
            + " ".join(wrong)
        )


def _folded(names: Iterable[str]) -> str:
    """Names for people: modules of which all that is there is meant, and how much it is."""
    names = sorted(names)
    tops: dict[str, int] = {}
    for name in names:
        top = "/".join(name.split("/")[:2])
        tops[top] = tops.get(top, 0) + 1
    return ", ".join(f"{top} ({count})" if count > 1 else top for top, count in tops.items())


def _short(tokenizer: Tokenizer) -> str:
    return f"{tokenizer.vocab_size} tokens, SHA-256 {tokenizer.fingerprint[:12]}"
