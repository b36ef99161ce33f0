"""Composed queries on the command line, in documents and in collections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kmm_jax.inference
from kmm_jax.cli import main
from kmm_jax.retrieval.collection import Collection
from tests.search.colors import COLORS, Colors, write_photos

pytest.importorskip("tantivy", reason="the engine is in the extra search")
pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")


class Seeing(Colors):
    """Sees every text on the right of a picture of 40 x 20, in the part of its central square."""

    def embed_text(self, texts: Any, style: Any = "query") -> np.ndarray:
        return super().embed_text(texts)

    def heat_map(self, images: Any, texts: Any) -> np.ndarray:
        return np.tile([0.0, 0.0, 0.0, 1.0], (len(images), 4, 1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kmm_jax.inference, "load", lambda path: Seeing())
    (tmp_path / "model").mkdir()
    write_photos(tmp_path / "photos")
    both = Image.new("RGB", (40, 20), COLORS["초록"])
    both.paste(COLORS["파란"], (20, 0, 40, 20))
    both.save(tmp_path / "both.png")
    rows = [
        {"id": name, "title": f"{name} 셔츠", "images": [{"hash": name, "path": f"{name}.png"}]}
        for name in COLORS
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "d.jsonl").write_text(text, "utf-8")
    put = ["documents", "add", str(tmp_path / "docs"), str(tmp_path / "d.jsonl")]
    put += ["--images", str(tmp_path / "photos"), "--model", str(tmp_path / "model")]
    assert main(put) == 0
    encoder = Seeing()
    names = list(COLORS)
    pictures = [Image.new("RGB", (8, 8), COLORS[name]) for name in names]
    shop = Collection.create(
        tmp_path / "shop", model_hash=encoder.hash, dim=4,
        metadata={"model_path": str(tmp_path / "model")},
    )  # fmt: skip
    shop.put(names, encoder.embed_image(pictures))
    return tmp_path


def first(capsys: pytest.CaptureFixture[str]) -> str:
    hits = json.loads(capsys.readouterr().out)["hits"]
    return str(hits[0]["id"])


@pytest.mark.parametrize("place", ["docs", "shop"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--image", "photos/빨간.png", "- 빨간*2", "+ 파란*2"], "파란"),
        (["--image", "photos/빨간.png", "- 빨간*2 + 초록*2"], "초록"),
        (["+ 파란", "- 빨간", "-k", "2"], "파란"),
        (["+ @photos/초록.png"], "초록"),
        (["+ @both.png[0,0,0.4,1]"], "초록"),
        (["- @photos/초록.png*0.5", "+ @both.png[신발]"], "파란"),
        (["--image", "both.png", "--box", "0.6,0,1,1"], "파란"),
        (["--image", "both.png", "--locate", "신발"], "파란"),
        (["--image", "both.png", "--box", "0,0,0.4,1", "--whole", "0.3"], "초록"),
    ],
    ids=str,
)
def test_terms_change_what_is_found(
    folder: Path,
    place: str,
    words: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    capsys.readouterr()
    command = ["documents", "search"] if place == "docs" else ["search"]
    assert main([*command, place, *words, "--json"]) == 0
    assert first(capsys) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["빨간", "파란"], "each further one behind a sign, such as '+ 파란'"),
        (["+ 빨간*x"], "stands the weight"),
        (["+ @none.png"], "is no file"),
        (["--box", "0,0,1,1", "+ 빨간"], "name it with --image"),
        (["--image", "both.png", "--box", "0,0,1"], "a box is"),
        (["--image", "both.png", "--box", "0;1"], "write X0,Y0,X1,Y1"),
        (["--image", "both.png", "--box", "0,0,1,1", "--locate", "x"], "give one of them"),
        (["--image", "both.png", "--whole", "nan", "--locate", "x"], "from 0 to 1"),
        (["- @both.png", "+ @both.png"], "cancel"),
        (["+ 가 " * 17], "at most 16 terms"),
        ([], "nothing to search for"),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["docs", "shop"])
def test_what_cannot_work_ends_with_2_and_a_line(
    folder: Path,
    place: str,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    command = ["documents", "search"] if place == "docs" else ["search"]
    assert main([*command, place, *words]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_words_look_for_what_should_be_there() -> None:
    from kmm_jax.retrieval.terms import parse_terms
    from kmm_jax.search.document_view import Query

    query = Query(text="셔츠", terms=parse_terms("+ 국내 카페 - 빨간색 + 파란색*0.5"))
    assert query.words == "셔츠 국내 카페 파란색"
    assert Query(terms=parse_terms("- 빨간색")).words == ""


@pytest.mark.parametrize("place", ["docs", "shop"])
def test_a_picture_is_made_over_before_it_is_searched_with(
    folder: Path,
    place: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import kmm_jax.generation.loading
    from kmm_jax.generation.pipeline import Generated

    class Bluer:
        side = 16

        def generate(self, request: Any) -> Generated:
            assert request.prompts == ("파란 셔츠",) and request.strength == 0.4
            assert request.image.shape == (16, 16, 3)
            images = request.image[None] // 8
            images[..., 2] = 255
            return Generated(images=images, latents=np.zeros(1), settings=[{"seed": 1}])

    monkeypatch.setattr(kmm_jax.generation.loading, "load_pipeline", lambda path: Bluer())
    monkeypatch.chdir(folder)
    command = ["documents", "search"] if place == "docs" else ["search"]
    words = ["--image", "photos/빨간.png", "--restyle", "파란 셔츠", "--strength", "0.4", "--json"]
    more = ["--generator", "gen", "--restyled", "over.png"]
    capsys.readouterr()
    assert main([*command, place, *words, *more]) == 0
    assert first(capsys) == "파란"
    assert Image.open("over.png").getpixel((2, 2)) == (31, 0, 255)
    for wrong, message in (
        (words, "name both"),
        ([*words, *more, "--strength", "0"], "above 0"),
        ([*words, *more, "--restyled", "x.jpg"], "end in .png"),
        (["--image", "both.png", "--generator", "gen"], "are of --restyle"),
        ([*words, *more, "--restyle", " "], "says nothing"),
    ):
        assert main([*command, place, *wrong]) == 2
        assert message in capsys.readouterr().err
