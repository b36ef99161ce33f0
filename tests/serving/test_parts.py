"""The parts of a service, each alone."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmm_jax.errors import ConfigError, UserError
from kmm_jax.serving.batching import Batcher
from kmm_jax.serving.keys import Keys, Rates, read_keys
from kmm_jax.serving.server import listening
from kmm_jax.serving.settings import Settings, is_loopback

KEY = "0123456789abcdef"


def test_requests_that_come_together_are_batches_of_few_sizes() -> None:
    seen: list[int] = []

    def squares(items: Any) -> np.ndarray:
        seen.append(len(items))
        return np.asarray([[item * item] for item in items])

    async def ask() -> list[float]:
        batcher = Batcher(squares, sizes=(1, 4, 8), tell=told.append)
        batcher.warm_up(0)
        rows = await asyncio.gather(*(batcher.submit(item) for item in range(21)))
        await batcher.submit(1)
        batcher.close()
        return [float(row[0]) for row in rows]

    told: list[int] = []
    assert asyncio.run(ask()) == [float(item * item) for item in range(21)]
    assert seen == [1, 4, 8, 8, 8, 8, 1]  # 5 of the 21 in a batch of 8
    assert told == [8, 8, 5, 1]


def test_one_that_cannot_be_computed_fails_alone() -> None:
    def roots(items: Any) -> np.ndarray:
        if min(items) < 0:
            raise ValueError("negative")
        return np.sqrt(np.asarray(items, float))[:, None]

    async def ask() -> list[Any]:
        batcher = Batcher(roots, sizes=(1, 2, 4))
        asked = [batcher.submit(item) for item in (4, -1, 9)]
        return await asyncio.gather(*asked, return_exceptions=True)

    first, wrong, last = asyncio.run(ask())
    assert (first[0], last[0]) == (2, 3) and isinstance(wrong, ValueError)


def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    seen: list[int] = []

    def same(items: Any) -> np.ndarray:
        seen.extend(items)
        return np.asarray(items)[:, None]

    async def ask() -> None:
        batcher = Batcher(same, sizes=(1, 2), gather=0.01)
        tasks = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert (await tasks[1])[0] == 2

    asyncio.run(ask())
    assert seen == [2]


def test_a_caller_has_a_burst_and_then_the_rate() -> None:
    now = [0.0]
    rates = Rates(2.0, 3, clock=lambda: now[0])
    assert [rates.wait("a") for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert rates.wait("b") == 0
    now[0] = 0.25
    assert rates.wait("a") == 0.25
    now[0] = 0.5
    assert rates.wait("a") == 0 and rates.wait("a") == 0.5
    now[0] = 100.0
    assert [rates.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert [rates.wait("c", 1.5) for _ in range(3)] == [0, 0, 0.75]
    assert Rates(0.0, 1).wait("a") == 0


def test_keys_are_read_and_kept_as_hashes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# holders\n지민 {KEY}\n\nteam-2\t{KEY}2\n", "utf-8")
    keys = read_keys(file, KEY + "3")
    assert [keys.name_of(KEY + end) for end in ("", "2", "3", "4")] == [
        "지민", "team-2", "environment", None
    ]  # fmt: skip
    assert KEY not in repr(vars(keys)) and not Keys({})
    for text, message in (
        (f"a {KEY}\na {KEY}2", "line 2: write NAME KEY, each name once"),
        (f"{KEY}", "line 1: write NAME KEY"),
        ("a short", "shorter than 16"),
        (f"a {KEY}\nb {KEY}", "has the key of 'a'"),
        ("# none", "holds no key"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            read_keys(file)
        assert KEY not in str(caught.value)
    with pytest.raises(UserError, match="is no file"):
        read_keys(tmp_path / "none")


def test_beyond_this_machine_it_listens_with_a_key_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.1", "example.com", "0", ""):
        with pytest.raises(UserError, match="no key is asked for"):
            listening(Settings(host=host, port=0), Keys({}))
    with listening(Settings(host="0.0.0.0", port=0), Keys({"a": KEY})) as opened:
        assert opened.getsockname()[1]
    with listening(Settings(port=0), Keys({})) as opened:
        port = opened.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port}: .*choose another"):
            listening(Settings(port=port), Keys({}))
    # A name of this machine that leads elsewhere.
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(UserError, match=r"10\.0\.0\.1 can be reached from other machines"):
        listening(Settings(host="localhost", port=0), Keys({}))
    assert is_loopback("127.1.2.3") and is_loopback("[::1]") and is_loopback("Localhost.")
    assert not is_loopback("localhost.example") and not is_loopback("10.0.0.1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 12}, "batch must be a power of two, found 12"),
        ({"waiting": 0}, "waiting must be at least 1"),
        ({"rate": -1.0}, "rate must not be negative"),
        ({"refresh": 0.0}, "refresh must be above 0"),
        ({"port": 70_000}, "port is from 0 to 65,535"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings(**changes)
    assert Settings(batch=8).sizes == (1, 2, 4, 8)
