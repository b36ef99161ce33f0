import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval import export_embeddings, load_embeddings
from kmm_jax.retrieval.store import first_of_each

ROWS, PART, DIM = 50, 8, 5


def vector(row):
    return np.random.default_rng(row).normal(size=DIM).astype(np.float32)


def is_bad(row):
    return row % 7 == 3


def compute(start, stop):
    good = [row for row in range(start, stop) if not is_bad(row)]
    return [f"그림-{row}" for row in good], np.array([vector(row) for row in good])


def export(folder, *, compute=compute, model_hash="m1", **more):
    arguments = {"rows": ROWS, "part_rows": PART, "dim": DIM, "kind": "image", **more}
    export_embeddings(folder, compute=compute, model_hash=model_hash, **arguments)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_loaded_is_what_was_computed(tmp_path):
    export(tmp_path, origin={"source": "상점"}, metadata={"model_path": "m"})
    loaded = load_embeddings(tmp_path)
    ids, vectors = compute(0, ROWS)
    assert loaded.ids == ids
    np.testing.assert_array_equal(loaded.vectors, vectors)
    assert loaded.vectors.dtype == np.float32
    assert (loaded.kind, loaded.model_hash) == ("image", "m1")
    assert (loaded.origin, loaded.metadata) == ({"source": "상점"}, {"model_path": "m"})
    assert loaded.spans[0] == (0, 8, 7) and loaded.spans[-1][:2] == (48, 50)
    assert sum(kept for _, _, kept in loaded.spans) == len(ids)


def test_parts_are_plain_parquet_for_others_to_read(tmp_path):
    export(tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.parquet"))
    assert names[0] == "part-00000-of-00007.parquet" and len(names) == 7
    table = pq.read_table(tmp_path / names[0])
    assert str(table.schema.field("id").type) == "string"
    assert str(table.schema.field("vector").type) == "fixed_size_list<element: float not null>[5]"
    np.testing.assert_array_equal(table["vector"][2].as_py(), vector(2))


def test_a_part_without_a_good_row_is_a_part(tmp_path):
    def first_part_bad(start, stop):
        return compute(start, stop) if start else ([], np.zeros((0, DIM)))

    export(tmp_path, compute=first_part_bad)
    assert load_embeddings(tmp_path).ids == compute(PART, ROWS)[0]


def test_a_rerun_computes_nothing_and_changes_nothing(tmp_path):
    export(tmp_path)
    before = content(tmp_path)
    export(tmp_path, compute=lambda start, stop: pytest.fail("computed again"))
    assert content(tmp_path) == before


def test_an_interrupted_export_goes_on_and_ends_with_the_same_bytes(tmp_path):
    export(tmp_path / "whole")
    started = []

    def interrupted(start, stop):
        started.append(start)
        if start == 3 * PART:
            raise KeyboardInterrupt
        return compute(start, stop)

    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "cut", compute=interrupted)
    with pytest.raises(DataError, match="unfinished export: 3 parts"):
        load_embeddings(tmp_path / "cut")
    (tmp_path / "cut" / ".part-00003-of-00007.parquet.0123abcd.tmp").write_bytes(b"PAR1half")
    resumed = []
    export(tmp_path / "cut", compute=lambda a, b: resumed.append(a) or compute(a, b))
    assert resumed == [PART * number for number in range(3, 7)]
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "gone"])
def test_damaged_parts_are_refused_and_made_again(tmp_path, harm):
    export(tmp_path)
    before = content(tmp_path)
    path = tmp_path / "part-00002-of-00007.parquet"
    data = path.read_bytes()
    place = data.index(vector(18).tobytes())
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {
                "cut": data[: len(data) // 2],
                "flip": data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :],
                "empty": b"",
            }[harm]
        )
    with pytest.raises(DataError, match="part-00002"):
        load_embeddings(tmp_path)
    made = []
    export(tmp_path, compute=lambda a, b: made.append(a) or compute(a, b))
    assert made == [2 * PART]
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "harm", [lambda t: t[:-9], lambda t: t.replace('"m1"', '"m2"'), lambda t: ""]
)
def test_a_damaged_manifest_is_refused(tmp_path, harm):
    export(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(harm(path.read_text("utf-8")), "utf-8")
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        load_embeddings(tmp_path)
    export(tmp_path)
    assert load_embeddings(tmp_path).model_hash == "m1"


def test_another_models_parts_are_refused_with_both_hashes(tmp_path):
    export(tmp_path)
    with pytest.raises(UserError, match=r"another model: model_hash is 'm1' .*'m2' now"):
        export(tmp_path, model_hash="m2")


@pytest.mark.parametrize(
    "other", [{"kind": "text"}, {"origin": {"source": "x"}}, {"part_rows": 9}, {"rows": 49}]
)
def test_parts_of_another_export_are_refused(tmp_path, other):
    export(tmp_path)
    with pytest.raises(UserError, match=next(iter(other))):
        export(tmp_path, **other)


def test_processes_share_the_parts_and_end_with_the_same_bytes(tmp_path):
    export(tmp_path / "one")
    for process in (2, 0, 1):
        assert not (tmp_path / "three" / "manifest.json").exists()
        done = []
        export(
            tmp_path / "three",
            compute=lambda a, b, done=done: done.append(a // PART) or compute(a, b),
            process_index=process,
            process_count=3,
        )
        assert done == list(range(process, 7, 3))
    assert content(tmp_path / "three") == content(tmp_path / "one")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda a, b: (["x"], np.zeros((2, DIM))), "1 ids and vectors of shape"),
        (lambda a, b: (["x"], np.zeros((1, DIM + 1))), "dimension 5"),
        (lambda a, b: (["x"], np.full((1, DIM), np.nan)), "'x' holds NaN"),
        (lambda a, b: ([], np.zeros((0, DIM))), "not one of the 50 rows"),
        (lambda a, b: ([str(i) for i in range(9)], np.zeros((9, DIM))), "at most 8"),
    ],
)
def test_wrong_vectors_never_reach_the_disk_as_a_whole_export(tmp_path, wrong, words):
    with pytest.raises(DataError, match=words):
        export(tmp_path, compute=wrong)
    assert not (tmp_path / "manifest.json").exists()


def test_an_empty_source_and_a_wrong_process_are_refused(tmp_path):
    with pytest.raises(DataError, match="0 rows"):
        export(tmp_path, rows=0)
    with pytest.raises(UserError, match="3 of 3"):
        export(tmp_path, process_index=3, process_count=3)
    with pytest.raises(DataError, match="kmm embed"):
        load_embeddings(tmp_path / "nothing")


def test_the_first_of_each_id_is_kept_and_the_spans_still_add_up(tmp_path):
    def repeating(start, stop):
        ids, vectors = compute(start, stop)
        return [f"그림-{int(each[3:]) % 20}" for each in ids], vectors

    export(tmp_path, compute=repeating)
    both = load_embeddings(tmp_path)
    once = first_of_each(both)
    assert once.ids == list(dict.fromkeys(both.ids))
    for each, kept in zip(once.ids, once.vectors, strict=True):
        np.testing.assert_array_equal(kept, both.vectors[both.ids.index(each)])
    assert sum(kept for _, _, kept in once.spans) == len(once.ids)
    assert json.dumps(once.spans)
