"""Names of pictures: the database, candidates of several models, the ranker, and the commands."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kmm_jax.inference
from kmm_jax.cli import main
from kmm_jax.data.shards import ShardWriter
from kmm_jax.data.sources import open_source
from kmm_jax.errors import DataError, UserError
from kmm_jax.retrieval.compose import fuse
from kmm_jax.search.naming.asking import Namer
from kmm_jax.search.naming.candidates import candidates, feature_names
from kmm_jax.search.naming.database import NameDatabase, build, name_of
from kmm_jax.search.naming.ranker import Example, Ranker, fit
from tests.search.colors import COLORS, Colors

# Places of a colour each; no real ones.
PLACES = {"빨간 등대": "빨간", "초록 숲": "초록", "파란 바다": "파란"}


class Seeing(Colors):
    """Colours, as a model of a folder; ``blind`` sees no red, and reads nothing."""

    def __init__(self, path: str = "one") -> None:
        self.hash = Path(path).name
        self.image_size = 8
        self._blind = self.hash == "blind"

    def embed_text(self, texts: Any, style: Any = "query", *, batch_size: int = 1) -> np.ndarray:
        rows = super().embed_text(texts)
        return np.roll(rows, 1, axis=1) if self._blind else rows

    def embed_image(self, images: Any, *, batch_size: int = 1) -> np.ndarray:
        arrays = [np.array(self._open(each)) for each in images]
        if self._blind:
            for each in arrays:
                each[..., 0] = 0
        return super().embed_image(arrays)

    @staticmethod
    def _open(image: Any) -> Any:
        return Image.open(io.BytesIO(image)).convert("RGB") if isinstance(image, bytes) else image


def write(folder: Path, prefix: str, each: int, *, seed: int, more: dict[str, str] | None = None):
    """Shards of ``each`` pictures a place, of its colour and some noise."""
    generator = np.random.default_rng(seed)
    rows = [(name, COLORS[color]) for name, color in PLACES.items()]
    rows += [(name, COLORS[color]) for name, color in (more or {}).items()]
    with ShardWriter(folder, prefix=prefix) as writer:
        for number in range(each):
            for place, color in rows:
                pixels = 0.5 * np.asarray(color) + 127 * generator.random((8, 8, 3)) * 0.9
                buffer = io.BytesIO()
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
                record = {
                    "image_hash": f"{prefix}-{number}-{place.replace(' ', '_')}",
                    "title": place,
                    "labels": {"place": unicodedata.normalize("NFD", place)},
                }
                writer.write(record, buffer.getvalue())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Seeing(str(path)))
    for name in ("one", "blind"):
        (tmp_path / name).mkdir()
    write(tmp_path, "train", 4, seed=0)
    write(tmp_path, "fit", 6, seed=1, more={"노란 들": "초록"})
    write(tmp_path, "test", 5, seed=2)
    return tmp_path


def made(folder: Path, *models: str) -> NameDatabase:
    place = folder / "-".join(["names", *models])
    build(
        place,
        open_source(str(folder / "train-*.tar")),
        [str(folder / each) for each in models],
        load=Seeing,
        field="labels.place",
    )
    return NameDatabase.open(place)


def test_a_database_has_each_name_with_its_pictures(folder: Path) -> None:
    database = made(folder, "one", "blind")
    assert database.hashes == ("one", "blind")
    for member in database.members:
        assert sorted(member.names.ids()) == sorted(PLACES)  # composed again, whatever was written
        assert len(member.images) == 12
        assert {row["pictures"] for row in member.names.columns(list(PLACES))} == {4}
    assert not [path for path in database.folder.iterdir() if "vectors" in path.name]


def test_a_build_that_was_killed_goes_on_and_others_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(folder / "train-*.tar"))
    calls = []

    def killed(path: str) -> Seeing:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return Seeing(path)

    asked: dict[str, Any] = {"load": killed, "field": "title"}
    models = [str(folder / "one"), str(folder / "blind")]
    with pytest.raises(KeyboardInterrupt):
        build(folder / "names", source, models, **asked)
    with pytest.raises(DataError, match="holds no database"):
        NameDatabase.open(folder / "names")
    with pytest.raises(UserError, match="no build from the same"):
        build(folder / "names", source, models, load=Seeing, field="labels.place")
    assert build(folder / "names", source, models, **asked).pictures == 12
    with pytest.raises(UserError, match="already"):
        build(folder / "names", source, models, **asked)
    with pytest.raises(UserError, match="named twice"):
        build(folder / "other", source, models[:1] * 2, load=Seeing, field="title")
    with pytest.raises(DataError, match=r"no record has a text in the field 'place'; .* title"):
        build(folder / "third", source, models, load=Seeing, field="place")


def test_a_database_grows_and_names_without_pictures_go(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = made(folder, "one", "blind")
    monkeypatch.chdir(folder)
    more = ["name", "add", "names-one-blind", "fit-*.tar"]
    for _ in "12":  # again, it changes nothing
        assert main(more) == 0
        assert "4 names, 36 pictures" in capsys.readouterr().out
    grown = NameDatabase.open(database.folder)
    for member in grown.members:
        counts = {row["id"]: row["pictures"] for row in member.names.columns(member.names.ids())}
        assert counts == {**dict.fromkeys(PLACES, 10), "노란 들": 6}
    for member in grown.members:  # as a purge does
        member.images.delete(id for id in member.images.ids() if id.endswith("숲"))
    assert main(more) == 0
    assert "4 names, 32 pictures" in capsys.readouterr().out
    for member in grown.members:
        member.images.refresh()
        member.images.delete(id for id in member.images.ids() if id.endswith("들"))
    assert main(["name", "add", "names-one-blind", "test-*.tar"]) == 0
    assert "3 names" in capsys.readouterr().out
    assert sorted(NameDatabase.open(database.folder).members[1].names.ids()) == sorted(PLACES)
    assert not [path for path in database.folder.iterdir() if "more" in path.name]


@pytest.mark.parametrize(
    ("record", "field", "expected"),
    [
        ({"title": " 남산\u200b 타워 "}, "title", "남산 타워"),
        ({"labels": {"type": "셔츠"}}, "labels.type", "셔츠"),
        ({"query": ["국내 카페", "카페"]}, "query", "국내 카페"),
        ({"query": []}, "query", ""),
        ({"title": None}, "title", ""),
        ({"labels": "x"}, "labels.type", ""),
        ({"price": 3}, "price", ""),
        ({"title": "가" * 999}, "title", "가" * 200),
    ],
)
def test_a_name_is_what_a_field_says(record: dict, field: str, expected: str) -> None:
    assert name_of(record, field) == expected


def test_candidates_are_those_of_all_models_by_reciprocal_ranks(folder: Path) -> None:
    database = made(folder, "one", "blind")
    picture = Image.new("RGB", (8, 8), COLORS["파란"])
    namer = Namer(database, [Seeing("one"), Seeing("blind")])
    vectors = [each[0] for each in namer.vectors([picture])]
    found = namer.candidates(vectors)
    assert found.names[0] == "파란 바다" and sorted(found.names) == sorted(PLACES)
    columns = feature_names(2)
    features = dict(zip(columns, found.features_NF[0], strict=True))
    # By brute force: all pictures, all names.
    for number, member in enumerate(database.members):
        scores = {
            id: float(member.images.vector(id) @ vectors[number]) for id in member.images.ids()
        }
        of_name = {
            name: [s for id, s in scores.items() if id.endswith(name.replace(" ", "_"))]
            for name in PLACES
        }
        most = max(scores.values())
        weigh = {n: sum(np.exp((s - most) / 0.07) for s in each) for n, each in of_name.items()}
        share = weigh["파란 바다"] / sum(weigh.values())
        assert features[f"nearest/{number}"] == pytest.approx(max(of_name["파란 바다"]), abs=1e-6)
        assert features[f"votes/{number}"] == pytest.approx(share, abs=1e-5)
        text = member.names.vector("파란 바다") @ vectors[number]
        assert features[f"text/{number}"] == pytest.approx(float(text), abs=1e-6)
    lists = []
    for number, member in enumerate(database.members):
        alone = candidates([member], [vectors[number]])
        votes = alone.features_NF[:, feature_names(1).index("votes/0")]
        lists += [
            [n for _, n in sorted(zip(-votes, alone.names, strict=True))],
            member.names.search(vectors[number], 9).ids[0],
        ]
    assert found.names == tuple(name for name, _ in fuse(lists))


@pytest.mark.parametrize("few", [0, 500])
def test_a_name_that_is_left_out_is_as_if_it_had_never_been_there(
    folder: Path, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kmm_jax.search.naming import candidates as module

    database = made(folder, "one", "blind")
    namer = Namer(database, [Seeing("one"), Seeing("blind")])
    picture = Image.new("RGB", (8, 8), (20, 60, 200))
    vectors = [each[0] for each in namer.vectors([picture])]
    monkeypatch.setattr(module, "_FEW_PICTURES", few)
    found = candidates(database.members, vectors, k=3, without="파란 바다")
    for member in database.members:
        member.images.delete(id for id in member.images.ids() if id.endswith("바다"))
        member.names.delete(["파란 바다"])
    gone = candidates(database.members, vectors, k=3)
    assert found.names == gone.names and found.alone == gone.alone
    np.testing.assert_allclose(found.features_NF, gone.features_NF, atol=1e-6)


def test_the_ranker_is_the_most_likely_one() -> None:
    """Against the logit that drew the examples."""
    generator = np.random.default_rng(0)
    weight, none = np.array([2.0, -1.0, 0.0]), 1.0
    examples = []
    for _ in range(4_000):
        rows = generator.normal(size=(5, 3))
        utility = np.append(rows @ weight, none)
        p = np.exp(utility) / np.exp(utility).sum()
        right = int(generator.choice(6, p=p))
        examples.append(Example(features_NF=rows, right=-1 if right == 5 else right))
    share = float(np.mean([each.right < 0 for each in examples]))
    ranker = fit(examples, features=("a", "b", "c"), models=("m",), unknown=share)
    np.testing.assert_allclose(ranker.weight_F / ranker.scale_F, weight, atol=0.25)
    rows = generator.normal(size=(5, 3))
    p_N, p_none = ranker.probabilities(rows)
    assert p_N.sum() + p_none == pytest.approx(1)
    utility = np.append(rows @ weight, none)
    np.testing.assert_allclose(
        np.append(p_N, p_none), np.exp(utility) / np.exp(utility).sum(), atol=0.06
    )
    # More that are unknown: none of these is likelier.
    wary = fit(examples, features=("a", "b", "c"), models=("m",), unknown=0.9)
    assert wary.probabilities(rows)[1] > p_none


def test_a_ranker_of_another_model_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    examples = [
        Example(features_NF=np.eye(2), right=0),
        Example(features_NF=-np.eye(2), right=-1),
    ]
    ranker = fit(examples, features=("a", "b"), models=("m",))
    assert Ranker.load(tmp_path, ["m"]) is None
    ranker.save(tmp_path)
    again = Ranker.load(tmp_path, ["m"])
    assert again is not None
    np.testing.assert_allclose(again.weight_F, ranker.weight_F)
    with pytest.raises(UserError, match="other models"):
        Ranker.load(tmp_path, ["n"])
    said = json.loads((tmp_path / "ranker.json").read_text())
    (tmp_path / "ranker.json").write_text(json.dumps({**said, "weight_F": [1]}))
    with pytest.raises(DataError, match="damaged"):
        Ranker.load(tmp_path, ["m"])
    (tmp_path / "ranker.json").write_text(json.dumps(said)[:50])
    with pytest.raises(DataError, match="damaged"):
        Ranker.load(tmp_path, ["m"])
    with pytest.raises(UserError, match="learned from both"):
        fit(examples[:1], features=("a", "b"), models=("m",))
    with pytest.raises(UserError, match="between 0 and 1"):
        fit(examples, features=("a", "b"), models=("m",), unknown=1)


def test_from_a_source_to_names_with_their_probability(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    models = ["--model", "one", "--model", "blind"]
    field = ["--field", "labels.place"]
    assert main(["name", "build", "names", "train-*.tar", *field, *models]) == 0
    assert "names: 3 names, 12 pictures" in capsys.readouterr().out
    Image.new("RGB", (8, 8), (120, 30, 30)).save("red.png")
    assert main(["name", "find", "names", "red.png"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("빨간 등대")
    assert main(["name", "find", "names", "red.png", "--floor", "0.5"]) == 2
    assert "kmm name fit first" in capsys.readouterr().err
    assert main(["name", "fit", "names", "fit-*.tar", *field]) == 0
    assert "24 pictures taught" in capsys.readouterr().out
    assert main(["name", "find", "names", "red.png", "--json", "--top", "2"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["names"][0]["name"] == "빨간 등대" and told["known"]
    assert 0.5 < told["names"][0]["probability"] <= 1 and len(told["names"]) == 2
    assert main(["name", "find", "names", "red.png", "--floor", "1"]) == 0
    assert "이 중에 없음" in capsys.readouterr().out.splitlines()[1]
    assert main(["name", "evaluate", "names", "test-*.tar", *field, "--output", "found"]) == 0
    scores = json.loads((folder / "found/evaluation.json").read_text())["tables"][0]["scores"]
    assert scores["ranked again/top1"]["value"] > 0.9
    assert scores["model 0/top1"]["value"] >= scores["model 1/top1"]["value"]
    low, high = (scores[f"united/top1_{end}"]["value"] for end in ("low", "high"))
    assert 0 <= low <= scores["united/top1"]["value"] <= high <= 1
    assert scores["none said of known"]["value"] < 0.2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["find", "none", "x.png"], "is no file"),
        (["find", "names-one", "x.png", "--box", "0,0,0,1"], "x0 < x1"),
        (["find", "names-one", "picture.png", "--top", "0"], "at least 1"),
        (["find", "names-one", "picture.png", "--model", "blind"], "of the model 'one'"),
        (["find", "names-one", "picture.png", "--model", "one", "--model", "blind"], "2 are named"),
        (["evaluate", "names-one", "train-*.tar", "--field", "title"], "in the database"),
        (["evaluate", "names-one", "fit-*.tar", "--field", "titel"], "they have image_hash"),
        (["fit", "names-one", "fit-*.tar", "--field", "title", "--unknown", "nan"], "--unknown"),
        (["build", "x", "train-*.tar", "--field", "title", "--model", "one", "--template", "x"],
         "has no {name}"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_work_ends_with_2_and_a_line(
    folder: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made(folder, "one")
    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    monkeypatch.chdir(folder)
    assert main(["name", *words]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
