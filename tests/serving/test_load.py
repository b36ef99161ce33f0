"""A real server under load: more than it can bear, changes beneath it, writers that are killed."""

from __future__ import annotations

import asyncio
import collections
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kmm_jax.inference.descriptions import QUALITY, SAFE, UNSAFE
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.search.documents import document
from kmm_jax.search.pictures import PictureFolder
from tests.search.colors import Colors
from tests.serving.served import Seeing, make_documents, served, wait_until


def load(
    address: str, clients: int, until: threading.Event | None = None, each: int = 0
) -> list[httpx2.Response]:
    """Searches of some clients, each the next when it has its answer; different texts."""

    async def run() -> list[httpx2.Response]:
        answers = []
        limits = httpx2.Limits(max_connections=clients)
        async with httpx2.AsyncClient(base_url=address, timeout=240, limits=limits) as client:

            async def one(number: int) -> None:
                asked = 0
                while not until.is_set() if until else asked < each:
                    text = f"초록 셔츠 {number} {asked}"
                    answers.append(await client.post("/v1/search", json={"text": text, "k": 3}))
                    asked += 1

            await asyncio.gather(*(one(number) for number in range(clients)))
        return answers

    return asyncio.run(run())


def test_four_times_what_it_can_bear_is_refused_and_never_fails(shop: Path) -> None:
    encoder = Seeing(seconds=0.02)
    with served(shop / "documents", encoder, waiting=4, batch=4) as address:
        answers = load(address, clients=16, each=6)
        status = collections.Counter(answer.status_code for answer in answers)
        assert set(status) == {200, 429} and sum(status.values()) == 96
        for answer in answers:
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error"]["code"] == "busy"
            else:
                assert len(answer.json()["hits"]) == 3
        # Health is answered whatever the load, and all room is given back.
        metrics = httpx2.get(f"{address}/metrics").text
        assert "kmm_under_way 0.0" in metrics
        assert f'kmm_refused_total{{reason="busy"}} {status[429]}.0' in metrics
        assert load(address, clients=4, each=1)[0].status_code == 200


def test_together_they_are_batches_of_the_sizes_that_were_compiled(shop: Path) -> None:
    encoder = Seeing(seconds=0.05)
    with served(shop / "documents", encoder, batch=8) as address:
        warm = len(encoder.batches)
        # The last are the descriptions that thumbnails are judged by, once.
        described = len(UNSAFE) + len(SAFE) + 2 * len(QUALITY)
        assert encoder.batches == [1, 2, 4, 8, described]
        load(address, clients=8, each=3)
        sizes = encoder.batches[warm:]
        assert set(sizes) <= {1, 2, 4, 8} and len(sizes) < 24 and max(sizes) >= 4


def rows(first: int, count: int) -> list[Any]:
    return [
        document({"id": f"new-{n}", "title": f"보라 우산 {n}", "tags": {"color": "보라"}})
        for n in range(first, first + count)
    ]


def _write(folder: str, first: int, count: int) -> None:
    DocumentSearch(folder, Colors()).put(rows(first, count), PictureFolder(None))


def in_a_process(*arguments: Any) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=_write, args=arguments)
    process.start()
    return process


def documents_of(address: str) -> int:
    return int(httpx2.get(f"{address}/v1/collection").json()["documents"])


def test_changes_and_exchanges_under_load_lose_no_request(tmp_path: Path) -> None:
    make_documents(tmp_path / "one", tmp_path / "photos")
    make_documents(tmp_path / "two", tmp_path / "photos").put(rows(100, 5), PictureFolder(None))
    link = tmp_path / "documents"
    link.symlink_to("one")
    done, answers = threading.Event(), []
    with served(link, Seeing(), refresh=0.05, waiting=64) as address:
        thread = threading.Thread(target=lambda: answers.extend(load(address, 4, until=done)))
        thread.start()
        try:
            writer = in_a_process(str(tmp_path / "one"), 0, 3)
            writer.join()
            assert writer.exitcode == 0
            wait_until(lambda: documents_of(address) == 18)
            # Another folder by a link that leads elsewhere, then one by its name.
            (tmp_path / "next").symlink_to("two")
            (tmp_path / "next").replace(link)
            wait_until(lambda: documents_of(address) == 20)
            (tmp_path / "two").rename(tmp_path / "old")
            (tmp_path / "one").rename(tmp_path / "two")
            wait_until(lambda: documents_of(address) == 18)
        finally:
            done.set()
            thread.join()
        assert len(answers) > 8 and {answer.status_code for answer in answers} == {200}
        versions = {answer.json()["version"] for answer in answers}
        assert len(versions) > 1
        words = {"text": "보라 우산 2", "k": 1, "weights": {"text": 0, "image": 0}}
        found = httpx2.post(f"{address}/v1/search", json=words).json()
        assert found["hits"][0]["id"] == "new-2"


def test_a_folder_that_cannot_be_served_leaves_the_old_one(tmp_path: Path) -> None:
    make_documents(tmp_path / "one", tmp_path / "photos")

    class Other(Colors):
        hash = "other"

    DocumentSearch(tmp_path / "other", Other()).put(rows(0, 2), PictureFolder(None))
    (tmp_path / "empty").mkdir()
    link = tmp_path / "documents"
    link.symlink_to("one")
    with served(link, Seeing(), refresh=0.05) as address:
        failed = 0.0
        for name in ("other", "empty", "nowhere"):
            (tmp_path / "next").symlink_to(name)
            (tmp_path / "next").replace(link)

            def failures() -> float:
                text = httpx2.get(f"{address}/metrics").text
                return float(text.partition("\nkmm_failed_looks_total ")[2].split()[0])

            before = failed
            wait_until(lambda before=before: failures() > before + 1)  # type: ignore[misc]
            failed = failures()
            assert documents_of(address) == 15
        (tmp_path / "next").symlink_to("one")
        (tmp_path / "next").replace(link)
        answer = httpx2.post(f"{address}/v1/search", json={"text": "초록 셔츠", "k": 1})
        assert answer.json()["hits"][0]["id"] == "초록-셔츠"


def test_writers_that_are_killed_lose_nothing_and_fail_no_request(tmp_path: Path) -> None:
    make_documents(tmp_path / "documents", tmp_path / "photos")
    done, answers = threading.Event(), []
    with served(tmp_path / "documents", Seeing(), refresh=0.05) as address:
        thread = threading.Thread(target=lambda: answers.extend(load(address, 2, until=done)))
        thread.start()
        try:
            acknowledged = 0
            for turn in range(3):
                writer = in_a_process(str(tmp_path / "documents"), 40 * turn, 40)
                store = DocumentSearch(tmp_path / "documents", Colors()).store
                # Killed once the store has them, somewhere in the writing of the indexes.
                wait_until(lambda store=store, turn=turn: len(store) == 15 + 40 * (turn + 1))  # type: ignore[misc]
                time.sleep(0.02 * turn)
                os.kill(writer.pid, signal.SIGKILL)
                writer.join()
                acknowledged = 40 * (turn + 1)
            caught = DocumentSearch(tmp_path / "documents", Colors())
            caught.catch_up(PictureFolder(tmp_path / "photos"))
            wait_until(lambda: documents_of(address) == 15 + acknowledged)
        finally:
            done.set()
            thread.join()
        assert answers and {answer.status_code for answer in answers} == {200}
        asked = {"text": "보라 우산", "k": 100, "where": {"color": "보라"}, "facets": ["color"]}
        found = httpx2.post(f"{address}/v1/search", json=asked).json()
        assert len(found["hits"]) == 100 and len(caught.view()) == 15 + acknowledged
        assert {f"new-{n}" for n in range(acknowledged)} <= set(caught._titles.ids())


@pytest.mark.parametrize("slow", [b"", b'{"text":'])
def test_bodies_that_do_not_come_are_given_up(shop: Path, slow: bytes) -> None:
    import socket

    with served(shop / "documents", Seeing(), body_seconds=0.3) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=120) as connection:
            connection.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 20\r\n\r\n" + slow
            )
            assert b" 408 " in connection.recv(4_096).splitlines()[0]
