"""How fast `kmm serve` answers, and what it does under more than it can bear.

    python -m tools.bench.serve [--documents DIR --model MODEL] [--seconds 20]

Without a folder, documents are made up and found by a small model of random weights, so that what
is measured is the service around it. A number of clients ask, each the next once it has its answer;
every text is another one, so that none comes from the cache. Then come four times as many clients
as the service has room for: what it refuses must be 429, and what it answers must be right.

Writes ``docs/results/serve.json`` and ``serve.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from tools import results

CLIENTS = (1, 8, 64)
_OVERLOAD = 4
_FOUND = 10
_NUMBERS = itertools.count()  # of all requests: no text is asked for twice
_IMPATIENT = 0.05  # seconds until a client that was refused asks again: less than it is told to
_SWAP_SECONDS = 5.0  # more than twice the time between two looks of the service
_SWAP_CLIENTS = 8
_WORDS = (
    "빨간",
    "파란",
    "체크",
    "줄무늬",
    "셔츠",
    "원피스",
    "운동화",
    "우산",
    "겨울",
    "여행",
    "바다",
    "산책",
)


def make(folder: Path, documents: int) -> tuple[Path, Path]:
    """A folder of made-up documents, and the small model of their vectors."""
    import jax
    from flax import nnx

    from kmm_jax.inference import load
    from kmm_jax.interop import native
    from kmm_jax.models import registry
    from kmm_jax.models.coca.config import small
    from kmm_jax.search.document_search import DocumentSearch
    from kmm_jax.search.documents import document
    from kmm_jax.search.pictures import PictureFolder
    from kmm_jax.text.tokenizer import Tokenizer

    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(_WORDS, 4)) for _ in range(documents)]
    tokenizer = Tokenizer.train(texts, vocab_size=400)
    config = small(
        image_size=64, patch_size=16, width=128, depth=4, half=4,
        vocabulary=tokenizer.vocab_size, length=32,
    )  # fmt: skip
    params = nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    params = jax.device_get(nnx.to_pure_dict(params))
    native.save(
        folder / "model",
        native.Exported(config=config, params=params, tokenizer=tokenizer, styled=True),
    )
    found = DocumentSearch(folder / "documents", load(folder / "model"))
    rows = [document({"id": str(n), "title": text}) for n, text in enumerate(texts)]
    for start in range(0, documents, 1_000):
        found.put(rows[start : start + 1_000], PictureFolder(None))
    return folder / "documents", folder / "model"


@contextlib.contextmanager
def serving(documents: Path, model: Path, waiting: int) -> Iterator[str]:
    """The address of a service in a process of its own."""
    command = [
        sys.executable, "-m", "kmm_jax", "serve", str(documents), "--model", str(model),
        "--port", "0", "--waiting", str(waiting),
    ]  # fmt: skip
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as log,
        subprocess.Popen(command, stderr=log, env={**os.environ}) as process,
    ):
        try:
            yield _address(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _address(process: subprocess.Popen[bytes], log: Any) -> str:
    """Once it is ready."""
    while process.poll() is None:
        time.sleep(0.2)
        log.seek(0)
        if found := re.search(r"kmm serve: (http\S+)/\n", log.read()):
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(f"{found[1]}/readyz").status_code == 200:
                    return found[1]
    log.seek(0)
    raise SystemExit(f"the service did not begin:\n{log.read()}")


class Counts:
    """What became of requests: milliseconds by status, ``lost`` where no answer came."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, list[float]] = collections.defaultdict(list)
        self.versions: set[str] = set()

    async def one(self, client: httpx2.AsyncClient) -> str:
        """Ask for another text than all before; the status."""
        number = next(_NUMBERS)
        words = [_WORDS[number // 12**place % 12] for place in range(4)]
        body = {"text": f"{' '.join(words)} {number}", "k": _FOUND}
        began = time.perf_counter()
        try:
            response = await client.post("/v1/search", json=body)
        except httpx2.TransportError as error:
            status = "lost"
            print(f"lost: {type(error).__name__} {error}", file=sys.stderr)
        else:
            status = str(response.status_code)
            if status == "200":
                said = response.json()
                self.versions.add(said["version"])
                if len(said["hits"]) != _FOUND:
                    status = "wrong"
        self.milliseconds[status].append(1e3 * (time.perf_counter() - began))
        return status

    def told(self, seconds: float) -> dict[str, Any]:
        """As it is written down."""
        answered, refused = self.milliseconds["200"], self.milliseconds["429"]
        return {
            "p50_ms": _percentile(answered, 50),
            "p99_ms": _percentile(answered, 99),
            "refused_p99_ms": _percentile(refused, 99),
            "answered_per_second": len(answered) / seconds,
            "status": {
                each: len(times) for each, times in sorted(self.milliseconds.items()) if times
            },
        }


def _percentile(values: list[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _client(address: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx2.AsyncClient(base_url=address, timeout=120, limits=limits)


def ask(address: str, clients: int, seconds: float) -> dict[str, Any]:
    """So many clients for so long, each asking again once it has its answer."""
    counts = Counts()

    async def one(client: httpx2.AsyncClient, until: float) -> None:
        while time.perf_counter() < until:
            if await counts.one(client) != "200":
                await asyncio.sleep(_IMPATIENT)

    async def all_of_them() -> float:
        async with _client(address) as client:
            began = time.perf_counter()
            await asyncio.gather(*(one(client, began + seconds) for _ in range(clients)))
            return time.perf_counter() - began

    taken = asyncio.run(all_of_them())
    return {"clients": clients, **counts.told(taken)}


def overload(address: str, rate: float, seconds: float) -> dict[str, Any]:
    """So many requests a second for so long, whatever becomes of those before."""
    counts = Counts()

    async def all_of_them() -> float:
        async with _client(address) as client, asyncio.TaskGroup() as group:
            began = time.perf_counter()
            for number in range(max(1, round(rate * seconds))):
                await asyncio.sleep(max(0, began + number / rate - time.perf_counter()))
                group.create_task(counts.one(client))
            return time.perf_counter() - began

    taken = asyncio.run(all_of_them())
    asked = round(rate * seconds) / taken
    return {"wanted_per_second": rate, "asked_per_second": asked, **counts.told(taken)}


def swaps(address: str, link: Path, places: tuple[Path, Path], seconds: float) -> dict[str, Any]:
    """Clients that ask while the link to what is served leads elsewhere again and again."""
    counts, swapped = Counts(), 0

    async def one(client: httpx2.AsyncClient, until: float) -> None:
        while time.perf_counter() < until:
            await counts.one(client)

    async def swap(until: float) -> None:
        nonlocal swapped
        while time.perf_counter() + _SWAP_SECONDS < until:
            await asyncio.sleep(_SWAP_SECONDS)
            swapped += 1
            lead(link, places[swapped % 2])

    async def all_of_them() -> float:
        async with _client(address) as client:
            began = time.perf_counter()
            until = began + seconds
            await asyncio.gather(swap(until), *(one(client, until) for _ in range(_SWAP_CLIENTS)))
            return time.perf_counter() - began

    taken = asyncio.run(all_of_them())
    return {
        "clients": _SWAP_CLIENTS,
        "swaps": swapped,
        "versions_seen": len(counts.versions),
        **counts.told(taken),
    }


def lead(link: Path, place: Path) -> None:
    """Let a link lead to a place, at once."""
    new = link.with_name(".link")
    new.symlink_to(place)
    new.replace(link)


def another(documents: Path, model: Path, copy: Path) -> None:
    """Another version of a folder of documents: a copy, and one more."""
    from kmm_jax.inference import load
    from kmm_jax.search.document_search import DocumentSearch
    from kmm_jax.search.documents import document
    from kmm_jax.search.pictures import PictureFolder

    shutil.copytree(documents, copy)
    found = DocumentSearch(copy, load(model))
    found.put([document({"id": "kmm-bench", "title": "우산"})], PictureFolder(None))
    found.store.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.serve", description=__doc__)
    parser.add_argument("--documents", type=Path, metavar="DIR", help="by default made up")
    parser.add_argument("--model", type=Path, metavar="MODEL")
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="to make up")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="of each measure")
    parser.add_argument("--waiting", type=int, default=64, metavar="N", help="room of the service")
    parser.add_argument("--no-results", action="store_true", help="print, and write nothing")
    arguments = parser.parse_args()
    if (arguments.documents is None) != (arguments.model is None):
        parser.error("give --documents and --model together, or neither")
    with tempfile.TemporaryDirectory(prefix="kmm_jax-serve-") as temporary:
        if arguments.documents is None:
            documents, model = make(Path(temporary), arguments.count)
        else:
            documents, model = arguments.documents, arguments.model
        link, copy = Path(temporary) / "served", Path(temporary) / "other"
        another(documents, model, copy)
        lead(link, documents.resolve())
        with serving(link, model, arguments.waiting) as address:
            about = httpx2.get(f"{address}/v1/collection").json()
            measured = [ask(address, clients, arguments.seconds) for clients in CLIENTS]
            rate = _OVERLOAD * max(each["answered_per_second"] for each in measured)
            over = overload(address, rate, arguments.seconds)
            after = ask(address, CLIENTS[1], arguments.seconds)
            swapped = swaps(
                address,
                link,
                (documents.resolve(), copy),
                max(arguments.seconds, 3 * _SWAP_SECONDS + 1),
            )
    everything = [
        *((f"{each['clients']} clients", each) for each in measured),
        (
            f"{over['asked_per_second']:,.0f} requests/s"
            + (" (no faster asked here)" if over["asked_per_second"] < 0.9 * rate else ""),
            over,
        ),
        (f"{after['clients']} clients afterwards", after),
        (f"{swapped['clients']} clients, {swapped['swaps']} swaps", swapped),
    ]
    failed = {
        f"{status} ({name})"
        for name, each in everything
        for status in each["status"]
        if status not in ("200", "429")
    }
    if "429" not in over["status"]:
        failed.add("nothing was refused: it was not asked for more than it can bear")
    if swapped["versions_seen"] < 2:
        failed.add("the other documents were never served")
    rows = [
        (
            name, _shown(each["p50_ms"]), _shown(each["p99_ms"]),
            _shown(each["answered_per_second"]), each["status"].get("200", 0),
            each["status"].get("429", 0), _shown(each["refused_p99_ms"]),
            sum(count for status, count in each["status"].items() if status not in ("200", "429")),
        )
        for name, each in everything
    ]  # fmt: skip
    columns = ("load", "p50 ms", "p99 ms", "answers/s", "answered", "429", "429's p99 ms", "failed")
    body = (
        f"{about['documents']:,} documents, {_FOUND} found of each text, room for "
        f"{arguments.waiting} requests; times are of what was answered, seen by clients on this "
        f"machine. Requests per second are {_OVERLOAD} times the most that it answered before. In "
        f"the last row other documents took the place of those served every {_SWAP_SECONDS:g} s. "
        f"Failed: {', '.join(sorted(failed)) or 'none'}.\n\n{results.table(columns, rows)}"
    )
    print(body)
    if not arguments.no_results:
        results.write(
            "serve",
            title="Search over HTTP",
            command="python -m tools.bench.serve",
            values={
                "documents": about["documents"],
                "waiting": arguments.waiting,
                "measured": measured,
                "overload": over,
                "afterwards": after,
                "swaps": swapped,
            },
            body=body,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
