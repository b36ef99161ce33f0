"""What the text rules do to real and to generated text, as ``docs/results/corpus_text.*``.

python -m tools.corpus_text --data ../shared/data --samples runs/corpus_text.jsonl

Hits to read by hand go to ``--samples`` (texts stay outside git, personal data masked); what a
reader said of them stands in ``docs/results/corpus_text_verdicts.tsv``: hash of the text, rule,
verdict.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import statistics
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kmm_jax.corpus.text import PERSONAL, REASONS, Cleaned, Cleaner
from tests.corpus.text.generated import REPORTING_SEED, cases
from tests.corpus.text.scoring import score
from tools import results
from tools.corpus_text_page import LARGE, SMALL, TITLES, page

COMMAND = "python -m tools.corpus_text"
VERDICTS = results.FOLDER / "corpus_text_verdicts.tsv"
READ = 40
READING = "second"  # the lists were mended after the first reading; this one draws anew


def column(path: Path, *names: str) -> Iterator[str]:
    """The cells of the named columns of a table without quoting; empty ones left out."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        header = next(file).rstrip("\n").split("\t")
        for line in file:
            cells = line.rstrip("\n").split("\t")
            if len(cells) >= len(header):
                yield from filter(None, (cells[header.index(name)] for name in names))


def corpora(data: Path) -> dict[str, list[str]]:
    text = data / "text"
    titles = (text / "filters/news_titles_ko.txt").read_text("utf-8").splitlines()
    return {
        # The file keeps the quotes of the CSV that it was.
        TITLES: [line.strip('"').replace('""', '"') for line in titles],
        "reviews": list(column(text / "filters/nsmc_reviews_ko.tsv.gz", "review")),
        "captions": list(column(text / "parallel/sts_sentences_ko_en.tsv", "ko")),
        "news": list(column(text / "parallel/park_news_dev_ko_en.tsv", "ko")),
        "NLI sentences": list(column(text / "sts/xnli.dev.ko.tsv", "sentence1", "sentence2")),
        "product names (English)": list(
            column(data / "fashion/fashion_products.tsv", "productDisplayName")
        ),
        "program docs": list(column(text / "parallel/python_docs_ko_en.tsv.gz", "ko")),
    }


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hit_rates(
    found: dict[str, list[str]], cleaner: Cleaner
) -> tuple[dict[str, Any], dict[str, dict[str, tuple[str, str, Cleaned]]]]:
    """Rates by corpus and reason; different hits, reason -> hash -> (corpus, text, result)."""
    rates: dict[str, Any] = {}
    hits: dict[str, dict[str, tuple[str, str, Cleaned]]] = {reason: {} for reason in REASONS}
    for name, texts in found.items():
        counts: Counter[str] = Counter()
        for text, cleaned in zip(texts, cleaner.batch(texts), strict=True):
            counts.update(cleaned.reasons)
            counts["rejected"] += cleaned.decision == "reject"
            for reason in cleaned.reasons:
                hits[reason].setdefault(digest(text), (name, text, cleaned))
        counts["any personal data"] = sum(
            bool(set(cleaned.reasons) & set(PERSONAL)) for cleaned in cleaner.batch(texts)
        )
        rates[name] = {
            "texts": len(texts),
            "hits": {key: counts[key] for key in ("rejected", "any personal data", *REASONS)},
        }
    return rates, hits


def to_read(hits: dict[str, tuple[str, str, Cleaned]]) -> list[str]:
    """Which hits of a rule a person reads: drawn by hash, product names and programs last."""
    foreign = ("product names (English)", "program docs")
    return sorted(hits, key=lambda key: (hits[key][0] in foreign, digest(READING + key)))[:READ]


def write_samples(path: Path, hits: dict[str, dict[str, tuple[str, str, Cleaned]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for reason, found in hits.items():
            for key in to_read(found):
                name, text, cleaned = found[key]
                words = [text[start:end] for start, end, kind in cleaned.spans if kind == reason]
                row: dict[str, Any] = {"hash": key, "rule": reason, "corpus": name}
                row["text"] = cleaned.text
                row["hits"] = [_veiled(word) for word in words] if reason in PERSONAL else words
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _veiled(word: str) -> str:
    """Personal data with its shape and without its content."""
    return "".join("0" if c.isdigit() else "x" if c.isascii() and c.isalpha() else c for c in word)


def judged(hits: dict[str, dict[str, tuple[str, str, Cleaned]]]) -> dict[str, Any]:
    """Of the hits that were read, how many are right, by rule."""
    verdicts: dict[tuple[str, str], str] = {}
    if VERDICTS.exists():
        for line in VERDICTS.read_text("utf-8").splitlines()[1:]:
            key, rule, verdict = line.split("\t")
            verdicts[key, rule] = verdict
    found = {}
    for reason in REASONS:
        said = [verdicts[key, reason] for key in hits[reason] if (key, reason) in verdicts]
        if hits[reason]:
            right = said.count("right")
            found[reason] = {
                "different hits": len(hits[reason]),
                "read": len(said),
                "right": right,
                "precision": right / len(said) if said else None,
            }
    return found


def labelled(data: Path, cleaner: Cleaner) -> list[dict[str, Any]]:
    """Profanity hits against people's labels; lists were looked at beside the even half only."""
    folder = data / "text" / "filters"
    hate, curse = folder / "korean_hate_speech_train.tsv", folder / "curse_detection_train.tsv"
    sets: tuple[tuple[str, Path, str, str, Callable[[str], bool]], ...] = (
        ("curse detection: curse", curse, "text", "curse", lambda label: label == "1"),
        ("hate speech: hate", hate, "comments", "hate", lambda label: label == "hate"),
        ("hate speech: hate or offensive", hate, "comments", "hate", lambda label: label != "none"),
    )
    rows = []
    for name, path, text_column, label_column, is_positive in sets:
        pairs = list(zip(*[iter(column(path, text_column, label_column))] * 2, strict=True))
        texts = [text for text, _ in pairs]
        found = ["profanity" in cleaned.reasons for cleaned in cleaner.batch(texts)]
        for half, parity in (("seen", 0), ("held out", 1)):
            kept = [
                (hit, is_positive(label))
                for hit, (text, label) in zip(found, pairs, strict=True)
                if int(digest(text), 16) % 2 == parity
            ]
            both = sum(hit and label for hit, label in kept)
            hits, positives = sum(hit for hit, _ in kept), sum(label for _, label in kept)
            rows.append(
                {
                    "set": name,
                    "half": half,
                    "texts": len(kept),
                    "positive": positives,
                    "hits": hits,
                    "precision": both / max(hits, 1),
                    "recall": both / max(positives, 1),
                }
            )
    return rows


def generated(cleaner: Cleaner) -> dict[str, Any]:
    made = list(cases(REPORTING_SEED))
    scores = score(made, cleaner)
    rows = {
        reason or "all": {
            "cases": scores.cases[reason] if reason else len(made),
            "recall": scores.recall(reason),
            "precision": scores.precision(reason),
        }
        for reason in (None, *PERSONAL)
    }
    near = sum(case.reason is None for case in made)
    return {"seed": REPORTING_SEED, "near misses": near, "rows": rows}


def speed(data: Path, found: dict[str, list[str]], cleaner: Cleaner) -> dict[str, Any]:
    """Seconds of this process's processor time per text and per decoded photo, in turns."""
    from PIL import Image

    with tarfile.open(data / "photos" / "imagenet_sample_ko.tar") as tar:
        files = (tar.extractfile(member) for member in tar if member.name.endswith(".jpg"))
        photos = [file.read() for file in files if file][:300]
    sets = {SMALL: photos, LARGE: [_resized(photo) for photo in photos]}
    times: dict[str, list[float]] = {}
    for _ in range(5):
        for name, files_of in sets.items():
            started = time.process_time()
            for photo in files_of:
                Image.open(io.BytesIO(photo)).convert("RGB").load()
            times.setdefault(name, []).append((time.process_time() - started) / len(photos))
        for name in (TITLES, "reviews", "captions"):
            texts = found[name][:8000]
            started = time.process_time()
            for place in range(0, len(texts), 2000):
                cleaner.batch(texts[place : place + 2000])
            times.setdefault(name, []).append((time.process_time() - started) / len(texts))
        started = time.process_time()
        for text in found[TITLES][:2000]:
            cleaner(text)
        times.setdefault("news titles, one by one", []).append(
            (time.process_time() - started) / 2000
        )
    return {name: statistics.median(values) for name, values in times.items()}


def _resized(photo: bytes) -> bytes:
    """``photo`` in the size of the record that slide 2.3 shows."""
    from PIL import Image

    file = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").resize((512, 317)).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    default = os.environ.get("KMM_SHARED_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--samples", type=Path, default=Path("runs/corpus_text.jsonl"))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        parser.error(f"--data: no folder {arguments.data}")
    found = corpora(arguments.data)
    cleaner = Cleaner()
    rates, hits = hit_rates(found, cleaner)
    write_samples(arguments.samples, hits)
    print(f"{arguments.samples}: hits to read", file=sys.stderr)
    values = {
        "hit_rates": rates,
        "judged": judged(hits),
        "labelled": labelled(arguments.data, cleaner),
        "generated": generated(cleaner),
        "seconds": speed(arguments.data, found, cleaner),
    }
    results.write(
        "corpus_text",
        title="Text rules on real and generated text",
        command=COMMAND,
        values=values,
        body=page(values),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
