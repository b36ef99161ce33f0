"""Weighted k nearest neighbours on frozen image vectors: nothing is learned, nothing is tuned.

Each of the k training vectors nearest to an image votes for its class with ``exp(cosine /
temperature)``: instance discrimination (arXiv 1805.01978, section 3.4), as DINO measures (arXiv
2104.14294), with k = 20 and temperature 0.07.

N training rows, T test rows, C classes, K neighbours, E dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kmm_jax.evaluation.labelled import Classified, classified, numbered

_BLOCK_VALUES = 16 * 1024 * 1024


def knn(
    train_NE: np.ndarray,
    train_labels: Sequence[str],
    test_ME: np.ndarray,
    test_labels: Sequence[str],
    *,
    k: int = 20,
    temperature: float = 0.07,
    label: str = "label",
    said: str = "",
) -> Classified:
    """Answer the labels of the test vectors by those of their neighbours.

    There is no top 5: classes without a vote are in no order.

    Args:
        train_NE, test_ME: unit vectors of the frozen model.
        k: neighbours that vote; all where there are fewer training rows.
        label: names the labels in the title.
        said: where the rows come from, for the protocol.

    Raises:
        DataError: fewer than two classes among the training rows, or no test row of them.
        ValueError: ``k`` below 1, or a temperature that is not positive.
    """
    if k < 1 or not temperature > 0:
        raise ValueError(f"k must be at least 1 and temperature positive, got {k}, {temperature}")
    numbers = numbered(train_labels, test_labels)
    k = min(k, len(train_NE))
    votes_TC = knn_votes(
        train_NE,
        numbers.train_N,
        np.asarray(test_ME)[numbers.which_T],
        classes=len(numbers.keys),
        k=k,
        temperature=temperature,
    )
    return classified(
        votes_TC,
        numbers,
        task="knn",
        title=f"k nearest neighbours: {label}",
        said=said,
        protocol=(
            f"the {k} training images nearest by cosine vote for their class with "
            f"exp(cosine / {temperature:g})"
        ),
        top5=False,
        facts={"k": k},
    )


def knn_votes(
    train_NE: np.ndarray,
    train_N: np.ndarray,
    test_TE: np.ndarray,
    *,
    classes: int,
    k: int,
    temperature: float,
    block_values: int = _BLOCK_VALUES,
) -> np.ndarray:
    """Each class's votes (T, C), float64, relative to the vote of the row's nearest neighbour.

    Args:
        train_N: class numbers of the training rows.
        block_values: most similarities held at a time.
    """
    votes_TC = np.zeros((len(test_TE), classes))
    rows = max(block_values // len(train_NE), 1)
    for start in range(0, len(test_TE), rows):
        similarity_BN = test_TE[start : start + rows] @ train_NE.T
        near_BK = np.argpartition(-similarity_BN, k - 1, axis=1)[:, :k]
        cosine_BK = np.take_along_axis(similarity_BN, near_BK, axis=1).astype(np.float64)
        # Relative to the nearest, for at low temperatures exp(cosine / temperature) overflows.
        weight_BK = np.exp((cosine_BK - cosine_BK.max(axis=1, keepdims=True)) / temperature)
        block_BC = votes_TC[start : start + rows]
        np.add.at(block_BC, (np.arange(len(near_BK))[:, None], train_N[near_BK]), weight_BK)
    return votes_TC
