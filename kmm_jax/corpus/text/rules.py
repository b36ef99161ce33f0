"""What is looked for in a text, and what happens when it is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kmm_jax.errors import ConfigError, nearest

Action = Literal["reject", "mask", "off"]
Decision = Literal["keep", "mask", "reject"]
Span = tuple[int, int, str]
"""[start, end) in code points, and the reason."""

REASONS = (
    "profanity",
    "adult",
    "resident_number",
    "driver_license",
    "passport",
    "phone",
    "tracking_number",
    "card_number",
    "address",
    "email",
    "url",
    "symbols",
    "language",
    "noise_topic",
    "empty",
)
"""Every reason, in the order in which a result lists them."""

PERSONAL = REASONS[REASONS.index("resident_number") : REASONS.index("url") + 1]
"""The personal data of slide 2.2."""

WORD_LISTS = ("profanity", "adult", "noise_topic")
"""The reasons that are lists of words: ``lists/NAME.txt``, extended by ``TextRules.NAME_lists``."""

_WHOLE = ("symbols", "empty")


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """An action for each reason, and the thresholds (defaults: slide 2.2, where it says one).

    ``reject`` drops the text, ``mask`` replaces what was found by ``mask``, ``off`` does not look.
    A rejected text has its personal data replaced as well, so that no report shows it.
    """

    profanity: Action = "reject"
    adult: Action = "reject"
    resident_number: Action = "reject"
    driver_license: Action = "reject"
    passport: Action = "reject"
    phone: Action = "reject"
    tracking_number: Action = "reject"
    card_number: Action = "reject"
    address: Action = "reject"
    email: Action = "reject"
    url: Action = "reject"
    symbols: Action = "reject"
    language: Action = "reject"
    noise_topic: Action = "reject"
    empty: Action = "reject"

    mask: str = "***"
    """What stands for one span that was taken out."""
    symbol_share: float = 0.5
    """From this share of jamo, letters and signs among all but spaces a text is ``symbols``."""
    count_latin: bool = True
    """Whether Latin letters count there, as the slide says; False for catalogues in English."""
    hanja: bool = False
    """Whether Chinese characters are Korean."""
    spelled_digits: bool = True
    """Whether phone numbers written as words (공일공 ...) are looked for."""
    shorten: bool = True
    """Whether meaningless repetition becomes short (대박대박대박 -> 대박)."""
    profanity_lists: tuple[Path, ...] = ()
    adult_lists: tuple[Path, ...] = ()
    noise_topic_lists: tuple[Path, ...] = ()
    allow_lists: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        # A config that went through JSON, as tasks carry it, has texts for paths.
        for name in (*WORD_LISTS, "allow"):
            paths = getattr(self, f"{name}_lists")
            paths = (paths,) if isinstance(paths, str | Path) else paths
            object.__setattr__(self, f"{name}_lists", tuple(map(Path, paths)))
        for reason in REASONS:
            action = getattr(self, reason)
            if action not in get_args(Action):
                raise ConfigError(
                    f"{reason} must be reject, mask or off, found {action!r}"
                    + nearest(str(action), get_args(Action))
                )
            if action == "mask" and reason in _WHOLE:
                raise ConfigError(
                    f"{reason}='mask' cannot work: it is about the whole text and nothing would "
                    "be left; choose reject or off"
                )
        if not 0 < self.symbol_share <= 1:
            raise ConfigError(f"symbol_share must lie in (0, 1], found {self.symbol_share}")
