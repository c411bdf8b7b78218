"""How a picture of any size is made to fit: lengths as the libraries have them, boxes both ways."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from artefacts import UsageError
from models.facts.picture_fit import SQUASH, PictureFit, Placement

LENGTHS = st.integers(20, 1000)
SIZES = st.tuples(LENGTHS, LENGTHS)
NETWORKS = st.tuples(st.integers(20, 640), st.integers(20, 640))
FITS = st.one_of(
    st.just(SQUASH),
    st.floats(0.05, 1.0).map(lambda share: PictureFit("crop", share)),
    st.just(PictureFit("letterbox")),
)


def torchvision_crop(size, side, resized):
    """`Resize(resized)` and `CenterCrop(side)`: the scaled (height, width), top and left."""
    high, wide = size
    if wide <= high:
        drawn = (int(resized * high / wide), resized)
    else:
        drawn = (resized, int(resized * wide / high))
    return drawn, *(round((d - side) / 2.0) for d in drawn)


def ultralytics_letterbox(size, side):
    """`letterbox(auto=False)`: left, top, right and bottom of the picture within the bars."""
    ratio = min(side[0] / size[0], side[1] / size[1])
    wide, high = round(size[1] * ratio), round(size[0] * ratio)
    left, top = (side[1] - wide) / 2, (side[0] - high) / 2
    left, top = round(left - 0.1), round(top - 0.1)
    return left, top, left + wide, top + high


@given(size=SIZES, side=st.integers(8, 400))
def test_a_crop_has_torchvision_s_lengths(size, side):
    assume(size != (side, side))
    place = PictureFit("crop").placed(size, (side, side))
    drawn, top, left = torchvision_crop(size, side, max(side, int(side / 0.875)))
    assert place.drawn == drawn[::-1]
    x0, y0, x1, y1 = place.part
    assert (x0 * drawn[1], y0 * drawn[0]) == pytest.approx((left, top))
    assert (x1 * drawn[1], y1 * drawn[0]) == pytest.approx((left + side, top + side))


def test_the_usual_crop_is_224_of_256():
    place = PictureFit("crop").placed((480, 640), (224, 224))
    assert place.drawn == (341, 256)
    assert np.multiply(place.part, (341, 256, 341, 256)).tolist() == pytest.approx(
        [58, 16, 282, 240]
    )


@given(size=SIZES, side=NETWORKS)
def test_a_letterbox_has_yolo_s_lengths(size, side):
    left, top, right, bottom = ultralytics_letterbox(size, side)
    assume(size != side and (right - left, bottom - top) != side[::-1])
    assume(right > left and bottom > top)  # so flat a picture that nothing is left of it there
    place = PictureFit("letterbox").placed(size, side)
    assert place.pixels == (left, top, right, bottom)
    assert place.drawn == (right - left, bottom - top)


@given(size=SIZES, side=NETWORKS, fit=FITS, data=st.data())
def test_boxes_come_back_to_where_they_were(size, side, fit, data):
    place = fit.placed(size, side)
    values = st.lists(st.floats(0.0, 1.0, width=32), min_size=4, max_size=4)
    boxes = np.array(data.draw(st.lists(values, min_size=1, max_size=4)), dtype=np.float32)
    assert place.to_picture(place.to_fitted(boxes)) == pytest.approx(boxes, abs=1e-4)
    assert place.to_fitted(place.to_picture(boxes)) == pytest.approx(boxes, abs=1e-4)


@given(
    size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    side=st.tuples(st.integers(1, 640), st.integers(1, 640)),
    fit=FITS,
)
def test_the_part_that_is_kept_lies_where_it_is_drawn(size, side, fit):
    place = fit.placed(size, side)
    left, top, right, bottom = place.pixels
    assert 0 <= left < right <= side[1]
    assert 0 <= top < bottom <= side[0]
    assert 0.0 <= place.part[0] < place.part[2] <= 1.0
    assert 0.0 <= place.part[1] < place.part[3] <= 1.0
    there = place.to_fitted(np.array(place.part))
    drawn = np.array([left / side[1], top / side[0], right / side[1], bottom / side[0]])
    assert there == pytest.approx(drawn, abs=1e-4)
    if fit.kind == "letterbox":
        assert right - left == side[1] or bottom - top == side[0]
    else:
        assert (right - left, bottom - top) == side[::-1]


@given(side=NETWORKS, fit=FITS)
def test_a_picture_of_the_network_s_size_is_taken_as_it_is(side, fit):
    place = fit.placed(side, side)
    assert place == Placement(side)
    assert place.squashed
    box = np.array([[0.1, 0.2, 0.3, 0.9]], dtype=np.float32)
    assert np.array_equal(place.to_picture(box), box)


def test_a_squashed_picture_s_boxes_are_the_network_s():
    box = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    assert np.array_equal(SQUASH.placed((30, 900), (224, 160)).to_picture(box), box)


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        (PictureFit("crop", 0.0), r"crop_share: found 0\.0, expected 0\.05 to 1"),
        (PictureFit("crop", 1e-9), "crop_share: found 1e-09"),  # memory of a billion pixels a side
        (PictureFit("crop", float("nan")), "crop_share: found nan"),
        (PictureFit("letterbox", fill=256), "fill: found 256, expected a level of 0 to 255"),
    ],
)
def test_figures_that_mean_nothing_are_refused(fit, said):
    with pytest.raises(UsageError, match=said):
        fit.check()
