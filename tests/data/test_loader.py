from __future__ import annotations

import collections
import itertools
import json
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.data import pipeline
from kmm_jax.data.augment import AugmentConfig
from kmm_jax.data.config import batch_shapes
from kmm_jax.data.loader import DataConfig, Loader, SourceConfig, evaluation_batches
from kmm_jax.errors import ConfigError, DataError

from .conftest import CodepointTokenizer, WriteRows, record

Batch = dict[str, np.ndarray]


def configured(*folders: Path, **more: Any) -> DataConfig:
    sources = tuple(SourceConfig(url=str(folder)) for folder in folders)
    return DataConfig(
        **{"sources": sources, "image_size": 16, "text_length": 40, "threads": 2, **more}
    )


def loaded(config: DataConfig, size: int = 8, **more: Any) -> Loader:
    return Loader(config, CodepointTokenizer(), global_batch_size=size, **more)


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def row_numbers(batch: Batch) -> list[int]:
    """The rows of a batch, from the number that ends their titles."""
    return [int(CodepointTokenizer.read(text).split()[-1]) for text in batch["text"]]


def rows_of(loader: Loader, steps: Iterable[int]) -> list[int]:
    return [number for step in steps for number in row_numbers(loader.batch(step))]


TITLES = (("title", 1.0),)


def test_a_batch_is_what_the_architecture_says(write_rows: WriteRows) -> None:
    batch = loaded(configured(write_rows(range(20)))).batch(0)
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "image": ((8, 16, 16, 3), "uint8"),
        "text": ((8, 40), "int32"),
        "valid": ((8,), "bool"),
    }
    assert batch["valid"].all()


def test_processes_together_hold_the_global_batch(write_rows: WriteRows) -> None:
    config = configured(write_rows(range(20)), write_rows(range(20, 33), folder="more"))
    whole = loaded(config)
    for count in (2, 4, 8):
        parts = [loaded(config, process_index=p, process_count=count) for p in range(count)]
        for step in (0, 5):
            slices = [part.batch(step) for part in parts]
            joined = {name: np.concatenate([s[name] for s in slices]) for name in slices[0]}
            assert_equal(joined, whole.batch(step))


def test_batches_do_not_depend_on_threads_or_on_where_reading_began(
    write_rows: WriteRows,
) -> None:
    config = configured(write_rows(range(20), broken=(3, 4)), max_bad_share=0.5)
    with_one = list(itertools.islice(loaded(replace(config, threads=1)).batches(), 9))
    with_many = loaded(replace(config, threads=7))
    for step, batch in enumerate(itertools.islice(with_many.batches(4), 5), start=4):
        assert_equal(batch, with_one[step])
    for step in (8, 2, 0):
        assert_equal(with_many.batch(step), with_one[step])


def test_the_seed_changes_the_batches(write_rows: WriteRows) -> None:
    config = configured(write_rows(range(20)))
    first, other = loaded(config).batch(0), loaded(replace(config, seed=1)).batch(0)
    assert (first["image"] != other["image"]).any()


def test_far_steps_come_at_once(write_rows: WriteRows) -> None:
    loader = loaded(configured(write_rows(range(20))))
    start = time.perf_counter()
    assert next(loader.batches(10**9))["valid"].all()
    assert time.perf_counter() - start < 2


def test_every_epoch_holds_every_row_once_in_a_new_order(write_rows: WriteRows) -> None:
    loader = loaded(configured(write_rows(range(24)), fields=TITLES))
    assert loader.examples == 24
    epochs = [rows_of(loader, range(3 * e, 3 * e + 3)) for e in range(3)]
    assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(24))


def test_a_set_of_one_row_trains(write_rows: WriteRows) -> None:
    loader = loaded(configured(write_rows([5]), fields=TITLES))
    assert row_numbers(loader.batch(7)) == [5] * 8


def test_sources_are_mixed_by_weight(write_rows: WriteRows) -> None:
    folders = [
        write_rows(range(10), folder="a"),
        write_rows(range(10, 40), folder="b"),
        write_rows(range(40, 45), folder="c"),
    ]
    config = configured(
        sources=tuple(
            SourceConfig(url=str(folder), weight=weight)
            for folder, weight in zip(folders, (5, 3, 2), strict=True)
        ),
        fields=TITLES,
    )
    loader = loaded(config, size=50)
    assert loader.examples == 45
    numbers = rows_of(loader, range(6))
    counts = collections.Counter(int(n >= 10) + int(n >= 40) for n in numbers)
    assert counts == {0: 150, 1: 90, 2: 60}


def test_texts_are_drawn_by_field_and_by_clicks(write_rows: WriteRows) -> None:
    fields = (("title", 1.0), ("product_name", 1.0), ("query", 2.0))
    loader = loaded(configured(write_rows(range(24)), fields=fields), size=400)
    texts = [batch["text"] for batch in (loader.batch(0), loader.batch(1), loader.batch(2))]
    styles = collections.Counter(np.concatenate(texts)[:, 1].tolist())
    rows = 1200
    assert set(styles) == {4, 5, 6}
    # Three standard deviations around 1/4, 1/2, 1/4.
    for style, share in ((4, 0.25), (5, 0.5), (6, 0.25)):
        assert abs(styles[style] / rows - share) < 3 * np.sqrt(share * (1 - share) / rows)
    queries = [CodepointTokenizer.read(ids) for ids in np.concatenate(texts) if ids[1] == 5]
    often = np.mean([text[-1].isdigit() for text in queries])  # five clicks against two
    assert abs(often - 5 / 7) < 3 * np.sqrt(5 / 7 * 2 / 7 / len(queries))


def test_without_styles_it_is_plain_coca(write_rows: WriteRows) -> None:
    folder = write_rows(range(20))
    styled = loaded(configured(folder)).batch(0)
    plain = loaded(configured(folder, styled=False)).batch(0)
    np.testing.assert_array_equal(styled["image"], plain["image"])
    for with_style, without in zip(styled["text"], plain["text"], strict=True):
        assert with_style[1] in (4, 5, 6)
        np.testing.assert_array_equal(np.delete(with_style, 1)[:39], without[:39])


def test_a_bad_row_is_replaced_by_the_next_good_one_and_named(
    write_rows: WriteRows, tmp_path: Path
) -> None:
    config = configured(write_rows(range(24), broken=(3, 4, 23)), fields=TITLES, max_bad_share=0.2)
    loader = loaded(config, log_path=tmp_path / "bad_rows.jsonl")
    numbers = rows_of(loader, range(3))
    good = set(range(24)) - {3, 4, 23}
    assert sorted(numbers) == sorted([*good, 5, 5, 0])
    assert loader.bad_rows.metrics() == {"data/bad_rows": 3, "data/bad_rows_image": 3}
    lines = [json.loads(one) for one in (tmp_path / "bad_rows.jsonl").read_text().splitlines()]
    assert sorted(line["row"] for line in lines) == [3, 4, 23]
    assert {line["key"] for line in lines} == {"0000000003", "0000000004", "0000000023"}
    assert all("truncated" in line["detail"] for line in lines)


def test_augmentation_and_text_of_a_replaced_row_are_the_places_own(
    write_rows: WriteRows,
) -> None:
    """A bad row changes its own place in the batch and no other."""
    good = loaded(configured(write_rows(range(24), folder="good"), fields=TITLES))
    mended = loaded(
        configured(write_rows(range(24), folder="bad", broken=(3,)), fields=TITLES, max_bad_share=1)
    )
    for step in range(3):
        one, other = good.batch(step), mended.batch(step)
        same = np.array(row_numbers(one)) != 3
        np.testing.assert_array_equal(one["image"][same], other["image"][same])
        np.testing.assert_array_equal(one["text"][same], other["text"][same])


def test_too_many_bad_rows_stop_the_run_with_their_list(write_rows: WriteRows) -> None:
    config = configured(write_rows(range(120), broken=range(0, 120, 2), shard_rows=60))
    with pytest.raises(DataError, match=r"(?s)max_bad_share is 1\.0%.*row \d+: .*truncated"):
        for _ in loaded(config).batches():
            pass


def test_a_set_without_one_good_row_fails_before_training(write_rows: WriteRows) -> None:
    for max_bad_share in (0.01, 1.0):
        config = configured(write_rows(range(9), broken=range(9)), max_bad_share=max_bad_share)
        with pytest.raises(DataError, match="truncated"):
            loaded(config)


def test_rows_without_a_wanted_field_are_bad_rows(write_rows: WriteRows) -> None:
    config = configured(write_rows(range(9)), fields=(("attributes", 1.0),))
    with pytest.raises(DataError, match="no text in attributes"):
        loaded(config)


def data_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith(("kmm", "grain"))]


def test_closing_the_iterator_ends_its_threads(write_rows: WriteRows) -> None:
    loader = loaded(configured(write_rows(range(20)), threads=4))
    assert data_threads() == []
    batches = loader.batches()
    next(batches)
    assert len(data_threads()) > 0
    batches.close()
    assert data_threads() == []
    loader.batch(0)
    assert data_threads() == []


def test_an_error_ends_the_threads_too(write_rows: WriteRows) -> None:
    folder = write_rows(range(20))
    batches = loaded(configured(folder, threads=4)).batches()
    next(batches)
    for shard in folder.glob("*.tar"):
        shard.write_bytes(b"")
    with pytest.raises(DataError):
        for _ in range(10):
            next(batches)
    assert data_threads() == []


def test_only_a_few_batches_are_prepared_ahead(write_rows: WriteRows) -> None:
    loader = loaded(configured(write_rows(range(20))), size=32)
    made: list[int] = []
    original = loader._submit

    def counted(pool: Any, step: int) -> Any:
        made.append(step)
        return original(pool, step)

    loader._submit = counted  # type: ignore[method-assign]
    batches = loader.batches()
    for _ in range(4):
        next(batches)
    batches.close()
    assert max(made) <= 4 + 1


def test_what_cannot_work_is_said_first(write_rows: WriteRows, tmp_path: Path) -> None:
    config = configured(write_rows(range(20)))
    with pytest.raises(ConfigError, match="cannot be shared equally by 3 processes"):
        loaded(config, size=8, process_count=3)
    with pytest.raises(ConfigError, match=r"data\.sources is empty"):
        loaded(replace(config, sources=()))
    with pytest.raises(ConfigError, match="count from 0"):
        loaded(config).batch(-1)
    with pytest.raises(DataError, match="nowhere"):
        loaded(configured(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no shards"):
        loaded(configured(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"image_size": 0}, "image_size"),
        ({"text_length": 3}, "text_length"),
        ({"fields": ()}, "fields"),
        ({"fields": (("titel", 1.0),)}, "did you mean 'title'"),
        ({"fields": (("title", 0.0),)}, "weight of 'title'"),
        ({"fields": (("title", 1.0), ("title", 2.0))}, "twice"),
        ({"seed": -1}, "seed"),
        ({"views": AugmentConfig()}, "views must be a tuple"),
        ({"views": (1,)}, "views must be a tuple"),
        ({"max_bad_share": 1.5}, "max_bad_share"),
        ({"threads": 0}, "threads"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], seen: str) -> None:
    with pytest.raises(ConfigError, match=seen):
        DataConfig(**{"sources": (), "image_size": 16, "text_length": 40, **change})


def test_a_weight_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave the source out"):
        SourceConfig(url="shop", weight=0.0)


def test_augmentation_differs_between_epochs(write_rows: WriteRows) -> None:
    loader = loaded(configured(write_rows([1]), fields=TITLES), size=2)
    images = loader.batch(0)["image"]
    assert (images[0] != images[1]).any()
    still = AugmentConfig(scale=(1, 1), ratio=(1, 1), flip=0)
    images = loaded(configured(write_rows([1], folder="b"), augment=still), size=2).batch(0)[
        "image"
    ]
    np.testing.assert_array_equal(images[0], images[1])


def test_the_real_tokenizer_gives_the_same_batches_in_any_thread(write_rows: WriteRows) -> None:
    from kmm_jax.text.tokenizer import Tokenizer

    folder = write_rows(range(20))
    texts = [record(number)["title"] for number in range(20)]
    tokenizer = Tokenizer.train(texts, vocab_size=400)
    config = configured(folder, fields=TITLES, text_length=24)
    one, many = (
        Loader(replace(config, threads=threads), tokenizer, global_batch_size=16)
        for threads in (1, 8)
    )
    batch = one.batch(2)
    assert_equal(batch, many.batch(2))
    assert {tokenizer.decode(ids.tolist()) for ids in batch["text"]} <= set(texts)
    assert (batch["text"][:, 1] == tokenizer.style_id("prompt")).all()


STRONG = AugmentConfig(
    scale=(0.08, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2, blur=0.5
)
VIEWS = (STRONG, replace(STRONG, solarise=0.2))


def test_further_views_of_the_same_pictures_come_beside_the_image(write_rows: WriteRows) -> None:
    config = configured(write_rows(range(20)), views=VIEWS)
    batch = loaded(config).batch(0)
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == (
        batch_shapes(config, 8)
    )
    views = batch["views"]
    assert views.shape == (8, 2, 16, 16, 3)
    for row in range(8):
        assert (views[row, 0] != views[row, 1]).any()
        assert (views[row] != batch["image"][row]).any(axis=(1, 2, 3)).all()


def test_without_views_a_batch_is_what_it_was_and_with_them_the_rest_of_it_is(
    write_rows: WriteRows,
) -> None:
    # The pictures are small: none is decoded in another size for the views' sake.
    folder = write_rows(range(20))
    plain, with_views = (loaded(configured(folder, views=views)) for views in ((), VIEWS))
    for step in (0, 3):
        batch = with_views.batch(step)
        del batch["views"]
        assert_equal(batch, plain.batch(step))


def test_each_view_has_its_own_augmentation_of_the_examples_own_picture(
    write_rows: WriteRows,
) -> None:
    whole = AugmentConfig(scale=(1, 1), ratio=(1, 1), flip=0)
    views = (whole, replace(whole, grey=1.0), replace(whole, solarise=1.0), whole)
    batch = loaded(configured(write_rows(range(20)), augment=whole, views=views)).batch(1)
    image, views_BVSSC = batch["image"], batch["views"]
    np.testing.assert_array_equal(views_BVSSC[:, 0], image)
    np.testing.assert_array_equal(views_BVSSC[:, 3], image)
    assert np.ptp(views_BVSSC[:, 1].astype(int), axis=-1).max() == 0
    np.testing.assert_array_equal(views_BVSSC[:, 2], np.where(image < 128, image, 255 - image))


def test_views_do_not_depend_on_processes_threads_or_where_reading_began(
    write_rows: WriteRows,
) -> None:
    config = configured(write_rows(range(20), broken=(3, 4)), max_bad_share=0.5, views=VIEWS)
    one = list(itertools.islice(loaded(replace(config, threads=1)).batches(), 4))
    many = loaded(replace(config, threads=7))
    for step, batch in enumerate(itertools.islice(many.batches(2), 2), start=2):
        assert_equal(batch, one[step])
    for count in (2, 8):
        parts = [
            loaded(config, process_index=p, process_count=count).batch(1) for p in range(count)
        ]
        assert_equal({name: np.concatenate([p[name] for p in parts]) for name in parts[0]}, one[1])


def test_a_picture_is_decoded_once_and_large_enough_for_the_smallest_crop(
    write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    original = pipeline.open_rgb

    def counted(data: bytes, min_side: int) -> Any:
        sides.append(min_side)
        return original(data, min_side)

    monkeypatch.setattr(pipeline, "open_rgb", counted)
    views = (AugmentConfig(scale=(0.25, 1.0)), AugmentConfig(scale=(0.04, 1.0)))
    loader = loaded(configured(write_rows(range(20)), views=views), size=4)
    sides.clear()
    loader.batch(0)
    assert sides == [16 * 5] * 4


def test_evaluation_has_no_views(write_rows: WriteRows) -> None:
    config = configured(write_rows(range(6)), views=VIEWS)
    source = loaded(config).sources[0]
    batch = next(evaluation_batches(source, config, 4, tokenizer=CodepointTokenizer()))
    assert set(batch) == {"image", "text", "valid", "row"}
