"""WAV files: what Python writes is read, and nothing else costs more than a line."""

import io
import struct
import time
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artefacts import UsageError
from controller.daemon.inference.sound_files import MOST_CHUNKS, read_wav

pytestmark = pytest.mark.quick

SOUND = np.random.default_rng(0).integers(-32768, 32768, 50).astype(np.int16)


def wav(samples, channels=1, rate_hz=8000):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def chunk(name, body, length=None):
    return name + struct.pack("<I", len(body) if length is None else length) + body


FORMAT = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
SAMPLES = chunk(b"data", SOUND.tobytes())


def riff(*chunks):
    return b"RIFF\0\0\0\0WAVE" + b"".join(chunks)


def test_what_is_written_is_read():
    assert np.array_equal(read_wav(wav(SOUND), 8000, 50), SOUND)
    pair = np.stack([SOUND, np.zeros(50, np.int16)], axis=1)
    found = read_wav(wav(pair, 2), 8000, 50)
    assert np.array_equal(found, np.rint(SOUND / 2).astype(np.int16))


def test_other_chunks_are_passed_over_and_a_length_not_known_yet_is_the_rest():
    more = chunk(b"LIST", b"abc") + b"\0"
    extensible = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4) + b"\1\0"
    for made in (
        riff(more, chunk(b"fmt ", FORMAT), more, SAMPLES),
        riff(chunk(b"fmt ", extensible + bytes(14)), SAMPLES),
        riff(chunk(b"fmt ", FORMAT), chunk(b"data", SOUND.tobytes(), 0xFFFFFFFF)),
    ):
        assert np.array_equal(read_wav(made, 8000, 50), SOUND)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (b"", "expected a WAV file"),
        (b"RIFF\0\0\0\0AVI ", "expected a WAV file"),
        (riff(), "without samples"),
        (riff(SAMPLES), "without a format"),
        (riff(chunk(b"fmt ", FORMAT[:9]), SAMPLES), "a WAV format of 9 bytes"),
        (riff(chunk(b"fmt ", b"\3" + FORMAT[1:]), SAMPLES), "of format 3 and 16 bits"),
        (riff(chunk(b"fmt ", FORMAT[:2] + b"\0\0" + FORMAT[4:]), SAMPLES), "found 0 channels"),
        (riff(chunk(b"fmt ", FORMAT[:2] + b"\xff\xff" + FORMAT[4:]), SAMPLES), "found 65535 chan"),
        (wav(SOUND, rate_hz=16_000), "found 16,000 samples a second, expected 8,000"),
        (wav(np.zeros(51, np.int16)), "found 51 samples, expected 1 to 50"),
        (wav(np.zeros(0, np.int16)), "found 0 samples"),
    ],
)
def test_what_is_no_such_file_is_one_line(made, said):
    with pytest.raises(UsageError) as error:
        read_wav(made, 8000, 50)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_chunks_alone_costs_no_time():
    many = riff(*[chunk(b"LIST", b"")] * 1_000_000)
    begun_s = time.thread_time()
    with pytest.raises(UsageError, match="without samples"):
        read_wav(many, 8000, 50)
    assert time.thread_time() - begun_s < 0.1
    assert MOST_CHUNKS < 100


@given(data=st.binary(max_size=120))
def test_no_bytes_do_more_than_be_refused(data):
    for made in (data, riff(data), riff(chunk(b"fmt ", FORMAT), data)):
        try:
            assert 0 < len(read_wav(made, 8000, 50)) <= 50
        except UsageError as error:
            assert "\n" not in str(error)
