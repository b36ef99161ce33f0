"""E-mail addresses and URLs, their usual disguises included."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}"
    r"(?: ?@ ?| ?골뱅이 ?| ?[(\[] ?(?:at|골뱅이|앳) ?[)\]] ?)"
    rf"(?:{_LABEL}(?:\.| ?[(\[]dot[)\]] ?)){{1,4}}[A-Za-z]{{2,10}}(?![A-Za-z0-9@-])",
    re.IGNORECASE,
)

# Without a scheme only these endings make a host: `io`, `info`, `me` are also names in programs and
# need a path behind them.
_PATH = r"(?:[/?#][^\s<>\"'`가-힣()\[\]{}|\\^]*)"
_URL = re.compile(
    r"(?:https?|ftp|hxxps?)://(?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.:@%_~-]+|[^\s<>\"'`/?#()\[\]{}|\\^,]+)"
    + _PATH
    + "?"
    rf"|(?<![A-Za-z0-9@.-])www\.(?:{_LABEL}\.){{0,4}}[A-Za-z]{{2,10}}(?::\d+)?{_PATH}?"
    rf"|(?<![A-Za-z0-9@._/-])(?:(?:{_LABEL}|[가-힣]{{1,12}})\.){{1,4}}"
    r"(?:(?:com|net|org|kr|shop|store)(?![A-Za-z0-9_-]|\.[A-Za-z0-9_])(?::\d+)?"
    + _PATH
    + r"?|(?:io|me|ly|gl|be|to|co|tv|app|dev|info|biz|xyz|site|link|page|ai|jp|cn|us|uk|gg|cc)"
    r"(?::\d+)?/[^\s<>\"'`가-힣()\[\]{}|\\^]+)",
    re.IGNORECASE,
)
_NO_HOST = re.compile(r"(?:asp|ado|vb|c#|f#|system|microsoft)\.net", re.IGNORECASE)
_TRAILING = ".,;:!?~*"


def emails(text: str) -> Iterator[tuple[int, int]]:
    """user@host.tld, also with gaps, ``(at)``, 골뱅이 and ``(dot)``."""
    for found in _EMAIL.finditer(text):
        yield found.span()


def urls(text: str) -> Iterator[tuple[int, int]]:
    """With a scheme, with ``www.``, or a host whose ending no program text has."""
    for found in _URL.finditer(text):
        if not _NO_HOST.fullmatch(found[0]):
            yield found.start(), found.start() + len(found[0].rstrip(_TRAILING))
