"""The page: what went in and out, why, how numbers are spread, and what it looks like."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from importlib import resources
from typing import Any

import kmm_jax
from kmm_jax.corpus.config import CorpusConfig
from kmm_jax.corpus.report import charts, gallery, words
from kmm_jax.corpus.report.gallery import Gallery
from kmm_jax.corpus.report.measured import Measured
from kmm_jax.corpus.report.samples import Pair, Samples
from kmm_jax.training import dump

_OF = {
    "read": ("Pictures as they came", "들어온 이미지"),
    "scored": ("Scores of pictures that are no copies", "점수"),
    "kept": ("Texts of pictures that stay", "남은 이미지의 글"),
}
_DECISIONS = {"reject": "", "mask": "kept, masked 가리고 남김", "keep": "kept 남김"}

Stage = Mapping[str, Any]


def page(
    config: CorpusConfig,
    manifest: Mapping[str, Any],
    measured: Measured,
    samples: Samples,
    shown: Gallery,
) -> str:
    """The whole page, in one file."""
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    sections = [
        ("funnel", "Funnel", "단계별 결과", _funnel(stages, manifest)),
        ("spread", "Distributions", "분포", _spread(measured)),
        ("pictures", "Pictures", "이미지", _pictures(stages, manifest, samples, shown)),
        ("copies", "Copies", "중복", _pairs(stages, samples, shown)),
        ("texts", "Texts", "글", _texts(stages, samples)),
        ("settings", "Settings and inputs", "설정과 입력", _settings(config, manifest)),
    ]
    links = "".join(
        f'<a href="#{name}">{english} {korean}</a>' for name, english, korean, _ in sections
    )
    body = "".join(
        f'<section id="{name}"><h2>{english} <span>{korean}</span></h2>{inner}</section>'
        for name, english, korean, inner in sections
    )
    title = html.escape(f"{config.name}: corpus report")
    style = resources.files("kmm_jax.corpus.report").joinpath("report.css").read_text("utf-8")
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return (
        '<!doctype html><html lang="ko"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{style}</style></head><body><main>"
        f"<header><h1>{html.escape(config.name)} <span>corpus report 말뭉치 보고서</span></h1>"
        f"{_summary(stages, manifest)}<nav>{links}</nav></header>{body}"
        f'<footer class="soft">kmm_jax {kmm_jax.__version__} · <time>{now}</time> · '
        "Personal data is masked, coarse words are covered. Reasons are those of automatic rules: "
        "they miss some and hit some wrongly.</footer></main></body></html>\n"
    )


def _summary(stages: Mapping[str, Stage], manifest: Mapping[str, Any]) -> str:
    pictures, rows = stages["pictures"]["rows"], manifest["rows"]
    texts = [stages[name] for name in words.OF_TEXTS if name in stages]
    said = sum(stage["rows"] for stage in texts)
    kept = sum(stage["counts"].get("kept", 0) for stage in texts)
    size = sum(shard["bytes"] for shard in manifest["shards"])
    gone = purged_since(manifest)
    since = f" · {gone:,} purged since 그 뒤 삭제됨" if gone else ""
    tiles = [
        (f"{pictures:,}", "pictures in 들어온 이미지"),
        (f"{rows:,}", f"in shards 남은 이미지 · {charts.share(rows, pictures)}{since}"),
        (f"{said:,}", f"texts in 들어온 글 · {charts.share(kept, said)} kept"),
        (_bytes(size), f"in {len(manifest['shards']):,} shards 샤드"),
    ]
    inner = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in tiles)
    return f'<div class="tiles">{inner}</div>'


def purged_since(manifest: Mapping[str, Any]) -> int:
    """How many pictures were taken out of the shards after they were built."""
    stages = {stage["name"]: stage for stage in manifest["stages"]}
    built = stages["shards"]["rows"] if "shards" in stages else manifest["rows"]
    return max(0, int(built - manifest["rows"]))


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def _funnel(stages: Mapping[str, Stage], manifest: Mapping[str, Any]) -> str:
    there = [stages[name] for name in words.OF_PICTURES if _matters(stages, name)]
    first = there[0]["rows"]
    steps = [("In", "들어옴", first)]
    steps += [(*words.of_stage(stage["name"]), _kept(stage)) for stage in there]
    if purged_since(manifest):
        steps.append(("Purged since", "그 뒤 삭제됨", manifest["rows"]))
    flow = "".join(
        f'<div class="step"><span>{english} <small>{korean}</small></span>'
        f"{charts.stacked([('kept', count)], first)}"
        f"<b>{count:,}</b><span>{charts.share(count, first)}</span></div>"
        for english, korean, count in steps
    )
    blocks = "".join(map(_stage, there))
    of_texts = "".join(_stage(stages[name]) for name in words.OF_TEXTS if _matters(stages, name))
    joined = stages.get("join", {}).get("counts", {})
    lost = [
        f"{what} {joined[name]:,}"
        for name, what in (
            ("documents_without_picture", "titles"),
            ("clicks_without_picture", "clicks"),
            ("products_without_picture", "product rows"),
        )
        if joined.get(name)
    ]
    without = (
        '<p class="soft">Of no picture that was kept, 짝이 되는 이미지 없음: '
        f"{', '.join(lost)}.</p>"
        if lost
        else ""
    )
    texts = f"<h3>Texts 글</h3><div class='stages'>{of_texts}</div>{without}" if of_texts else ""
    return (
        f'<div class="box flow">{flow}</div><h3>Pictures 이미지</h3>'
        f"<div class='stages'>{blocks}</div>{texts}"
    )


def _matters(stages: Mapping[str, Stage], name: str) -> bool:
    """Whether there is something to tell of a stage; of the last two only if they rejected."""
    stage = stages.get(name)
    if stage is None or not stage["rows"]:
        return name == "pictures"
    return name not in ("scores", "judge") or _kept(stage) < stage["rows"]


def _kept(stage: Stage) -> int:
    return int(stage["counts"].get("kept", 0))


def _reasons(stage: Stage) -> list[tuple[str, int]]:
    """The reasons of a stage, the most frequent first."""
    found = [
        (reason, count) for reason, count in stage["counts"].items() if reason != "kept" and count
    ]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _stage(stage: Stage) -> str:
    english, korean = words.of_stage(stage["name"])
    rows, reasons = sum(stage["counts"].values()), _reasons(stage)
    most = max((count for _, count in reasons), default=1)
    parts = [("kept", _kept(stage))]
    parts += [(f"r{place % 4}", count) for place, (_, count) in enumerate(reasons)]
    listed = "".join(
        f'<li><span><i class="dot r{place % 4}"></i>{_named(reason)}</span>'
        f'<span class="track"><i class="r{place % 4}" style="width:{100 * count / most:.2f}%"></i>'
        f"</span><b>{count:,}</b><span>{charts.share(count, rows)}</span></li>"
        for place, (reason, count) in enumerate(reasons)
    )
    return (
        f'<div class="box"><h4>{english} <span>{korean}</span></h4>'
        f'<p class="soft">{rows:,} in · <b>{_kept(stage):,}</b> kept '
        f"({charts.share(_kept(stage), rows)})</p>{charts.stacked(parts, rows)}"
        f'<ul class="reasons">{listed}</ul></div>'
    )


def _named(reason: str) -> str:
    korean = words.REASONS.get(reason)
    return f"{html.escape(reason)}" + (f" <small>{korean}</small>" if korean else "")


def _spread(measured: Measured) -> str:
    parts = []
    if measured.files < measured.of_files:
        parts.append(
            f'<p class="soft">From {measured.files:,} of {measured.of_files:,} files of pictures, '
            "spread evenly over all of them.</p>"
        )
    for of, (english, korean) in _OF.items():
        found = [one for one in measured.measures if one.of == of and one.distribution.count]
        if found:
            inner = "".join(map(charts.measure, found))
            parts.append(f"<h3>{english} {korean}</h3><div class='charts'>{inner}</div>")
    total = sum(measured.scripts.values())
    if total:
        shares = " · ".join(
            f"{name} <b>{charts.share(count, total)}</b>"
            for name, count in sorted(measured.scripts.items(), key=lambda item: -item[1])
        )
        parts.append(f'<p class="soft">Letters of these texts 글자: {shares}</p>')
    return "".join(parts)


def _pictures(
    stages: Mapping[str, Stage], manifest: Mapping[str, Any], samples: Samples, shown: Gallery
) -> str:
    counts: dict[str, int] = {}
    for name in words.OF_PICTURES:
        for reason, count in _reasons(stages[name]) if name in stages else ():
            counts[reason] = counts.get(reason, 0) + count
    counts["kept"] = manifest["rows"]
    order = ["kept", *(reason for reason in counts if reason != "kept")]
    parts = []
    for reason in order:
        rows = samples.pictures.get(reason)
        if not rows:
            continue
        inner = shown.broken(rows) if reason == "decode_error" else shown.pictures(rows, reason)
        note = " · blurred, touch to see 흐리게, 누르면 보임" if reason == "unsafe" else ""
        parts.append(
            f'<details class="box" open><summary>{_named(reason)} <span>{len(rows)} of '
            f"{max(counts.get(reason, 0), len(rows)):,}{note}</span></summary>{inner}</details>"
        )
    return "".join(parts) or '<p class="soft">none</p>'


def _pairs(stages: Mapping[str, Stage], samples: Samples, shown: Gallery) -> str:
    def bits(pair: Pair) -> str:
        return f"{pair.bits} of 64 bits of the perceptual hash differ"

    parts = []
    for pairs, stage, reason, told in (
        (samples.copies, "merge", "duplicate", lambda _: "the same bytes"),
        (samples.near, "choose", "near_duplicate", bits),
    ):
        if pairs:
            count = max(stages[stage]["counts"].get(reason, 0), len(pairs))
            inner = shown.pairs(pairs, told)
            parts.append(
                f'<details class="box" open><summary>{_named(reason)} '
                f"<span>{len(pairs)} of {count:,}</span></summary>{inner}</details>"
            )
    return "".join(parts) or '<p class="soft">No copies 중복 없음.</p>'


def _texts(stages: Mapping[str, Stage], samples: Samples) -> str:
    if samples.texts is None:
        return (
            '<p class="soft">Pictures were purged, and a sample of texts might show theirs: none '
            "is shown any more. 삭제된 이미지의 글일 수 있어 보이지 않음.</p>"
        )
    parts = []
    for kind in words.OF_TEXTS:
        inner = []
        counts = stages[kind]["counts"] if kind in stages else {}
        for (of, decision, reason), found in sorted(
            samples.texts.items(),
            key=lambda item: (item[0][1], -counts.get(item[0][2], 0), item[0]),
        ):
            if of != kind:
                continue
            told = _DECISIONS[decision] if decision != "reject" else f"{counts.get(reason, 0):,}"
            name = _named(reason) if decision != "keep" else ""
            inner.append(
                f"<details open><summary>{name} <span>{told}</span></summary>"
                f"{gallery.texts(found)}</details>"
            )
        if inner:
            english, korean = words.of_stage(kind)
            parts.append(
                f"<h3>{english} {korean}</h3><div class='box columns'>{''.join(inner)}</div>"
            )
    return "".join(parts) or '<p class="soft">No texts 글 없음.</p>'


def _settings(config: CorpusConfig, manifest: Mapping[str, Any]) -> str:
    leaves = dump.leaves(dump.to_json(config))
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(_setting(name, value))}</td></tr>"
        for name, value in leaves.items()
        if name.rpartition(".")[2] != "type"
    )
    files = "".join(
        f"<tr><td>{html.escape(gallery.file_name(str(one['file'])))}</td><td>{_bytes(one['bytes'])}</td></tr>"
        for one in manifest["inputs"][:_INPUTS]
    )
    more = len(manifest["inputs"]) - _INPUTS
    files += f"<tr><td>and {more:,} more</td><td></td></tr>" if more > 0 else ""
    return (
        f'<details class="box"><summary>Settings 설정</summary><table>{rows}</table></details>'
        f'<details class="box"><summary>Inputs 입력 <span>{len(manifest["inputs"]):,}</span>'
        f"</summary><table>{files}</table></details>"
        '<p class="soft">To take a picture out, here and in everything made of it: '
        "<code>kmm corpus purge</code> with its hash, which stands below each picture.</p>"
    )


def _setting(name: str, value: Any) -> str:
    """A setting's value; the names of files may hold personal data."""
    is_file = name.rpartition(".")[2] == "url" or "_lists" in name
    return gallery.file_name(str(value)) if is_file else str(value)


_INPUTS = 200
