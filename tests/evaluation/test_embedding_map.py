"""Maps of known vectors: what is near stays near, the same map is the same file."""

import json
import os
import sys
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from kmm_jax.errors import ConfigError, DataError, UserError
from kmm_jax.evaluation.embedding_map import EmbeddingMap, Panel, embedding_map
from kmm_jax.evaluation.map_figure import draw_map, write_map

GROUPS = ("image", "text", "image+text")


def panel(title="step 40", rows=20, gap=4.0, **more):
    """Three clouds around points as far apart as ``gap`` says."""
    rng = np.random.default_rng(0)
    groups = {}
    for number, name in enumerate(GROUPS):
        vectors = rng.standard_normal((rows, 8))
        vectors[:, number] += gap
        groups[name] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Panel(title=title, groups=groups, **more)


def legend(figure, lines):
    """Its names line by line; matplotlib keeps them column by column, blanks filling a line."""
    names = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    return [name for line in range(lines) for name in names[line::lines] if name]


@pytest.fixture(scope="module")
def found():
    labels = tuple(["셔츠", "바지", "모자", None][i % 4] for i in range(20))
    panels = [
        panel("처음, step 40", keys=tuple(f"k{i}" for i in range(20)), labels=labels),
        panel("끝, 값 $5 _ $6", gap=0.0, measures={"distance": 0.5, "pair_cosine": 0.25}),
    ]
    return embedding_map(panels)


def test_the_same_vectors_and_seed_give_the_same_map_to_the_byte(found, tmp_path):
    again = embedding_map(found.panels)
    for one, other in zip(found.places, again.places, strict=True):
        for name in GROUPS:
            np.testing.assert_array_equal(one[name], other[name])
    first, second = write_map(found, tmp_path / "one"), write_map(again, tmp_path / "two")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_another_seed_gives_another_map(found):
    other = embedding_map(found.panels[1:], seed=1)
    assert not np.array_equal(other.places[0]["text"], found.places[1]["text"])


def test_points_near_each_other_are_vectors_near_each_other(found):
    """Apart in the space, apart in the map; mixed in the space, mixed in the map."""
    shares = []
    for places in found.places:
        points = np.concatenate([places[name] for name in GROUPS])
        group = np.repeat(np.arange(3), 20)
        distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
        np.fill_diagonal(distance, np.inf)
        shares.append((group[distance.argmin(axis=1)] == group).mean())
    assert shares[0] > 0.95
    assert shares[1] < 0.7


def test_places_stand_side_by_side_with_their_rows(found):
    for shown, places in zip(found.panels, found.places, strict=True):
        assert {name: place.shape for name, place in places.items()} == {
            name: (len(vectors), 2) for name, vectors in shown.groups.items()
        }


def test_both_pictures_and_the_places_are_written_with_korean_letters(found, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of every glyph its font lacks
        png, svg, coordinates = write_map(found, tmp_path / "new" / "map")
    with Image.open(png) as image:
        image.load()
        assert image.width > 1.2 * image.height > 400
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    read = json.loads(coordinates.read_text("utf-8"))
    assert read["method"] == "tsne"
    assert read["settings"]["seed"] == 0
    first, second = read["panels"]
    assert first["labels"][:4] == ["셔츠", "바지", "모자", None]
    assert first["keys"][3] == "k3"
    assert second["measures"] == {"distance": 0.5, "pair_cosine": 0.25}
    np.testing.assert_allclose(second["groups"]["text"], found.places[1]["text"], atol=1e-4)
    assert sorted(os.listdir(png.parent)) == ["map.json", "map.png", "map.svg"]


def test_a_failed_write_leaves_the_old_picture(found, tmp_path, monkeypatch):
    write_map(found, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def half(self, file):
        file.write(b"half a picture")
        raise OSError("the disk is gone")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", half)
    with pytest.raises(OSError, match="the disk is gone"):
        write_map(found, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_the_legend_names_groups_in_korean_and_english_and_classes_once(found):
    names = legend(draw_map(found), lines=2)
    assert names[:3] == ["이미지 image", "글 text", "이미지+글 image+text"]
    assert names[3:] == ["셔츠", "바지", "모자", "나머지 rest"]


def test_more_classes_than_colours_leave_the_rarest_grey():
    labels = tuple(f"종류{min(i, 9)}" for i in range(20))
    shown = panel(labels=labels)
    places = {name: vectors[:, :2] for name, vectors in shown.groups.items()}
    drawn = EmbeddingMap(
        panels=(shown,), places=(places,), method="tsne", settings={"perplexity": 30.0, "seed": 0}
    )
    names = legend(draw_map(drawn), lines=3)
    assert names[3] == "종류9"
    assert len(names) == 3 + 7 + 1


def test_many_panels_go_on_in_a_second_row():
    shown = tuple(panel(f"step {i}") for i in range(5))
    places = tuple({name: v[:, :2] for name, v in one.groups.items()} for one in shown)
    drawn = EmbeddingMap(panels=shown, places=places, method="tsne", settings={"seed": 0})
    figure = draw_map(drawn)
    assert [axes.axison for axes in figure.axes] == [True] * 5 + [False] * 3


def test_a_collapsed_model_has_a_map_as_well():
    point = np.tile(np.eye(8, dtype=np.float32)[0], (5, 1))
    places = embedding_map([Panel(title="", groups={"image": point, "text": point})]).places[0]
    assert np.isfinite(places["image"]).all()


def test_few_points_lower_the_perplexity_of_all_panels():
    made = embedding_map([panel(rows=20), panel(rows=3)])
    assert made.settings["perplexity"] == pytest.approx(8 / 3)


def test_what_is_no_panel_is_refused():
    vectors = np.eye(8, dtype=np.float32)
    wrong = [
        ({"groups": {}}, ConfigError, "needs groups of vectors"),
        ({"groups": {"image": vectors, "text": vectors[:, :4]}}, ConfigError, "with one E"),
        ({"groups": {"image": vectors}, "labels": ("a",)}, ConfigError, "1 labels"),
        ({"groups": {"image": vectors[:3]}}, DataError, "at least 4 vectors.*has 3"),
    ]
    for options, kind, message in wrong:
        with pytest.raises(kind, match=message):
            Panel(title="t", **options)
    with pytest.raises(UserError, match="perplexity must be at least 1"):
        embedding_map([panel()], perplexity=0)
    with pytest.raises(UserError, match="seed must be"):
        embedding_map([panel()], seed=-1)
    with pytest.raises(ConfigError, match="at least one panel"):
        embedding_map([])


@pytest.mark.parametrize(("method", "package"), [("tsne", "sklearn"), ("umap", "umap")])
def test_without_its_package_one_line_says_what_to_install(monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    extra = {"sklearn": "analysis", "umap": "umap"}[package]
    with pytest.raises(UserError, match=rf"pip install 'kmm-jax\[{extra}\]'"):
        embedding_map([panel()], method=method)


def test_umap_places_every_vector_alike_each_time():
    pytest.importorskip("umap", reason="umap-learn is an extra of its own")
    one, other = (embedding_map([panel()], method="umap") for _ in range(2))
    np.testing.assert_array_equal(one.places[0]["text"], other.places[0]["text"])
    assert one.settings["neighbours"] == 15
