"""Purge documents in a process that is killed at its first step, at its second, and so on.

``python purge_kill.py FOLDER STRIDE``: FOLDER holds ``start/`` (documents) and ``hashes.txt``. Each
STRIDE-th step is one to be killed at. After every kill the same purge must end as one that was not
killed. Prints how often it was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kmm_jax.corpus.purge.run import purge
from kmm_jax.retrieval.collection import Collection
from kmm_jax.search.document_purge import documents_in
from kmm_jax.search.document_store import DocumentStore
from kmm_jax.search.text_index import TextIndex


def run(root: Path, folder: Path) -> None:
    purge(
        root / "hashes.txt",
        [str(folder)],
        receipts=root / f"receipts-{folder.name}",
        others=documents_in,
    )


def content(folder: Path) -> dict[str, Any]:
    """What there is to be found, and what is on the disk of what was to go."""
    store = DocumentStore(folder / "documents.sqlite")
    words = TextIndex.open(folder / "words")
    images = Collection.open(folder / "images", engine="exact")
    try:
        return {
            "documents": list(store.all()),
            "last": store.last,
            "words": [words.search(each, 9) for each in ("옷", "해운대")],
            "images": {id: images.vector(id).tolist() for id in images.ids()},
            "titles": Collection.open(folder / "titles", engine="exact").ids(),
            "left": [each.name for each in folder.glob(".purging")],
        }
    finally:
        store.close()


def kill_at(number: int) -> None:
    """Make this process end before its ``number``-th step, or right after it."""
    left = [number]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def change(*arguments: Any, **named: Any) -> Any:
            step()
            found = function(*arguments, **named)
            if after:
                step()
            return found

        return change

    for kind, name in ((Path, "replace"), (Path, "rename"), (Path, "unlink"), (os, "replace")):
        setattr(kind, name, counted(getattr(kind, name)))
    shutil.rmtree = counted(shutil.rmtree)  # type: ignore[assignment]
    for kind, name in ((DocumentStore, "refuse"), (DocumentStore, "purge"), (TextIndex, "rewrite")):
        setattr(kind, name, counted(getattr(kind, name), after=True))


def main(root: Path, stride: int) -> None:
    os.fsync = lambda _: None  # type: ignore[assignment]
    start = root / "start"
    wanted = None
    for number in range(0, 200, stride):
        work = root / f"work{number}"
        shutil.copytree(start, work)
        # Forked, so that imports are paid for once; nothing has computed here before.
        child = os.fork()
        if child == 0:
            try:
                if number:
                    kill_at(number)
                run(root, work)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = os.WIFEXITED(status)
        assert not ended or os.WEXITSTATUS(status) == 0
        again = os.fork()
        if again == 0:
            try:
                if not ended:
                    run(root, work)
                    # Read in the process that ended what was begun.
                found = content(work)
                (root / f"found{number}").write_text(repr(found), "utf-8")
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(again, 0)
        assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        found = (root / f"found{number}").read_text("utf-8")
        wanted = wanted or found
        assert found == wanted, (number, found, wanted)
        if ended and number:
            print(number // stride - 1)
            return
        shutil.rmtree(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
