"""Texts for the report: what each rule was met in, a few of a file, without personal data."""

from __future__ import annotations

from kmm_jax.corpus import tables
from kmm_jax.corpus.sampling import Smallest, text_key
from kmm_jax.corpus.text import Cleaned, TextRules
from kmm_jax.corpus.text.excerpt import Piece, excerpt

_OF_EACH = 6


class TextSamples:
    """Excerpts by (decision, reason), those with the smallest hashes.

    A rule that masks keeps the text, one that rejects does not; both are held. Personal data is
    taken out here, before anything is written.
    """

    def __init__(self, rules: TextRules) -> None:
        self._rules = rules
        self._held: dict[tuple[str, str], Smallest[list[Piece]]] = {}

    def offer(self, text: str, found: Cleaned) -> None:
        """Hold an excerpt of ``text`` if something was found in it and it belongs to the sample."""
        if found.decision == "keep":
            return
        reason = found.rejected_for or found.reasons[0]
        at = next((start for start, _, of in found.spans if of == reason), 0)
        held = self._held.setdefault((found.decision, reason), Smallest(_OF_EACH))
        held.offer(text_key(text), lambda: excerpt(text, self._rules, at=at, reason=reason))

    def dumps(self) -> str:
        """As JSON: a list of [decision, reason, key, pieces]."""
        return tables.dumps(
            [
                [decision, reason, key, pieces]
                for (decision, reason), held in sorted(self._held.items())
                for key, pieces in held
            ]
        )
