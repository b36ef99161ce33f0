"""What pictures are by descriptions of what they may be, from vectors of a dual encoder alone.

Zero-shot classification (CLIP, Radford et al. 2021, section 3.1), and pairs of opposites for how
good a picture is (CLIP-IQA, Wang et al., AAAI 2023, arXiv 2207.12396, equation 2): as good as the
encoder is.

N pictures, T descriptions, P pairs of opposites, E dimensions.
"""

from __future__ import annotations

import numpy as np

SCALE = 100.0
"""What cosines are multiplied with before the softmax: where CLIP's training ends."""

UNSAFE = (
    "선정적인 사진",
    "나체 사진",
    "음란물",
    "포르노 사진",
    "잔인한 사진",
    "피가 흐르는 사진",
    "시신 사진",
)
SAFE = (
    "일상 사진",
    "제품 사진",
    "풍경 사진",
    "사람 사진",
    "음식 사진",
    "동물 사진",
    "그림",
    "글자가 있는 이미지",
)
QUALITY = (
    ("좋은 사진", "나쁜 사진"),
    ("선명한 사진", "흐릿한 사진"),
    ("밝고 또렷한 사진", "어둡고 잘 보이지 않는 사진"),
    ("사진", "글자와 워터마크로 덮인 이미지"),
)
"""Good and bad, in pairs."""


def probability(
    images_NE: np.ndarray, texts_TE: np.ndarray, first: int, *, scale: float = SCALE
) -> np.ndarray:
    """The probability (N,) that a picture is one of the ``first`` descriptions, not of the others.

    Args:
        images_NE, texts_TE: of length 1.
    """
    logits_NT = scale * images_NE @ texts_TE.T
    weights_NT = np.exp(logits_NT - logits_NT.max(axis=1, keepdims=True))
    return weights_NT[:, :first].sum(axis=1) / weights_NT.sum(axis=1)


def goodness(
    images_NE: np.ndarray, good_PE: np.ndarray, bad_PE: np.ndarray, *, scale: float = SCALE
) -> np.ndarray:
    """The mean over pairs (N,) of the probability that a picture is the good one of the two.

    Args:
        images_NE, good_PE, bad_PE: of length 1; row p of both is a pair.
    """
    pairs = [
        probability(images_NE, np.stack(pair), 1, scale=scale)
        for pair in zip(good_PE, bad_PE, strict=True)
    ]
    return np.mean(pairs, axis=0)
