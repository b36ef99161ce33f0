"""What the corpus pipeline keeps and rejects, and how fast: on dirt that is known, on real photos.

    python -m tools.corpus                       # needs the photos named by KMM_SHARED_DATA
    python -m tools.corpus --items 200 --rows 500 --output /tmp/try

Writes ``docs/results/corpus.*``. The shop with injected dirt tells precision and recall of each
rule; the photos tell how often the rules hit ordinary pictures; the speed is that of the whole
build beside a plain pool of processes that looks at the same pictures and texts and writes nothing.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kmm_jax.corpus import sources
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import CorpusConfig, Documents, ImageRules, Images
from kmm_jax.corpus.images import image_facts
from kmm_jax.corpus.text import TextRules, clean_batch
from kmm_jax.errors import UserError
from tools import dirty_shop, results

_IMAGE_RULES = ("small", "aspect", "white", "decode_error")
_PHOTOS = ("photos/flickr8k_subset.tar", "photos/imagenet_sample_ko.tar",
           "fashion/clothing_photos.tar")  # fmt: skip
_TURNS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=2000, help="pictures of the shop")
    parser.add_argument("--rows", type=int, default=40_000, help="pictures of the timing")
    parser.add_argument("--output", type=Path, help="instead of docs/results")
    arguments = parser.parse_args(argv)
    data = Path(os.environ.get("KMM_SHARED_DATA", "../shared/data"))
    if not data.is_dir():
        print(f"no real photos: {data} does not exist (set KMM_SHARED_DATA)", file=sys.stderr)
        return 2
    if arguments.output is not None:
        results.FOLDER = arguments.output
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        values = {
            "shop": of_the_shop(work / "shop", arguments.items),
            "photos": of_photos(work / "photos", data),
            "speed": speed(work / "speed", data, arguments.rows),
        }
    results.write(
        "corpus",
        title="Building a corpus",
        command="python -m tools.corpus",
        values=values,
        body=_body(values),
    )
    return 0


def of_the_shop(folder: Path, items: int) -> dict[str, Any]:
    """The funnel on the dirty shop, and each rule against the truth."""
    config = dirty_shop.write(folder / "raw", items=items, seed=11)
    manifest = build(config, folder / "out")
    truth = dirty_shop.truth(folder / "raw")
    found = {
        row["key"]: row["reason"]
        for path in (folder / "out/work/facts").iterdir()
        for row in sources.rows(str(path), ["key", "reason"])
    }
    rules = {}
    for rule in _IMAGE_RULES:
        said = {key for key, reason in found.items() if reason == rule}
        true = {key for key, reason in truth["images"].items() if reason == rule}
        rules[rule] = _against(len(said & true), len(said), len(true))
    stages = {stage["name"]: stage["counts"] for stage in manifest["stages"]}
    expected = collections.Counter(truth["images"].values())
    for rule, stage in (("duplicate", "merge"), ("no_text", "merge"), ("near_duplicate", "choose")):
        # Of two copies either may stay, so that numbers are compared, and not which.
        said, true = stages[stage].get(rule, 0), expected[rule]
        rules[rule] = _against(min(said, true), said, true)
    texts = collections.Counter(stages["documents"])
    for rule, true in sorted(truth["texts"]["documents"].items()):
        rules[f"title: {rule}"] = _against(min(texts[rule], true), texts[rule], true)
    return {"items": items, "stages": manifest["stages"], "rules": rules}


def _against(hits: int, said: int, true: int) -> dict[str, Any]:
    return {
        "found": said,
        "true": true,
        "precision": hits / said if said else None,
        "recall": hits / true if true else None,
    }


def of_photos(folder: Path, data: Path) -> dict[str, Any]:
    """How often the rules for pictures hit ordinary photos."""
    found = {}
    for name in _PHOTOS:
        images = Images(url=str(data / name), key=None)
        counts: collections.Counter[str] = collections.Counter()
        for picture in sources.pictures(images, str(data / name)):
            facts = image_facts(picture.data or b"", ImageRules())
            counts[facts.reason or "kept"] += 1
        found[name] = dict(counts)
    return found


def speed(folder: Path, data: Path, count: int) -> dict[str, Any]:
    """The whole build and a plain pool of processes in turns, on the same photos and titles."""
    folder.mkdir(parents=True)
    _tables_of(folder, data, count)
    config = CorpusConfig(
        name="speed",
        images=(Images(url=str(folder / "images-*.parquet")),),
        documents=(Documents(url=str(folder / "documents-*.parquet")),),
    )
    processes = os.cpu_count() or 1
    seconds: dict[str, list[float]] = {"build": [], "pool": []}
    for turn in range(_TURNS):
        began = time.perf_counter()
        build(config, folder / f"out-{turn}")
        seconds["build"].append(time.perf_counter() - began)
        began = time.perf_counter()
        files = sorted(map(str, folder.glob("images-*.parquet")))
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            pool.map(_look, files, chunksize=1)
        seconds["pool"].append(time.perf_counter() - began)
    ratios = [pool / build for build, pool in zip(seconds["build"], seconds["pool"], strict=True)]
    return {
        "rows": count,
        "processes": processes,
        "seconds": seconds,
        "ratio": statistics.median(ratios),
        "load": os.getloadavg()[0],
    }


def _look(file: str) -> int:
    """What the stages do with one file's pictures and titles, and nothing of what they write."""
    for picture in sources.pictures(Images(url=file), file):
        image_facts(picture.data or b"", ImageRules())
    titles = file.replace("images-", "documents-")
    clean_batch([row["title"] for row in sources.rows(titles, ["title"])], TextRules())
    return 0


def _tables_of(folder: Path, data: Path, count: int) -> None:
    pictures = list(_jpegs(data))
    titles = (data / "text/filters/news_titles_ko.txt").read_text("utf-8").splitlines()
    if not pictures:
        raise UserError(f"no photos in {data}")
    files = 10
    for number in range(files):
        rows = range(number, count, files)
        # One byte behind the end makes another file of the same picture.
        images = [
            {"key": str(row), "image": pictures[row % len(pictures)] + row.to_bytes(4, "big")}
            for row in rows
        ]
        texts = [{"key": str(row), "title": titles[row % len(titles)]} for row in rows]
        for name, table in (("images", images), ("documents", texts)):
            path = folder / f"{name}-{number:03d}.parquet"
            pq.write_table(pa.Table.from_pylist(table), path, row_group_size=256)


def _jpegs(data: Path) -> Iterator[bytes]:
    for name in _PHOTOS:
        with tarfile.open(data / name) as tar:
            for member in tar:
                opened = tar.extractfile(member) if member.name.endswith(".jpg") else None
                if opened is not None:
                    yield opened.read()


def _body(values: dict[str, Any]) -> str:
    shop, photos, timing = values["shop"], values["photos"], values["speed"]

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    rules = [
        (name, row["found"], row["true"], share(row["precision"]), share(row["recall"]))
        for name, row in shop["rules"].items()
    ]
    took = {side: statistics.median(found) for side, found in timing["seconds"].items()}
    reasons = sorted({reason for counts in photos.values() for reason in counts})
    hit = [
        (name, sum(counts.values()), *(counts.get(reason, 0) for reason in reasons))
        for name, counts in photos.items()
    ]
    met = "met" if timing["ratio"] >= 0.9 else "**missed**"
    return "\n\n".join(
        (
            f"The built-in shop with injected dirt, {shop['items']:,} pictures: what each rule "
            "found against what was put in. Of copies and titles the numbers are compared; two "
            "near copies made alike of one picture are the same file, and count as duplicates.",
            results.table(("rule", "found", "put in", "precision", "recall"), rules),
            "Ordinary photos by the same rules (their shorter sides are 224 or 256 pixels at most, "
            "of many less than the 200 asked for):",
            results.table(("photos", "pictures", *reasons), hit),
            f"Speed: the whole build (pictures, titles, join, copies, shards) of "
            f"{timing['rows']:,} photos with a title each took {took['build']:.1f} s, "
            f"a plain pool of {timing['processes']} processes that only looks at them "
            f"{took['pool']:.1f} s: {timing['ratio']:.2f} of its "
            f"speed (aim 0.9: {met}), median of {_TURNS} turns, load {timing['load']:.1f}.",
            "Not measured yet: OCR, watermark, safety and similarity scores; memory from 10,000 to "
            "100,000 rows; a Ray cluster; the cost of 1.5 billion pictures.",
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
