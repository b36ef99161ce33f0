"""`kmm heatmap` and its picture, with a model whose heat-maps are known."""

import json

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from kmm_jax.cli import main
from kmm_jax.errors import UserError
from kmm_jax.evaluation.heat_sheet import MOST_PHRASES, HeatPicture, write_heat_sheet
from kmm_jax.inference.model import Model
from kmm_jax.interop import native
from kmm_jax.models import registry
from kmm_jax.text.tokenizer import Tokenizer
from tests.tiny_models import tiny_coca

GRID, SIZE = 4, 16


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    tokenizer = Tokenizer.train(["빨간 셔츠", "파란 모자"] * 3, vocab_size=300)
    config = tiny_coca(image_size=SIZE, patch_size=4, vocabulary=tokenizer.vocab_size, length=12)
    params = nnx.as_pure(nnx.state(registry.build(config, rngs=nnx.Rngs(0)), nnx.Param))
    folder = tmp_path_factory.mktemp("model") / "exported"
    native.save(
        folder,
        native.Exported(
            config=config, params=nnx.to_pure_dict(params), tokenizer=tokenizer, styled=True
        ),
    )
    return str(folder)


@pytest.fixture
def known(monkeypatch):
    """The n-th distinct phrase is at the n-th patch; what is asked for is kept."""
    asked = []

    def heat_map(self, images, texts, style="query", *, batch_size=64):
        asked.append((len(images), list(texts), style))
        heat_NGG = np.zeros((len(texts), GRID, GRID), np.float32)
        for heat_GG, text in zip(heat_NGG, texts, strict=True):
            heat_GG.flat[list(dict.fromkeys(texts)).index(text)] = 0.5
            if text == "어디에도 없음":
                heat_GG[:] = 0
        return heat_NGG

    monkeypatch.setattr(Model, "heat_map", heat_map)
    return asked


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "사진.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_it_prints_where_each_phrase_is_in_pixels_of_the_picture(
    model_folder, photo, known, capsys
):
    options = ["--phrase", "빨간 셔츠", "--phrase", "파란 모자", "--phrase", "어디에도 없음"]
    assert main(["heatmap", model_folder, str(photo), *options, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert known == [(3, ["빨간 셔츠", "파란 모자", "어디에도 없음"], "query")]
    (picture,) = printed["pictures"]
    assert (picture["image"], picture["size"]) == (str(photo), [120, 80])
    first, second, nowhere = picture["phrases"]
    # The square is the columns 20 to 100; a patch is 20 pixels wide.
    assert (first["phrase"], first["maximum"]) == ("빨간 셔츠", [30, 10])
    assert second["maximum"] == [50, 10]
    assert (first["lowest"], first["highest"]) == (0, 0.5)
    x0, y0, x1, y1 = first["box"]
    assert (x0, y0) == (20, 0) and 40 <= x1 <= 50 and 20 <= y1 <= 30
    assert (nowhere["maximum"], nowhere["box"], nowhere["highest"]) == (None, None, 0)
    assert printed["style"] == "query"


def test_it_draws_a_line_for_each_picture_and_writes_it_whole(
    model_folder, photo, known, tmp_path, capsys
):
    output = tmp_path / "new" / "heat.png"
    phrases = ["--phrase", "빨간 셔츠", "--phrase", " 빨간 셔츠 ", "--phrase", "파란 모자"]
    options = [*phrases, "--style", "prompt", "--side", "100", "--output", str(output)]
    assert main(["heatmap", model_folder, str(photo), str(photo), *options]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and f"drawn: {output}" in captured.err
    assert known == [(4, ["빨간 셔츠", "파란 모자"] * 2, "prompt")]
    with Image.open(output) as sheet:
        sheet.verify()
    with Image.open(output) as sheet:
        width, height = sheet.size
    assert width > 4 * 100 and height > 2 * 100
    assert [path.name for path in output.parent.iterdir()] == ["heat.png"]


def test_a_real_model_gives_maps_of_its_grid(model_folder, photo, capsys):
    assert main(["heatmap", model_folder, str(photo), "--phrase", "빨간 셔츠", "--json"]) == 0
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    (found,) = picture["phrases"]
    assert found["highest"] >= found["lowest"] >= 0


def test_a_phrase_too_long_for_the_model_is_said(model_folder, photo, known, capsys):
    long = "비가 올 때 머리 위에 펴서 드는 것을 가리키는 말"
    assert main(["heatmap", model_folder, str(photo), "--phrase", long, "--json"]) == 0
    assert f"12th token, where the model's texts end: {long}" in capsys.readouterr().err


def test_broken_parameters_are_said_and_not_drawn(
    model_folder, photo, tmp_path, monkeypatch, capsys
):
    broken = np.full((1, GRID, GRID), np.nan, np.float32)
    monkeypatch.setattr(Model, "heat_map", lambda *given, **more: broken)
    output = tmp_path / "heat.png"
    options = ["--phrase", "모자", "--output", str(output)]
    assert main(["heatmap", model_folder, str(photo), *options]) == 2
    assert "1 of 1 heat-maps are NaN" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--phrase", "모자"], "give --output heat.png, --json or both"),
        (["--phrase", "모자", "--output", "heat.jpg"], "must end in .png"),
        (["--phrase", "  ", "--json"], "says nothing to look for"),
        (["--phrase", "모자", "--json", "--floor", "1.5"], "--floor is a share from 0 to 1"),
        (["--phrase", "모자", "--json", "--side", "0"], "--side must be from 64 to 2048"),
        (
            [*(f"--phrase=모자 {n}" for n in range(MOST_PHRASES + 1)), "--output", "heat.png"],
            f"{MOST_PHRASES} at most, or --json",
        ),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    model_folder, photo, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    assert main(["heatmap", model_folder, str(photo), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("kmm heatmap: ") and captured.err.count("\n") == 1
    assert not (tmp_path / "heat.png").exists()


def test_pictures_and_models_that_are_none_exit_with_2(model_folder, photo, tmp_path, capsys):
    text = tmp_path / "글.jpg"
    text.write_text("글")
    options = ["--phrase", "모자", "--json"]
    for images in (["gone.jpg"], [str(tmp_path)], [str(photo), str(text)]):
        assert main(["heatmap", model_folder, *images, *options]) == 2
    assert main(["heatmap", str(tmp_path / "none"), str(photo), *options]) == 2
    printed = capsys.readouterr().err
    assert printed.count("kmm heatmap:") == 4 and "Traceback" not in printed
    assert f"{text}: not an image" in printed
    with pytest.raises(SystemExit) as stop:
        main(["heatmap", model_folder, str(photo), "--json"])
    assert stop.value.code == 2
    assert "--phrase" in capsys.readouterr().err


def drawn(tmp_path, heat_PGG, phrases, *, side=120, **options):
    path = tmp_path / "heat.png"
    image = Image.new("RGB", (50, 50), (128, 128, 128))
    picture = HeatPicture(image=image, name="a.jpg", heat_PGG=np.asarray(heat_PGG, np.float32))
    write_heat_sheet(path, phrases, [picture], side=side, **options)
    return np.asarray(Image.open(path)).astype(int)


def panel(sheet, column, side=120):
    """A panel's pixels; its upper edge is where the photo's grey begins."""
    left = 28 + column * (side + 18)
    grey = (sheet[:, 28 + side // 2] == 128).all(axis=1)
    top = int(np.flatnonzero(grey)[0])
    return sheet[top : top + side, left : left + side]


def corner(heat):
    """Mean colour of each quarter, away from marks and blur."""
    side = len(heat)
    low, high = slice(2, side // 8), slice(side - side // 8, side - 2)
    return {
        (row, column): heat[rows, columns].mean(axis=(0, 1))
        for row, rows in enumerate((low, high))
        for column, columns in enumerate((low, high))
    }


def test_each_panel_is_bright_where_its_phrase_is(tmp_path):
    heat = np.zeros((2, 4, 4))
    heat[0, 0, 0], heat[1, 3, 3] = 1, 9
    sheet = drawn(tmp_path, heat, ["셔츠", "모자"])
    for column, where in ((1, (0, 0)), (2, (1, 1))):
        brightness = {place: rgb.sum() for place, rgb in corner(panel(sheet, column)).items()}
        assert max(brightness, key=brightness.get) == where
        assert len({round(value) for place, value in brightness.items() if place != where}) == 1


def test_together_each_place_has_the_colour_of_its_phrase_or_none(tmp_path):
    heat = np.zeros((2, 4, 4))
    heat[0, 0, 0], heat[1, 3, 3] = 1, 9
    heat[1, 0, 0] = 4  # less, of its own 9, than the other of its 1
    together = corner(panel(drawn(tmp_path, heat, ["셔츠", "모자"]), 3))
    grey = np.full(3, 128)
    np.testing.assert_allclose(together[0, 1], grey)
    np.testing.assert_allclose(together[1, 0], grey)
    orange, blue = np.asarray([0xE6, 0x9F, 0x00]), np.asarray([0x56, 0xB4, 0xE9])
    for place, colour in (((0, 0), orange), ((1, 1), blue)):
        np.testing.assert_allclose(together[place], 0.62 * colour + 0.38 * grey, atol=1)


def test_a_phrase_claims_no_place_in_a_picture_that_it_is_much_less_in(tmp_path):
    heat = np.zeros((2, 2, 4, 4))
    heat[0, 0, 0, 0], heat[0, 1, 3, 3] = 1, 1
    heat[1, 0, 0, 0], heat[1, 1, 3, 3] = 0.1, 0.9
    image = Image.new("RGB", (50, 50), (128, 128, 128))
    pictures = [HeatPicture(image=image, name="a.jpg", heat_PGG=one) for one in heat]
    write_heat_sheet(tmp_path / "heat.png", ["셔츠", "모자"], pictures, side=120)
    sheet = np.asarray(Image.open(tmp_path / "heat.png")).astype(int)
    grey = np.flatnonzero((sheet[:, 28 + 60] == 128).all(axis=1))
    below = sheet[grey[-1] - 119 : grey[-1] + 1, 28 + 3 * 138 :][:, :120]
    colours = corner(below)
    np.testing.assert_allclose(colours[0, 0], 128)
    assert (colours[1, 1] != 128).any()


def test_a_flat_map_is_dark_without_marks_and_wins_nowhere(tmp_path):
    heat = np.zeros((2, 4, 4))
    heat[1, 3, 3] = 1
    sheet = drawn(tmp_path, heat, ["없는 것", "모자"])
    assert np.unique(panel(sheet, 1).reshape(-1, 3), axis=0).shape[0] == 1
    colours = corner(panel(sheet, 3))
    np.testing.assert_allclose(colours[0, 0], 128)
    assert colours[1, 1][2] > colours[1, 1][0]


def test_one_phrase_needs_no_panel_of_all_and_no_legend(tmp_path):
    one = drawn(tmp_path, np.eye(4)[None], ["셔츠"])
    two = drawn(tmp_path, np.stack([np.eye(4)] * 2), ["셔츠", "모자"])
    assert two.shape[1] - one.shape[1] == 2 * (120 + 18)
    assert two.shape[0] > one.shape[0]


def test_long_phrases_are_wrapped_and_korean_letters_drawn(tmp_path):
    definition = "비가 올 때 머리 위에 펴서 드는, 손잡이가 길고 천으로 된 물건을 가리키는 말"
    short = drawn(tmp_path, np.stack([np.eye(4)] * 2), ["모자", "셔츠"])
    other = drawn(tmp_path, np.stack([np.eye(4)] * 2), ["바지", "셔츠"])
    assert short.shape == other.shape and (short != other).any()
    long = drawn(tmp_path, np.stack([np.eye(4)] * 2), ["모자", definition])
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0]
    assert (long[:28] == 255).all() and (long[:, -28:] == 255).all()


def test_nothing_to_draw_and_too_much_are_refused(tmp_path):
    for phrases in ([], [str(n) for n in range(MOST_PHRASES + 1)]):
        with pytest.raises(UserError, match=r"nothing to draw|too many"):
            drawn(tmp_path, np.zeros((len(phrases), 2, 2)), phrases)
    with pytest.raises(UserError, match="nothing to draw"):
        write_heat_sheet(tmp_path / "heat.png", ["모자"], [])
    assert not (tmp_path / "heat.png").exists()
