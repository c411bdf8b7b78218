"""Every codec's name, once.

A codec is added by a file beside this one, and by a line in `FAMILIES`. Command line, scenarios,
plans, the wire, judging, profiling, the contract's tests and fuzzing then know it.
"""

from __future__ import annotations

from functools import lru_cache

from artefacts import UsageError
from models.codecs import affine, bottleneck, floats, picture, sound, tokens
from models.codecs.interface import Codec, Family
from models.codecs.packed import SUFFIX, Packed

FAMILIES: tuple[Family, ...] = (
    *floats.FAMILIES,
    *affine.FAMILIES,
    *picture.FAMILIES,
    *tokens.FAMILIES,
    *sound.FAMILIES,
    *bottleneck.FAMILIES,
)


@lru_cache(maxsize=256)
def find_codec(name: str) -> Codec | None:
    """The codec of a name, packed where the name says so; None where there is none."""
    inner = name.removesuffix(SUFFIX)  # once: a hostile peer may write it a thousand times
    found = next((c for family in FAMILIES if (c := family.named(inner)) is not None), None)
    if found is None or inner == name:
        return found
    return Packed(found) if _is_packable(found) else None


def codec_named(name: str) -> Codec:
    """The codec of a name; a `UsageError` where there is none of that name."""
    found = find_codec(name)
    if found is None:
        raise UsageError(f"codec: found '{name}', expected one of {known_codecs()}")
    return found


def known_codecs() -> str:
    """Every codec's name as people write it, for messages and help."""
    packable = [f.shown for f in FAMILIES if _is_packable(codec_named(f.examples[0]))]
    others = [f.shown for f in FAMILIES if f.shown not in packable]
    first = f"{', '.join(packable)} (each also with {SUFFIX})"
    return f"{', '.join([first, *others[:-1]])} or {others[-1]}"


def example_names() -> tuple[str, ...]:
    """Names of codecs of every family, packed ones included: what a contract is held against."""
    plain = [name for family in FAMILIES for name in family.examples]
    return (*plain, *(name + SUFFIX for name in plain if _is_packable(codec_named(name))))


def _is_packable(codec: Codec) -> bool:
    """Whether packing serves: pictures and latents are small already, and what is unpacked must
    have a bound, which is the codec's fixed size.
    """
    return codec.carries == "tensor" and codec.size((1,)) is not None
