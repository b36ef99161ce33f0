"""The page in a real browser: what people type, click, drop and press, and what they then see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import browser
from tests.serving.served import Seeing, served

BROWSER = browser.browser()
pytestmark = pytest.mark.skipif(
    BROWSER is None,
    reason=f"no browser: KMM_BROWSER names none, and there is none of {', '.join(browser.NAMES)}",
)
HITS = "[...document.querySelectorAll('.hit')].map((each) => each.dataset.id)"
CHIPS = (
    "[...document.querySelectorAll('.chip')].map((each) => each.innerText.replaceAll('\\n', ' '))"
)
FOUND = "document.querySelectorAll('.hit').length > 0"
FILE = """fetch('/v1/image?document=파란-모자&hash=h파란').then((it) => it.blob()).then((blob) => {
  const given = new DataTransfer();
  given.items.add(new File([blob], 'a.jpg', {type: 'image/jpeg'}));
"""


@pytest.fixture(scope="module")
def address(shop: Path) -> Iterator[str]:
    with served(shop / "documents", Seeing(), pictures=shop / "photos") as found:
        yield found


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    assert BROWSER is not None
    with browser.opened(BROWSER, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(tab: browser.Page, address: str) -> Iterator[browser.Page]:
    """At its beginning; afterwards, nothing went wrong in it and nothing came from elsewhere."""
    tab.open("about:blank")  # the same address again would be a reload, which keeps a picture
    tab.open(f"{address}/")
    tab.run("localStorage.setItem('language', 'ko')")
    tab.open(f"{address}/")
    tab.urls.clear()
    tab.wrong.clear()
    tab.until("document.querySelector('#status').textContent == '' && document.title == 'kmm 검색'")
    yield tab
    assert tab.wrong == []
    assert all(url.startswith((address, "data:", "blob:")) for url in tab.urls)


def ask(page: browser.Page, text: str) -> None:
    page.run("document.querySelector('#text').focus()")
    page.type(text)
    page.press("Enter")
    page.until(FOUND)


def choose(page: browser.Page, value: str) -> None:
    page.run(
        "[...document.querySelectorAll('#facets button')]"
        f".find((each) => each.innerText.startsWith({value!r})).click()"
    )


def test_korean_text_finds_documents_and_says_why(page: browser.Page) -> None:
    ask(page, "초록 셔츠")
    assert page.run(HITS)[0] == "초록-셔츠" and len(page.run(HITS)) == 15
    why = page.run("document.querySelector('.why').innerText")
    assert all(part in why for part in ("낱말", "제목", "사진"))
    assert "문서 15개" in page.run("document.querySelector('#status').textContent")
    page.until("document.querySelector('.hit img').naturalWidth > 0")
    assert page.run("new URL(location.href).searchParams.get('q')") == "초록 셔츠"


def test_a_link_to_a_search_searches(page: browser.Page, address: str) -> None:
    page.open(f"{address}/?q=%ED%8C%8C%EB%9E%80+%EB%B0%94%EC%A7%80")
    page.until(FOUND)
    assert page.run(HITS)[0] == "파란-바지"


def test_a_link_repeats_a_whole_query_and_the_arrows_go_through_them(
    page: browser.Page, address: str
) -> None:
    ask(page, "모자")
    choose(page, "초록")
    page.until("document.querySelectorAll('.hit').length == 5")
    page.run("document.querySelector('[data-id=초록-모자] .like').click()")
    page.until("document.querySelector('.chip')?.innerText.includes('비슷한 것: 초록 모자')")
    page.until("document.querySelectorAll('.hit').length == 4")  # of the five, without itself
    page.run("document.querySelector('#text').focus()")
    page.type("+ 파란*2")
    page.press("Enter")
    page.until(f"{CHIPS}.length == 3")
    seen, link = page.run(CHIPS), page.run("location.href")
    page.open(link)  # as one would who was sent it: titles come from the ids
    page.until(f"{FOUND} && {CHIPS}.length == 3 && {CHIPS}.join() == {seen!r}.join()")
    assert link == page.run("location.href")
    page.until("document.querySelector('.chip img').naturalWidth > 0")
    page.run("history.back()")
    page.until("location.href.includes('like') && !location.href.includes('terms')")
    page.until(f"{CHIPS}.length == 2")
    page.run("history.back()")
    page.until(f"{CHIPS}.join() == {['모자', '색: 초록']!r}.join()")
    assert page.run("document.querySelector('#text').value") == "모자"
    page.until("document.querySelectorAll('.hit').length == 5")


@pytest.mark.parametrize(
    "said",
    [
        "terms=%5B%7B&where=7&weight=x&box=1,2",
        "terms=%5B7,%7B%7D%5D&where=%7B%22a%22:1%7D&weight=9",
    ],
)
def test_an_address_that_makes_no_sense_is_a_query_without_it(
    page: browser.Page, address: str, said: str
) -> None:
    page.open(f"{address}/?q=%EB%AA%A8%EC%9E%90&{said}")
    page.until(FOUND)
    assert page.run(CHIPS) == ["모자"]
    assert page.run("new URL(location.href).search") == "?q=%EB%AA%A8%EC%9E%90"


def test_going_back_brings_back_a_picture_that_no_link_has(page: browser.Page, shop: Path) -> None:
    page.pick("#file", shop / "photos" / "파란.png")
    page.until(FOUND)
    assert page.run("location.search") == ""
    page.run("document.querySelector('.like').click()")
    page.until("location.search.includes('like')")
    page.run("history.back()")
    page.until(f"{CHIPS}.join() == '내 사진'")
    page.until(f"{HITS}[0]?.startsWith('파란')")


def test_facets_narrow_and_chips_take_it_back(page: browser.Page) -> None:
    ask(page, "셔츠")
    choose(page, "초록")
    page.until("document.querySelectorAll('.hit').length == 5")
    choose(page, "우산")
    page.until("document.querySelectorAll('.hit').length == 1")
    chips = "[...document.querySelectorAll('.chip')].map((each) => each.innerText)"
    assert page.run(chips) == ["셔츠", "색: 초록", "종류: 우산"]
    page.run("document.querySelectorAll('.chip')[2].click()")
    page.until("document.querySelectorAll('.hit').length == 5")
    page.run("document.querySelectorAll('.chip')[1].click()")
    page.until("document.querySelectorAll('.hit').length == 15")


@pytest.mark.parametrize("how", ["picked", "pasted", "dropped"])
def test_a_picture_may_be_picked_pasted_or_dropped(
    page: browser.Page, shop: Path, how: str
) -> None:
    if how == "picked":
        page.pick("#file", shop / "photos" / "파란.png")
    elif how == "pasted":
        event = "new ClipboardEvent('paste', {clipboardData: given, bubbles: true})"
        page.run(f"{FILE} document.dispatchEvent({event}) }})")
    else:
        event = "new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true})"
        page.run(f"{FILE} document.body.dispatchEvent({event}) }})")
    page.until(FOUND)
    assert {each.partition("-")[0] for each in page.run(HITS)[:5]} == {"파란"}
    assert page.run("document.querySelector('.chip').innerText") == "내 사진"
    assert page.run("document.querySelector('#mix').hidden")
    ask(page, "우산")
    page.until("document.querySelector('.hit').dataset.id == '파란-우산'")
    assert not page.run("document.querySelector('#mix').hidden")


def test_what_is_no_picture_is_said(page: browser.Page, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<svg onload='alert(1)'/>")
    page.pick("#file", tmp_path / "a.png")
    page.until("document.querySelector('#status').textContent == '사진이 아닙니다'")


def test_a_heat_map_appears_under_the_pointer(page: browser.Page) -> None:
    ask(page, "초록 셔츠")
    shown = "document.querySelector('.hit canvas').classList.contains('shown')"
    assert not page.run(shown)
    page.hover(".hit")
    page.until(shown)
    assert page.run("document.querySelector('.hit canvas').width") == 2
    page.hover("#text")
    page.until(f"!{shown}")


def test_the_keyboard_is_enough(page: browser.Page) -> None:
    ask(page, "초록 셔츠")
    page.press("ArrowDown")
    focused = "document.activeElement.dataset.id"
    ids = page.run(HITS)
    assert page.run(focused) == ids[0]
    page.press("ArrowRight")
    assert page.run(focused) == ids[1]
    page.press("ArrowLeft")
    page.press("t")
    page.until("document.querySelector('#chooser').open")
    page.until("document.querySelectorAll('#thumbnails button img').length == 1")
    # The image whose path leads out of the folder was never indexed.
    left = "document.querySelector('#thumbnails .leftout')"
    assert page.run(f"{left}.innerText.trim()") == "아직 찾을 수 없는 사진"
    assert page.run("document.querySelector('#thumbnails button').title").startswith("유사도 ")
    page.run("document.querySelector('#thumbnails button').click()")
    page.until("!document.querySelector('#chooser').open")
    page.run("document.querySelector('.hit').focus()")
    page.press("m")
    page.until("document.querySelector('.chip')?.innerText == '비슷한 것: 초록 셔츠'")
    page.until(f"{FOUND} && !{HITS}.includes('초록-셔츠')")
    assert {each.partition("-")[0] for each in page.run(HITS)[:4]} == {"초록"}
    page.press("Escape")
    page.until("!document.querySelector('.hit')")
    page.run("document.activeElement.blur()")
    page.press("/")
    assert page.run("document.activeElement.id") == "text"


def test_it_speaks_english_too(page: browser.Page) -> None:
    ask(page, "셔츠")
    page.run("document.querySelector('#language').click()")
    assert page.run("document.documentElement.lang") == "en"
    assert page.run("document.querySelector('.like').innerText") == "More like this"
    assert page.run("document.querySelector('#text').placeholder").startswith("Say what to find")


def test_pictures_are_drawn_where_a_generator_is_loaded(tab: browser.Page, shop: Path) -> None:
    from kmm_jax.serving.painting import Painter
    from tests.serving.served import Blue

    documents, photos = shop / "documents", shop / "photos"
    with served(documents, Seeing(), pictures=photos, painter=Painter(Blue())) as address:
        tab.open(f"{address}/")
        tab.until("!document.querySelector('#tabs').hidden")
        tab.run("document.querySelector('#paint').click()")
        tab.run("document.querySelector('#text').focus()")
        tab.type("파란 바다")
        tab.press("Enter")
        tab.until("document.querySelector('.painted img')?.naturalWidth == 16")
        tab.run("document.querySelector('.use').click()")
        tab.until(f"{FOUND} && !document.querySelector('.painted')")
        assert {each.partition("-")[0] for each in tab.run(HITS)[:5]} == {"파란"}


def test_without_a_generator_there_is_no_such_tab(page: browser.Page) -> None:
    assert page.run("document.querySelector('#tabs').hidden")


def test_it_fits_a_phone_and_goes_dark(page: browser.Page) -> None:
    ask(page, "셔츠")
    light = page.run("getComputedStyle(document.body).backgroundColor")
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=740,
        deviceScaleFactor=2,
        mobile=True,
    )
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    page.call("Emulation.setEmulatedMedia", features=[dark])
    try:
        page.until("innerWidth == 360")
        assert page.run("document.scrollingElement.scrollWidth <= innerWidth")
        across = page.run(
            "new Set([...document.querySelectorAll('.hit')].map((e) => e.offsetLeft)).size"
        )
        assert across == 2
        assert page.run("getComputedStyle(document.body).backgroundColor") != light
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setEmulatedMedia", features=[])


def test_a_key_is_asked_for_and_kept_for_the_tab(tab: browser.Page, shop: Path) -> None:
    key = "eine-lange-geheime-zeile"
    documents, photos = shop / "documents", shop / "photos"
    with served(documents, Seeing(), keys={"지민": key}, pictures=photos) as address:
        tab.open(f"{address}/")
        tab.until("!document.querySelector('#keyform').hidden")
        tab.run(f"document.querySelector('#key').value = {key!r}")
        tab.run("document.querySelector('#keyform').requestSubmit()")
        tab.until("document.querySelector('#keyform').hidden")
        ask(tab, "초록 셔츠")
        tab.until("document.querySelector('.hit img').naturalWidth > 0")
        assert key not in tab.run("location.href")


def press_on(page: browser.Page, selector: str, key: str) -> None:
    page.run(f"document.querySelector({selector!r}).focus()")
    page.press(key)


def test_terms_are_chips_with_a_sign_and_a_weight(page: browser.Page, shop: Path) -> None:
    page.pick("#file", shop / "photos" / "빨간.png")
    page.until(FOUND)
    assert page.run(f"{HITS}[0].startsWith('빨간')")
    page.run("document.querySelector('#text').focus()")
    page.type("- 빨간*2 + 파란*2")
    page.press("Enter")
    page.until(f"{HITS}[0]?.startsWith('파란')")
    assert page.run(CHIPS) == ["내 사진", "− 빨간 ×2", "+ 파란 ×2"]
    assert page.run("document.querySelector('#text').value") == ""
    # A click turns the sign, the arrows change the weight, and the focus stays.
    page.run("document.querySelectorAll('.chip .sign')[1].click()")
    page.until(f"{CHIPS}[2] == '− 파란 ×2'")
    page.run("document.querySelectorAll('.chip .weight')[1].click()")
    page.until(f"{CHIPS}[2] == '− 파란 ×0.5'")
    page.run("document.querySelectorAll('.chip .weight')[1].focus()")
    page.press("ArrowUp")
    page.until(f"{CHIPS}[2] == '− 파란 ×0.75'")
    assert page.run("document.activeElement.className") == "weight"
    page.run("document.querySelectorAll('.chip .away')[1].click()")
    page.until(f"{CHIPS}.length == 2 && {FOUND}")
    assert page.run(CHIPS) == ["내 사진", "− 파란 ×0.75"]


def test_terms_come_from_buttons_and_from_what_was_found(page: browser.Page) -> None:
    ask(page, "모자")
    page.run("document.querySelector('#text').select()")
    page.type("초록")
    page.run("document.querySelector('#plus').click()")
    page.until(f"{CHIPS}.length == 2 && {HITS}[0]?.startsWith('초록')")
    assert page.run(CHIPS) == ["모자", "+ 초록"]
    assert page.run("document.querySelector('#text').value") == "모자"
    page.run("document.querySelector('#minus').click()")  # nothing new was said
    assert "먼저 쓰세요" in page.run("document.querySelector('#status').textContent")
    page.run("document.querySelector('.hit').dataset.before = 'yes'")
    press_on(page, "[data-id='파란-우산']", "+")
    page.until("document.querySelector('.hit') && !document.querySelector('[data-before]')")
    assert len(page.run(CHIPS)) == 3
    assert page.run("document.activeElement.dataset.id") == "파란-우산"  # of the new cards
    press_on(page, "[data-id='초록-모자']", "-")
    page.until(f"{CHIPS}.length == 4")
    assert page.run(CHIPS)[2:] == ["+ 파란 우산", "− 초록 모자"]
    page.run("document.querySelector('#language').click()")
    label = "document.querySelector('.chip .sign').getAttribute('aria-label')"
    assert page.run(label) == "Take 초록 away instead"


def test_a_part_of_the_picture_is_chosen_by_pointer_and_keyboard(
    page: browser.Page, tmp_path: Path
) -> None:
    from PIL import Image

    from tests.search.colors import COLORS

    both = Image.new("RGB", (200, 100), COLORS["초록"])
    both.paste(COLORS["파란"], (100, 0, 200, 100))
    both.save(tmp_path / "both.png")
    page.pick("#file", tmp_path / "both.png")
    page.until(FOUND)
    page.run("document.querySelector('.crop').click()")
    page.until("document.querySelector('#cropper').open")
    page.until("document.querySelector('#whole').naturalWidth > 0")
    x, y, width, height = page.run(
        "(() => { const box = document.querySelector('#frame').getBoundingClientRect();"
        "return [box.x, box.y, box.width, box.height]; })()"
    )
    for kind, across, down in (
        ("mousePressed", 0.6, 0.1), ("mouseMoved", 0.8, 0.5), ("mouseReleased", 0.98, 0.9),
    ):  # fmt: skip
        if kind == "mouseReleased":
            page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + across * width,
                      y=y + down * height, button="left", buttons=1)  # fmt: skip
        page.call("Input.dispatchMouseEvent", type=kind, x=x + across * width,
                  y=y + down * height, button="left", buttons=1, clickCount=1)  # fmt: skip
    left = "parseFloat(document.querySelector('#box').style.left)"
    assert abs(page.run(left) - 60) < 2
    page.run("document.querySelector('#usebox').click()")
    page.until(f"{HITS}[0]?.startsWith('파란')")
    assert page.run(CHIPS) == ["내 사진 · 일부"]
    # The keyboard alone: to the left, smaller, and search.
    page.run("document.querySelector('.crop').click()")
    page.until("document.querySelector('#cropper').open")
    for _ in range(32):
        page.press("ArrowLeft")
    assert page.run(left) == 0
    page.press("Enter")
    page.until(f"{HITS}[0]?.startsWith('초록')")
    # What the model sees of a word: this one sees all in the lower half.
    page.run("document.querySelector('.crop').click()")
    page.run("document.querySelector('#locate').focus()")
    page.type("신발")
    page.press("Enter")
    page.until(f"{CHIPS}[0] == '내 사진 · 신발' && {left} == 25")
    page.run("document.querySelector('#usewhole').click()")
    page.until(f"{CHIPS}[0] == '내 사진'")


def test_a_touch_draws_a_box_too(page: browser.Page, shop: Path) -> None:
    page.pick("#file", shop / "photos" / "빨간.png")
    page.until(FOUND)
    page.run("document.querySelector('.crop').click()")
    page.until("document.querySelector('#whole').naturalWidth > 0")
    x, y, width, height = page.run(
        "(() => { const box = document.querySelector('#frame').getBoundingClientRect();"
        "return [box.x, box.y, box.width, box.height]; })()"
    )
    for kind, share in (("touchStart", 0.2), ("touchMove", 0.5), ("touchMove", 0.7)):
        points = [{"x": x + share * width, "y": y + share * height}]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    found = page.run("document.querySelector('#box').style.width")
    assert abs(float(found.removesuffix("%")) - 50) < 3
    page.run("document.querySelector('#cropper').close()")


def test_a_picture_is_made_over_and_named(tab: browser.Page, shop: Path, tmp_path: Path) -> None:
    from kmm_jax.serving.painting import Painter
    from tests.serving.served import Blue
    from tests.serving.test_naming import places

    with served(
        shop / "documents",
        Seeing(),
        pictures=shop / "photos",
        painter=Painter(Blue()),
        naming=places(tmp_path),
    ) as address:
        tab.open(f"{address}/")
        tab.run("localStorage.setItem('language', 'ko')")
        tab.open(f"{address}/")
        tab.until("!document.querySelector('#tabs').hidden")
        tab.pick("#file", shop / "photos" / "초록.png")
        tab.until(FOUND)
        tab.until("document.querySelectorAll('#names button').length == 3")
        assert tab.run("document.querySelector('#names button').innerText") == "초록 등대"
        tab.run("document.querySelector('#paint').click()")
        tab.until("!document.querySelector('#from').hidden")
        tab.run("document.querySelector('#text').focus()")
        tab.type("파란 셔츠")
        tab.press("Enter")
        tab.until("document.querySelector('.painted img')?.naturalWidth == 16")
        # Half of the green that was there is left.
        color = tab.run(
            "(() => { const pen = new OffscreenCanvas(1, 1).getContext('2d');"
            "pen.drawImage(document.querySelector('.painted img'), 0, 0, 1, 1);"
            "return [...pen.getImageData(0, 0, 1, 1).data]; })()"
        )
        assert color[:3] == [0, 127, 127]
        tab.run("document.querySelector('.use').click()")
        tab.until(f"{FOUND} && !document.querySelector('.painted')")
        tab.until("document.querySelectorAll('#names button').length == 3")
        tab.run("document.querySelector('#names button').click()")
        tab.until("document.querySelector('#text').value != ''")
