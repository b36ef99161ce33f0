from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kmm_jax.data.bad_rows import BadRowError, BadRows
from kmm_jax.errors import DataError


def broken(row: int) -> BadRowError:
    return BadRowError("image", f"{row}: 깨진 그림", key=str(row))


def test_a_row_counts_once_however_often_it_is_met() -> None:
    ledger = BadRows([("상품", 1000)], max_share=0.5)
    for _ in range(3):
        ledger.bad(0, 7, broken(7))
        ledger.good(0, 8)
    ledger.bad(0, 9, DataError("no JSON"))
    assert (len(ledger), ledger.tried) == (2, 3)
    assert ledger.is_bad(0, 7) and not ledger.is_bad(0, 8)
    assert ledger.metrics() == {
        "data/bad_rows": 2,
        "data/bad_rows_image": 1,
        "data/bad_rows_record": 1,
    }


def test_no_bad_row_gives_a_zero_and_not_nothing() -> None:
    assert BadRows([("상품", 10)], max_share=0.1).metrics() == {"data/bad_rows": 0}


def tried_until_stopped(total: int, every: int, max_share: float) -> int | None:
    """Rows tried before the run stops, when each ``every``-th row is bad."""
    ledger = BadRows([("상품", total)], max_share=max_share)
    for row in range(total):
        try:
            if row % every == every - 1:
                ledger.bad(0, row, broken(row))
            else:
                ledger.good(0, row)
        except DataError:
            return row + 1
    return None


def test_too_many_stop_the_run_soon() -> None:
    assert tried_until_stopped(100_000, every=2, max_share=0.01) == 100
    assert tried_until_stopped(100_000, every=50, max_share=0.01) < 2000  # type: ignore[operator]


def test_a_share_below_the_limit_never_stops() -> None:
    assert tried_until_stopped(20_000, every=101, max_share=0.01) is None


def test_a_small_set_is_judged_when_all_of_it_was_tried() -> None:
    assert tried_until_stopped(50, every=10, max_share=0.05) == 50
    assert tried_until_stopped(50, every=10, max_share=0.10) is None


def test_with_a_limit_of_zero_the_first_bad_row_stops() -> None:
    assert tried_until_stopped(1000, every=7, max_share=0.0) == 7


def test_the_error_lists_the_first_twenty_in_order() -> None:
    ledger = BadRows([("a", 1000), ("b", 1000)], max_share=0.01)
    with pytest.raises(DataError) as error:
        for row in reversed(range(200)):
            ledger.bad(row % 2, row, broken(row))
    lines = str(error.value).split("\n")
    assert "max_bad_share is 1.0%" in lines[0] and "100.0%" in lines[0]
    assert lines[1].strip() == "a row 100: 100: 깨진 그림"
    assert len(lines) == 1 + 20 + 1 and lines[-1].strip() == "... and 80 more"


def test_every_bad_row_is_named_once_in_the_log_even_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "run" / "bad_rows.jsonl"
    for _ in range(2):
        ledger = BadRows([("상품", 1000)], max_share=1.0, log_path=path)
        for row in (3, 5, 3):
            ledger.bad(0, row, broken(row))
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["row"] for line in lines] == [3, 5]
    assert lines[0] == {
        "source": "상품",
        "row": 3,
        "key": "3",
        "reason": "image",
        "detail": "3: 깨진 그림",
    }


def test_a_line_cut_off_by_a_crash_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "bad_rows.jsonl"
    path.write_text('{"source": "상품", "row": 3}\n{"source": "상', encoding="utf-8")
    ledger = BadRows([("상품", 1000)], max_share=1.0, log_path=path)
    ledger.bad(0, 3, broken(3))
    ledger.bad(0, 4, broken(4))
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 3 and json.loads(lines[-1])["row"] == 4


def test_no_log_is_made_without_a_bad_row(tmp_path: Path) -> None:
    ledger = BadRows([("상품", 10)], max_share=1.0, log_path=tmp_path / "bad_rows.jsonl")
    ledger.good(0, 1)
    assert list(tmp_path.iterdir()) == []


def test_threads_count_and_name_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "bad_rows.jsonl"
    ledger = BadRows([("상품", 400)], max_share=1.0, log_path=path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: ledger.bad(0, row, broken(row)), list(range(100)) * 8))
        list(pool.map(lambda row: ledger.good(0, row), list(range(100, 400)) * 4))
    assert (len(ledger), ledger.tried) == (100, 400)
    rows = [json.loads(line)["row"] for line in path.read_text("utf-8").splitlines()]
    assert sorted(rows) == list(range(100))
