"""Wire codecs: how a tensor or a picture becomes bytes at a cut, and what the other end sees.

- `interface`: what a codec is, and what both ends hold of a cut;
- `registry`: every codec's name, once; a codec is added by a file here and a line there;
- `floats` (`float32`, `float16`), `affine` (`int8`, range sent along; `int8c`, `int4c`, calibrated
  ranges), `picture` (`uint8`, `jpegQ`, `webpQ`), `tokens` (`ids16`, `ids32`), `sound` (`pcm16`,
  `mulaw`), `bottleneck` (learned, brought by a network);
- `packed`: `+zstd` behind a tensor's codec packs its bytes without loss;
- `examples`: what every codec is tried on, by its contract's tests and by fuzzing.

Sizes, facts and bytes are the codec object's; nothing elsewhere compares a codec's name.
"""

from models.codecs.bottleneck import LEARNED
from models.codecs.interface import Codec, Encoded, LatentNetworks, Ranges, Shared
from models.codecs.registry import codec_named, example_names, find_codec, known_codecs

__all__ = [
    "LEARNED",
    "Codec",
    "Encoded",
    "LatentNetworks",
    "Ranges",
    "Shared",
    "codec_named",
    "example_names",
    "find_codec",
    "known_codecs",
]
