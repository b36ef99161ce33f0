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


def ask(address: str, clients: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of answers and counts by status, of so many clients for so long."""
    times: list[float] = []
    status: collections.Counter[int] = collections.Counter()
    numbers = itertools.count()

    async def one(client: httpx2.AsyncClient, until: float) -> None:
        while time.perf_counter() < until:
            number = next(numbers)
            words = [_WORDS[number // 12**place % 12] for place in range(4)]
            body = {"text": f"{' '.join(words)} {clients} {number}", "k": 10}
            began = time.perf_counter()
            response = await client.post("/v1/search", json=body)
            status[response.status_code] += 1
            if response.status_code == 200:
                times.append(1e3 * (time.perf_counter() - began))
                assert len(response.json()["hits"]) == 10
            elif response.status_code == 429:
                await asyncio.sleep(
                    0.05
                )  # a hundredth of what it was asked to wait: an impatient one

    async def all_of_them() -> float:
        limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
            began = time.perf_counter()
            await asyncio.gather(*(one(client, began + seconds) for _ in range(clients)))
            return time.perf_counter() - began

    taken = asyncio.run(all_of_them())
    p50, p99 = np.percentile(times, [50, 99]).tolist() if times else (float("nan"),) * 2
    return {
        "clients": clients,
        "p50_ms": p50,
        "p99_ms": p99,
        "answered_per_second": len(times) / taken,
        "status": {str(each): count for each, count in sorted(status.items())},
    }


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
        with serving(documents, model, arguments.waiting) as address:
            about = httpx2.get(f"{address}/v1/collection").json()
            measured = [ask(address, clients, arguments.seconds) for clients in CLIENTS]
            overload = ask(address, _OVERLOAD * arguments.waiting, arguments.seconds)
    failed = [
        s for each in (*measured, overload) for s in each["status"] if s not in ("200", "429")
    ]
    rows = [
        (
            each["clients"], each["p50_ms"], each["p99_ms"], each["answered_per_second"],
            each["status"].get("200", 0), each["status"].get("429", 0),
        )
        for each in (*measured, overload)
    ]  # fmt: skip
    columns = ("clients", "p50 ms", "p99 ms", "answers/s", "answered", "429")
    body = (
        f"{about['documents']:,} documents, 10 found of each text, room for {arguments.waiting} "
        f"requests; the last row is {_OVERLOAD} times as many clients. Times are of what was "
        f"answered, seen by clients on the same machine. Other than 200 and 429: "
        f"{', '.join(failed) or 'none'}.\n\n{results.table(columns, rows)}"
    )
    print(body)
    if not arguments.no_results:
        results.write(
            "serve",
            title="Search over HTTP",
            command="python -m tools.bench.serve",
            values={"documents": about["documents"], "measured": measured, "overload": overload},
            body=body,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
