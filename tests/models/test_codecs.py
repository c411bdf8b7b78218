"""Codecs: golden bytes, error bounds, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from artefacts import UsageError
from models.codecs import CODECS, decode, encode, encoded_bytes, round_trip

VALUES = np.array([-1.5, 0.0, 0.25, 2.0], dtype=np.float32)


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


@pytest.mark.parametrize("codec", CODECS)
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
        encoded_bytes("zip", (1,))
    with pytest.raises(UsageError, match="found float32, expected a uint8 picture"):
        encode("uint8", VALUES)
