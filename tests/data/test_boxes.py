"""Boxes of a record, and where they are in the square that the model sees."""

import io

import numpy as np
import pytest
from PIL import Image

from kmm_jax.data.augment import resize_centre
from kmm_jax.data.boxes import from_centre, in_centre, inside, named_boxes
from kmm_jax.data.images import open_rgb, upright_size
from kmm_jax.errors import DataError
from kmm_jax.evaluation.heat import cells_within

SIZE = 32


def painted(picture, box):
    """A black picture with a white box."""
    pixels = np.zeros((picture[1], picture[0], 3), np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = 255
    return pixels


def assert_lies_where_it_is_seen(seen_SS3, box):
    """The pixels more white than black are those within, but for the box's blurred edge."""
    white_SS = seen_SS3[..., 0] > 127
    edge = 1 / SIZE
    x0, y0, x1, y1 = box
    grown = cells_within(np.asarray([(x0 - edge, y0 - edge, x1 + edge, y1 + edge)]), SIZE)[0]
    shrunk = cells_within(np.asarray([(x0 + edge, y0 + edge, x1 - edge, y1 - edge)]), SIZE)[0]
    assert not (white_SS & ~grown).any()
    assert not (shrunk & ~white_SS).any()
    assert shrunk.any()


@pytest.mark.parametrize("picture", [(96, 96), (200, 80), (60, 150), (33, 32), (20, 24)])
def test_a_box_lies_in_the_square_where_its_pixels_do(picture):
    rng = np.random.default_rng(0)
    for _ in range(20):
        x0, y0 = (int(rng.integers(0, side * 2 // 3)) for side in picture)
        x1, y1 = min(x0 + picture[0] // 3 + 3, picture[0]), min(y0 + picture[1] // 3, picture[1])
        part, share = inside(in_centre((x0, y0, x1, y1), picture))
        seen = resize_centre(painted(picture, (x0, y0, x1, y1)), SIZE)
        if share > 0.5:
            assert_lies_where_it_is_seen(seen, part)
        elif share == 0:
            assert seen.max() < 127


def test_the_part_inside_and_its_share_are_counted_in_pixels():
    # The square of a 20 x 10 picture is its columns 5 to 15.
    part, share = inside(in_centre((0, 2, 9, 6), (20, 10)))
    assert part == pytest.approx((0, 0.2, 0.4, 0.6))
    assert share == pytest.approx(4 / 9)
    assert inside(in_centre((0, 0, 5, 10), (20, 10)))[1] == 0
    assert inside(in_centre((5, 0, 15, 10), (20, 10))) == ((0, 0, 1, 1), 1)


@pytest.mark.parametrize("picture", [(20, 10), (10, 20), (7, 7)])
def test_the_way_back_leads_back(picture):
    box = (1.5, 2.0, 6.25, 5.0)
    assert from_centre(in_centre(box, picture), picture) == pytest.approx(box)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_and_boxes_are_of_the_upright_picture_however_it_is_stored(orientation):
    upright = painted((480, 640), (200, 220, 300, 420))
    # The inverse of what the EXIF tag says is done to the stored picture.
    stored = Image.fromarray(upright)
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    if orientation in back:
        stored = stored.transpose(back[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=95, exif=exif)
    data = buffer.getvalue()
    assert upright_size(data) == (480, 640)
    small = open_rgb(data, SIZE)
    assert small.size != (480, 640)  # decoded at a part of its size, which boxes must not follow
    seen = resize_centre(small, SIZE)
    assert_lies_where_it_is_seen(seen, in_centre((200, 220, 300, 420), upright_size(data)))


def test_the_size_of_what_is_no_picture_is_refused():
    with pytest.raises(DataError, match="cannot be opened"):
        upright_size(b"no picture")


def test_boxes_with_labels_are_read_and_bare_ones_left_out():
    record = {
        "boxes": [
            {"box": [1, 2, 3.5, 4], "type": "shirt", "color": "red", "score": 0.5},
            [0, 0, 5, 5],
            {"box": [0, 0, 5, 5]},
            {"box": [0, 0, 5, 5], "phrase": "빨간 셔츠"},
        ]
    }
    first, second = named_boxes(record)
    assert (first.box, first.labels) == ((1, 2, 3.5, 4), {"type": "shirt", "color": "red"})
    assert second.labels == {"phrase": "빨간 셔츠"}
    assert named_boxes({}) == named_boxes({"boxes": None}) == ()


@pytest.mark.parametrize(
    "box", [None, [1, 2, 3], [3, 2, 1, 4], [1, 2, 3, 2], [1, 2, "3", 4], [0, 0, float("nan"), 1]]
)
def test_a_box_that_is_none_is_named(box):
    with pytest.raises(DataError, match=r"boxes\[1\]\.box must be \[x0, y0, x1, y1\]"):
        named_boxes({"boxes": [[1, 2], {"box": box, "type": "shirt"}]})
