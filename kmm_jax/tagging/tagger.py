"""A tagger: which labels a picture has, from the vector that a model gives it; and its folder.

    tagger.json   head.safetensors

N vectors, D dimensions, C labels of all groups, H hidden units.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import atomic_directory, read_described, refuse_other, write_json
from kmm_jax.inference.descriptions import SCALE
from kmm_jax.inference.platt import Platt
from kmm_jax.interop.native import flatten
from kmm_jax.interop.weights import open_weights, save_tensors
from kmm_jax.tagging.labels import LabelSet, Naming, of_json

FORMAT = "kmm_jax tagger 1"
_ABOUT, _HEAD = "tagger.json", "head.safetensors"

Kind = Literal["linear", "mlp", "zero-shot"]

_SHAPES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "linear": {"out.kernel": ("D", "C"), "out.bias": ("C",)},
    "mlp": {
        "hidden.kernel": ("D", "H"),
        "hidden.bias": ("H",),
        "out.kernel": ("H", "C"),
        "out.bias": ("C",),
    },
    "zero-shot": {"texts": ("C", "D")},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagger:
    """Labels, what scores them, and what the scores are worth.

    Attributes:
        labels: that it knows.
        kind: of its head: a linear layer or one with hidden units, learned from rows, or the
            vectors of the labels' prompts (CLIP, arXiv 2103.00020, section 3.1).
        model: the hash of the model whose vectors it takes.
        head: its arrays, by name.
        calibration: (C,) the probability of each label's score.
        thresholds: (C,) the probability from which on a label is given; infinity for one that
            was never seen, which is never given.
        rows: (C,) how many training rows had each label.
    """

    labels: LabelSet
    kind: Kind
    model: str
    head: Mapping[str, np.ndarray]
    calibration: tuple[Platt, ...]
    thresholds: np.ndarray
    rows: np.ndarray

    @functools.cached_property
    def hash(self) -> str:
        """Of all that its answers depend on, 16 hex digits."""
        digest = hashlib.sha256(json.dumps(self._about(), sort_keys=True).encode())
        for name, values in flatten(dict(self.head)).items():
            digest.update(f"{name} {values.shape}".encode() + np.ascontiguousarray(values).data)
        return digest.hexdigest()[:16]

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return int(self.head["texts"].shape[1] if self.kind == "zero-shot" else self._first[0])

    @property
    def _first(self) -> tuple[int, ...]:
        name = "hidden.kernel" if self.kind == "mlp" else "out.kernel"
        return tuple(self.head[name].shape)

    def check_model(self, model_hash: str, where: str) -> None:
        """Refuse vectors of another model.

        Raises:
            UserError: it was fitted to those of a model of another hash.
        """
        if self.model != model_hash:
            raise UserError(
                f"the tagger takes vectors of the model {self.model}, and {where} has those of "
                f"{model_hash}; fit one anew by kmm tag fit"
            )

    def scores(self, vectors_ND: np.ndarray) -> np.ndarray:
        """Scores (N, C), float64; of groups with one label a picture, log odds among them.

        Raises:
            DataError: vectors of another dimension.
        """
        vectors_ND = np.asarray(vectors_ND, np.float64)
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != self.dim:
            raise DataError(
                f"vectors of shape {vectors_ND.shape}, and the tagger takes (N, {self.dim})"
            )
        return odds(self.labels, logits(self.kind, self.head, vectors_ND), kind=self.kind)

    def probabilities(self, vectors_ND: np.ndarray) -> np.ndarray:
        """(N, C); 0 of labels that were never seen."""
        score_NC = self.scores(vectors_ND)
        columns = zip(self.calibration, score_NC.T, strict=True)
        found_NC = np.stack([platt.probability(score_N) for platt, score_N in columns], axis=1)
        found_NC[:, np.isinf(self.thresholds)] = 0.0
        return found_NC

    def answers(self, probability_NC: np.ndarray) -> np.ndarray:
        """Which labels are given (N, C): one of a group of which a picture has one.

        Of other groups those from their threshold on, and so perhaps none.
        """
        given_NC = probability_NC >= self.thresholds
        for group, columns in zip(self.labels.groups, self.labels.columns(), strict=True):
            if not group.several:
                best_N = probability_NC[:, columns].argmax(axis=1)
                given_NC[:, columns] = best_N[:, None] == np.arange(len(group.labels))
                given_NC[:, columns] &= np.isfinite(self.thresholds[columns])
        return given_NC

    def named(self, given_C: np.ndarray, naming: Naming = "ko") -> dict[str, tuple[str, ...]]:
        """Labels by the key of their group; groups of which none is given are left out."""
        found = {
            group.key: tuple(
                label.name(naming)
                for label, is_given in zip(group.labels, given_C[columns], strict=True)
                if is_given
            )
            for group, columns in zip(self.labels.groups, self.labels.columns(), strict=True)
        }
        return {key: names for key, names in found.items() if names}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the folder, whole or not at all.

        Raises:
            UserError: the folder holds something else.
        """
        folder = Path(folder)
        refuse_other(folder, is_tagger, "tagger")
        with atomic_directory(folder) as place:
            save_tensors(
                place / _HEAD,
                {name: np.asarray(values, np.float32) for name, values in self.head.items()},
                metadata={"format": "np"},
            )
            digest = hashlib.sha256((place / _HEAD).read_bytes()).hexdigest()
            write_json(place / _ABOUT, {**self._about(), "head": digest})

    def _about(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": self.kind,
            "model": self.model,
            "calibration": [[one.slope, one.offset] for one in self.calibration],
            # JSON has no infinity.
            "thresholds": [None if math.isinf(t) else float(t) for t in self.thresholds],
            "rows": [int(count) for count in self.rows],
            "labels": self.labels.to_json(),
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Tagger:
        """The inverse of ``save``.

        Raises:
            DataError: no tagger there, or a damaged one.
        """
        folder = Path(folder)
        about = read_described(
            folder / _ABOUT,
            FORMAT,
            missing=f"{folder} holds no tagger; make one by kmm tag fit",
        )
        try:
            data = (folder / _HEAD).read_bytes()
            if hashlib.sha256(data).hexdigest() != about["head"]:
                raise ValueError(f"{_HEAD} is not the one that was written")
            weights = open_weights(folder / _HEAD)
            found = cls(
                labels=of_json(about["labels"], str(folder / _ABOUT)),
                kind=about["kind"],
                model=str(about["model"]),
                head={name: weights[name] for name in weights},
                calibration=tuple(
                    Platt(slope=float(slope), offset=float(offset))
                    for slope, offset in about["calibration"]
                ),
                thresholds=np.asarray(
                    [math.inf if one is None else float(one) for one in about["thresholds"]]
                ),
                rows=np.asarray(about["rows"], np.int64),
            )
            found.check()
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder} is damaged: {error}; make it anew") from error
        return found

    def check(self) -> None:
        """See to it that its arrays fit its labels.

        Raises:
            ValueError: they do not.
        """
        if self.kind not in _SHAPES:
            raise ValueError(f"no kind {self.kind!r}; there are {', '.join(_SHAPES)}")
        if self.head.keys() != _SHAPES[self.kind].keys():
            raise ValueError(f"a head of {', '.join(sorted(self.head)) or 'nothing'}")
        sizes = {"C": len(self.labels)}
        for name, letters in _SHAPES[self.kind].items():
            shape = self.head[name].shape
            if len(shape) != len(letters) or any(
                sizes.setdefault(letter, side) != side
                for letter, side in zip(letters, shape, strict=True)
            ):
                raise ValueError(f"{name} of shape {shape} for {len(self.labels)} labels")
        for each in (self.calibration, self.thresholds, self.rows):
            if len(each) != len(self.labels):
                raise ValueError(f"{len(each)} values for {len(self.labels)} labels")


def is_tagger(folder: Path) -> bool:
    """Whether a folder holds one."""
    return (folder / _ABOUT).is_file()


def logits(kind: Kind, head: Mapping[str, np.ndarray], vectors_ND: np.ndarray) -> np.ndarray:
    """What the head gives (N, C): logits, or 100 times the cosine with each label's prompts."""
    if kind == "zero-shot":
        found: np.ndarray = SCALE * (vectors_ND @ head["texts"].astype(np.float64).T)
        return found
    if kind == "mlp":
        hidden_NH = vectors_ND @ head["hidden.kernel"] + head["hidden.bias"]
        vectors_ND = np.maximum(hidden_NH, 0.0)
    given: np.ndarray = vectors_ND @ head["out.kernel"] + head["out.bias"]
    return given


def odds(labels: LabelSet, logit_NC: np.ndarray, *, kind: Kind) -> np.ndarray:
    """Log odds of each label (N, C).

    Of a group of which a picture has one, by the softmax over it; so for prompts of any group, as
    cosines mean nothing but beside others. Elsewhere a logit is that already.
    """
    found_NC = logit_NC.copy()
    for group, columns in zip(labels.groups, labels.columns(), strict=True):
        if group.several and (kind != "zero-shot" or len(group.labels) < 2):
            continue
        some_NC = logit_NC[:, columns]
        others_NC = np.stack(
            [
                np.logaddexp.reduce(np.delete(some_NC, place, axis=1), axis=1)
                for place in range(some_NC.shape[1])
            ],
            axis=1,
        )
        found_NC[:, columns] = some_NC - others_NC
    return found_NC
