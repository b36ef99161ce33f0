"""Candidates ranked again, with a probability for each and one for "none of these".

A conditional logit (McFadden 1974): each candidate has a utility that is linear in its features,
"none of these" has a constant one, and probabilities are their softmax. It is fitted on pictures
that are not in the database; each counts twice, as it is and with its name taken out of the
database, so that "none of these" is learned from cases in which it is the truth.

N candidates, F features.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kmm_jax.errors import DataError, UserError
from kmm_jax.files import read_described, write_json

FILE = "ranker.json"
UNKNOWN = 0.2
"""The share of pictures whose name the database does not have, where nobody says."""

_FORMAT = "kmm_jax name ranker 1"
_PENALTY = 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A picture to learn from: its candidates, and which is right; -1 where none is.

    Attributes:
        weight: how often it counts.
    """

    features_NF: np.ndarray
    right: int
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranker:
    """The conditional logit.

    Attributes:
        features: the columns that it was fitted on.
        mean_F, scale_F: of them, by which they are brought to one scale.
        weight_F: of them.
        none: utility of "none of these".
        models: hashes of the models whose features these are.
        unknown: the share of pictures without a name that was assumed.
    """

    features: tuple[str, ...]
    mean_F: np.ndarray
    scale_F: np.ndarray
    weight_F: np.ndarray
    none: float
    models: tuple[str, ...]
    unknown: float

    def probabilities(self, features_NF: np.ndarray) -> tuple[np.ndarray, float]:
        """Of each candidate (N,), and of none of them; all together 1."""
        utility_N = (features_NF - self.mean_F) / self.scale_F @ self.weight_F
        return _softmax(utility_N, self.none)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Beside the database that it belongs to."""
        said = dataclasses.asdict(self)
        for name in ("mean_F", "scale_F", "weight_F"):
            said[name] = said[name].tolist()
        write_json(Path(folder) / FILE, {"format": _FORMAT, **said})

    @classmethod
    def load(cls, folder: str | os.PathLike[str], models: Sequence[str]) -> Ranker | None:
        """That of a database; None where none was fitted.

        Raises:
            DataError: it is damaged.
            UserError: it was fitted with other models.
        """
        path = Path(folder) / FILE
        if not path.exists():
            return None
        said = read_described(path, _FORMAT, missing=f"{path} is gone")
        del said["format"]
        try:
            for name in ("mean_F", "scale_F", "weight_F"):
                said[name] = np.asarray(said[name], np.float64)
            found = cls(
                **{**said, "features": tuple(said["features"]), "models": tuple(said["models"])}
            )
            sizes = {len(each) for each in (found.mean_F, found.scale_F, found.weight_F)}
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{path} is damaged: {error}") from error
        if sizes != {len(found.features)}:
            raise DataError(f"{path} is damaged: its features and weights are not as many")
        if found.models != tuple(models):
            raise UserError(f"{path} was fitted with other models; run kmm name fit again")
        return found


def fit(
    examples: Sequence[Example],
    *,
    features: Sequence[str],
    models: Sequence[str],
    unknown: float = UNKNOWN,
) -> Ranker:
    """The most likely ranker of examples, with a small penalty on its weights.

    Examples of which no candidate is right count together as the share ``unknown``.

    Raises:
        UserError: no example of either kind, or a share that is none.
    """
    if not 0 < unknown < 1:
        raise UserError(f"the share of unknown names is between 0 and 1, got {unknown}")
    known = [each for each in examples if each.right >= 0 and len(each.features_NF)]
    nones = [each for each in examples if each.right < 0]
    if not known or not nones:
        raise UserError(
            f"{len(known)} pictures with their name among the candidates and {len(nones)} without: "
            "a ranker is learned from both; fit it on pictures of things that the database has"
        )
    from scipy.optimize import minimize

    rows = np.concatenate([each.features_NF for each in examples])
    mean_F = rows.mean(axis=0)
    spread_F = rows.std(axis=0)
    scale_F = np.where(spread_F > 0, spread_F, 1.0)
    scaled = [(each.features_NF - mean_F) / scale_F for each in examples]
    totals = {True: sum(each.weight for each in known), False: sum(each.weight for each in nones)}
    weights = [
        each.weight / totals[each.right >= 0] * ((1 - unknown) if each.right >= 0 else unknown)
        for each in examples
    ]

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        weight_F, none = at[:-1], float(at[-1])
        total, slope = 0.5 * _PENALTY * float(weight_F @ weight_F), np.zeros_like(at)
        slope[:-1] = _PENALTY * weight_F
        for each, rows_NF, weight in zip(examples, scaled, weights, strict=True):
            p_N, p_none = _softmax(rows_NF @ weight_F, none)
            right = p_none if each.right < 0 else p_N[each.right]
            total -= weight * float(np.log(max(right, 1e-300)))
            error_N = p_N.copy()
            if each.right >= 0:
                error_N[each.right] -= 1
            slope[:-1] += weight * (error_N @ rows_NF)
            slope[-1] += weight * (p_none - (each.right < 0))
        return total, slope

    found = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B")
    return Ranker(
        features=tuple(features),
        mean_F=mean_F,
        scale_F=scale_F,
        weight_F=found.x[:-1],
        none=float(found.x[-1]),
        models=tuple(models),
        unknown=unknown,
    )


def _softmax(utility_N: np.ndarray, none: float) -> tuple[np.ndarray, float]:
    most = max(float(utility_N.max(initial=none)), none)
    raised_N, raised = np.exp(utility_N - most), float(np.exp(none - most))
    total = float(raised_N.sum()) + raised
    return raised_N / total, raised / total
