"""Pictures purged from documents are gone: from what is found, and from every byte on the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kmm_jax.cli import main
from kmm_jax.search.document_search import DocumentSearch, Query
from kmm_jax.search.document_store import DocumentStore
from kmm_jax.search.documents import Document, document
from tests.conftest import REPOSITORY
from tests.search.colors import Colors

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")

from tests.search import purge_kill

GONE = "aa11bb22cc33dd44ee55"


def doc(id: str, title: str, *images: dict[str, str]) -> Document:
    return document({"id": id, "title": title, "body": "어제 산 옷", "images": list(images)})


def shown(hash: str, color: str, caption: str = "") -> dict[str, str]:
    return {"hash": hash, "path": color, "caption": caption}


DOCUMENTS = (
    doc("1", "빨간 셔츠", shown("b" * 20, "250,10,3"), shown(GONE, "17,201,93", "해운대 바다")),
    doc("2/나", "초록 나무", shown(GONE, "17,201,93"), shown("c" * 20, "20,190,80", "나무")),
    doc("3", "파란 바다", shown("d" * 20, "3,20,240")),
)


def picture(image: Any) -> Image.Image:
    return Image.new("RGB", (4, 4), tuple(map(int, image.path.split(","))))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    found = DocumentSearch(tmp_path / "docs", Colors())
    found.put(DOCUMENTS, picture)
    found.store.put([doc("4", "아직 찾지 못하는 것", shown(GONE, "17,201,93", "해운대"))])
    found.store.close()
    return tmp_path / "docs"


def purged(folder: Path, *more: str, hashes: str = f"{GONE}\n") -> int:
    file = folder.parent / "hashes.txt"
    file.write_text(hashes, "utf-8")
    return main(["corpus", "purge", str(folder), "--hashes", str(file), *more])


def files_with(folder: Path, *some: bytes) -> list[str]:
    """The files that hold any of these bytes."""
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(each in path.read_bytes() for each in some)
    ]


def test_a_purged_image_leaves_its_documents_and_the_disk(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = Colors().embed_image([picture(DOCUMENTS[1].images[0])])[0].tobytes()
    everything = (GONE.encode(), GONE.upper().encode(), vector, "해운대".encode())
    before = files_with(docs, *everything)
    assert any("vectors" in name for name in before) and "documents.sqlite" in before
    words = {path.name for path in (docs / "words" / "tantivy").glob("*.term")}
    assert words
    assert purged(docs, "--dry-run") == 0
    assert files_with(docs, *everything) == before

    assert purged(docs) == 0
    assert "(documents): removed 3 of 6 rows" in capsys.readouterr().out
    assert files_with(docs, *everything) == []
    # Words lie in files that are written once: none of those that knew the caption is left.
    assert not words & {path.name for path in (docs / "words" / "tantivy").glob("*")}
    found = DocumentSearch(docs, Colors())
    assert found.catch_up(picture).documents == 1
    hits = found.search(Query(text="초록 나무"), 5)
    assert {hit.document.id for hit in hits} == {"1", "2/나", "3", "4"}
    assert hits[0].document.id == "2/나" and len(hits[0].document.images) == 1
    images = found.search(Query(image=picture(DOCUMENTS[1].images[0])), 9)
    assert {hit.image.hash for hit in images if hit.image} == {"b" * 20, "c" * 20, "d" * 20}
    assert not found._words.search("해운대") and found._words.search("나무")

    # Whoever hands the same documents in again does not bring it back.
    again = found.put(DOCUMENTS, picture)
    assert again.documents == 0
    changed = found.put([doc("3", "새 바다", shown(GONE, "17,201,93"))], picture)
    assert changed.documents == 1 and not found.store.get(["3"])["3"].images
    found.store.close()
    assert files_with(docs, *everything) == []
    assert purged(docs) == 1  # none of the hashes was found


def test_documents_go_with_it_where_that_is_asked_for(docs: Path) -> None:
    assert purged(docs, "--whole-documents") == 0
    assert files_with(docs, GONE.encode(), "빨간 셔츠".encode()) == []
    found = DocumentSearch(docs, Colors())
    assert [each.id for each in found.store.all()] == ["3"]
    assert found._titles.ids() == ["3"] and found._images.ids() == [f"3/{'d' * 20}"]
    assert [hit.document.id for hit in found.search(Query(text="옷"), 9)] == ["3"]
    # What is put in next is caught up with.
    found.put([doc("5", "우산")], picture)
    assert found.search(Query(text="우산"), 1)[0].document.id == "5"


def test_others_that_are_open_meanwhile_see_it_and_keep_nothing(docs: Path) -> None:
    found = DocumentSearch(docs, Colors())
    before = found.view()
    assert purged(docs) == 0
    after = found.refresh()
    assert after.version != before.version
    assert not after.image_vectors(DOCUMENTS[1]).keys() & {GONE}
    assert all(GONE not in each.to_json() for each in found.store.all())


def test_documents_in_use_are_said_to_be(docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = DocumentStore(docs / "documents.sqlite")
    store._connection.execute("BEGIN")
    store._connection.execute("SELECT * FROM documents").fetchone()
    other = DocumentStore(docs / "documents.sqlite")
    other._connection.execute("PRAGMA busy_timeout=50")
    from kmm_jax.errors import UserError

    with pytest.raises(UserError, match="purge again"):
        other.purge([DOCUMENTS[2]], ())
    store._connection.rollback()
    other.purge([DOCUMENTS[2]], ())


@pytest.mark.parametrize("stride", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_purges_killed_at_any_step_end_as_one_that_was_not(
    docs: Path, tmp_path: Path, stride: int
) -> None:
    shutil.copytree(docs, tmp_path / "kill" / "start")
    (tmp_path / "kill" / "hashes.txt").write_text(GONE, "utf-8")
    done = subprocess.run(
        [sys.executable, purge_kill.__file__, str(tmp_path / "kill"), str(stride)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20 // stride
    vector = Colors().embed_image([picture(DOCUMENTS[1].images[0])])[0]
    (last,) = (tmp_path / "kill").glob("work*")
    assert files_with(last, GONE.encode(), np.asarray(vector).tobytes()) == []
