"""Units of time and of rate as people write them in headers, cells and options.

A spelling that can mean two units (`MBPS`, `mb/s`) is no unit here: whoever reads it must ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BITS_A_BYTE = 8.0


@dataclass(frozen=True, slots=True)
class RateUnit:
    """`bits` of one of it; an `amount` is counted a row, a `total` since the counter began."""

    name: str
    bits: float
    amount: bool = False
    total: bool = False


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """`per_s` of it are a second."""

    name: str
    per_s: float


SECONDS = TimeUnit("s", 1.0)
MILLISECONDS = TimeUnit("ms", 1e3)
MICROSECONDS = TimeUnit("us", 1e6)
NANOSECONDS = TimeUnit("ns", 1e9)
MINUTES = TimeUnit("min", 1.0 / 60.0)
KBIT_S = RateUnit("kbit/s", 1e3)
MBIT_S = RateUnit("Mbit/s", 1e6)
BYTES = RateUnit("bytes", BITS_A_BYTE, amount=True)
TOTAL_BYTES = RateUnit("total-bytes", BITS_A_BYTE, amount=True, total=True)
TIME_UNIT_NAMES = "s, ms, us, ns or min"
RATE_UNIT_NAMES = "bit/s, kbit/s, Mbit/s, Gbit/s, B/s, kB/s, MB/s, bytes (a row) or total-bytes"

_TIME_SPELLINGS = {
    "s sec secs second seconds": SECONDS,
    "ms msec msecs milli millis millisecond milliseconds": MILLISECONDS,
    "us µs μs usec usecs micro micros microsecond microseconds": MICROSECONDS,
    "ns nsec nsecs nano nanos nanosecond nanoseconds": NANOSECONDS,
    "min mins minute minutes": MINUTES,
}
_TIME = {word: unit for words, unit in _TIME_SPELLINGS.items() for word in words.split()}
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
_BINARY = {"ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}
_NAMES = {"kilo": "k", "mega": "m", "giga": "g", "tera": "t"}
_SHOWN = {"": "", "k": "k", "m": "M", "g": "G", "t": "T"}
_RATE = re.compile(
    r"(?P<prefix>kilo|mega|giga|tera|[kmgt]i|[kmgt])?(?P<kind>bits?|bytes?|octets?|b)"
    r"(?P<per>ps|(?:/|_per_|per|_)(?:s|secs?|seconds?))?",
    re.IGNORECASE,
)


def time_unit(text: str) -> TimeUnit | None:
    """The unit of time that `text` spells, or None."""
    return _TIME.get(text.strip().lower())


def rate_unit(text: str) -> RateUnit | None:
    """The unit of rate, or of an amount a row, that `text` spells; None where it is not clear."""
    word = re.sub(r"\s+", "_", text.strip())
    if word.lower() in ("total-bytes", "total_bytes"):
        return TOTAL_BYTES
    match = _RATE.fullmatch(word)
    if match is None:
        return None
    is_byte = _is_byte(match["kind"], word, match["per"] or "")
    if is_byte is None or (match["kind"] == "b" and not match["per"]):
        return None
    return _unit((match["prefix"] or "").lower(), is_byte, match["per"] is None)


def is_rate(text: str) -> bool:
    """Whether `text` spells some unit of rate, clear or not (`MBPS` is one of either kind)."""
    match = _RATE.fullmatch(re.sub(r"\s+", "_", text.strip()))
    return match is not None and match["per"] is not None


def _is_byte(kind: str, word: str, per: str) -> bool | None:
    """Whether bytes are meant; None where the letter's case leaves it open."""
    if len(kind) > 1:
        return not kind.lower().startswith("bit")
    letters = re.sub(r"[^A-Za-z]", "", word)
    if per and letters == letters.upper():
        return None  # MBPS, KB/S: written in capitals throughout
    if kind == "B":
        return True
    # 'mb/s' and 'kb/s' may be a lower-cased 'MB/s' and 'kB/s'; 'mbps' and 'Mb/s' are bits
    lowered = word == word.lower() and (word[0] in "kmgt" or "_" in per)
    return None if lowered and not per.endswith("ps") else False


def _unit(prefix: str, is_byte: bool, amount: bool) -> RateUnit:
    prefix = _NAMES.get(prefix, prefix)
    factor = _PREFIXES.get(prefix) or _BINARY[prefix]
    shown = _SHOWN.get(prefix, prefix.capitalize())
    bits = factor * (BITS_A_BYTE if is_byte else 1.0)
    if amount:
        name = (f"{shown}B" if prefix else "bytes") if is_byte else f"{shown}bit"
        return RateUnit(name, bits, amount=True)
    return RateUnit(f"{shown}{'B' if is_byte else 'bit'}/s", bits)
