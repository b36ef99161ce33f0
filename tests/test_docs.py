"""What the documents point at is there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_its_links_lead_somewhere(path: Path) -> None:
    targets = _LINK.findall(path.read_text("utf-8"))
    local = [each for each in targets if not each.startswith(("http://", "https://", "mailto:"))]
    assert [each for each in local if not (path.parent / each).exists()] == []
