"""Which of a document's images stands for it (slide 5.2), over arrays.

No picture is better than a dangerous one: what is probably unsafe goes whatever else it is, then
what is less similar to the query than a floor. What stays is ordered by maximal marginal relevance
(Carbonell and Goldstein, SIGIR 1998),

    score(i) = similarity(i) + quality * q(i) - safety * u(i) - diversity * max_j max(0, cos(i, j))

over the images j that were chosen before it: the paper's criterion divided by its lambda, which is
1 / (1 + diversity). All weights are in cosines: what a picture that is wholly so gains or loses.

N images, D dimensions.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from kmm_jax.errors import ConfigError, DataError

TERMS = ("similarity", "quality", "safety", "diversity")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThumbnailConfig:
    """What a thumbnail has to be.

    Attributes:
        floor: cosine of query and image below which no image is shown; None for no floor. It
            belongs to a model: ``evaluation.floor.calibrate`` finds it from labels.
        most_unsafe: an image that is unsafe with a higher probability is never shown.
        quality: what a perfect picture gains.
        safety: what a picture that is certainly unsafe loses, below ``most_unsafe`` in proportion.
        diversity: what the copy of a picture that was chosen before loses. The first is chosen
            without it.

    Raises:
        ConfigError: a value that makes no sense.
    """

    floor: float | None = None
    most_unsafe: float = 0.5
    quality: float = 0.02
    safety: float = 0.1
    diversity: float = 0.1

    def __post_init__(self) -> None:
        if self.floor is not None and not -1 <= self.floor <= 1:
            raise ConfigError(f"floor is a cosine, from -1 to 1; found {self.floor}")
        if not 0 <= self.most_unsafe <= 1:
            raise ConfigError(f"most_unsafe is a probability; found {self.most_unsafe}")
        for name in ("quality", "safety", "diversity"):
            weight = getattr(self, name)
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"{name} is a weight of 0 or more; found {weight}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """An image that was chosen.

    Attributes:
        image: its number.
        score: the sum of ``parts``; never more than that of the place before.
        parts: what each of ``TERMS`` adds.
    """

    image: int
    score: float
    parts: dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """The images of a document, by number.

    Attributes:
        chosen: the best first; none where no image may be shown.
        below: those under the floor, the most similar first.
        unsafe: those that are unsafe, in the order given.
    """

    chosen: tuple[Place, ...]
    below: tuple[int, ...]
    unsafe: tuple[int, ...]


def rank(
    similarity_N: np.ndarray,
    vectors_ND: np.ndarray,
    *,
    unsafe_N: np.ndarray | None = None,
    quality_N: np.ndarray | None = None,
    config: ThumbnailConfig | None = None,
    most: int | None = None,
) -> Ranking:
    """Choose at most ``most`` images; equal ones stand in the order given.

    Args:
        similarity_N: cosine of the query with each image.
        vectors_ND: of the images, of length 1; compared for diversity.
        unsafe_N: probability that an image must not be shown; None where that is not known, and
            then nothing is kept back for it.
        quality_N: from 0 to 1; None leaves the term out.
        most: all where it is None.

    Raises:
        DataError: arrays that do not fit each other, or hold what is no number or out of range.
        ConfigError: ``most`` below 1.
    """
    config = config or ThumbnailConfig()
    if most is not None and most < 1:
        raise ConfigError(f"a thumbnail takes 1 image or more, found {most}")
    vectors_ND = np.asarray(vectors_ND, np.float64)
    if vectors_ND.ndim != 2:
        raise DataError(f"vectors have the shape (images, dimension), found {vectors_ND.shape}")
    count = len(vectors_ND)
    similarity_N = _checked(similarity_N, "similarity", count, -1 - 1e-3, 1 + 1e-3)
    zeros_N = np.zeros(count)
    unsafe_N = zeros_N if unsafe_N is None else _checked(unsafe_N, "unsafe", count, 0, 1)
    quality_N = zeros_N if quality_N is None else _checked(quality_N, "quality", count, 0, 1)

    is_unsafe_N = unsafe_N > config.most_unsafe
    is_below_N = ~is_unsafe_N & (similarity_N < (-np.inf if config.floor is None else config.floor))
    left_N = ~(is_unsafe_N | is_below_N)
    parts = {
        "similarity": similarity_N,
        "quality": config.quality * quality_N,
        "safety": -config.safety * unsafe_N,
    }
    relevance_N = np.sum(list(parts.values()), axis=0)
    nearest_N = np.zeros(count)  # cosine to the nearest chosen one; opposite is as good as unlike
    chosen: list[Place] = []
    while left_N.any() and (most is None or len(chosen) < most):
        score_N = relevance_N - config.diversity * nearest_N
        best = int(np.argmax(np.where(left_N, score_N, -np.inf)))
        found = {name: float(part_N[best]) for name, part_N in parts.items()}
        found["diversity"] = float(-config.diversity * nearest_N[best])
        chosen.append(Place(image=best, score=float(score_N[best]), parts=found))
        left_N[best] = False
        nearest_N = np.maximum(nearest_N, vectors_ND @ vectors_ND[best])
    below = np.flatnonzero(is_below_N)
    return Ranking(
        chosen=tuple(chosen),
        below=tuple(int(each) for each in below[np.argsort(-similarity_N[below], kind="stable")]),
        unsafe=tuple(int(each) for each in np.flatnonzero(is_unsafe_N)),
    )


def _checked(values: np.ndarray, what: str, count: int, least: float, most: float) -> np.ndarray:
    values_N = np.asarray(values, np.float64)
    if values_N.shape != (count,):
        raise DataError(f"{what} has the shape {values_N.shape}, of {count} images")
    if not ((values_N >= least) & (values_N <= most)).all():  # NaN is neither
        raise DataError(f"{what} goes from {least:.0f} to {most:.0f}, found {values_N.tolist()}")
    return values_N
