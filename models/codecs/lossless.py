"""Packing without loss (zstd): pays for tensors behind an activation, whose zeros are many."""

from __future__ import annotations

import zstandard

from artefacts import UsageError

LEVEL = 3


def pack(data: bytes) -> bytes:
    """The bytes as a zstd frame that says how long they were."""
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(data)


def unpack(codec: str, data: bytes | memoryview, expected: int) -> bytes:
    """What was packed; refuses a frame of another length before unpacking it."""
    try:
        found = zstandard.get_frame_parameters(data).content_size
        if found != expected:
            raise UsageError(f"codec '{codec}': found {found} bytes packed, expected {expected}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=expected)
    except zstandard.ZstdError as error:
        raise UsageError(f"codec '{codec}': found no zstd frame ({error})") from None
