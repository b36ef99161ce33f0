"""Some rows of shards with some of their texts."""

import os
import shutil

import numpy as np
import pytest

from kmm_jax.data.selection import Selection, agreeing, write_selection
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError
from tests.corpus.test_images import photo


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Six rows; row n has title score n / 10 and queries scored n / 10 and 0."""
    folder = tmp_path_factory.mktemp("scored")
    with ShardWriter(folder, prefix="train") as writer:
        for n in range(6):
            record = {
                "image_hash": f"{n:04d}",
                "image_size": [64, 64],
                "title": f"제목 {n}",
                "title_kelip_score": n / 10,
                "query": [f"질의 {n}", "잡음"],
                "query_count": [3, 9],
                "query_kelip_score": [n / 10, 0.0],
                "caption": "설명",
            }
            writer.write(record, photo(seed=n))
    return str(folder / "train-*.tar")


@pytest.mark.parametrize(("field", "least"), [("query", 0.3), ("title", 0.3), ("query", None)])
def test_rows_come_with_the_texts_that_agree_and_no_others(shards, tmp_path, field, least):
    selection = Selection(source=shards, field=field, least=least)
    write_selection(tmp_path / "s", selection, np.array([5, 3]), open_source(shards))
    source = open_source(f"selection:{tmp_path / 's'}")
    assert len(source) == 2
    row, original = source.read(0), open_source(shards).read(5)
    assert row.image == original.image and row.record["image_hash"] == "0005"
    assert "caption" not in row.record
    if field == "title":
        assert row.record["title"] == "제목 5" and "query" not in row.record
    else:
        expected = ["질의 5"] if least else ["질의 5", "잡음"]
        assert row.record["query"] == expected and "title" not in row.record
        assert row.record["query_count"] == [3, 9][: len(expected)]


def test_a_record_is_read_without_its_picture(shards):
    source = open_source(shards)
    assert source.record(4) == source.read(4).record
    with pytest.raises(IndexError):
        source.record(6)


def test_what_does_not_fit_is_told(shards, tmp_path):
    copy = tmp_path / "train-000.tar"
    shutil.copy(open_source(shards).shards[0], copy)
    selection = Selection(source=str(copy), field="query", least=0.1)
    write_selection(tmp_path / "s", selection, np.arange(3), open_source(copy))
    assert len(open_source(f"selection:{tmp_path / 's'}")) == 3
    os.utime(copy, (1, 1))
    with pytest.raises(DataError, match=r"made of 6 rows, and the shards .* have changed since"):
        open_source(f"selection:{tmp_path / 's'}")
    with pytest.raises(DataError, match="holds no selection"):
        open_source(f"selection:{tmp_path / 'none'}")
    with pytest.raises(DataError, match="has no query_kelip_score"):
        agreeing({"image_hash": "a", "query": ["x"]}, "query", 0.1)
