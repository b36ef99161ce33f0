"""A store across a network that fails for a moment, for good, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest

from kmm_jax.data import retries
from kmm_jax.data.retries import WAITS, is_passing, patiently
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError


class StoreError(Exception):
    """As file systems have their own, with an HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class ServerTimeoutError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ConnectionResetError("peer"), True),
        (TimeoutError(), True),
        (OSError("I/O error"), True),
        (ValueError("UNAVAILABLE: connection reset by peer"), True),
        (OSError(28, "No space left on device"), False),
        (OSError("Forbidden: gs://bucket/file"), False),
        (StoreError(503), True),
        (StoreError(429), True),
        (ServerTimeoutError(), True),
        (StoreError(403), False),
        (StoreError(404), False),
        (FileNotFoundError("x"), False),
        (PermissionError("x"), False),
        (ValueError("x"), False),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing


def failing(times: int, error: Exception) -> tuple[Iterator[int], object]:
    left = iter(range(times))

    def call() -> str:
        if next(left, None) is not None:
            raise error
        return "read"

    return left, call


def test_passing_errors_are_waited_out_longer_each_time(capsys: pytest.CaptureFixture) -> None:
    waited: list[float] = []
    _, call = failing(4, ConnectionResetError("reset by peer"))
    assert patiently("gs://b/x.tar", call, sleep=waited.append) == "read"
    assert len(waited) == 4
    for seconds, wait in zip(waited, WAITS, strict=False):
        assert 0.5 * wait <= seconds <= 1.5 * wait
    assert capsys.readouterr().err.count("trying again") <= 1, "threads do not all speak"


def test_a_store_that_stays_away_is_no_fault_of_the_data() -> None:
    _, call = failing(1000, StoreError(503))
    with pytest.raises(ConnectionError, match=r"gs://b/x.tar: out of reach after 7 tries"):
        patiently("gs://b/x.tar", call, sleep=lambda _: None)


def test_a_refusal_is_not_tried_again() -> None:
    left, call = failing(1000, StoreError(403))
    with pytest.raises(DataError, match="cannot be read: StoreError: status 403"):
        patiently("gs://b/x.tar", call, sleep=lambda _: None)
    assert next(left) == 1, "one try"


def test_a_set_is_read_whole_from_a_store_that_fails_every_other_time(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(bucket)
    expected = [source.read(number) for number in range(20)]
    memory = type(fsspec.filesystem("memory"))
    original, calls = memory.cat_file, []

    def flaky(self: object, *arguments: object, **options: object) -> bytes:
        calls.append(1)
        if len(calls) % 2:
            raise ConnectionResetError("reset by peer")
        return original(self, *arguments, **options)

    monkeypatch.setattr(memory, "cat_file", flaky)
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: None)
    again = open_source(bucket)
    assert [again.read(number) for number in range(20)] == expected
    assert len(calls) >= 40
