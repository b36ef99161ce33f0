"""Collections larger than memory: what they find, what they need, what a kill leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kmm_jax.cli import main
from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import Collection, IndexSettings, export_embeddings
from kmm_jax.retrieval.bulk import ArrayRows, Built, build_collection
from kmm_jax.retrieval.store_rows import StoredRows
from tests.retrieval.conftest import clustered, names, nearest_by_numpy

ROWS = 900
VECTORS = clustered(ROWS)
NAMES = names(ROWS)


def build(folder: Path, ids: list[str] = NAMES, **more: Any) -> Built:
    arguments: dict[str, Any] = {"model_hash": "m", "segment_rows": 250, **more}
    return build_collection(folder, ArrayRows(ids, VECTORS[: len(ids)]), **arguments)


def export(folder: Path, ids: list[str] = NAMES, dtype: str = "float32") -> None:
    export_embeddings(
        folder,
        rows=len(ids),
        part_rows=64,
        compute=lambda start, stop: (ids[start:stop], VECTORS[start:stop]),
        kind="image",
        model_hash="m",
        dim=VECTORS.shape[1],
        dtype=dtype,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_built_in_pieces_finds_what_brute_force_finds(tmp_path: Path, dtype: str) -> None:
    export(tmp_path / "e", dtype=dtype)
    rows = StoredRows(tmp_path / "e")
    assert rows.shape == (ROWS, 16) and rows.ids(60, 70) == NAMES[60:70]
    np.testing.assert_allclose(rows[60:200].astype(np.float32), VECTORS[60:200], rtol=2**-8)
    assert len(rows[5:5]) == 0
    told: list[Built] = []
    built = build_collection(
        tmp_path / "c",
        rows,
        model_hash="m",
        segment_rows=250,
        settings=IndexSettings(dtype=dtype),  # type: ignore[arg-type]
        columns=lambda ids: pa.table({"odd": [int(each[-1]) % 2 for each in ids]}),
        progress=told.append,
    )
    assert (built.rows, built.segments, built.before) == (ROWS, 4, 0)
    assert [each.rows for each in told] == [225, 450, 675, 900]
    found = Collection.open(tmp_path / "c")
    queries = clustered(30, seed=1)
    true = nearest_by_numpy(VECTORS, queries, 5)
    hits = [
        len({NAMES[row] for row in rows_} & set(ids))
        for rows_, ids in zip(true, found.search(queries, 5).ids, strict=True)
    ]
    assert sum(hits) / true.size >= (1 if dtype == "float32" else 0.98)
    odd = nearest_by_numpy(VECTORS[1::2], queries[:1], 3)[0] * 2 + 1
    assert found.search(queries[0], 3, where={"odd": 1}).ids == [[NAMES[row] for row in odd]]
    # It is a collection like any other from now on.
    found.put(["새것"], queries[:1])
    assert found.delete([NAMES[0]], erase=True) == 1
    assert len(Collection.open(tmp_path / "c")) == ROWS


def test_the_same_call_again_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "c")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*")}
    assert build(tmp_path / "c").before == 4
    files = {path: path.stat().st_mtime_ns for path in before if path.is_file()}
    assert all(before[path] == time for path, time in files.items())
    for more, word in (
        ({"segment_rows": 100}, "segment_rows"),
        ({"origin": {"from": "elsewhere"}}, "origin"),
        ({"ids": NAMES[:800]}, "rows"),
        ({"settings": IndexSettings(dtype="bfloat16")}, "settings"),
    ):
        with pytest.raises(UserError, match=word):
            build(tmp_path / "c", **more)
    Collection.create(tmp_path / "other", model_hash="m", dim=16)
    with pytest.raises(UserError, match="not built in bulk"):
        build(tmp_path / "other")


def test_ids_that_stand_twice_are_found_wherever_they_stand(tmp_path: Path) -> None:
    ids = [*NAMES[:600], NAMES[3], *NAMES[601:]]
    ids[350] = ids[300]
    with pytest.raises(DataError, match=r"2 rows have an id that stood before, the first is"):
        build(tmp_path / "c", ids)
    built = build(tmp_path / "k", ids, keep_first=True)
    assert built.rows == ROWS - 2
    found = Collection.open(tmp_path / "k")
    assert len(found) == ROWS - 2 and found.search(VECTORS[3], 1).ids == [[NAMES[3]]]
    assert found.search(VECTORS[600], 1).ids != [[NAMES[3]]]
    with pytest.raises(DataError, match="no vectors"):
        build_collection(tmp_path / "n", ArrayRows([], VECTORS[:0]), model_hash="m")


_BUILDER = """
    import sys, numpy as np
    from kmm_jax.retrieval.bulk import ArrayRows, build_collection
    from kmm_jax.retrieval.settings import IndexSettings
    from tests.retrieval.test_bulk import NAMES, VECTORS
    build_collection(sys.argv[1], ArrayRows(NAMES, VECTORS), model_hash="m", segment_rows=100,
        settings=IndexSettings(layout="hashed"),
        progress=lambda now: print(now.segments, flush=True))
"""


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": root},
    )


def test_a_killed_build_goes_on_after_the_segments_that_are_whole(tmp_path: Path) -> None:
    builder = started(_BUILDER, str(tmp_path / "c"))
    assert builder.stdout is not None
    for line in builder.stdout:
        if int(line) == 2:
            break
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    begun = Collection.open(tmp_path / "c")
    whole = len(begun.info()["segments"])
    assert 2 <= whole < 9
    # What is there is searched, and nothing may change it meanwhile.
    assert begun.search(VECTORS[10], 1).ids == [[NAMES[10]]]
    with pytest.raises(UserError, match=rf"being built: {whole} of 9 segments"):
        begun.put(["x"], VECTORS[:1])
    files = {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for segment in begun.info()["segments"]
        for path in (tmp_path / "c" / "segments" / segment["name"]).rglob("*")
    }
    settings = IndexSettings(layout="hashed")
    built = build(tmp_path / "c", segment_rows=100, settings=settings)
    assert (built.before, built.segments, built.rows) == (whole, 9, ROWS)
    assert files and all(
        (path.stat().st_ino, path.stat().st_mtime_ns) == was for path, was in files.items()
    )
    found = Collection.open(tmp_path / "c")
    assert len(found.info()["segments"]) == len(list((tmp_path / "c" / "segments").iterdir())) == 9
    assert [ids[0] for ids in found.search(VECTORS[::50], 1).ids] == NAMES[::50]


_MEASURED = """
    import resource, sys
    import numpy as np
    from pathlib import Path
    from kmm_jax.retrieval.bulk import ArrayRows, build_collection
    from kmm_jax.retrieval.settings import IndexSettings

    class Ids:
        def __init__(self, count): self.count = count
        def __len__(self): return self.count
        def __getitem__(self, where): return [f"{n:08d}" for n in range(*where.indices(self.count))]

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    folder = Path(sys.argv[1])
    vectors = np.load(sys.argv[2], mmap_mode="r")
    settings = IndexSettings(layout="hashed", dtype="bfloat16", training_rows=1000)
    def build(name, rows):
        build_collection(folder / name, ArrayRows(Ids(rows), vectors[:rows]), model_hash="m",
            settings=settings, segment_rows=4000)
    build("small", 4000)  # imports, compiled programs, and one segment
    before = peak()
    build("large", len(vectors))
    print(before, peak())
"""


@pytest.mark.slow
def test_memory_is_that_of_a_segment_however_many_there_are(
    tmp_path: Path, needs_scann: None
) -> None:
    """256 MB of vectors in sixteen segments need little more than one of these does."""
    file = np.lib.format.open_memmap(
        tmp_path / "v.npy", mode="w+", dtype=np.float32, shape=(64_000, 1_000)
    )
    rng = np.random.default_rng(0)
    for start in range(0, len(file), 4_000):
        file[start : start + 4_000] = rng.standard_normal((4_000, 1_000), np.float32)
    file.flush()
    size = file.nbytes
    del file
    measured = started(_MEASURED, str(tmp_path), str(tmp_path / "v.npy"))
    assert measured.stdout is not None
    before, after = map(int, measured.stdout.read().split())
    assert measured.wait() == 0
    assert after - before < size / 4, (before, after)
    assert len(Collection.open(tmp_path / "large", engine="exact").info()["segments"]) == 16
    for left in ("large", "small"):  # pytest keeps the folders of its last runs
        shutil.rmtree(tmp_path / left)
    (tmp_path / "v.npy").unlink()


def test_the_command_builds_the_shards_of_several_hosts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path / "e")
    pq_table = tmp_path / "facts.parquet"
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": NAMES, "price": list(range(ROWS))}), pq_table)
    sizes = []
    for shard in (0, 1):
        out = tmp_path / f"c{shard}"
        words = ["index", "bulk", str(out), str(tmp_path / "e"), "--shard", f"{shard}/2"]
        words += ["--dtype", "bfloat16", "--segment-rows", "200", "--columns", str(pq_table)]
        assert main(words) == 0
        assert main(words) == 0
        assert "of them written before" in capsys.readouterr().out
        opened = Collection.open(out)
        sizes.append(len(opened))
        some = opened.ids()[7]
        assert opened.columns([some]) == [{"id": some, "price": NAMES.index(some)}]
    assert sum(sizes) == ROWS and min(sizes) > 400
    assert main(["index", "bulk", str(tmp_path / "x"), str(tmp_path / "e"), "--shard", "0/99"]) == 2
    assert "too few for 99 shards" in capsys.readouterr().err
    assert main(["index", "info", str(tmp_path / "c0")]) == 0
    assert "bfloat16" in capsys.readouterr().out
    part = next((tmp_path / "e").glob("part-00003*"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    assert main(["index", "bulk", str(tmp_path / "y"), str(tmp_path / "e")]) == 2
    assert "damaged" in capsys.readouterr().err
