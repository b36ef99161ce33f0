"""The text detector on drawn text."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kmm_jax.corpus.scoring.ocr import Ocr
from kmm_jax.corpus.scoring.protocol import Sample
from kmm_jax.data.fonts import korean_font
from kmm_jax.errors import ConfigError


def page(lines, size=(480, 360), height=28):
    image = Image.new("RGB", size, (40, 80, 60))
    draw = ImageDraw.Draw(image)
    for number in range(lines):
        draw.text((20, 15 + 55 * number), "여름 신상 원피스 할인", "white", korean_font(height))
    return Sample("", np.asarray(image), (), ())


@pytest.fixture(scope="module")
def scorer():
    return Ocr().load()


def test_lines_of_korean_are_counted_and_their_area_measured(scorer):
    none, two, five = scorer.score([page(0), page(2), page(5)])
    assert none == {"ocr_num_box": 0, "ocr_ratio_box": 0.0}
    assert two["ocr_num_box"] == 2 and five["ocr_num_box"] == 5
    # A line is about 230 x 28 of 480 x 360 pixels; boxes are a little larger.
    assert 7 < two["ocr_ratio_box"] < 14
    assert five["ocr_ratio_box"] == pytest.approx(2.5 * two["ocr_ratio_box"], rel=0.2)


def test_the_size_of_the_picture_makes_no_great_difference(scorer):
    small = page(3)
    enlarged = Image.fromarray(small.pixels_HWC).resize((1440, 1080), Image.Resampling.BICUBIC)
    large = small._replace(pixels_HWC=np.asarray(enlarged))
    a, b = scorer.score([small, large])
    assert a["ocr_num_box"] == b["ocr_num_box"] == 3
    assert a["ocr_ratio_box"] == pytest.approx(b["ocr_ratio_box"], rel=0.25)


def test_what_is_taller_than_a_line_is_no_text():
    tall = Ocr(tallest=0.02).load().score([page(3)])[0]
    assert tall == {"ocr_num_box": 0, "ocr_ratio_box": 0.0}


def test_both_thresholds_reject():
    rules = Ocr(most_boxes=5, most_area=10.0)
    assert rules.judge({"ocr_num_box": 5, "ocr_ratio_box": 10.0})[1] is None
    assert rules.judge({"ocr_num_box": 6, "ocr_ratio_box": 1.0})[1] == "ocr"
    assert rules.judge({"ocr_num_box": 1, "ocr_ratio_box": 18.0})[1] == "ocr"
    assert Ocr(most_boxes=None, most_area=None).judge(
        {"ocr_num_box": 42, "ocr_ratio_box": 99.0}
    ) == ({"ocr_num_box": 42, "ocr_ratio_box": 99.0}, None)
    with pytest.raises(ConfigError, match="at least 64"):
        Ocr(side=10)
