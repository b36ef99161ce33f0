"""Korean out of the metadata of public sets of images, ready for a downloader (img2dataset).

One table for each input file, so that what is killed goes on with the file in hand, and a
``summary.json`` that accounts for every row. The columns are ``url``, ``text``, ``source`` (the
format's name) and ``metadata.NUMBERS``, whatever the format.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kmm_jax.corpus import engine, metadata, tables
from kmm_jax.corpus.funnel import Before
from kmm_jax.corpus.jobs import Answer
from kmm_jax.corpus.text.scripts import hangul_share
from kmm_jax.data.patterns import expand
from kmm_jax.data.storage import is_folder, is_url
from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.files import write_json
from kmm_jax.text.normalize import normalize

VERSION = 1

_SCHEMA = pa.schema(
    {
        "url": pa.string(),
        "text": pa.string(),
        "source": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "similarity": pa.float32(),
        "unsafe": pa.float32(),
        "watermark": pa.float32(),
        "aesthetic": pa.float32(),
    }
)
_SUFFIXES = (".parquet", ".tsv", ".tsv.gz")
_GROUP_ROWS = 1 << 15
_MOST_PIXELS = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Korean:
    """What is kept.

    Attributes:
        share: least share of Hangul among the letters of a text. Below one half a build rejects
            most texts in any case, by ``text_rules.symbol_share``.
        least_side: pixels of the shorter side; pictures of unknown size stay. 0 keeps all.
    """

    share: float = 0.5
    least_side: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"the share of Hangul must lie in (0, 1], got {self.share}")
        if self.least_side < 0:
            raise ConfigError(f"the least side must not be negative, got {self.least_side}")


def extract(
    inputs: Sequence[str],
    output: Path,
    *,
    name: str = "auto",
    korean: Korean | None = None,
    at_a_time: int | None = None,
    progress: Callable[[str, int, int, Mapping[str, int], Before], None] = lambda *_: None,
) -> dict[str, Any]:
    """Write ``part-00000.parquet`` ... into ``output``, one for each input file; their summary.

    Args:
        inputs: files, patterns or folders, local or URLs.
        name: of the format, see ``metadata.FORMATS``; ``auto`` looks at the columns.
        at_a_time: files worked on at once; None takes one for each processor.
        progress: as ``build`` has it.

    Raises:
        DataError: no such file, or one of another format; what others gave stays.
        UserError: ``output`` holds inputs, or parts that were not written here.
    """
    files = list(dict.fromkeys(file for one in inputs for file in _files(one)))
    parts = [output / f"part-{number:05d}.parquet" for number in range(len(files))]
    _check_output(output, files, parts)
    rules = dataclasses.asdict(korean or Korean())
    tasks = [
        {"file": file, "format": name, "korean": rules, "write": str(part)}
        for file, part in zip(files, parts, strict=True)
    ]
    counts: collections.Counter[str] = collections.Counter()
    told = engine.run(
        "kmm_jax.corpus.extract:run", tasks, at_a_time=at_a_time or os.cpu_count() or 1
    )
    before = Before(0, 0)
    progress("metadata", 0, len(files), counts, before)
    for done, answer in enumerate(told, start=1):
        counts.update(answer["counts"])
        if answer["done_before"]:
            before = Before(before.tasks + 1, before.rows + answer["rows"])
        progress("metadata", done, len(files), counts, before)
    listed = []
    for file, part in zip(files, parts, strict=True):
        about = tables.about(part)
        own = Answer.loads(about["answer"])
        listed.append({"file": file, "part": part.name, "format": about["format"],
                       "rows": own.rows, "counts": own.counts})  # fmt: skip
    _delete_leftovers(output, len(files))
    summary = {"rows": counts.total(), "counts": dict(sorted(counts.items())), "files": listed}
    write_json(output / "summary.json", summary)
    return summary


def next_command(output: Path) -> str:
    """The command that downloads the pictures, as a build of ``corpus/external`` reads them."""
    images = output.with_name(f"{output.name}-images")
    return (
        f"img2dataset --url_list {shlex.quote(str(output))} --input_format parquet --url_col url "
        "--caption_col text --resize_mode no --save_additional_columns '[\"source\"]' "
        f"--output_format webdataset --output_folder {shlex.quote(str(images))}"
    )


def run(task: dict[str, Any]) -> Answer:
    """Extract from one file.

    Args:
        task: the ``file``, its ``format``, what is ``korean``, where to ``write``.
    """
    path, korean = Path(task["write"]), Korean(**task["korean"])
    mark = tables.fingerprint(task["file"], VERSION, task["format"], task["korean"], task["file"])
    told = tables.about(path)
    if told.get("fingerprint") == mark:
        return Answer.loads(told["answer"], done_before=True)
    name, batches = metadata.read(task["file"], task["format"])
    counts: collections.Counter[str] = collections.Counter()

    def groups() -> Iterator[list[dict[str, Any]]]:
        held: list[dict[str, Any]] = []
        # Hashes of the addresses kept, which are few: some 60 bytes each.
        seen: set[int] = set()
        for batch in batches:
            counts["no_hangul"] += batch.without
            for row in batch.rows:
                reason, text = _judged(row, korean)
                if reason is None and row is not None:
                    reason = "duplicate" if hash(row.url) in seen else None
                    seen.add(hash(row.url))
                counts[reason or "kept"] += 1
                if reason is None and row is not None:
                    held.append({"url": row.url, "text": text, "source": name, **_fit(row)})
            if len(held) >= _GROUP_ROWS:
                yield held
                held = []
        yield held

    def answer() -> Answer:
        found = {reason: count for reason, count in counts.items() if count}
        return Answer(rows=counts.total(), counts=found)

    def about() -> dict[str, str]:
        return {"fingerprint": mark, "answer": answer().dumps(), "format": name}

    tables.write(path, _SCHEMA, groups(), about)
    return answer()


def _judged(row: metadata.Row | None, korean: Korean) -> tuple[str | None, str]:
    """Why it does not stay, or None and its text: the first one that is Korean."""
    if row is None:
        return "malformed", ""
    texts = (normalize(text) for text in row.texts)
    text = next((text for text in texts if hangul_share(text) >= korean.share), None)
    if text is None:
        return "no_hangul", ""
    if row.language is not None and row.language != "ko":
        return "language", ""
    if not metadata.is_url(row.url):
        return "no_url", ""
    sides = [row.numbers[side] for side in ("width", "height") if side in row.numbers]
    # A side of 0 is one that nobody measured.
    if any(0 < side < korean.least_side for side in sides):
        return "small", ""
    return None, text


def _fit(row: metadata.Row) -> dict[str, Any]:
    """The numbers as the table has them."""
    found: dict[str, Any] = dict(row.numbers)
    for side in ("width", "height"):
        if side in found:
            found[side] = int(found[side]) if 0 <= found[side] <= _MOST_PIXELS else None
    return found


def _files(pattern: str) -> list[str]:
    """Of a folder all that may be metadata."""
    if not is_folder(pattern):
        return expand(pattern)
    found: list[str] = []
    for suffix in _SUFFIXES:
        with contextlib.suppress(DataError):
            found += expand(f"{pattern.rstrip('/')}/*{suffix}")
    if not found:
        raise DataError(f"{pattern}: no {', '.join(_SUFFIXES)} in this folder")
    return found


def _check_output(output: Path, files: Sequence[str], parts: Sequence[Path]) -> None:
    """Nothing that is not ours may be written over or deleted."""
    if not output.exists():
        return
    for file in files:
        local = re.sub(r"^(file|local)://", "", file)
        if is_url(local):
            continue
        path = Path(local)
        # A link may lie elsewhere than what it names, and neither may be lost.
        if any(one.parent.samefile(output) for one in (path, path.resolve())):
            raise UserError(
                f"the input {file} lies in the output folder {output}, where parts are written "
                "and deleted; name another folder with --output"
            )
    for part in parts:
        if os.path.lexists(part) and not _is_ours(part):
            raise UserError(
                f"{part} is there and was not written by extract-korean (or is damaged), so it is "
                "not written over; name another folder with --output, or move it away"
            )


def _is_ours(part: Path) -> bool:
    """Whether a part was written here: tables of builds have no ``format``."""
    try:
        return {"fingerprint", "answer", "format"} <= tables.about(part).keys()
    except (OSError, UnicodeDecodeError):
        return False


def _delete_leftovers(output: Path, count: int) -> None:
    """Parts of a longer list of inputs before: a downloader would take them too."""
    for path in output.glob("part-*.parquet"):
        number = re.fullmatch(r"part-(\d{5,})\.parquet", path.name)
        if number and int(number.group(1)) >= count and _is_ours(path):
            path.unlink()
