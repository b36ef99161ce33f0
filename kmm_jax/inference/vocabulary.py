"""The token embeddings of one vocabulary for another.

A token that both have, as the same string, keeps its vector; any other begins as the mean of the
vectors of its pieces under the old tokenizer, which is how vocabularies are swapped for another
language (FVT, arXiv 2204.03378; Dagan et al., arXiv 2402.01035). V, W tokens, D width.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from kmm_jax.text.tokenizer import Tokenizer

_UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # part of a character that several tokens spell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Swap:
    """What each row of the new embedding is made of.

    Attributes:
        sources: for each new row the old ones it is the mean of; none for the mean of all.
        tokens: how many of the rows are tokens; the others are room for more.
        taken: tokens that both vocabularies have.
        pieced: tokens that begin as the mean of their pieces.
        old: tokens of the old vocabulary.
    """

    sources: tuple[tuple[int, ...], ...]
    tokens: int
    taken: int
    pieced: int
    old: int

    def rows(self, old_VD: np.ndarray) -> np.ndarray:
        """The new rows (W, D), in the dtype of the old."""
        mean_D = old_VD[: self.old].mean(axis=0, dtype=np.float64)
        new_WD = np.empty((len(self.sources), old_VD.shape[1]), np.float64)
        for row_D, ids in zip(new_WD, self.sources, strict=True):
            row_D[:] = old_VD[list(ids)].mean(axis=0, dtype=np.float64) if ids else mean_D
        return new_WD.astype(old_VD.dtype)

    def __str__(self) -> str:
        rest = self.tokens - self.taken - self.pieced
        return (
            f"{self.taken:,} of {self.tokens:,} tokens taken over, {self.pieced:,} begin as the "
            f"mean of their pieces, {rest:,} as the mean of all"
        )


def swap(before: Tokenizer, now: Tokenizer, *, rows: int) -> Swap:
    """How to make the embeddings of ``now`` from those of ``before``.

    What begins, ends and fills up a text is taken over by its role where the strings differ.

    Args:
        rows: of the new embedding, at least as many as ``now`` has tokens.
    """
    old = before.vocabulary
    # A byte-level tokenizer writes bytes as letters: its "é" is no é.
    same_letters = before.byte_level == now.byte_level
    roles = {
        one: other
        for one, other in (
            (now.pad_id, before.pad_id),
            (now.bos_id, before.bos_id),
            (now.eos_id, before.eos_id),
            (now.cls_id, before.cls_id),
        )
        if one is not None and other is not None
    }
    sources: list[tuple[int, ...]] = [()] * rows
    taken = pieced = 0
    for token, number in now.vocabulary.items():
        if token in old and (same_letters or token.isascii()):
            sources[number] = (old[token],)
        elif number in roles:
            sources[number] = (roles[number],)
        else:
            text = now.decode([number])
            sources[number] = () if _UNREADABLE in text else tuple(before.encode(text))
            pieced += bool(sources[number])
            continue
        taken += 1
    return Swap(
        sources=tuple(sources),
        tokens=len(now.vocabulary),
        taken=taken,
        pieced=pieced,
        old=before.vocab_size,
    )
