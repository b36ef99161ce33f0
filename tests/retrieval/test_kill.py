import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmm_jax.retrieval import Index, load_embeddings
from tests.retrieval import kill_loop

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def kill_often(what, folder, repeats, repository) -> int:
    done = subprocess.run(
        [sys.executable, kill_loop.__file__, what, str(folder), str(repeats)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[0])


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_export_killed_again_and_again_ends_as_one_that_was_not(tmp_path, repository):
    killed = kill_often("export", tmp_path / "killed", 12, repository)
    assert killed >= 3
    kill_loop.export(tmp_path / "killed")
    kill_loop.export(tmp_path / "whole")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert len(load_embeddings(tmp_path / "killed").ids) == kill_loop.ROWS


def test_an_index_killed_while_it_is_written_is_the_old_or_the_new_one(
    tmp_path, repository, needs_scann
):
    killed = kill_often("index", tmp_path / "index", 12, repository)
    assert killed >= 3
    kill_loop.index(tmp_path / "index", 7)
    kill_loop.index(tmp_path / "whole", 7)
    assert content(tmp_path / "index") == content(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index", "probe", "whole"]
    assert len(Index.load(tmp_path / "index")) == 800
