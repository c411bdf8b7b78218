"""Pictures from outside: turned ones come upright, broken metadata costs nothing."""

import io
import random
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from artefacts import UsageError
from controller.daemon.inference.pictures import (
    MOST_SCANS,
    MOST_SEGMENTS,
    TURNS,
    decode_jpeg,
    exif_orientation,
    inspect_jpeg,
    split_metadata,
)
from controller.daemon.inference.refusals import TooLateError
from experiments.robustness.structures import many_scans, mutated_jpeg, segments

SIZE = (48, 64)
PIXELS = 10_000_000
STORED_AS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[::-1],
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: p.transpose(1, 0, 2)[:, ::-1],
}
"""What a camera held each way has in its file: rows and columns as Exif 2.32 (4.6.4) names them."""


def decoded(data, size, most_pixels):
    return decode_jpeg(inspect_jpeg(data, most_pixels), size)


def scene(height, width):
    """A picture with no symmetry: every corner has a colour of its own."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 255 * rows // (height - 1)
    green = 255 * columns // (width - 1)
    blue = np.where((rows < height // 3) & (columns < width // 2), 255, 20)
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def exif(orientation, order="<", before=0):
    """A segment's TIFF part that names an orientation behind `before` other entries."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, before + 1)
    other = struct.pack(order + "HHII", 0x010F, 3, 1, 0)
    return head + other * before + struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)


def jpeg(picture, tiff=None, **options):
    stream = io.BytesIO()
    more = {} if tiff is None else {"exif": b"Exif\0\0" + tiff}
    Image.fromarray(picture).save(stream, "JPEG", quality=97, subsampling=0, **more, **options)
    return stream.getvalue()


@pytest.mark.parametrize("scale", [1, 2, 9])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_the_upright_one(orientation, order, scale):
    """At scale 9 the decoder itself halves three times (draft), at 1 nothing is scaled."""
    upright = scene(scale * SIZE[0], scale * SIZE[1])
    stored = np.ascontiguousarray(STORED_AS[orientation](upright))
    turned = decoded(jpeg(stored, exif(orientation, order, before=3)), SIZE, PIXELS)
    expected = decoded(jpeg(upright), SIZE, PIXELS)
    assert turned.shape == (*SIZE, 3)
    off = np.abs(turned.astype(int) - expected)
    assert off.mean() < 2.0
    assert np.quantile(off, 0.99) < 16


def test_a_large_sideways_picture_is_still_decoded_small():
    """Without the draft at the swapped size a sideways picture would be decoded whole."""
    upright = np.ascontiguousarray(np.repeat(np.repeat(scene(48, 64), 50, 0), 50, 1))
    stored = np.ascontiguousarray(STORED_AS[6](upright))
    sideways, straight = jpeg(stored, exif(6)), jpeg(stored)

    def seconds(data, size):
        took = []
        for _ in range(5):
            begun = time.perf_counter()
            decoded(data, size, 10**8)
            took.append(time.perf_counter() - begun)
        return min(took)

    assert seconds(sideways, SIZE) < 2.0 * seconds(straight, SIZE[::-1])


def test_an_orientation_that_is_none_is_upright():
    for tiff in (
        exif(0),
        exif(9),
        exif(65535),
        exif(6)[:20],
        b"",
        b"II*\0" + b"\xff" * 4,
        b"MM*\0",
    ):
        assert exif_orientation(tiff) == 1
    long = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 4, 1, 6)
    assert exif_orientation(long) == 6
    many = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 3, 2, 6)
    assert exif_orientation(many) == 1


@given(tiff=st.binary(max_size=400))
def test_broken_metadata_refuses_nothing(tiff):
    picture = scene(*SIZE)
    assert exif_orientation(tiff) in {1, *TURNS}
    good = jpeg(picture)
    for body in (tiff, b"II*\0" + tiff, b"MM\0*\0\0\0\x08" + tiff):
        segment = b"Exif\0\0" + body
        made = good[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + good[2:]
        found = decoded(made, SIZE, PIXELS)
        assert found.shape == (*SIZE, 3)
        bare, orientation = split_metadata(made)
        if orientation == 1:
            assert np.array_equal(found, decoded(good, SIZE, PIXELS))
        assert len(bare) == len(good)


def test_metadata_that_describes_colours_stays_and_the_rest_goes():
    """A CMYK file has its colours inverted by Adobe's segment; a profile and a comment go."""
    stream = io.BytesIO()
    whole = Image.fromarray(scene(*SIZE)).convert("CMYK")
    whole.save(stream, "JPEG", quality=97, icc_profile=b"p" * 5000, comment=b"c" * 3000)
    bare, orientation = split_metadata(stream.getvalue())
    assert orientation == 1
    assert len(bare) < len(stream.getvalue()) - 8000
    found = decoded(stream.getvalue(), SIZE, PIXELS)
    with Image.open(io.BytesIO(stream.getvalue())) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(found, expected)


def test_what_lies_between_segments_is_passed_over():
    good = jpeg(scene(*SIZE), exif(6))
    for junk in (b"junk", b"\xff\x00\xff\xd3", b"\xff" * 50):
        made = good[:2] + junk + good[2:]
        bare, orientation = split_metadata(made)
        assert orientation == 6
        assert b"Exif" not in bare
        assert np.array_equal(decoded(made, SIZE, PIXELS), decoded(good, SIZE, PIXELS))


def test_endless_segments_are_refused_at_once():
    made = b"\xff\xd8" + b"\xff\xe1\x00\x02" * 2_000_000
    begun = time.perf_counter()
    with pytest.raises(UsageError, match=f"more than {MOST_SEGMENTS:,} segments"):
        decoded(made, SIZE, PIXELS)
    assert time.perf_counter() - begun < 0.5


@given(data=st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(data):
    for made in (data, b"\xff\xd8" + data, b"\xff\xd8\xff\xe1" + data):
        with pytest.raises(UsageError, match="picture: found"):
            decoded(made, SIZE, PIXELS)


def test_scans_are_bounded_before_anything_is_decoded():
    """Each costs the whole picture again, however few bytes it has."""
    begun = time.perf_counter()
    for scans in (MOST_SCANS + 1, 20_000):
        with pytest.raises(UsageError, match=f"found {scans:,} scans, expected at most"):
            inspect_jpeg(many_scans(3000, scans), PIXELS)
    assert time.perf_counter() - begun < 2.0
    found = inspect_jpeg(many_scans(3000, MOST_SCANS), PIXELS)
    assert (found.pixels, found.scans, found.work) == (
        9_000_000,
        MOST_SCANS,
        9_000_000 * MOST_SCANS,
    )


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_progressive_files_as_cameras_and_tools_make_them_are_taken(mode):
    stream = io.BytesIO()
    Image.fromarray(scene(*SIZE)).convert(mode).save(stream, "JPEG", progressive=True)
    found = inspect_jpeg(stream.getvalue(), PIXELS)
    assert 6 <= found.scans <= 18
    assert decode_jpeg(found, SIZE).shape == (*SIZE, 3)
    plain = io.BytesIO()
    Image.fromarray(scene(*SIZE)).convert(mode).save(plain, "JPEG")
    assert inspect_jpeg(plain.getvalue(), PIXELS).scans == 1


def test_what_follows_the_picture_is_left_out():
    """Telephones put a film behind it, in whose bytes anything may stand."""
    good = jpeg(scene(*SIZE))
    film = b"\xff\xda" * 1000 + good
    found = inspect_jpeg(good + film, PIXELS)
    assert (len(found.bare), found.scans) == (len(good), 1)
    assert np.array_equal(decode_jpeg(found, SIZE), decoded(good, SIZE, PIXELS))


def test_scans_cannot_be_hidden_in_other_segments():
    hidden = many_scans(64, 200)
    parts = segments(hidden)
    comment = b"\xff\xfe\xff\xff"
    for at in range(1, len(parts)):
        made = b"\xff\xd8" + b"".join([*parts[:at], comment, *parts[at:]]) + b"\xff\xd9"
        with pytest.raises(UsageError, match="picture: found"):
            decoded(made, SIZE, PIXELS)


def test_decoding_ends_when_its_time_is_over():
    found = inspect_jpeg(jpeg(scene(900, 1200)), PIXELS)
    looks = iter(range(10**6))
    with pytest.raises(UsageError, match="found one that takes too long"):
        decode_jpeg(found, SIZE, lambda: next(looks) > 3)
    assert next(looks) == 5


def test_a_deadline_that_ends_decoding_is_late_and_no_mistake_of_the_file():
    found = inspect_jpeg(jpeg(scene(900, 1200)), PIXELS)

    def over():
        raise TooLateError("no answer in time")

    with pytest.raises(TooLateError):
        decode_jpeg(found, SIZE, over)


@settings(deadline=None)
@given(seed=st.integers(0, 10**9))
def test_files_of_any_structure_do_no_more_than_be_refused(seed):
    rng = random.Random(seed)
    made = mutated_jpeg(rng.choice(SEEDS), rng)
    try:
        assert decoded(made, SIZE, PIXELS).shape == (*SIZE, 3)
    except UsageError as error:
        assert str(error).startswith("picture: found")


SEEDS = (jpeg(scene(40, 56)), jpeg(scene(40, 56), exif(6), progressive=True), many_scans(64, 8))


def test_a_picture_of_many_pixels_is_refused_without_a_word_of_the_library_s(tmp_path):
    """In a process of its own: pytest hears warnings that a daemon does not show."""
    Image.new("L", (10_000, 10_000)).save(tmp_path / "a.jpg")
    script = (
        "import pathlib, sys; from artefacts import UsageError\n"
        "from controller.daemon.inference.pictures import inspect_jpeg\n"
        "try: inspect_jpeg(pathlib.Path(sys.argv[1]).read_bytes(), 10**7)\n"
        "except UsageError as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "found 10000 x 10000 pixels" in done.stdout
    assert not done.stderr
