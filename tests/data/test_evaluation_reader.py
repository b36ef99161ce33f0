from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.bad_rows import BadRows
from kmm_jax.data.images import decode
from kmm_jax.data.loader import DataConfig, evaluation_batches
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError

from .conftest import CodepointTokenizer, WriteRows, record

CONFIG = DataConfig(
    sources=(),
    image_size=16,
    text_length=40,
    threads=3,
    fields=(("query", 1.0), ("title", 1.0)),
    max_bad_share=0.5,
)


def test_rows_come_once_in_order_and_the_last_batch_is_filled(
    write_rows: WriteRows, tokenizer: CodepointTokenizer
) -> None:
    source = open_source(write_rows(range(11)))
    batches = list(evaluation_batches(source, CONFIG, 4, tokenizer=tokenizer))
    assert [batch["image"].shape for batch in batches] == [(4, 16, 16, 3)] * 3
    assert np.concatenate([b["row"] for b in batches]).tolist() == [*range(11), -1]
    assert np.concatenate([b["valid"] for b in batches]).tolist() == [True] * 11 + [False]
    assert batches[0]["row"].dtype == np.int32 and batches[0]["valid"].dtype == np.bool_
    assert batches[2]["image"][3].max() == batches[2]["text"][3].max() == 0
    for batch in batches:
        for image, text, row in zip(batch["image"], batch["text"], batch["row"], strict=True):
            if row >= 0:
                expected = resize_centre(decode(source.read(row).image, 16), 16)
                np.testing.assert_array_equal(image, expected)
                assert text[1] == 5, "the first of the fields that the row has"
                assert tokenizer.read(text) == record(int(row))["query"][0]


def test_bad_rows_are_left_out_and_counted(write_rows: WriteRows) -> None:
    source = open_source(write_rows(range(10), broken=(0, 4, 9)))
    bad_rows = BadRows([(source.name, len(source))], max_share=0.5)
    batches = list(evaluation_batches(source, CONFIG, 5, bad_rows=bad_rows))
    assert np.concatenate([b["row"] for b in batches]).tolist() == [1, 2, 3, 5, 6, 7, 8, -1, -1, -1]
    assert bad_rows.metrics()["data/bad_rows"] == 3
    assert "text" not in batches[0]


def test_images_alone_need_no_text_of_the_wanted_fields(
    write_rows: WriteRows, tokenizer: CodepointTokenizer
) -> None:
    source = open_source(write_rows(range(4)))
    config = DataConfig(
        sources=(), image_size=16, text_length=40, fields=(("attributes", 1.0),), max_bad_share=0.5
    )
    assert next(evaluation_batches(source, config, 4))["valid"].all()
    with pytest.raises(DataError, match="no text in attributes"):
        next(evaluation_batches(source, config, 4, tokenizer=tokenizer))


def test_a_limit_reads_the_first_rows_only(write_rows: WriteRows) -> None:
    source = open_source(write_rows(range(10), broken=(7,)))
    batches = list(evaluation_batches(source, CONFIG, 4, limit=6))
    assert sum(batch["valid"].sum() for batch in batches) == 6


def test_too_many_bad_rows_stop_the_pass(write_rows: WriteRows) -> None:
    for broken in (range(8), range(6)):
        source = open_source(write_rows(range(8), broken=broken))
        with pytest.raises(DataError, match="truncated"):
            list(evaluation_batches(source, CONFIG, 4))


def test_leaving_early_ends_the_threads(write_rows: WriteRows) -> None:
    batches = evaluation_batches(open_source(write_rows(range(30))), CONFIG, 4)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("kmm")]


def test_a_reduced_decode_is_close_to_a_full_one(write_rows: WriteRows) -> None:
    source = open_source(write_rows(range(3)))
    for batch in evaluation_batches(source, CONFIG, 3):
        for image, row in zip(batch["image"], batch["row"], strict=True):
            full = Image.fromarray(decode(source.read(row).image, 10**6))
            difference = image.astype(int) - resize_centre(full, 16)
            assert np.abs(difference).mean() < 4
