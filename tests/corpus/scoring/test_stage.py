"""Scores as stages of a build: kept, judged anew for nothing, scored again only where they must."""

import dataclasses
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kmm_jax.corpus import scores, tables
from kmm_jax.corpus.build import build
from kmm_jax.corpus.config import CorpusConfig, Images
from kmm_jax.corpus.scoring.custom import Custom
from kmm_jax.corpus.scoring.similarity import Similarity
from kmm_jax.errors import ConfigError, DataError
from tests.corpus.test_images import photo


def brightness(log, **changes):
    return Custom(
        name="brightness",
        function="tests.corpus.scoring.scorers:Brightness",
        fields=("brightness",),
        options={"log": str(log)},
        side=32,
        **changes,
    )


def letters(log):
    return Custom(
        name="letters",
        function="tests.corpus.scoring.scorers:Letters",
        fields=("letters",),
        options={"log": str(log)},
        of_texts=True,
        side=32,
    )


def asked(log):
    """The pictures a scorer was asked about since the last call."""
    found = log.read_text().split() if log.exists() else []
    log.write_text("")
    return found


def records(folder):
    found = []
    for path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
    return found


def test_scores_stand_in_the_records_and_thresholds_reject(built, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    config = dataclasses.replace(built.config, custom=(brightness(log),))
    whole = build(config, out)
    assert whole["rows"] == built.manifest["rows"] == len(asked(log))
    values = {record["image_hash"]: record["brightness"] for record in records(out)}
    middle = sorted(values.values())[len(values) // 2]
    scored = {path: path.stat().st_mtime_ns for path in (out / "work/scored").iterdir()}
    strict = dataclasses.replace(config, custom=(brightness(log, most={"brightness": middle}),))
    manifest = build(strict, out)
    counts = next(stage for stage in manifest["stages"] if stage["name"] == "judge")["counts"]
    dark = {image_hash for image_hash, value in values.items() if value <= middle}
    assert {record["image_hash"] for record in records(out)} == dark
    assert counts == {"kept": len(dark), "brightness": len(values) - len(dark)}
    assert not asked(log)  # another threshold, the same scores
    assert scored == {path: path.stat().st_mtime_ns for path in (out / "work/scored").iterdir()}
    rejected = [row for path in sorted((out / "work/judged").iterdir())
                for row in tables.group(path, 1)]  # fmt: skip
    assert {row["reason"] for row in rejected} == {"brightness"}


def test_only_what_changed_is_scored_again(built, tmp_path):
    pictures, texts, out = tmp_path / "pictures", tmp_path / "texts", tmp_path / "out"
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in built.raw.iterdir():
        (raw / path.name).write_bytes(path.read_bytes())

    def moved(sources):
        return tuple(
            dataclasses.replace(s, url=s.url.replace(str(built.raw), str(raw))) for s in sources
        )

    config = dataclasses.replace(
        built.config,
        images=moved(built.config.images),
        documents=moved(built.config.documents),
        clicks=moved(built.config.clicks),
        custom=(brightness(pictures), letters(texts)),
    )
    build(config, out)
    assert len(asked(pictures)) == len(asked(texts)) == built.manifest["rows"]
    clicks = pq.read_table(raw / "clicks-001.parquet")
    pq.write_table(clicks.slice(1), raw / "clicks-001.parquet")
    build(config, out)
    assert not asked(pictures)
    assert len(asked(texts)) <= 1  # the one whose query is gone, if it lost its only count
    build(dataclasses.replace(config, custom=(brightness(pictures, version="2"), letters(texts))),
          out)  # fmt: skip
    assert len(asked(pictures)) >= built.manifest["rows"] - 1 and not asked(texts)


def test_what_an_earlier_score_rejects_need_not_be_scored_further(built, tmp_path):
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    strict = brightness(first, least={"brightness": 128.0})
    config = dataclasses.replace(built.config, custom=(strict, letters(second)), score_all=False)
    manifest = build(config, out)
    bright = len(asked(second))
    assert 0 < bright == manifest["rows"] < len(asked(first)) == built.manifest["rows"]
    loose = brightness(first, least={"brightness": 0.0})
    whole = build(dataclasses.replace(config, custom=(loose, letters(second))), out)
    assert whole["rows"] == built.manifest["rows"]
    assert not asked(first) and len(asked(second)) == whole["rows"] - bright


def test_a_score_does_not_depend_on_the_others_made_with_it(tmp_path):
    picture = photo(1600, 1200, seed=3)
    pq.write_table(
        pa.table({"key": ["a"], "image": [picture], "title": ["글"]}), tmp_path / "p.parquet"
    )
    images = (Images(url=str(tmp_path / "p.parquet"), title="title"),)
    small = brightness(tmp_path / "log")
    large = dataclasses.replace(letters(tmp_path / "log"), side=900)
    alone = CorpusConfig(name="x", images=images, custom=(small,))
    both = dataclasses.replace(alone, custom=(small, large))
    build(alone, tmp_path / "alone")
    build(both, tmp_path / "both")
    build(dataclasses.replace(alone, custom=(large,)), tmp_path / "later")
    build(both, tmp_path / "later")
    values = [records(tmp_path / name)[0]["brightness"] for name in ("alone", "both", "later")]
    assert len(set(values)) == 1


def test_files_put_in_front_of_others_score_only_themselves(built, tmp_path):
    log, raw = tmp_path / "log", tmp_path / "raw"
    raw.mkdir()
    for path in built.raw.glob("images-*"):
        (raw / path.name).write_bytes(path.read_bytes())
    texts = {name: getattr(built.config, name) for name in ("documents", "clicks")}
    images = (dataclasses.replace(built.config.images[0], url=str(raw / "images-*.parquet")),)
    config = CorpusConfig(name="x", images=images, custom=(brightness(log),), **texts)
    rows = build(config, tmp_path / "out")["rows"]
    assert len(asked(log)) == rows
    pq.write_table(pa.table({"key": ["item-000000"], "image": [photo(seed=77)]}),
                   raw / "images-0.parquet")  # fmt: skip
    build(config, tmp_path / "out")
    assert len(asked(log)) <= 1


def test_similarity_takes_every_kind_of_text_through_a_build(tiny_encoder, tmp_path):
    rows = [
        {"key": str(n), "image": photo(seed=n), "caption": "제품 사진", "name": "검은색 운동화",
         "title": "빨간 체크 셔츠"}
        for n in range(4)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    images = Images(url=str(tmp_path / "p.parquet"), title="title", caption="caption",
                    product_name="name")  # fmt: skip
    config = CorpusConfig(
        name="x", images=(images,), similarity=Similarity(model=tiny_encoder, least_title=-1.0)
    )
    assert build(config, tmp_path / "out")["rows"] == 4
    record = records(tmp_path / "out")[0]
    assert isinstance(record["title_kelip_score"], float)
    assert isinstance(record["product_name_kelip_score"], float)
    assert len(record["caption_kelip_score"]) == 1 and "query_kelip_score" not in record
    similarity = Similarity(model=tiny_encoder, least_title=1.0)
    with pytest.raises(DataError, match="similarity 4"):
        build(dataclasses.replace(config, similarity=similarity), tmp_path / "out")
    assert len(records(tmp_path / "out")) == 4  # what was there stays


def test_a_picture_that_cannot_be_decoded_after_all_is_counted(tmp_path):
    config = CorpusConfig(name="x", images=(Images(url="x"),), custom=(brightness(tmp_path / "l"),))
    rows = [
        {
            "image_hash": str(n),
            "titles": ["글"],
            "query": [],
            "beside": None,
            "row": n,
            "place": [0, n],
        }
        for n in range(3)
    ]
    before = scores._Before(tmp_path / "none", config.scores, {"brightness": "x"}, None)
    batch = scores._Batch(rows, config, before)
    assert batch.sides == {32} and batch.places == [(0, 0), (0, 1), (0, 2)]
    pictures = iter([photo(seed=1), b"\xff\xd8\xff broken", photo(seed=2)])
    found = batch.scored(pictures)
    assert [row["reason"] for row in found] == [None, "decode_error", None]
    assert found[1]["brightness"] is None and found[0]["brightness"] > 0


def test_mistakes_in_scores_are_told_before_work(tmp_path):
    images = (Images(url="x"),)
    one = brightness(tmp_path / "l")
    with pytest.raises(ConfigError, match="two scores of the same name: brightness"):
        CorpusConfig(name="x", images=images, custom=(one, one))
    with pytest.raises(ConfigError, match="two columns of scores of the same name"):
        CorpusConfig(name="x", images=images, custom=(one, dataclasses.replace(one, name="b")))
    with pytest.raises(ConfigError, match="cannot fill the column 'width'"):
        wide = dataclasses.replace(one, fields=("width",))
        CorpusConfig(name="x", images=images, custom=(wide,))
    with pytest.raises(ConfigError, match="'contrast', which is not one of its fields"):
        brightness(tmp_path / "l", most={"contrast": 1.0})
    with pytest.raises(ConfigError, match="cannot be imported"):
        dataclasses.replace(one, function="tests.nowhere:Nothing").identity()
