"""Pictures drawn at a network's size: every way in gives the same pixels, and boxes follow them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from controller.daemon.inference.pictures import decode_jpeg, inspect_jpeg
from models.data.fitting import fitted
from models.data.own_pictures import read_pictures
from models.facts.picture_fit import SQUASH, PictureFit

FITS = {
    "squash": SQUASH,
    "crop": PictureFit("crop"),
    "letterbox": PictureFit("letterbox", fill=7),
}
SIDE = (48, 40)


def scene(height, width, seed=0):
    """A smooth picture without symmetry."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(40, 200, (4, 5, 3)).astype(np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def test_a_crop_is_the_middle_of_the_scaled_picture():
    picture = scene(90, 150)
    found = fitted(picture, PictureFit("crop").placed((90, 150), (56, 56)))
    expected = picture.resize((106, 64), Image.Resampling.BILINEAR).crop((25, 4, 81, 60))
    off = np.abs(np.asarray(found, dtype=int) - np.asarray(expected))
    assert found.size == (56, 56)
    assert off.max() <= 1


def test_a_letterbox_is_the_scaled_picture_between_bars():
    picture = scene(90, 150)
    found = np.asarray(fitted(picture, PictureFit("letterbox").placed((90, 150), (50, 50))))
    inner = np.asarray(picture.resize((50, 30), Image.Resampling.BILINEAR))
    assert np.array_equal(found[10:40], inner)
    assert (found[:10] == 114).all()
    assert (found[40:] == 114).all()


def test_a_squashed_picture_is_what_it_was():
    picture = scene(90, 150)
    found = fitted(picture, SQUASH.placed((90, 150), (50, 60)))
    assert found.tobytes() == picture.resize((60, 50), Image.Resampling.BILINEAR).tobytes()
    assert fitted(picture, SQUASH.placed((90, 150), (90, 150))) is picture


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (61, 50)])
@pytest.mark.parametrize("kind", FITS)
def test_a_thing_lies_where_its_box_is_said_to_be(kind, size):
    """A white block on black, found again by its pixels, and its box brought back."""
    height, width = size
    left, top, right, bottom = (
        int(0.4 * width), int(0.45 * height), int(0.6 * width), int(0.7 * height)
    )  # fmt: skip
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[top:bottom, left:right] = 255
    place = FITS[kind].placed(size, SIDE)
    seen = np.asarray(fitted(Image.fromarray(pixels), place))[..., 0] > 127
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / (SIDE[::-1] * 2)
    box = np.array([left / width, top / height, right / width, bottom / height])
    pixel = 1.0 / min(SIDE)
    assert place.to_fitted(box) == pytest.approx(found, abs=pixel)
    drawn = 1.0 / min(place.drawn)
    assert place.to_picture(found) == pytest.approx(box, abs=drawn)


def jpeg(picture, orientation=None):
    stream, more = io.BytesIO(), {}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        more = {"exif": exif}
    picture.save(stream, "JPEG", quality=95, subsampling=0, **more)
    return stream.getvalue()


STORED = {
    3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""How a camera that was held so has an upright picture in its file."""


@pytest.mark.parametrize("size", [(90, 150), (600, 330)])
@pytest.mark.parametrize("kind", FITS)
def test_every_way_in_gives_the_same_picture(kind, size, tmp_path, monkeypatch):
    """The daemon, a folder, a list and a data set in memory; of a sideways file, too."""
    fit, picture = FITS[kind], scene(*size)
    data = jpeg(picture)
    folder = tmp_path / "set" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(data)
    (tmp_path / "list.csv").write_text("set/cat/a.jpg,cat\n")
    (tmp_path / "fitted_sets.py").write_text(
        "from PIL import Image\n"
        "class Made:\n"
        "    classes = ['cat']\n"
        "    def __len__(self): return 1\n"
        "    def __getitem__(self, n): return Image.open('set/cat/a.jpg'), 0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ways = (Path("set"), Path("list.csv"), Path("fitted_sets:Made"))
    found = [read_pictures(way, SIDE, fit=fit).x[0] for way in ways]
    served = decode_jpeg(inspect_jpeg(data, 10**7), SIDE, fit=fit)
    assert served.shape == (*SIDE, 3)
    for one in found:
        # a data set decodes the file as it is, the others at a half where that is still larger
        assert np.abs(one.astype(int) - served).mean() < 4.0
    for orientation, turn in STORED.items():
        turned = jpeg(picture.transpose(turn), orientation)
        again = decode_jpeg(inspect_jpeg(turned, 10**7), SIDE, fit=fit)
        assert np.abs(again.astype(int) - served).mean() < 4.0
    expected = np.asarray(fitted(picture, fit.placed(size, SIDE)))
    assert np.abs(served.astype(int) - expected).mean() < 4.0


def test_a_saved_set_is_made_to_fit(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    picture = scene(90, 150)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat"])}
    )
    made = datasets.Dataset.from_dict({"image": [picture], "label": [0]}, features=features)
    made.save_to_disk(str(tmp_path / "one"))
    fit = PictureFit("letterbox", fill=7)
    expected = np.asarray(fitted(picture, fit.placed((90, 150), SIDE)))
    assert np.array_equal(read_pictures(tmp_path / "one", SIDE, fit=fit).x[0], expected)


def test_an_elongated_picture_costs_no_more_than_its_pixels():
    """Scaled whole before it is cut it would have millions of pixels."""
    thin = Image.new("RGB", (4, 4000), (9, 9, 9))
    for fit in FITS.values():
        assert fitted(thin, fit.placed((4000, 4), (224, 224))).size == (224, 224)
