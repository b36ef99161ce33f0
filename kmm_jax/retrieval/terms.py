"""Composed queries: texts and pictures, each looked for or looked away from (slide 5.4).

As people write them:

    + 꽃무늬                     with it
    - 빨간색 + 파란색*0.5         without one, and with half of another
    + @bag.jpg*2                 like a picture
    + @outfit.jpg[신발]          like the part of it where a text is seen
    + @outfit.jpg[0.5,0,1,1]     like a box of it: x0,y0,x1,y1 in shares of its sides
    + "빨강 + 파랑 * 2"           in quotes everything is text

A sign stands between spaces, and a star before the weight of its term. Nothing else is special.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from kmm_jax.data.boxes import Box
from kmm_jax.errors import UserError
from kmm_jax.retrieval.compose import MOST_TERMS, NEUTRAL, Form, combine
from kmm_jax.retrieval.regions import checked_box, cropped, find_box
from kmm_jax.text.normalize import normalize

MOST_WEIGHT = 100.0
_MOST_CHARACTERS = 20_000

_PLUS, _MINUS = "+＋", "−－–-"  # as keyboards and word processors write them; the last ends a class
# Quotes first, so that no sign within them is found.
_SIGNS = re.compile(rf'"[^"]*"|(?:^|(?<=\s))([{_PLUS}{_MINUS}])(?=\s|$)')
_NUMBER = re.compile(r"\d{1,9}(\.\d{0,9})?|\.\d{1,9}")
_QUOTED = re.compile(r'"([^"]*)"\s*(?:[*×]\s*(\S*))?')


class Encoder(Protocol):
    """What makes vectors of texts and pictures."""

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D), of length 1."""
        ...

    def embed_image(self, images: Sequence[Any]) -> np.ndarray:
        """(N, D), of length 1."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Term:
    """One part of a composed query: a text, a picture or a vector.

    Attributes:
        text: in words.
        image: a picture, or the path of one.
        vector: (D,), of whatever was embedded before.
        box: the part of the picture that counts, in shares of its sides.
        locate: or the part of it where this text is seen.
        weight: how much of it; below 0 what is found should be unlike it.

    Raises:
        UserError: none of the three or several, a weight that is none, or a part without a picture.
    """

    text: str = ""
    image: Image.Image | Path | None = None
    vector: np.ndarray | None = None
    box: Box | None = None
    locate: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", normalize(self.text))
        object.__setattr__(self, "locate", normalize(self.locate))
        if (bool(self.text), self.image is not None, self.vector is not None).count(True) != 1:
            raise UserError("a term of a query is a text, a picture or a vector: give one of them")
        if not math.isfinite(self.weight) or abs(self.weight) > MOST_WEIGHT:
            raise UserError(
                f"the weight of a term is from -{MOST_WEIGHT:g} to {MOST_WEIGHT:g}, "
                f"got {self.weight}"
            )
        if (self.box is not None or self.locate) and self.image is None:
            raise UserError("a box, or what to look for in a picture, needs the picture")
        if self.box is not None and self.locate:
            raise UserError("a box and what to look for: give one of them")
        if self.box is not None:
            object.__setattr__(self, "box", checked_box(self.box))


def is_composed(text: str) -> bool:
    """Whether it begins with a sign, and so is terms and no plain text."""
    stripped = text.lstrip()
    return bool(stripped) and bool(re.match(rf"[{_PLUS}{_MINUS}](\s|$)", stripped))


def parse_terms(text: str) -> list[Term]:
    """The terms that a text says, in its order; pictures as their paths.

    Raises:
        UserError: it does not begin with a sign, a term is empty or its weight no number, or it has
            more than ``MOST_TERMS`` terms.
    """
    if len(text) > _MOST_CHARACTERS:
        raise UserError(f"a composed query has at most {_MOST_CHARACTERS:,} characters")
    signs = [match for match in _SIGNS.finditer(text) if match[1]]
    if not signs or text[: signs[0].start()].strip():
        raise UserError(
            "a composed query begins with + or - and a space, such as '+ 꽃무늬', "
            f"got {text[:60]!r}"
        )
    check_count(len(signs))
    ends = [match.start() for match in signs[1:]] + [len(text)]
    return [
        _term(text[match.end() : end].strip(), -1.0 if match[1] in _MINUS else 1.0)
        for match, end in zip(signs, ends, strict=True)
    ]


def check_count(terms: int) -> None:
    """Refuse more terms than a query may have.

    Raises:
        UserError: there are more.
    """
    if terms > MOST_TERMS:
        raise UserError(f"a query has at most {MOST_TERMS} terms, got {terms:,}")


def _term(body: str, sign: float) -> Term:
    if quoted := _QUOTED.fullmatch(body):
        return Term(text=_said(quoted[1]), weight=sign * _weight(quoted[2], body))
    for star in "*×":
        head, found, tail = body.rpartition(star)
        if found:
            body, sign = head.strip(), sign * _weight(tail, body)
            break
    if not body.startswith("@"):
        return Term(text=_said(body), weight=sign)
    path, bracket, part = body[1:].removesuffix("]").rpartition("[")
    if not bracket or not body.endswith("]"):
        return Term(image=Path(_said(body[1:])), weight=sign)
    try:
        box = checked_box([float(each) for each in part.split(",")])
    except ValueError:
        return Term(image=Path(_said(path)), locate=_said(part), weight=sign)
    return Term(image=Path(_said(path)), box=box, weight=sign)


def _said(text: str) -> str:
    if not normalize(text):
        raise UserError("a term of a composed query says nothing; write it behind its sign")
    return text.strip()


def _weight(text: str | None, term: str) -> float:
    if text is None:
        return 1.0
    if not _NUMBER.fullmatch(text.strip()):
        raise UserError(
            f"behind the * of {term[:60]!r} stands the weight, such as *0.5; in quotes a star is "
            "text"
        )
    return float(text)


def written(term: Term) -> str:
    """A term of a text as `parse_terms` reads it."""
    said = term.text
    if re.search(rf'[*×"]|^@|(?:^|\s)[{_PLUS}{_MINUS}](?:\s|$)', said):
        said = '"' + said.replace('"', "") + '"'
    weight = abs(term.weight)
    return f"{'-' if term.weight < 0 else '+'} {said}" + ("" if weight == 1 else f"*{weight:g}")


def opened(terms: Iterable[Term], open_picture: Callable[[Path], Image.Image]) -> list[Term]:
    """The same with pictures in the place of their paths."""
    return [
        dataclasses.replace(term, image=open_picture(term.image))
        if isinstance(term.image, Path)
        else term
        for term in terms
    ]


def shown(term: Term, encoder: object) -> Image.Image:
    """The part of a term's picture that counts.

    Raises:
        UserError: the encoder cannot look for a text in it.
    """
    assert isinstance(term.image, Image.Image), "open it first"
    box = find_box(encoder, term.image, term.locate) if term.locate else term.box
    return term.image if box is None else cropped(term.image, box)


def neutral_of(encoder: Encoder) -> np.ndarray:
    """The mean vector (D,) of texts that say next to nothing."""
    return np.asarray(encoder.embed_text(list(NEUTRAL)), np.float32).mean(axis=0)


def composed(
    base: np.ndarray | None, terms: Sequence[Term], encoder: Encoder, *, form: Form = "directions"
) -> np.ndarray:
    """The vector (D,) of a query: what it begins from, and its terms.

    Args:
        base: (D,), of weight 1; None for none.
        form: what texts are, see `combine`.

    Raises:
        UserError: too many terms, or terms that cancel each other.
    """
    check_count(len(terms))
    texts = [term.text for term in terms if term.text]
    pictures = [shown(term, encoder) for term in terms if term.image is not None]
    of_texts = iter(encoder.embed_text(texts) if texts else ())
    of_pictures = iter(encoder.embed_image(pictures) if pictures else ())
    vectors = [
        term.vector if term.vector is not None else next(of_texts if term.text else of_pictures)
        for term in terms
    ]
    neutral = neutral_of(encoder) if texts and form == "directions" else None
    return summed(base, terms, vectors, form=form, neutral=neutral)


def summed(
    base: np.ndarray | None,
    terms: Sequence[Term],
    vectors: Sequence[np.ndarray],
    *,
    form: Form = "directions",
    neutral: np.ndarray | None = None,
) -> np.ndarray:
    """The same of terms whose vectors (D,) are known; ``neutral`` where there are texts among them.

    Directions lead from somewhere: with no base and nothing else to be like, from the neutral text.
    """
    are_texts = [bool(term.text) for term in terms]
    if not any(are_texts):
        form = "points"
    leads = any(term.weight > 0 and not term.text for term in terms)
    if base is None and form == "directions" and not leads:
        base = neutral
    begins = [] if base is None else [base]
    return combine(
        [*begins, *vectors],
        [*(1.0 for _ in begins), *(term.weight for term in terms)],
        are_texts=[*(False for _ in begins), *are_texts],
        form=form,
        neutral=neutral,
    )
