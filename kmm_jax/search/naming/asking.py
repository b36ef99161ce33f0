"""Pictures named: one answer from all models, and how sure it is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kmm_jax.errors import UserError
from kmm_jax.search.naming.candidates import Candidates, candidates, feature_names
from kmm_jax.search.naming.database import Encoder, NameDatabase
from kmm_jax.search.naming.ranker import Ranker


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """A name that a picture may have.

    Attributes:
        probability: None where no ranker was fitted.
        score: by which it stands here: its probability, or the sum of its reciprocal ranks.
        parts: what speaks for it, by feature.
    """

    name: str
    probability: float | None
    score: float
    parts: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a picture may show, the likeliest first.

    Attributes:
        none: the probability that it is none of all names; None where no ranker was fitted.
        known: whether the first name is likely enough to be said.
    """

    names: list[Named]
    none: float | None
    known: bool


class Namer:
    """A database of names with its models at work."""

    def __init__(self, database: NameDatabase, encoders: Sequence[Encoder]) -> None:
        """Take the models, in the database's order, and the ranker if there is one.

        Raises:
            UserError: other models than the database's.
            DataError: the ranker is damaged.
        """
        database.check_models(encoders)
        self.database, self.encoders = database, tuple(encoders)
        self.ranker = Ranker.load(database.folder, database.hashes)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        load: Callable[[str], Any],
        *,
        models: Sequence[str] = (),
        known: Sequence[Encoder] = (),
    ) -> Namer:
        """Open a database and its models.

        Args:
            models: where they are now, in their order; by default where they were.
            known: models that are loaded already.
        """
        database = NameDatabase.open(folder)
        if models and len(models) != len(database.members):
            raise UserError(
                f"{folder} was made with {len(database.members)} models, {len(models)} are named"
            )
        loaded = {each.hash: each for each in known}
        encoders = [
            loaded.get(member.images.model_hash) or load(path)
            for member, path in zip(
                database.members,
                models or [member.path for member in database.members],
                strict=True,
            )
        ]
        return cls(database, encoders)

    def vectors(self, images: Sequence[Any]) -> list[np.ndarray]:
        """Of each model (N, D)."""
        return [np.asarray(each.embed_image(images)) for each in self.encoders]

    def candidates(
        self, vectors: Sequence[np.ndarray], *, without: str | None = None
    ) -> Candidates:
        """Of a picture whose vectors (D,) these are, one of each model."""
        return candidates(self.database.members, vectors, without=without)

    def ranked(self, found: Candidates) -> tuple[np.ndarray, np.ndarray, float | None]:
        """The order of candidates (N,), their scores (N,) in it, and the probability of none."""
        if self.ranker is None:
            ranks = found.features_NF[:, feature_names(len(self.encoders)).index("ranks")]
            return np.arange(len(found.names)), ranks, None
        p_N, none = self.ranker.probabilities(found.features_NF)
        order = np.argsort(-p_N, kind="stable")
        return order, p_N[order], none

    def name(
        self, image: Image.Image | Any, *, most: int = 5, floor: float | None = None
    ) -> Answer:
        """What a picture may show.

        Args:
            most: names to give.
            floor: the least probability of a name that is said to be known; by default it must be
                likelier than "none of these".

        Raises:
            UserError: ``most`` below 1, or a floor that is no probability.
        """
        if most < 1:
            raise UserError(f"at least 1 name must be asked for, got {most}")
        if floor is not None and not 0 <= floor <= 1:
            raise UserError(f"the floor is a probability from 0 to 1, got {floor}")
        if floor is not None and self.ranker is None:
            raise UserError("a floor needs probabilities: run kmm name fit first")
        found = self.candidates([each[0] for each in self.vectors([image])])
        order, scores, none = self.ranked(found)
        columns = feature_names(len(self.encoders))
        names = [
            Named(
                name=found.names[place],
                probability=None if none is None else float(score),
                score=float(score),
                parts=dict(zip(columns, found.features_NF[place].tolist(), strict=True)),
            )
            for place, score in zip(order[:most], scores[:most], strict=True)
        ]
        least = floor if floor is not None else none
        known = bool(names) and (least is None or names[0].score >= least)
        return Answer(names=names, none=none, known=known)
