import base64
import io
import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.fonts import korean_font, wrap
from kmm_jax.errors import UserError
from kmm_jax.retrieval.sheet import Hit, Search, write_sheet_html, write_sheet_png
from tests.serving.browser import NAMES, browser

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 60), (40, 60, 200)


def hit(colour, caption="빨간 체크 셔츠", size=(300, 200), score=0.5):
    return Hit(image=Image.new("RGB", size, colour), caption=caption, score=score)


def colours(path):
    return {colour for _, colour in Image.open(path).convert("RGB").getcolors(1 << 24)}


def test_the_png_shows_every_picture_and_the_query(tmp_path):
    path = tmp_path / "sheet.png"
    query = Image.new("RGB", (50, 90), BLUE)
    write_sheet_png(path, "빨간 셔츠", [hit(RED), hit(GREEN)], query_image=query)
    assert {RED, GREEN, BLUE} <= colours(path)


def test_the_png_draws_korean_letters_not_boxes(tmp_path):
    inks = []
    for title in ("체크", "무늬", "\ue000\ue000"):
        path = tmp_path / "sheet.png"
        write_sheet_png(path, title, [hit(RED, caption="")])
        inks.append(np.asarray(Image.open(path).convert("L"))[:70])
    assert (inks[0] != inks[1]).any()
    assert (inks[0] != inks[2]).any()
    assert korean_font(20).getmask("가").getbbox() is not None


def test_the_png_grows_by_rows_and_takes_pictures_of_every_mode(tmp_path):
    images = [
        Image.new("L", (9, 400)),
        Image.new("RGBA", (400, 9)),
        Image.new("P", (30, 30)),
        Image.new("CMYK", (1, 1)),
        None,
    ]
    hits = [Hit(image=image, caption=f"상품 {i}", score=0.1) for i, image in enumerate(images)]
    sizes = []
    for count in (1, 3, 5):
        write_sheet_png(tmp_path / "sheet.png", "모자", hits[:count], columns=2, side=80)
        sizes.append(Image.open(tmp_path / "sheet.png").size)
    assert sizes[0][1] < sizes[1][1] < sizes[2][1]
    assert len({width for width, _ in sizes}) == 1


def test_a_search_without_hits_cannot_be_drawn(tmp_path):
    with pytest.raises(UserError, match="no hits"):
        write_sheet_png(tmp_path / "sheet.png", "모자", [])
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("width", [60, 120, 200])
@pytest.mark.parametrize(
    "text",
    ["", "모자", "겨울에 신기 좋은 따뜻한 검은색 가죽 부츠", "띄어쓰기없는아주긴상품이름" * 3],
)
def test_captions_fit_their_lines_and_lose_nothing_silently(text, width):
    font = korean_font(15)
    lines = wrap(text, font, width, 2)
    assert len(lines) <= 2
    assert all(font.getlength(line) <= width for line in lines)
    kept = "".join(lines).replace(" ", "")
    if kept.endswith("…"):
        assert text.replace(" ", "").startswith(kept[:-1])
    else:
        assert kept == text.replace(" ", "")


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        elif tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def page(tmp_path, searches, **more):
    write_sheet_html(tmp_path / "sheet.html", searches, **more)
    text = (tmp_path / "sheet.html").read_text("utf-8")
    return text, Page(text)


def test_the_page_needs_no_other_file(tmp_path):
    query = Image.new("RGBA", (900, 600), BLUE)
    searches = [
        Search(title="빨간 체크 셔츠", hits=[hit(RED), hit(GREEN)], query_image=query, note="합성"),
        Search(title="모자", hits=[hit(GREEN, size=(1000, 2000))]),
    ]
    text, parsed = page(tmp_path, searches)
    assert not re.search(r"https?:|@import|<script|<link|url\(", text)
    assert parsed.open == []
    assert len(parsed.images) == 4
    for image, colour in zip(parsed.images, (BLUE, RED, GREEN, GREEN), strict=True):
        data = base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,"))
        picture = Image.open(io.BytesIO(data))
        assert max(picture.size) <= 480
        np.testing.assert_allclose(picture.getpixel((5, 5)), colour, atol=6)


def test_the_page_is_korean_and_follows_the_readers_light(tmp_path):
    text, parsed = page(tmp_path, [Search(title="모자", hits=[hit(RED)])], title="상점 검색")
    assert '<html lang="ko">' in text and '<meta charset="utf-8">' in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    assert "Malgun Gothic" in text
    assert "상점 검색" in parsed.words and "모자" in parsed.words


def test_texts_cannot_break_out_of_the_page(tmp_path):
    evil = '"><script>alert("셔츠")</script>&'
    search = Search(title=evil, hits=[hit(RED, caption=evil)], note=evil)
    text, parsed = page(tmp_path, [search], title=evil)
    assert "<script" not in text
    assert parsed.words.count(evil) == 5
    assert parsed.images[0]["alt"] == evil


def test_a_lost_picture_and_no_hits_leave_a_whole_page(tmp_path):
    lost = Hit(image=None, caption="상품-1", score=0.25)
    text, parsed = page(tmp_path, [Search(title="가", hits=[lost]), Search(title="나", hits=[])])
    assert parsed.images == [] and "이미지 없음" in parsed.words and "0.250" in text


def test_a_browser_shows_the_page(tmp_path):
    if (found := browser()) is None:
        pytest.skip(f"no browser: there is none of {', '.join(NAMES)}")
    page(tmp_path, [Search(title="모자", hits=[hit(RED), hit(GREEN)])])
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=600,700"]
    shot = tmp_path / "shot.png"
    command = [found, *options, f"--screenshot={shot}", (tmp_path / "sheet.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    seen = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    for colour in (RED, GREEN):
        assert (np.abs(seen - np.array(colour)).max(axis=1) < 8).sum() > 1000
