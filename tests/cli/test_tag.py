"""``kmm tag``: fit, find, apply and evaluate, with a model of random weights."""

from __future__ import annotations

import dataclasses
import json

import pytest
from flax import nnx

from kmm_jax.cli import main
from kmm_jax.data.shop import write_shop
from kmm_jax.data.sources import open_source
from kmm_jax.inference import load
from kmm_jax.interop import native
from kmm_jax.models.clip.config import clip_tiny
from kmm_jax.models.clip.modeling import CLIP
from kmm_jax.models.keys import Keys
from kmm_jax.search.document_search import DocumentSearch
from kmm_jax.tagging.tagger import Tagger
from kmm_jax.text.tokenizer import Tokenizer

SIZE = 32


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small shop, a model, and the tagger that ``fit`` makes."""
    folder = tmp_path_factory.mktemp("tag")
    write_shop(folder / "shop", train=96, test=24, seed=0, image_size=SIZE, processes=1)
    tokenizer = Tokenizer.train(["빨간색 옷 꽃무늬 의류 상품 사진 추천"], vocab_size=300)
    clip = clip_tiny(vocabulary=tokenizer.vocab_size, image_size=SIZE)
    clip = dataclasses.replace(
        clip,
        vision=dataclasses.replace(clip.vision, width=32, depth=1, hidden=64),
        text=dataclasses.replace(clip.text, width=32, depth=1, hidden=64),
        embedding=16,
    )
    for name, seed in (("model", 0), ("other", 1)):
        params = nnx.to_pure_dict(nnx.as_pure(nnx.state(CLIP(clip, rngs=Keys(seed)))))
        exported = native.Exported(config=clip, params=params, tokenizer=tokenizer, styled=False)
        native.save(folder / name, exported)
    (folder / "photos").mkdir()
    source = open_source(f"{folder}/shop/test-*.tar")
    lines = []
    for number in range(6):
        (folder / "photos" / f"{number}.jpg").write_bytes(source.read(number).image)
        image = {"hash": f"h{number}", "path": f"{number}.jpg"}
        line = {"id": f"d{number}", "title": "셔츠", "images": [image]}
        lines.append(json.dumps(line, ensure_ascii=False))
    (folder / "documents.jsonl").write_text("\n".join(lines), "utf-8")
    fit = ["tag", "fit", str(folder / "model"), f"{folder}/shop/train-*.tar", "--steps", "40"]
    assert main([*fit, "--output", str(folder / "tagger")]) == 0
    return folder


def test_fit_learns_the_shops_labels(place):
    tagger = Tagger.load(place / "tagger")
    assert tagger.model == load(place / "model").hash and tagger.kind == "linear"
    assert tagger.rows.sum() > 150 and [len(g.labels) for g in tagger.labels.groups] == [14, 8]


def test_find_tells_tags_with_how_sure_they_are(place, capsys):
    find = ["tag", "find", str(place / "model"), str(place / "photos" / "0.jpg")]
    find += ["--tagger", str(place / "tagger")]
    assert main([*find, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    for key, count in (("color", 14), ("pattern", 8)):
        sure = [one["probability"] for one in answer["tags"][key]]
        assert len(sure) == count and sure == sorted(sure, reverse=True) and max(sure) <= 1
    assert main(find) == 0
    assert "색상:" in capsys.readouterr().out


def test_zero_shot_needs_no_rows(place, capsys):
    fit = ["tag", "fit", str(place / "model")]
    assert main([*fit, "--output", str(place / "none")]) == 2
    assert "or take --kind zero-shot" in capsys.readouterr().err
    assert main([*fit, "--kind", "zero-shot", "--output", str(place / "prompts")]) == 0
    found = Tagger.load(place / "prompts")
    assert found.kind == "zero-shot" and found.head["texts"].shape == (22, 16)


def test_evaluate_writes_tables_and_pictures(place, capsys):
    evaluate = ["tag", "evaluate", str(place / "model"), f"{place}/shop/test-*.tar"]
    evaluate += ["--tagger", str(place / "tagger"), "--output", str(place / "page")]
    assert main(evaluate) == 0
    found = json.loads((place / "page" / "evaluation.json").read_text("utf-8"))
    scores = found["tables"][0]["scores"]
    names = {"color/accuracy", "color/macro_f1/low", "pattern/rarest_third/macro_f1"}
    assert names <= scores.keys() and "color/macro_f1" in capsys.readouterr().out
    for key in ("color", "pattern"):
        assert (place / "page" / f"confusion-{key}.png").read_bytes()[:4] == b"\x89PNG"


def test_apply_tags_documents_and_remove_takes_the_tags_away(place, capsys):
    pytest.importorskip("tantivy", reason="the engine is in the extra search")
    pytest.importorskip("kiwipiepy", reason="the analyser is in the extra korean")
    documents, model = str(place / "docs"), str(place / "model")
    put = ["documents", "add", documents, str(place / "documents.jsonl"), "--model", model]
    assert main([*put, "--images", str(place / "photos")]) == 0
    apply = ["tag", "apply", documents, "--tagger", str(place / "tagger")]
    capsys.readouterr()
    assert main([*apply, "--name", "color=색상"]) == 0
    assert "6 documents tagged" in capsys.readouterr().out
    tagger = Tagger.load(place / "tagger")
    vectors = load(model).embed_image([place / "photos" / f"{n}.jpg" for n in range(6)])
    given = tagger.answers(tagger.probabilities(vectors))
    found = DocumentSearch(documents, load(model)).store.get([f"d{n}" for n in range(6)])
    for number, each in enumerate(found.values()):
        expected = tagger.named(given[number])
        assert each.tags.get("색상", ()) == expected.get("color", ())
        assert each.tags.get("pattern", ()) == expected.get("pattern", ())
    assert main(["tag", "remove", documents]) == 0
    assert main([*apply, "--name", "색상"]) == 2 and "GROUP=TAG" in capsys.readouterr().err
    prompts = ["tag", "fit", str(place / "other"), "--kind", "zero-shot"]
    assert main([*prompts, "--output", str(place / "strange")]) == 0
    assert main(["tag", "apply", documents, "--tagger", str(place / "strange")]) == 2
    assert "fit one anew" in capsys.readouterr().err
