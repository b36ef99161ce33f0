"""The data card: what the shards hold, where it is from, by which rules, and what to beware of.

It has no date, so that the same build gives the same files.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import kmm_jax
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.report import words
from kmm_jax.corpus.report.charts import number, share
from kmm_jax.corpus.report.gallery import file_name
from kmm_jax.corpus.report.measured import Measured
from kmm_jax.corpus.text import PERSONAL, REASONS
from kmm_jax.corpus.text.rules import WORD_LISTS
from kmm_jax.files import atomic_write, read_json, write_json
from kmm_jax.training import dump

FORMAT = "kmm_jax data card 1"
NAMES = ("datacard.md", "datacard.json")

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_DECODERS = ("pillow", "simplejpeg", "opencv-python-headless", "pyarrow")
_LISTS = {
    "profanity": "written for this project; spellings were looked up in LDNOOBW, List of Dirty, "
    "Naughty, Obscene and Otherwise Bad Words, ko (CC BY 4.0)",
    "adult": "written for this project; spellings were looked up in LDNOOBW (CC BY 4.0)",
    "noise_topic": "topics that slide 2.2 names, and more written for this project",
}
_ACTIONS = {
    "reject": "Texts with it are rejected",
    "mask": "Taken out of texts, which stay",
    "off": "Not looked for, so it may be in the texts",
}
_LIMITS = (
    "All rules are automatic. Of what they reject some is good, and of what they pass some is not; "
    "precision and recall on known dirt and on texts read by hand are in docs/results/corpus.md "
    "and docs/results/corpus_text.md of kmm_jax.",
    "Profanity is found as vulgar words and slurs; contempt without such a word passes (recall on "
    "labelled comments is about a half, see docs/results/corpus_text.md).",
    "Personal data is found in texts by its form. Names of persons, and what pictures show (faces, "
    "number plates, letters), are not looked for.",
    "Near copies are found by a hash of coarse brightness: pictures that differ in small parts "
    "alone may count as copies, cropped or turned ones do not.",
    "What was said of the rights to the sources is the user's word; nothing was checked.",
)
_REMOVE = (
    "`kmm corpus purge FOLDER --hashes FILE` takes pictures out of the shards by their image_hash, "
    "leaves a receipt, and keeps them out of later builds. `manifest.json` lists the receipts."
)


def write(
    config: CorpusConfig, shards: Path, manifest: Mapping[str, Any], measured: Measured
) -> None:
    """Write both files into the folder of shards."""
    _write(shards, card(config, manifest, measured))


def recount(shards: Path, manifest: Mapping[str, Any]) -> None:
    """Bring the card up to date after pictures were taken out of the shards, if there is one."""
    told = read_json(shards / "datacard.json")
    if isinstance(told, dict) and told.get("format") == FORMAT:
        _write(shards, told | _counts(manifest))


def _write(shards: Path, told: Mapping[str, Any]) -> None:
    write_json(shards / "datacard.json", told)
    with atomic_write(shards / "datacard.md", "w") as file:
        file.write(markdown(told))


def _counts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rows": manifest["rows"],
        "shards": len(manifest["shards"]),
        "bytes": sum(shard["bytes"] for shard in manifest["shards"]),
    }


def card(config: CorpusConfig, manifest: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """The card as something JSON can hold."""
    return {
        "format": FORMAT,
        "name": config.name,
        **_counts(manifest),
        "fields": measured.fields,
        "scripts": measured.scripts,
        "sources": list(_sources(config)),
        "funnel": manifest["stages"],
        "image_rules": dataclasses.asdict(config.image_rules),
        "duplicates": dataclasses.asdict(config.duplicates),
        "text_rules": {
            name: value for name, value in dump.to_json(config.text_rules).items() if name != "type"
        },
        "scores": [
            {key: value for key, value in dump.to_json(score).items() if key != "type"}
            | {"name": score.name, "columns": list(score.columns())}
            for score in config.scores
        ],
        "distributions": [_summary(one) for one in measured.measures if one.distribution.count],
        "measured_files": {"files": measured.files, "of": measured.of_files},
        "word_lists": _LISTS,
        "limits": list(_LIMITS),
        "removal": _REMOVE,
        "versions": _versions(),
        "judged_tables": measured.judged,
    }


def of_other_tables(shards: Path, judged: str) -> bool:
    """Whether the shards' card says that they were made of other tables; earlier ones do not."""
    told = read_json(shards / "datacard.json")
    return isinstance(told, dict) and told.get("judged_tables") not in (None, judged)


def _sources(config: CorpusConfig) -> Iterator[dict[str, Any]]:
    for kind in ("images", "documents", "clicks", "products"):
        for source in getattr(config, kind):
            yield {
                "kind": kind,
                "url": _file_names(source.url),
                "licence": source.licence,
                "about": source.about,
            }


def _file_names(of: Any) -> Any:
    """A pattern, or several, with personal data masked."""
    return file_name(of) if isinstance(of, str) else [file_name(str(one)) for one in of]


def _summary(one: Any) -> dict[str, Any]:
    found = one.distribution
    return {
        "name": one.name,
        "of": one.of,
        "count": found.count,
        "least": _rounded(found.smallest),
        "most": _rounded(found.largest),
        "mean": _rounded(found.mean),
        "percentiles": {str(p): _rounded(found.quantile(p / 100)) for p in _PERCENTILES},
        "thresholds": [
            {"rejects": line.rejects, "value": line.value, "beyond": beyond}
            for line, beyond in zip(found.lines, found.beyond, strict=True)
        ],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _versions() -> dict[str, str]:
    found = {"kmm_jax": kmm_jax.__version__}
    for package in _DECODERS:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def markdown(told: Mapping[str, Any]) -> str:
    """The card for people."""
    pictures = told["fields"].get("pictures", 0)
    letters = sum(told["scripts"].values())
    actions = told["text_rules"]
    parts = [
        f"# Data card: {_line(told['name'])}",
        f"{told['rows']:,} pictures with Korean texts in {told['shards']:,} tar shards "
        f"({told['bytes']:,} bytes): for each a picture and a JSON record. `manifest.json` has the "
        "shards' checksums and the whole configuration.",
        "## Sources",
        _table(
            ("kind", "files", "licence", "about"),
            [
                (
                    one["kind"],
                    f"`{_line(one['url'])}`",
                    _line(one["licence"] or "not stated"),
                    _line(one["about"] or ""),
                )
                for one in told["sources"]
            ],
        ),
        "## What stands in a record",
        _table(
            ("field", "rows that have it"),
            [
                (name, share(count, pictures))
                for name, count in sorted(told["fields"].items(), key=lambda item: -item[1])
                if name != "pictures"
            ],
        ),
        "Letters of the texts: "
        + ", ".join(
            f"{name} {share(count, letters)}"
            for name, count in sorted(told["scripts"].items(), key=lambda item: -item[1])
        )
        + ".",
        "## Funnel",
        _table(("stage", "reason", "count", "share"), list(_funnel(told["funnel"]))),
        *_purged_note(told),
        "## Rules",
        _table(
            ("rule", "value"),
            [
                (f"{group}.{name}", f"`{value}`")
                for group in ("image_rules", "duplicates")
                for name, value in told[group].items()
            ]
            + [
                (f"{one['name']}.{name}", f"`{_line(str(value))}`")
                for one in told["scores"]
                for name, value in one.items()
                if name != "name"
            ],
        ),
        "Texts: "
        + "; ".join(
            f"{action}: {', '.join(reason for reason in REASONS if actions[reason] == action)}"
            for action in ("reject", "mask", "off")
            if any(actions[reason] == action for reason in REASONS)
        )
        + ".",
        "## Distributions",
        _table(
            ("measure", "of", "count", *(f"p{p}" for p in _PERCENTILES), "rejected"),
            [
                (
                    one["name"],
                    one["of"],
                    f"{one['count']:,}",
                    *(number(value) for value in one["percentiles"].values()),
                    ", ".join(
                        f"{share(line['beyond'], one['count'])} {line['rejects']} "
                        f"{number(line['value'])}"
                        for line in one["thresholds"]
                    ),
                )
                for one in told["distributions"]
            ],
        ),
        *_measured_note(told["measured_files"]),
        "## Personal data",
        *(
            f"{what}: {', '.join(found)}."
            for action, what in _ACTIONS.items()
            if (
                found := [
                    f"{reason} ({words.REASONS[reason]})"
                    for reason in PERSONAL
                    if actions[reason] == action
                ]
            )
        ),
        "Pictures are not searched for personal data. The report masks it in all texts it shows.",
        "## Word lists",
        _table(
            ("list", "source", "the user's own"),
            [
                (name, _LISTS[name], _line(", ".join(map(file_name, actions[f"{name}_lists"]))))
                for name in WORD_LISTS
                if actions[name] != "off"
            ],
        ),
        "## Known limits",
        "\n".join(f"- {limit}" for limit in told["limits"]),
        "## Removing a picture",
        told["removal"],
        "## Versions",
        ", ".join(f"{name} {version}" for name, version in told["versions"].items()) + ".",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _funnel(stages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    for stage in stages:
        if stage["name"] not in words.STAGES:
            continue
        counts = stage["counts"]
        total = sum(counts.values())
        order = sorted(counts, key=lambda name: (name != "kept", -counts[name], name))
        for place, reason in enumerate(order):
            name = words.of_stage(stage["name"])[0] if place == 0 else ""
            yield name, _line(reason), f"{counts[reason]:,}", share(counts[reason], total)


def _purged_note(told: Mapping[str, Any]) -> Iterator[str]:
    built = {stage["name"]: stage["rows"] for stage in told["funnel"]}.get("shards", 0)
    if built > told["rows"]:
        yield (
            f"{built - told['rows']:,} of these pictures were purged since; fields, letters and "
            "distributions below and above are of all that were built."
        )


def _measured_note(files: Mapping[str, int]) -> Iterator[str]:
    if files["files"] < files["of"]:
        yield (
            f"Distributions, fields and letters are of {files['files']:,} of {files['of']:,} files "
            "of pictures, spread evenly."
        )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _line(text: str) -> str:
    """In one line, without what Markdown takes for its own."""
    flat = " ".join(str(text).split()).replace("|", "\\|").replace("`", "'")
    return flat.replace("<", "&lt;")
