"""Results as JSON and Markdown."""

import json
import os

import pytest

from kmm_jax.evaluation.report import Results, Score, Table, to_json, to_markdown, write

RESULTS = Results(
    about={"model": "runs/옷가게", "rows": 500},
    tables=(
        Table(
            task="retrieval",
            title="Image-text retrieval: query",
            protocol="500 images | any positive counts.",
            scores=(
                Score(name="text_to_image/r5", value=0.25, chance=0.01),
                Score(name="plain/cider_d", value=1.5, chance=0.0, share=False),
                Score(name="r1", value=0.5),
            ),
            facts={"gallery": 500},
        ),
    ),
)


def test_json_holds_every_figure_beside_its_chance(tmp_path):
    json_path, _ = write(RESULTS, tmp_path / "new" / "folder")
    read = json.loads(json_path.read_text("utf-8"))
    assert read == to_json(RESULTS)
    table = read["tables"][0]
    assert table["scores"]["text_to_image/r5"] == {"value": 0.25, "chance": 0.01}
    assert table["gallery"] == 500
    assert "옷가게" in json_path.read_text("utf-8")


def test_markdown_has_the_protocol_above_and_chance_beside():
    lines = to_markdown(RESULTS).splitlines()
    assert "- model: runs/옷가게" in lines
    row = lines.index("| text_to_image/r5 | 25.0 % | 1.0 % | 25.0× |")
    assert "500 images \\| any positive counts." in lines[:row]
    assert "| plain/cider_d | 1.500 | 0.000 |  |" in lines
    assert "| r1 | 50.0 % |  |  |" in lines


def test_metrics_name_chance_in_the_group_of_its_score():
    assert dict(RESULTS.tables[0].metrics()) == {
        "text_to_image/r5": 0.25,
        "text_to_image/chance_r5": 0.01,
        "plain/cider_d": 1.5,
        "plain/chance_cider_d": 0.0,
        "r1": 0.5,
        "gallery": 500.0,
    }


def test_a_failed_write_leaves_the_old_report(tmp_path):
    write(RESULTS, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    broken = Results(about={"x": object()}, tables=())
    with pytest.raises(TypeError):
        write(broken, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_a_tiny_chance_does_not_read_as_nothing():
    score = Score(name="r1", value=0.0036, chance=0.0002)
    table = Table(task="retrieval", title="r", protocol="p", scores=(score,))
    assert "| r1 | 0.36 % | 0.02 % | 18.0× |" in to_markdown(Results(about={}, tables=(table,)))
