"""A WAV file's samples, read with bounds: 16-bit PCM of any number of channels up to eight.

RIFF (Microsoft, "Multimedia Programming Interface and Data Specifications 1.0"): chunks of a name,
a length and contents; `fmt ` says what `data` holds. Every length is held against the file's own.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from artefacts import UsageError

MOST_CHUNKS = 64
"""Before the samples; real files have two to five."""
MOST_CHANNELS = 8
PCM, EXTENSIBLE = 1, 0xFFFE
"""Of a format: plain samples; or samples whose kind stands further behind."""
FORMAT = struct.Struct("<HHIIHH")
SUBFORMAT_AT = slice(24, 26)


def is_wav(data: bytes) -> bool:
    """Whether a file begins as a WAV file does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WAVE"


def read_wav(data: bytes, rate_hz: int, most_samples: int) -> npt.NDArray[np.int16]:
    """A file's samples (T,), channels averaged.

    Raises `UsageError` for what is no WAV file of 16-bit PCM at `rate_hz`, and for one of more than
    `most_samples` a channel, before any is taken.
    """
    if not is_wav(data):
        raise UsageError(f"sound: found a file that begins {data[:12]!r}, expected a WAV file")
    channels = 0
    at = 12
    for _ in range(MOST_CHUNKS):
        if at + 8 > len(data):
            break
        name, (length,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        body = at + 8
        if name == b"fmt ":
            channels = _channels(data[body : body + min(length, 64)], rate_hz)
        elif name == b"data":
            if not channels:
                raise UsageError("sound: found a WAV file without a format before its samples")
            # a file that is written as it is recorded does not know how long it is going to be
            stop = min(body + length, len(data))
            return _samples(data, body, stop, channels, most_samples)
        at = body + length + length % 2
    raise UsageError("sound: found a WAV file without samples, expected some")


def _channels(form: bytes, rate_hz: int) -> int:
    """How many a format has; refuses one that is not taken."""
    if len(form) < FORMAT.size:
        raise UsageError(f"sound: found a WAV format of {len(form)} bytes, expected 16 or more")
    kind, channels, rate, _, _, bits = FORMAT.unpack_from(form)
    if kind == EXTENSIBLE:
        kind = int.from_bytes(form[SUBFORMAT_AT], "little")
    if kind != PCM or bits != 16:
        raise UsageError(
            f"sound: found a WAV file of format {kind} and {bits} bits, expected 16-bit PCM"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise UsageError(f"sound: found {channels} channels, expected 1 to {MOST_CHANNELS}")
    if rate != rate_hz:
        raise UsageError(f"sound: found {rate:,} samples a second, expected {rate_hz:,}")
    return int(channels)


def _samples(data: bytes, start: int, stop: int, channels: int, most: int) -> npt.NDArray[np.int16]:
    count = (stop - start) // (2 * channels)
    if not 0 < count <= most:
        raise UsageError(f"sound: found {count:,} samples, expected 1 to {most:,}")
    found = np.frombuffer(data, "<i2", count * channels, start).reshape(count, channels)
    if channels == 1:
        return found[:, 0].astype(np.int16)
    mixed: npt.NDArray[np.int16] = np.rint(found.mean(axis=1)).astype(np.int16)
    return mixed
