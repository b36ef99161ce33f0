"""A fusion that was learned from judged queries: a weighted sum of what matchers say of a document.

Of each matcher a document has four features: that it was found, its reciprocal rank, its score on
the list's scale (those are what ``rrf`` and ``weighted`` add up), and its score as it is. Their
weights differ by what is asked with: a text, an image or both. The sum is linear, so that what each
matcher adds is still known, and ``rrf``, ``weighted`` and each matcher alone are such sums as well.

M matchers, F features of one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import write_json
from kmm_jax.search.fusion import RANK_CONSTANT, Ranking, by_rank, by_score

FORMAT = "kmm_jax learned fusion 1"
FILE = "fusion.json"
MATCHERS = ("words", "text", "image")
FEATURES = ("found", "rank", "share", "score")

DEPTH = 200
"""What each matcher is asked for, in learning and in use: shares depend on how long a list is."""

Kind = Literal["text", "image", "both"]
"""What a query asks with."""
KINDS: tuple[Kind, ...] = get_args(Kind)


def kind_of(*, text: bool, image: bool) -> Kind:
    """The kind of a query that has a text, an image or both."""
    return "both" if text and image else "image" if image else "text"


def features_of(ranking: Ranking) -> dict[str, np.ndarray]:
    """Features (F,) of the ids that a matcher found; an id's first place counts.

    ``found`` is 1, ``rank`` is ``61 / (60 + rank)`` (1 for the first), ``share`` is 1 for the best
    of the list and 0 for its last, ``score`` is the matcher's own. What was not found has zeros.
    """
    found: dict[str, np.ndarray] = {}
    ranks, shares = by_rank(ranking), by_score(ranking)
    for (id, score), (_, rank), (_, share) in zip(ranking, ranks, shares, strict=True):
        if id not in found:
            found[id] = np.asarray([1.0, (RANK_CONSTANT + 1) * rank, share, score])
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedFusion:
    """Weights of features.

    Attributes:
        weights: (M, F) for each kind of query, matchers and features in the order of `MATCHERS`
            and `FEATURES`.
        model_hash: of the model whose scores it learned from.
        about: how it was learned; JSON values.
    """

    weights: Mapping[Kind, np.ndarray]
    model_hash: str
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def shares(self, rankings: Mapping[str, Ranking], kind: Kind) -> dict[str, Ranking]:
        """What each matcher adds to the ids that it found, for ``fusion.added``.

        Raises:
            UserError: a matcher that it knows nothing of.
        """
        shares: dict[str, Ranking] = {}
        for name, ranking in rankings.items():
            if name not in MATCHERS:
                raise UserError(f"the learned fusion knows {', '.join(MATCHERS)} and no {name!r}")
            weight_F = self.weights[kind][MATCHERS.index(name)]
            shares[name] = [
                (id, float(row_F @ weight_F)) for id, row_F in features_of(ranking).items()
            ]
        return shares

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all."""
        weights = {
            kind: {
                matcher: dict(zip(FEATURES, map(float, row_F), strict=True))
                for matcher, row_F in zip(MATCHERS, self.weights[kind], strict=True)
            }
            for kind in KINDS
        }
        about = {"model_hash": self.model_hash, "about": dict(self.about), "weights": weights}
        write_json(path, {"format": FORMAT, **about})


class FusionFile:
    """The learned fusion beside documents, as it was when this was made.

    What is wrong with it is said when it is asked for, so that searches by other fusions go on.

    Attributes:
        path: where it lies.
        version: changes with its bytes; empty where there is none.
    """

    def __init__(self, folder: str | os.PathLike[str], model_hash: str) -> None:
        self.path = Path(folder) / FILE
        self._model_hash = model_hash
        try:
            self._data = self.path.read_bytes()
        except FileNotFoundError:
            self._data = b""
        self.version = hashlib.sha256(self._data).hexdigest()[:8] if self._data else ""
        self._read: LearnedFusion | None = None

    def __bool__(self) -> bool:
        return bool(self.version)

    def fusion(self) -> LearnedFusion:
        """What was learned.

        Raises:
            UserError: nothing was, or from another model's scores.
            DataError: the file is damaged.
        """
        if not self:
            raise UserError(
                "no fusion was learned for these documents; learn one from judged queries with "
                "kmm documents fit-fusion, or choose rrf or weighted"
            )
        if self._read is None:
            self._read = parse(self._data, str(self.path))
        if self._read.model_hash != self._model_hash:
            raise UserError(
                f"{self.path} was learned from the scores of model {self._read.model_hash}, here "
                f"is {self._model_hash}; learn it again with kmm documents fit-fusion"
            )
        return self._read


def parse(data: bytes, name: str) -> LearnedFusion:
    """A learned fusion from the bytes of its file.

    Raises:
        DataError: it is damaged, of another format, or of other matchers or features.
    """
    advice = "; learn it again with kmm documents fit-fusion"
    try:
        values = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is damaged: {error}{advice}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(f"{name} is not of the format {FORMAT!r}{advice}")
    found: dict[Kind, np.ndarray] = {}
    kinds = _object(values.get("weights"), KINDS, f"{name}: weights")
    for kind in KINDS:
        matchers = _object(kinds[kind], MATCHERS, f"{name}: weights of {kind}")
        rows = []
        for matcher in MATCHERS:
            where = f"{name}: weights of {kind}, {matcher}"
            features = _object(matchers[matcher], FEATURES, where)
            for feature, value in features.items():
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise DataError(f"{where}: {feature} is a number, found {value!r}")
                if not math.isfinite(value):
                    raise DataError(f"{where}: {feature} is {value}, which is no weight")
            rows.append([float(features[feature]) for feature in FEATURES])
        found[kind] = np.asarray(rows)
    about = values.get("about")
    return LearnedFusion(
        weights=found,
        model_hash=str(values.get("model_hash", "")),
        about=about if isinstance(about, dict) else {},
    )


def _object(value: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        seen = ", ".join(map(str, value)) if isinstance(value, dict) else repr(value)[:60]
        raise DataError(f"{where}: there are {', '.join(names)}, found {seen}")
    return value
