"""What a corpus of 1.5 billion pictures costs, from the rates of one built here (slide 2.1's size).

    python -m tools.corpus_cost                  # needs the photos named by KMM_SHARED_DATA
    python -m tools.corpus_cost --photos 40 --output /tmp/try

Writes ``docs/results/corpus_cost.*``. Photos enlarged to the size of pictures on the web, each with
a title and queries, go through the whole pipeline with every score on; the processor's time is that
of this process and its workers. Nothing here has an accelerator: hours of one are arithmetic.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import jax
import pyarrow as pa
import pyarrow.parquet as pq
from flax import nnx
from PIL import Image

from kmm_jax.corpus import scores
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import Clicks, CorpusConfig, Documents, DuplicateRules, Images
from kmm_jax.corpus.scoring.ocr import Ocr
from kmm_jax.corpus.scoring.protocol import Sample, Score
from kmm_jax.corpus.scoring.similarity import Similarity
from kmm_jax.corpus.scoring.watermark import Watermark
from kmm_jax.data.images import decode
from kmm_jax.errors import UserError
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.models.clip.config import clip_b32
from kmm_jax.models.flops import forward_flops
from kmm_jax.text.tokenizer import Tokenizer
from kmm_jax.training.chips import chip_named
from tools import results

_PHOTOS = ("photos/imagenet_sample_ko.tar", "photos/flickr8k_subset.tar")
_PICTURES = 1_500_000_000
_SIDE = 640  # pixels of the shorter side, and of a picture on the web
_QUERIES = 3
_FILES = 4
_CHIP, _SHARE_OF_PEAK = "h100", 0.4
_SCORES = 128  # pictures that each score is timed on by itself
_NAMES = {
    "pictures": "image facts",
    "documents": "titles",
    "clicks": "queries",
    "scores": "all scores",
    "shards": "shards",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=1440)
    parser.add_argument("--output", type=Path, help="instead of docs/results")
    arguments = parser.parse_args(argv)
    data = Path(os.environ.get("KMM_SHARED_DATA", "../shared/data"))
    if not data.is_dir():
        print(f"no real photos: {data} does not exist (set KMM_SHARED_DATA)", file=sys.stderr)
        return 2
    if arguments.output is not None:
        results.FOLDER = arguments.output
    with tempfile.TemporaryDirectory() as folder:
        values = measure(Path(folder), data, arguments.photos)
    results.write(
        "corpus_cost",
        title="The cost of 1.5 billion pictures",
        command="python -m tools.corpus_cost",
        values=values,
        body=_body(values),
    )
    return 0


def measure(folder: Path, data: Path, count: int) -> dict[str, Any]:
    """Processor time by stage and by score, and bytes that were read and written."""
    model = folder / "model"
    _encoder(model, data)
    # What starting and compiling takes is in both, and not in their difference.
    few, many = (
        _built(folder / name, model, data, photos)
        for name, photos in (("few", count // 6), ("many", count))
    )
    more = count - count // 6
    seconds = {stage: max(taken - few[stage], 0.0) for stage, taken in many.items()}
    raw, out = folder / "many/raw", folder / "many/out"
    of = _config(raw, model).scores
    samples = list(_samples(raw, of))
    picture_bytes = sum(path.stat().st_size for path in raw.glob("images-*"))
    return {
        "photos": count,
        "side": _SIDE,
        "queries": _QUERIES,
        "a_picture": {stage: taken / more for stage, taken in seconds.items()},
        "scores": {score.name: _alone(score, samples) for score in of},
        "decode": _decode_seconds(raw, of),
        "bytes_a_picture": picture_bytes / count,
        "bytes_of_tables": _size(out / "work") / count,
        "bytes_of_shards": _size(out / "shards") / count,
        "flops": forward_flops(clip_b32()),
        "chip": _CHIP,
        "peak": chip_named(_CHIP).flops,
        "share_of_peak": _SHARE_OF_PEAK,
        "load": os.getloadavg()[0],
    }


def _config(raw: Path, model: Path) -> CorpusConfig:
    return CorpusConfig(
        name="cost",
        images=(Images(url=str(raw / "images-*.parquet")),),
        documents=(Documents(url=str(raw / "documents-*.parquet")),),
        clicks=(Clicks(url=str(raw / "clicks-*.parquet"), count="clicks"),),
        duplicates=DuplicateRules(bits=3),
        watermark=Watermark(most=1.0),
        ocr=Ocr(most_boxes=None, most_area=None),
        similarity=Similarity(model=str(model)),
    )


def _built(folder: Path, model: Path, data: Path, photos: int) -> dict[str, float]:
    """Processor seconds of each stage."""
    raw = _tables(folder / "raw", data, photos)
    seconds: dict[str, float] = {}
    last: list[Any] = ["", _processor_seconds()]

    def progress(stage: str, *_: Any) -> None:
        now = _processor_seconds()
        seconds[stage] = seconds.get(stage, 0.0) + now - last[1]
        last[:] = [stage, now]

    build(_config(raw, model), folder / "out", progress, report=False)
    return seconds


def _encoder(folder: Path, data: Path) -> None:
    """A CLIP ViT-B/32 with random weights: what it costs does not depend on them."""
    texts = (data / "text/filters/news_titles_ko.txt").read_text("utf-8").splitlines()
    tokenizer = Tokenizer.train(texts, vocab_size=8000)
    config = clip_b32(vocabulary=tokenizer.vocab_size)
    params = nnx.to_pure_dict(
        nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    )
    exported = native.Exported(
        config=config, params=jax.device_get(params), tokenizer=tokenizer, styled=False
    )
    native.save(folder, exported)


def _tables(folder: Path, data: Path, count: int) -> Path:
    titles = (data / "text/filters/news_titles_ko.txt").read_text("utf-8").splitlines()
    photos = list(_photos(data, count))
    if len(photos) < count:
        raise UserError(f"{data} has {len(photos)} photos, {count} are asked for")
    folder.mkdir(parents=True)
    rng = Random(0)
    for number in range(_FILES):
        rows = range(number, count, _FILES)
        told: Mapping[str, list[dict[str, Any]]] = {
            "images": [{"key": str(row), "image": photos[row]} for row in rows],
            "documents": [{"key": str(row), "title": rng.choice(titles)} for row in rows],
            "clicks": [
                {"key": str(row), "query": " ".join(rng.choice(titles).split()[:3]), "clicks": 2}
                for row in rows
                for _ in range(_QUERIES)
            ],
        }
        for name, table in told.items():
            path = folder / f"{name}-{number:03d}.parquet"
            pq.write_table(pa.Table.from_pylist(table), path, row_group_size=256)
    return folder


def _photos(data: Path, count: int) -> Iterator[bytes]:
    for tar in _PHOTOS:
        with tarfile.open(data / tar) as archive:
            for member in archive:
                opened = archive.extractfile(member) if member.name.endswith(".jpg") else None
                if opened is None:
                    continue
                if count == 0:
                    return
                count -= 1
                image = Image.open(io.BytesIO(opened.read())).convert("RGB")
                scale = _SIDE / min(image.size)
                size = round(image.width * scale), round(image.height * scale)
                buffer = io.BytesIO()
                image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=87)
                yield buffer.getvalue()


def _jpegs(raw: Path) -> Iterator[bytes]:
    for path in sorted(raw.glob("images-*")):
        yield from pq.read_table(path, columns=["image"]).column(0).to_pylist()


def _samples(raw: Path, of: Sequence[Score]) -> Iterator[Sample]:
    """Each with texts of its own: a text that comes twice in a batch is embedded once."""
    side = max(score.side for score in of)
    for number, data in zip(range(_SCORES), _jpegs(raw), strict=False):
        queries = tuple(f"가을 원피스 {number}-{query} 추천" for query in range(_QUERIES))
        yield Sample(str(number), decode(data, side), (f"가을 원피스 신상 {number}",), queries)


def _alone(score: Score, samples: Sequence[Sample]) -> float:
    """Processor seconds a picture."""
    scorer = scores.loaded(score, "")
    scorer.score(samples)  # compiles
    return _timed(lambda: scorer.score(samples)) / len(samples)


def _decode_seconds(raw: Path, of: Sequence[Score]) -> float:
    """Once for each side that a score wants."""
    sides = {score.side for score in of}
    pictures = [data for _, data in zip(range(_SCORES), _jpegs(raw), strict=False)]
    taken = _timed(lambda: [decode(data, side) for data in pictures for side in sides])
    return taken / len(pictures)


def _timed(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _processor_seconds() -> float:
    """Of this process and the workers it has, by /proc (Linux)."""
    total = time.process_time()
    ticks = os.sysconf("SC_CLK_TCK")
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _body(values: Mapping[str, Any]) -> str:
    photos = values["photos"]
    stages: dict[str, float] = {}
    for name, taken in values["a_picture"].items():
        shown = _NAMES.get(name, "join, copies, choice, judgement")
        stages[shown] = stages.get(shown, 0.0) + taken

    def hours(a_picture: float) -> str:
        return f"{a_picture * _PICTURES / 3600:,.0f}"

    picture, tables = values["bytes_a_picture"], values["bytes_of_tables"]
    moved = {
        "image facts": picture,
        "all scores": picture,
        "shards": picture + values["bytes_of_shards"],
        "join, copies, choice, judgement": 2 * tables,
    }
    rows = [
        (
            name,
            f"{1000 * taken:.2f}",
            hours(taken),
            f"{moved.get(name, 0.0) * _PICTURES / 1e12:,.1f}" if name in moved else "",
        )
        for name, taken in stages.items()
    ]
    total = sum(stages.values())
    rows.append(
        (
            "**together**",
            f"{1000 * total:.2f}",
            hours(total),
            f"{sum(moved.values()) * _PICTURES / 1e12:,.1f}",
        )
    )
    flops = values["flops"]
    a_second = values["peak"] * values["share_of_peak"]
    gpu = {
        "similarity, pictures": flops["image"],
        f"similarity, {1 + values['queries']} texts": flops["text"] * (1 + values["queries"]),
    }
    alone = [
        ("decode", f"{1000 * values['decode']:.2f}", hours(values["decode"]), ""),
        *(
            (name, f"{1000 * taken:.2f}", hours(taken), "")
            for name, taken in values["scores"].items()
        ),
        *((name, "", "", hours(count / a_second)) for name, count in gpu.items()),
    ]
    # Without the encoder: decoding and the other scores as they are by themselves.
    ocr, mark = values["scores"]["ocr"], values["scores"]["watermark"]
    left = total - stages["all scores"] + values["decode"] + mark + ocr
    return "\n\n".join(
        (
            f"{photos:,} photos of {values['side']} pixels' shorter side "
            f"({picture / 1024:.0f} KiB each), a title and {values['queries']} queries each, "
            f"through the whole pipeline with every score (load {values['load']:.1f}). Times are "
            "processor time, those of a build of a sixth of the photos taken off, so that starting "
            "and compiling do not count; hours are for 1.5 billion pictures. Terabytes: pictures "
            "are read three times (facts, scores, shards) and written once, tables are written "
            "and read.",
            results.table(("stage", "ms a picture", "core-hours", "TB moved"), rows),
            "Inside the scores, each timed by itself. The encoder is CLIP ViT-B/32; its GPU-hours "
            f"are arithmetic: {a_second / 1e12:.0f} TFLOP/s, {values['share_of_peak']:.0%} of the "
            f"peak of one {values['chip'].upper()}; no accelerator was measured, and decoding must "
            "keep up with it.",
            results.table(("part", "ms a picture", "core-hours", "GPU-hours"), alone),
            "Texts are cleaned while pictures are looked at, so that their time stands there. The "
            "stage of scores takes longer than its parts together; why was not looked into. "
            f"With the encoder on accelerators {hours(left)} core-hours are left: a thousand "
            f"processors for {left * _PICTURES / 3600 / 1000 / 24:.1f} days. What would halve it: "
            f"OCR is {ocr / left:.0%} of that. `score_all=false` gives OCR only what the other "
            "scores let pass; `ocr.side=224` halves its time (see ocr.md for what it then misses); "
            "onnxruntime on an accelerator takes it off the processors. Of the rest, one reading "
            "for facts and scores together would save a decode and a third of the bytes read, at "
            "the price of scoring copies.",
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
