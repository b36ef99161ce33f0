"""How fast the corpus build is beside a plain pool of processes, and how much memory it takes.

    python -m tools.corpus_speed                 # needs the photos named by KMM_SHARED_DATA
    python -m tools.corpus_speed --rows 1000 --turns 1 --memory 200 400 --output /tmp/try

Writes ``docs/results/corpus_speed.*``. Speed: crops of real photos with a title each, looked at by
the first stages of the build, by the whole build, and by a plain pool of processes that decodes the
same pictures, applies the same rules to pictures and titles and writes nothing. Each in a process
of its own, all start-up counted, in turns whose order changes; the ratio is that of one turn, so
that what else the machine does meanwhile hits both. Memory: drawn pictures, ten times as many.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from kmm_jax.corpus import sources, worker
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import CorpusConfig, Documents, ImageRules, Images
from kmm_jax.corpus.images import image_facts
from kmm_jax.corpus.text import TextRules, clean_batch
from kmm_jax.errors import UserError
from tools import results

_PHOTOS = ("photos/flickr8k_subset.tar", "photos/imagenet_sample_ko.tar",
           "fashion/clothing_photos.tar")  # fmt: skip
_FILE_ROWS = 2000
_DRAWN_BYTES = 40_000
_SIDES = ("reading", "pool", "build")
_STAGES_READING = ("pictures", "documents")
_SAMPLE_SECONDS = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=12_000, help="pictures of the timing")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--memory", type=int, nargs=2, default=(10_000, 100_000), help="pictures, twice"
    )
    parser.add_argument("--output", type=Path, help="instead of docs/results")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "INPUT", "FOLDER"), help="of a turn")
    arguments = parser.parse_args(argv)
    if arguments.one:
        side, raw, folder = arguments.one
        _one(side, Path(raw), Path(folder))
        return 0
    data = Path(os.environ.get("KMM_SHARED_DATA", "../shared/data"))
    if not data.is_dir():
        print(f"no real photos: {data} does not exist (set KMM_SHARED_DATA)", file=sys.stderr)
        return 2
    if arguments.output is not None:
        results.FOLDER = arguments.output
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        raw = write_photos(work / "photos", data, arguments.rows)
        values: dict[str, Any] = {
            "speed": speed(raw, work, arguments.turns),
            "text": text_share(raw),
            "memory": [memory(work, data, rows) for rows in arguments.memory],
        }
    results.write(
        "corpus_speed",
        title="Speed and memory of building a corpus",
        command="python -m tools.corpus_speed",
        values=values,
        body=_body(values),
    )
    return 0


def speed(raw: Path, work: Path, turns: int) -> dict[str, Any]:
    """Seconds of each side by turn, by the clock and of the processors."""
    wall: dict[str, list[float]] = {side: [] for side in _SIDES}
    processor: dict[str, list[float]] = {side: [] for side in _SIDES}
    load = []
    for turn in range(turns):
        for place in range(len(_SIDES)):
            side = _SIDES[(turn + place) % len(_SIDES)]
            with tempfile.TemporaryDirectory(dir=work) as out:
                took, used, _ = _measured(side, raw, Path(out), sample=False)
            wall[side].append(took)
            processor[side].append(used)
        load.append(os.getloadavg()[0])
    return {
        "rows": sum(pq.read_metadata(file).num_rows for file in _files(raw)),
        "mean_bytes": statistics.mean(len(one) for one in _column(_files(raw)[0], "image")),
        "processes": os.cpu_count(),
        "seconds": wall,
        "processor_seconds": processor,
        "ratio": {side: _ratio(wall["pool"], wall[side]) for side in ("reading", "build")},
        "processor_ratio": {
            side: _ratio(processor["pool"], processor[side]) for side in ("reading", "build")
        },
        "load": load,
    }


def _ratio(pool: Sequence[float], side: Sequence[float]) -> dict[str, float]:
    each = [a / b for a, b in zip(pool, side, strict=True)]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def text_share(raw: Path) -> dict[str, float]:
    """Processor time of the text rules for a title, and of the picture rules for a picture."""
    worker.alone()
    pictures, titles = _column(_files(raw)[0], "image"), []
    for file in raw.glob("documents-*.parquet"):
        titles += _column(file, "title")
    seconds: dict[str, list[float]] = {"picture": [], "title": []}
    for _ in range(5):
        began = time.process_time()
        for data in pictures:
            image_facts(data, ImageRules())
        seconds["picture"].append((time.process_time() - began) / len(pictures))
        began = time.process_time()
        for start in range(0, len(titles), 4096):
            clean_batch(titles[start : start + 4096], TextRules())
        seconds["title"].append((time.process_time() - began) / len(titles))
    picture, title = (min(seconds[kind]) for kind in ("picture", "title"))
    return {"picture_seconds": picture, "title_seconds": title, "share": title / picture}


def memory(work: Path, data: Path, rows: int) -> dict[str, Any]:
    """The most memory that the build's processes take together (PSS), sampled."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        raw = write_drawn(Path(folder) / "raw", data, rows)
        size = sum(file.stat().st_size for file in raw.iterdir())
        took, _, peak = _measured("build", raw, Path(folder), sample=True)
    return {"rows": rows, "input_bytes": size, "seconds": took, "peak_bytes": peak}


def _measured(side: str, raw: Path, out: Path, *, sample: bool) -> tuple[float, float, int]:
    """Seconds by the clock, seconds of processors, and most bytes of a side run by itself.

    Args:
        sample: look at the memory, which holds the processes up a little.
    """
    command = [sys.executable, "-m", "tools.corpus_speed", "--one", side, str(raw), str(out)]
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen(command)
    while True:
        # Reaped here, for the times of all processes below it.
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            break
        if sample:
            peak = max(peak, sum(map(_pss, _tree(process.pid))))
        time.sleep(_SAMPLE_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, peak


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _tree(int(number))


def _pss(pid: int) -> int:
    """Its memory, what it shares divided among those who share it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


class _ReadError(Exception):
    """The stages that read have ended."""


def _one(side: str, raw: Path, folder: Path) -> None:
    config = CorpusConfig(
        name="speed",
        images=(Images(url=str(raw / "images-*.parquet")),),
        documents=(Documents(url=str(raw / "documents-*.parquet")),),
    )
    if side == "build":
        build(config, folder / "out")
    elif side == "pool":
        files = sorted(map(str, raw.glob("images-*.parquet")))
        context = multiprocessing.get_context("spawn")
        with context.Pool(os.cpu_count(), initializer=worker.alone) as pool:
            pool.map(_look, files, chunksize=1)
            pool.close()
            pool.join()
    else:
        left = set(_STAGES_READING)

        def stop(stage: str, done: int, tasks: int, *_: Any) -> None:
            if done == tasks:
                left.discard(stage)
            if not left:
                raise _ReadError

        with contextlib.suppress(_ReadError):
            build(config, folder / "out", stop)


def _look(file: str) -> int:
    """What the stages do with one file's pictures and titles, and nothing of what they write."""
    for picture in sources.pictures(Images(url=file), file):
        image_facts(picture.data or b"", ImageRules())
    titles = [row["title"] for row in sources.rows(file.replace("images-", "documents-"), ["title"])
              if row is not None]  # fmt: skip
    clean_batch(titles, TextRules())
    return len(titles)


def _files(raw: Path) -> list[Path]:
    return sorted(raw.glob("images-*.parquet"))


def _column(file: Path, column: str) -> list[Any]:
    return pq.read_table(file, columns=[column])[column].to_pylist()


def write_photos(folder: Path, data: Path, rows: int) -> Path:
    """Different crops of the photos, their shorter sides 224 to 448 pixels, with news titles."""
    photos = list(_jpegs(data))
    if not photos:
        raise UserError(f"no photos in {data}")

    def crop(number: int) -> bytes:
        rng = np.random.default_rng(number)
        photo = Image.open(io.BytesIO(photos[number % len(photos)])).convert("RGB")
        share = rng.uniform(0.5, 0.95)
        width, height = (round(side * share) for side in photo.size)
        left, top = (int(rng.integers(0, a - b + 1)) for a, b in
                     zip(photo.size, (width, height), strict=True))  # fmt: skip
        scale = rng.integers(224, 449) / min(width, height)
        size = round(width * scale), round(height * scale)
        cut = photo.resize(size, box=(left, top, left + width, top + height))
        if rng.random() < 0.5:
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        buffer = io.BytesIO()
        cut.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    return _write(folder, data, rows, crop)


def write_drawn(folder: Path, data: Path, rows: int) -> Path:
    """Different pictures of 40,000 bytes that take little to make and to decode."""

    def draw(number: int) -> bytes:
        rng = np.random.default_rng(number)
        small = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((208, 208), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=75)
        return buffer.getvalue() + rng.bytes(max(0, _DRAWN_BYTES - buffer.tell()))

    return _write(folder, data, rows, draw)


def _write(folder: Path, data: Path, rows: int, picture: Any) -> Path:
    folder.mkdir(parents=True)
    titles = (data / "text/filters/news_titles_ko.txt").read_text("utf-8").splitlines()
    for number, first in enumerate(range(0, rows, _FILE_ROWS)):
        here = range(first, min(rows, first + _FILE_ROWS))
        keys = [f"item-{row:08d}" for row in here]
        images = {"key": keys, "image": pa.array([picture(row) for row in here], pa.binary())}
        texts = {"key": keys, "title": [titles[row % len(titles)] for row in here]}
        for name, table in (("images", images), ("documents", texts)):
            path = folder / f"{name}-{number:03d}.parquet"
            pq.write_table(pa.table(table), path, row_group_size=256)
    return folder


def _jpegs(data: Path) -> Iterator[bytes]:
    for name in _PHOTOS:
        with tarfile.open(data / name) as tar:
            for member in tar:
                opened = tar.extractfile(member) if member.name.endswith(".jpg") else None
                if opened is not None:
                    yield opened.read()


def _body(values: dict[str, Any]) -> str:
    timing, text, sizes = values["speed"], values["text"], values["memory"]

    def span(ratio: Mapping[str, float]) -> str:
        return f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"

    def row(name: str, side: str) -> tuple[Any, ...]:
        seconds, used = timing["seconds"][side], timing["processor_seconds"][side]
        ratios = [span(timing[kind][side]) if side != "pool" else "1"
                  for kind in ("ratio", "processor_ratio")]  # fmt: skip
        rate = timing["rows"] / statistics.median(seconds)
        return (name, f"{statistics.median(seconds):.1f}", f"{statistics.median(used):.1f}",
                f"{rate:,.0f}", *ratios)  # fmt: skip

    reading = timing["ratio"]["reading"]["median"]
    small, large = sizes
    growth = large["peak_bytes"] / small["peak_bytes"]
    return "\n\n".join(
        (
            f"{timing['rows']:,} crops of real photos ({timing['mean_bytes'] / 1000:,.0f} kB each) "
            f"with a title each, {timing['processes']} processes, start-up counted, "
            f"{len(timing['load'])} turns; of ratios the median, least and most of a turn. Load of "
            f"the machine {min(timing['load']):.1f} to {max(timing['load']):.1f}, ours included.",
            results.table(
                (
                    "what",
                    "seconds",
                    "processor seconds",
                    "pictures a second",
                    "speed beside the pool",
                    "of processor time",
                ),
                (
                    row("plain pool: decode and rules, writes nothing", "pool"),
                    row("the build's stages that do the same, with their tables", "reading"),
                    row("whole build: join, copies, shards and report as well", "build"),
                ),
            ),
            f"The same work at >= 0.9 of the pool's speed: "
            f"{'met' if reading >= 0.9 else '**missed**'}.",
            f"Text rules take {text['title_seconds'] * 1e6:.1f} us a title, {text['share']:.1%} of "
            f"what looking at a picture takes ({text['picture_seconds'] * 1e6:.0f} us); aim 2%: "
            f"{'met' if text['share'] <= 0.02 else '**missed**'} (`corpus_text.md` has other "
            "texts and sizes of pictures).",
            "Memory of all processes together (PSS, sampled ten times a second), drawn pictures of "
            f"{_DRAWN_BYTES // 1000} kB, {_FILE_ROWS:,} a file, shards of 1,000:",
            results.table(
                ("pictures", "input", "most memory", "seconds"),
                [
                    (
                        f"{one['rows']:,}",
                        f"{one['input_bytes'] / 1e9:.2f} GB",
                        f"{one['peak_bytes'] / 1e6:,.0f} MB",
                        f"{one['seconds']:.0f}",
                    )
                    for one in sizes
                ],
            ),
            f"{large['rows'] / small['rows']:.0f} times the pictures take {growth:.2f} times the "
            f"memory (aim 0.8 to 1.2: {'met' if 0.8 <= growth <= 1.2 else '**missed**'}).",
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
