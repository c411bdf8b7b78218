"""A request's JPEG file as the network's picture: its orientation, its bounds, its size.

The orientation is read from the file's EXIF segment (Exif 2.32: tag 0x0112 of the first image file
directory, TIFF 6.0). All metadata is left out before the decoder sees the file. Broken metadata
thus neither refuses a picture nor costs time. What a file would cost is known before it is decoded:
its pixels, and how often the decoder goes over them (its scans, ITU-T T.81).
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from artefacts import CoinferError, UsageError
from models.data.fitting import fitted
from models.facts.picture_fit import SQUASH, PictureFit, Placement

# pixels are counted before anything is decoded; Pillow's remark would stand in the log beside that
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

Pictures = npt.NDArray[np.uint8]

UPRIGHT = 1
ORIENTATION_TAG, SHORT, LONG = 0x0112, 3, 4
ENTRY_BYTES = 12
START_OF_IMAGE = b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE, JFIF, ADOBE = 0xDA, 0xD9, 0xE0, 0xEE
KINDS = {
    b"\x89PNG\r\n\x1a\n": "a PNG file",
    b"GIF8": "a GIF file",
    b"BM": "a BMP file",
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
}
"""How other pictures' files begin."""
WEBP_AT, BRAND_AT = slice(8, 12), slice(4, 12)
BRANDS = {b"ftypavif": "an AVIF file", b"ftypheic": "a HEIC file"}
SCAN, END = b"\xff\xda", b"\xff\xd9"
"""Neither occurs within coded pixels, whose 0xFF is followed by 0x00 or a restart mark."""
MOST_SCANS = 24
"""A progressive picture of three colours has 10 by the usual script, one of four has 18."""
BLOCK_BYTES = 16_384
"""So much is decoded between two looks at the clock."""
MOST_SEGMENTS = 4096
"""A file of 256 MiB of metadata has that many; each costs a few microseconds."""
BARE = {0x00, 0x01, *range(0xD0, 0xD8)}
"""What may follow 0xFF before the pixels without a length: no segment begins there."""
EXIF = b"Exif\0\0"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each orientation upright."""
SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A file whose bounds hold, without its metadata. Nothing of it is decoded yet."""

    bare: bytes
    orientation: int
    size: tuple[int, int]
    """(height, width) of the upright picture."""
    scans: int
    """At most so often the decoder goes over all of them."""

    @property
    def pixels(self) -> int:
        """Of the picture."""
        return self.size[0] * self.size[1]

    @property
    def work(self) -> int:
        """What decoding it costs: pixels times scans."""
        return self.pixels * self.scans


@dataclass(frozen=True, slots=True)
class JpegFiles:
    """Files of a request as they came, one a picture."""

    files: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.files)


def is_jpeg(data: bytes) -> bool:
    """Whether a body begins as a JPEG file does."""
    return data.startswith(START_OF_IMAGE + b"\xff")


def file_kind(data: bytes) -> str | None:
    """What a picture's file is, where its first bytes tell; None for anything else."""
    if is_jpeg(data):
        return "a JPEG file"
    if data.startswith(b"RIFF") and data[WEBP_AT] == b"WEBP":
        return "a WebP file"
    named = next((kind for start, kind in KINDS.items() if data.startswith(start)), None)
    return named or BRANDS.get(data[BRAND_AT])


def decode_once(size: tuple[int, int]) -> None:
    """Decode a small file to pictures of `size` (height, width): the first one loads the decoder.

    It took 10 ms, and later ones 1 ms (Pillow 13, one core of a PC).
    """
    written = io.BytesIO()
    Image.new("RGB", (16, 16)).save(written, "JPEG")
    decode_jpeg(inspect_jpeg(written.getvalue(), 16 * 16), size, lambda: False)


def inspect_jpeg(data: bytes, most_pixels: int) -> Jpeg:
    """What decoding a JPEG file would cost, from its segments alone.

    Raises `UsageError` for anything that is no JPEG file, has more than `most_pixels`, or has more
    than `MOST_SCANS` scans.
    """
    kind = file_kind(data)
    if kind is not None and not is_jpeg(data):
        raise UsageError(f"picture: found {kind}, expected a JPEG file")
    bare, orientation = split_metadata(data)
    scans = bare.count(SCAN)
    if scans > MOST_SCANS:
        raise UsageError(f"picture: found {scans:,} scans, expected at most {MOST_SCANS}")
    with _readable(), Image.open(io.BytesIO(bare), formats=("JPEG",)) as image:
        width, height = image.size
    if width * height > most_pixels:
        raise UsageError(
            f"picture: found {width} x {height} pixels, expected at most {most_pixels:,}"
        )
    size = (width, height) if orientation in SIDEWAYS else (height, width)
    return Jpeg(bare, orientation, size, max(scans, 1))


def decode_jpeg(
    found: Jpeg,
    size: tuple[int, int],
    over: Callable[[], bool] = lambda: False,
    fit: PictureFit = SQUASH,
) -> Pictures:
    """The file as an upright picture (H, W, 3), made to `fit` `size` (height, width).

    `over` is asked now and then whether its time is. Raises `UsageError` where it is, and for what
    cannot be decoded.
    """
    place, turn = fit.placed(found.size, size), TURNS.get(found.orientation)
    sideways = found.orientation in SIDEWAYS
    with _readable(), Image.open(_Reader(found.bare, over), formats=("JPEG",)) as image:
        image.decodermaxblock = BLOCK_BYTES
        # the decoder sees the picture as it is stored, so a sideways one has the other size; it
        # decodes at half, a quarter or an eighth where that is still larger
        image.draft("RGB", place.drawn[::-1] if sideways else place.drawn)
        whole = image.convert("RGB")
        if place.squashed:  # what is small is turned sooner
            whole = fitted(whole, Placement(size[::-1] if sideways else size))
        whole = whole if turn is None else whole.transpose(turn)
        return np.asarray(fitted(whole, place), dtype=np.uint8)


class _Reader(io.BytesIO):
    """A file that ends its reader when its time is over."""

    def __init__(self, data: bytes, over: Callable[[], bool]) -> None:
        super().__init__(data)
        self._over = over

    def read(self, size: int | None = -1, /) -> bytes:
        """Some bytes, or no more."""
        if self._over():
            raise UsageError("picture: found one that takes too long, expected its pixels in time")
        return super().read(size)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except CoinferError:
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds for a damaged file
        raise UsageError(
            f"picture: found no JPEG that can be read ({type(error).__name__})"
        ) from None


def split_metadata(data: bytes) -> tuple[bytes, int]:
    """The file without what only describes the picture, and its orientation (1: upright).

    Of the application segments JFIF's and Adobe's stay: the colours depend on them. What follows
    the picture's end goes too. What is no JPEG file comes back as it is. Raises `UsageError` for
    endless segments.
    """
    if not data.startswith(START_OF_IMAGE):
        return data, UPRIGHT
    kept, at, orientation = [START_OF_IMAGE], len(START_OF_IMAGE), UPRIGHT
    for _ in range(MOST_SEGMENTS):
        at = data.find(b"\xff", at)  # what lies between segments is passed over, as readers do
        if at < 0 or at + 4 > len(data):
            return b"".join(kept), orientation
        marker = data[at + 1]
        if marker == 0xFF:  # a byte of padding
            at += 1
            continue
        if marker in BARE:
            at += 2
            continue
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            end = data.find(END, at)
            return b"".join([*kept, data[at : end + 2] if end >= 0 else data[at:]]), orientation
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1 and orientation == UPRIGHT and data[at + 4 : at + 10] == EXIF:
            orientation = exif_orientation(data[at + 10 : stop])
        if marker in (JFIF, ADOBE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[at:stop])
        at = stop
    raise UsageError(
        f"picture: found more than {MOST_SEGMENTS:,} segments before the pixels, expected fewer"
    )


def exif_orientation(tiff: bytes) -> int:
    """The orientation (1 to 8) that an EXIF segment names; 1 where it names none that can be read.

    `tiff`: the segment behind its `Exif` mark, at most 64 KiB, read once from front to back.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return UPRIGHT
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    if first + 2 > len(tiff):
        return UPRIGHT
    (entries,) = struct.unpack_from(order + "H", tiff, first)
    last = min(first + 2 + ENTRY_BYTES * entries, len(tiff) - ENTRY_BYTES + 1)
    for at in range(first + 2, last, ENTRY_BYTES):
        tag, kind, count = struct.unpack_from(order + "HHI", tiff, at)
        if tag == ORIENTATION_TAG:
            if count != 1 or kind not in (SHORT, LONG):
                return UPRIGHT
            form = order + ("H" if kind == SHORT else "I")
            (found,) = struct.unpack_from(form, tiff, at + 8)
            return int(found) if found in TURNS else UPRIGHT
    return UPRIGHT
