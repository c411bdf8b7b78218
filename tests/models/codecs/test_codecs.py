"""Codecs: golden bytes, error bounds, and what is refused."""

import hashlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artefacts import UsageError
from models.codecs import Ranges, Shared, affine, codec_named
from models.codecs.affine import calibrate

FIXED = ("float32", "float16", "int8", "uint8")

VALUES = np.array([-1.5, 0.0, 0.25, 2.0], dtype=np.float32)


def encode(codec, array, ranges=None):
    return codec_named(codec).encode(array, Shared(ranges))


def decode(codec, meta, data, shape, ranges=None):
    return codec_named(codec).decode(meta, data, shape, Shared(ranges))


def round_trip(codec, batch, ranges=None):
    return codec_named(codec).round_trip(batch, Shared(ranges))


def encoded_bytes(codec, shape):
    return codec_named(codec).size(shape)


@pytest.mark.parametrize(
    ("codec", "golden"),
    [
        ("float32", "0000c0bf" "00000000" "0000803e" "00000040"),
        ("float16", "00be" "0000" "0034" "0040"),
        # scale = 3.5 / 255: levels 0, round(109.29), round(127.5) to even, 255
        ("int8", "00" "6d" "80" "ff"),
    ],
)  # fmt: skip
def test_golden_bytes(codec, golden):
    assert encode(codec, VALUES).data.hex() == golden


@pytest.mark.parametrize(
    ("codec", "meta", "data", "golden"),
    [
        ("float32", {}, "0000c0bf" "00000000" "0000803e" "00000040",
         "0000c0bf" "00000000" "0000803e" "00000040"),
        # a third in float16 is 0.333251953125
        ("float16", {}, "00be" "0000" "5535" "0040", "0000c0bf" "00000000" "00a0aa3e" "00000040"),
        # scale = float32(3.5 / 255): -1.5, -0.00392151, 0.25686276, 2.0
        ("int8", {"low": -1.5, "scale": 0.013725490309298038}, "00" "6d" "80" "ff",
         "0000c0bf" "008080bb" "8483833e" "00000040"),
    ],
)  # fmt: skip
def test_golden_values(codec, meta, data, golden):
    """The same bytes give the same float32 values, to the last bit, on every machine."""
    there = decode(codec, meta, bytes.fromhex(data), (4,))
    assert there.astype("<f4").tobytes().hex() == golden


def test_golden_bytes_of_a_picture():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    encoded = encode("uint8", picture)
    assert (encoded.data, encoded.meta) == (bytes(range(12)), {})
    assert np.array_equal(decode("uint8", {}, encoded.data, (2, 2, 3)), picture)


shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)
tensors = hnp.arrays(
    np.float32, shapes, elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
)


@settings(max_examples=150, deadline=None)
@given(tensors)
def test_decoding_is_as_close_as_the_codec_promises(x):
    span = float(x.max() - x.min())
    slack = 4e-7 * (float(np.abs(x).max()) + span)
    bounds = {
        "float32": 0.0,
        "float16": float(np.abs(x).max()) * 2**-11 + 2**-24,
        "int8": span / 510 + slack,
    }
    for codec, bound in bounds.items():
        encoded = encode(codec, x)
        assert len(encoded.data) == encoded_bytes(codec, x.shape)
        back = decode(codec, encoded.meta, encoded.data, x.shape)
        assert back.dtype == np.float32
        assert back.shape == x.shape
        assert np.abs(back - x).max() <= bound, codec


@settings(max_examples=50, deadline=None)
@given(tensors)
def test_a_batch_round_trip_is_the_wires_sample_by_sample(x):
    batch = np.stack([x, x[::-1] * np.float32(0.5)])
    for codec in ("float32", "float16", "int8"):
        seen = round_trip(codec, batch)
        for one, other in zip(batch, seen, strict=True):
            encoded = encode(codec, one)
            there = decode(codec, encoded.meta, encoded.data, one.shape)
            assert np.array_equal(there, other), codec


def test_a_constant_tensor_survives_int8():
    x = np.full((2, 3), -7.25, dtype=np.float32)
    encoded = encode("int8", x)
    assert np.array_equal(decode("int8", encoded.meta, encoded.data, (2, 3)), x)


@pytest.mark.parametrize("bad", [[0.0, np.nan], [0.0, np.inf], [-3e38, 3e38]])
def test_int8_refuses_what_it_cannot_carry(bad):
    with pytest.raises(UsageError, match="codec 'int8': found values from"):
        encode("int8", np.array(bad, dtype=np.float32))


@pytest.mark.parametrize("codec", FIXED)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_length_is_named(codec, change):
    size = encoded_bytes(codec, (3, 2))
    with pytest.raises(UsageError, match=f"found {size + change} bytes, expected {size}"):
        decode(codec, {"low": 0.0, "scale": 1.0}, bytes(size + change), (3, 2))


@pytest.mark.parametrize("meta", [{}, {"low": 0.0}, {"low": "0", "scale": 1.0}])
def test_missing_or_odd_figures_of_int8_are_named(meta):
    with pytest.raises(UsageError, match="codec 'int8': found (low|scale) = "):
        decode("int8", meta, bytes(2), (2,))


def test_an_unknown_codec_and_a_float_picture_are_refused():
    with pytest.raises(UsageError, match="codec: found 'zip', expected one of float32"):
        codec_named("zip")
    with pytest.raises(UsageError, match="found float32, expected a uint8 picture"):
        encode("uint8", VALUES)


def ranges_of(low, high):
    return Ranges(np.array([low, low], np.float32), np.array([high, high], np.float32))


TWO_CHANNELS = np.array([[[-1.0, -0.5, 1.0]], [[0.0, 1.5, 6.0]]], dtype=np.float32)
TWO_RANGES = ranges_of([-1.0, 0.0], [1.0, 6.0])


@pytest.mark.parametrize(
    ("codec", "golden"),
    [
        # scales 2/255 and 6/255: 0, round(63.75), 255 in both channels
        ("int8c", "0040ff" "0040ff"),
        # scales 2/15 and 6/15: levels 0 4 15 0 4 15, the first of two in the low half
        ("int4c", "40" "0f" "f4"),
    ],
)  # fmt: skip
def test_golden_bytes_of_calibrated_channels(codec, golden):
    encoded = encode(codec, TWO_CHANNELS, TWO_RANGES)
    assert (encoded.data.hex(), encoded.meta) == (golden, {})
    assert encoded_bytes(codec, TWO_CHANNELS.shape) == len(encoded.data)
    back = decode(codec, {}, encoded.data, TWO_CHANNELS.shape, TWO_RANGES)
    steps = (TWO_RANGES.high[0] - TWO_RANGES.low[0]) / (255 if codec == "int8c" else 15)
    assert np.all(np.abs(back - TWO_CHANNELS) <= steps[:, None, None] / 2 + 1e-6)


# zstd frames made once, of the levels "0040ff0040ff" and of a tensor that is mostly zeros
PACKED = "28b52ffd20063100000040ff0040ff"
SPARSE = "28b52ffd2040a50000400000000000f0007004004086a110d8f56b0023"


@pytest.mark.parametrize(
    ("codec", "data", "golden"),
    [
        ("int8c", "0040ff" "0040ff",
         "000080bf" "fefefebe" "0000803f" "00000000" "c1c0c03f" "0000c040"),
        ("int4c", "40" "0f" "f4",
         "000080bf" "eeeeeebe" "0000803f" "00000000" "cdcccc3f" "0000c040"),
        ("int8c+zstd", PACKED,
         "000080bf" "fefefebe" "0000803f" "00000000" "c1c0c03f" "0000c040"),
    ],
)  # fmt: skip
def test_golden_values_of_calibrated_channels(codec, data, golden):
    """-1, -0.498 or -0.467, 1 in one channel, 0, 1.506 or 1.6, 6 in the other: to the last bit."""
    there = decode(codec, {}, bytes.fromhex(data), TWO_CHANNELS.shape, TWO_RANGES)
    assert there.astype("<f4").tobytes().hex() == golden


def test_a_zstd_frame_made_elsewhere_unpacks():
    sparse = np.zeros((4, 4, 8), dtype=np.float32)
    sparse[::2, 1, 3] = 1.0
    sparse[1, :, 5] = np.float32(7.0) * (np.float32(1.0) / np.float32(15.0))
    ones = ranges_of([0.0] * 4, [1.0] * 4)
    there = decode("int4c+zstd", {}, bytes.fromhex(SPARSE), sparse.shape, ones)
    assert there.tobytes() == sparse.tobytes()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
                  elements=st.floats(-100, 100, width=32, allow_subnormal=False)))  # fmt: skip
def test_calibrated_channels_round_trip_as_on_the_wire(batch):
    ranges = calibrate(batch)
    for codec in ("int8c", "int4c", "int8c+zstd", "int4c+zstd"):
        seen = round_trip(codec, batch, ranges)
        for one, other in zip(batch, seen, strict=True):
            data = encode(codec, one, ranges).data
            assert np.array_equal(decode(codec, {}, data, one.shape, ranges), other), codec


def test_calibration_clips_where_that_errs_less():
    rng = np.random.default_rng(0)
    samples = rng.normal(0.0, 1.0, (400, 2, 8)).astype(np.float32)
    samples[0, 0, 0] = 40.0
    ranges = calibrate(samples)
    assert ranges.high[1][0] <= 20.0
    whole = ranges_of(samples.min(axis=(0, 2)), samples.max(axis=(0, 2)))
    clipped = np.square(round_trip("int4c", samples, ranges) - samples).mean()
    assert clipped <= np.square(round_trip("int4c", samples, whole) - samples).mean()


def test_calibrated_codecs_need_their_ranges():
    with pytest.raises(UsageError, match="codec 'int8c': found no calibrated ranges"):
        encode("int8c", TWO_CHANNELS)
    with pytest.raises(UsageError, match="found 2 channels, expected the 1"):
        encode("int8c", TWO_CHANNELS, ranges_of([0.0], [1.0]))


def test_packing_saves_on_zeros_and_refuses_other_lengths():
    sparse = np.zeros((1, 8, 40, 40), dtype=np.float32)[0]
    packed = encode("int8+zstd", sparse).data
    assert len(packed) < 100
    assert encoded_bytes("int8+zstd", sparse.shape) is None
    meta = {"low": 0.0, "scale": 0.0}
    assert np.array_equal(decode("int8+zstd", meta, packed, sparse.shape), sparse)
    with pytest.raises(UsageError, match="found 12800 bytes packed, expected 6"):
        decode("int8+zstd", meta, packed, (3, 2))
    with pytest.raises(UsageError, match="found no zstd frame"):
        decode("int8+zstd", meta, b"no frame at all", (3, 2))


def smooth_picture():
    y, x = np.mgrid[0:24, 0:32]
    return np.stack([4 * x, 5 * y, 2 * (x + y)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("codec", ["jpeg85", "webp85"])
def test_a_picture_survives_its_format(codec):
    picture = smooth_picture()
    data = encode(codec, picture).data
    assert encoded_bytes(codec, picture.shape) is None
    assert len(data) < picture.size
    back = decode(codec, {}, data, picture.shape)
    assert np.abs(back.astype(int) - picture).mean() < 3.0
    assert np.array_equal(back, decode(codec, {}, data, picture.shape))
    with pytest.raises(UsageError, match="found a picture of 32 x 24 .*expected 24 x 32"):
        decode(codec, {}, data, (32, 24, 3))
    with pytest.raises(UsageError, match=f"codec '{codec}': found no"):
        decode(codec, {}, data[: len(data) // 3], picture.shape)
    other = encode("webp85" if codec == "jpeg85" else "jpeg85", picture).data
    with pytest.raises(UsageError, match="found no"):
        decode(codec, {}, other, picture.shape)


GOLDEN_JPEG = (
    "ffd8ffe000104a46494600010100000100010000ffdb0043000503040404030504040405050506070c080707"
    "07070f0b0b090c110f1212110f111113161c1713141a1511111821181a1d1d1f1f1f13172224221e241c1e1f"
    "1effdb0043010505050706070e08080e1e1411141e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e"
    "1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1effc000110800080008030122000211010311"
    "01ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5100002010303"
    "020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f024"
    "33627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a63646566"
    "6768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7"
    "b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc400"
    "1f0100030101010101010101010000000000000102030405060708090a0bffc400b511000201020404030407"
    "05040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a"
    "162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a63646566676869"
    "6a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9"
    "bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9faffda000c030100"
    "02110311003f00e6be1f7c27ff0057fe8de9fc3451453c3d79f26e6dc25c51997f66c3df3fffd9"
)
GOLDEN_FIRST = [0, 0, 4]
GOLDEN_SUM = 20147


def test_a_jpeg_made_elsewhere_decodes_to_these_values():
    """Golden pixels of a JPEG made once: whoever decodes sees the same picture."""
    picture = decode("jpeg85", {}, bytes.fromhex(GOLDEN_JPEG), (8, 8, 3))
    assert picture[0, 0].tolist() == GOLDEN_FIRST
    assert int(picture.astype(int).sum()) == GOLDEN_SUM


# a gradient with blobs, 16 x 16: colours at half the resolution in both files
SUBSAMPLED_JPEG = (
    "ffd8ffe000104a46494600010100000100010000ffdb004300281c1e231e19282321232d2b28303c64413c37"
    "373c7b585d4964918099968f808c8aa0b4e6c3a0aadaad8a8cc8ffcbdaeef5ffffff9bc1fffffffaffe6fdff"
    "f8ffdb0043012b2d2d3c353c76414176f8a58ca5f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8"
    "f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8f8ffc000110800100010030122000211010311"
    "01ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5100002010303"
    "020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f024"
    "33627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a63646566"
    "6768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7"
    "b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc400"
    "1f0100030101010101010101010000000000000102030405060708090a0bffc400b511000201020404030407"
    "05040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a"
    "162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a63646566676869"
    "6a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9"
    "bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9faffda000c030100"
    "02110311003f00ab4bb4e33838fa51537da0edc6d19add04ee9e87ffd9"
)
GOLDEN_WEBP = (
    "524946463c000000574542505650382030000000f001009d012a1000100005407c25b000035f14786f0a0700"
    "00fe9c887b9244d1a741fe76ec4439574f40a2125e480000"
)


@pytest.mark.parametrize(
    ("codec", "data", "side", "digest"),
    [
        ("jpeg85", GOLDEN_JPEG, 8,
         "4423018aaba21c86925d93fd8dcf3bd97e8b80282282e3f61f125cbd0ad3af65"),
        ("jpeg20", SUBSAMPLED_JPEG, 16,
         "6ab2669bcdd09a9d90cd7cad3d80d3bc80acaf5bd72157382bcb4d167bddc782"),
        ("webp20", GOLDEN_WEBP, 16,
         "eba4f214e3a34330ca3f8f88c7eda2d7b55d882a0d8691d47a4ea58ff40eecbb"),
    ],
    ids=["jpeg", "subsampled jpeg", "webp"],
)  # fmt: skip
def test_every_pixel_of_a_picture_made_elsewhere(codec, data, side, digest):
    picture = decode(codec, {}, bytes.fromhex(data), (side, side, 3))
    assert (picture.shape, picture.dtype) == ((side, side, 3), np.uint8)
    assert hashlib.sha256(picture.tobytes()).hexdigest() == digest


@pytest.mark.parametrize(
    "name",
    [
        "jpeg0",
        "jpeg101",
        "jpeg",
        "webp1000",
        "zip",
        "uint8+zstd",
        "bottleneck+zstd",
        "int8+zstd+zstd",
        "int8" + 2000 * "+zstd",
        "+zstd",
        "",
    ],
)
def test_codecs_that_are_none(name):
    with pytest.raises(UsageError, match=f"codec: found '{re.escape(name)}'"):
        codec_named(name)


def test_ranges_do_not_depend_on_how_many_samples_are_looked_at_together(monkeypatch):
    samples = np.random.default_rng(5).gamma(1.0, 2.0, (40, 3, 6, 6)).astype(np.float32)
    together = calibrate(samples)
    monkeypatch.setattr(affine, "MOST_VALUES", 3 * 36 * 7)
    apart = calibrate(samples)
    assert np.array_equal(together.low, apart.low)
    assert np.array_equal(together.high, apart.high)
