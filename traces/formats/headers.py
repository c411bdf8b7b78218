"""What the words of a header say: which column is a time, which a rate, in what unit and direction.

A word that is known but has no unit leaves the unit open; whoever reads the column must ask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from traces.formats.limits import short
from traces.formats.reading import Direction
from traces.formats.units import RateUnit, TimeUnit, is_rate, rate_unit, time_unit


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TIME_WORDS = _words(
    "time times timestamp timestamps ts t epoch unix unixtime date datetime clock elapsed moment"
)
RATE_WORDS = _words(
    "rate rates bitrate bitrates datarate throughput thruput tput goodput bandwidth bw thr"
)
UPLINK_WORDS = _words("ul uplink up upload upstream tx sent send transmitted")
DOWNLINK_WORDS = _words("dl downlink down download downstream rx received receive recv")
TOTAL_WORDS = _words("total cumulative cum cumul accumulated counter")
ASIDE_WORDS = _words(
    "max maximum min minimum avg average mean median peak std limit target requested offered"
)
"""Words of rates that are not taken unasked where another column may be the rate."""
OTHER_WORDS = _words(
    "rtt ping latency delay jitter loss lost interval duration gap age zone timezone frame frames "
    "error errors sample sampling packet packets retransmits retransmit retransmitted "
    "retransmission retransmissions retrans retr retx hz khz mhz ghz video quality buffer index id "
    "count number"
)
"""Words of columns that are neither a moment nor a link's rate, whatever stands beside them."""

LONGEST_SAID = 40
"""Characters of a name in a sentence."""
Role = Literal["time", "rate", "other"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a header; `unit` is None where the name does not say it."""

    index: int
    name: str
    role: Role
    time: TimeUnit | None = None
    rate: RateUnit | None = None
    direction: Direction = "not said"
    worded: bool = True
    """Whether a word says the role; a bare unit (`ms`, `min`) says less."""

    @property
    def is_aside(self) -> bool:
        """Whether it is a figure about a rate (`max_mbps`) rather than the rate."""
        return bool(set(words_of(self.name)) & ASIDE_WORDS)

    @property
    def said(self) -> str:
        """For people."""
        return (
            f"column '{short(self.name, LONGEST_SAID)}'"
            if self.name
            else f"column {self.index + 1}"
        )


def columns_of(names: Sequence[str]) -> tuple[Column, ...]:
    """Every column of a header, understood as far as its name goes."""
    shown = (short(name.replace("\xa0", " ").strip().strip("\"'").strip()) for name in names)
    return _columns(tuple(shown))


@lru_cache(maxsize=16)
def _columns(names: tuple[str, ...]) -> tuple[Column, ...]:
    """The same of names as they are shown; every format asks anew while a file is recognised."""
    return tuple(_column(index, name) for index, name in enumerate(names))


def words_of(name: str) -> list[str]:
    """The words of a column's name in lower case: split at signs, digits and capitals."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.split(r"[\W_]+", apart) if word]


def _column(index: int, name: str) -> Column:
    bare, unit_texts = _unit_texts(name)
    words = set(words_of(bare))
    rate = next((u for u in map(rate_unit, unit_texts) if u is not None), None)
    time = next((u for u in map(time_unit, unit_texts) if u is not None), None)
    if rate is None or rate.amount:
        rate = _amount(words, name, rate)
    role = _role(words, name, rate, time)
    if role == "other" and any(map(is_rate, unit_texts)) and not words & OTHER_WORDS:
        role = "rate"  # of a unit that is not clear
    if role == "time":
        return Column(index, name, "time", time=time, worded=bool(words & TIME_WORDS))
    if role == "other":
        return Column(index, name, "other", time=time)  # a caller may name it
    return Column(index, name, "rate", rate=_stated(words, rate), direction=_direction(words))


def _unit_texts(name: str) -> tuple[str, list[str]]:
    """The name without a bracketed unit, and what may spell the unit, likeliest first."""
    bracket = re.search(r"[(\[{](.*?)[)\]}]", name)
    if bracket is not None:
        bare = (name[: bracket.start()] + name[bracket.end() :]).strip()
        return bare or bracket[1], [bracket[1].strip().removeprefix("in ")]
    pieces = [p for p in re.split(r"[\s_\-,.:]+", name) if p]
    tails = ["_".join(pieces[-k:]) for k in (3, 2, 1) if k <= len(pieces)]
    camel = re.search(r"(?<=[a-z])([A-Z][A-Za-z/]*|(?:[kKMG]?[bB]ps))$", name)
    after_slash = name.split("/", 1)[1:] if "/" in name else []
    return name, [*tails, *after_slash, *([camel[1]] if camel else [])]


def _amount(words: set[str], name: str, unit: RateUnit | None) -> RateUnit | None:
    """The unit of an amount (`rx_bytes`), or of a counter where the name says so."""
    spelt = [word for word in ("bytes", "octets", "bits") if word in words]
    pieces = re.split(r"[\s_()\[\]]+", name)
    unit = unit or next((u for u in map(rate_unit, [*spelt, *pieces]) if u), None)
    if unit is None or not unit.amount or unit.total or not words & TOTAL_WORDS:
        return unit
    return RateUnit(f"total-{unit.name}", unit.bits, amount=True, total=True)


def _role(words: set[str], name: str, rate: RateUnit | None, time: TimeUnit | None) -> Role:
    if words & OTHER_WORDS:
        return "other"
    is_direction = words & (UPLINK_WORDS | DOWNLINK_WORDS)
    if rate is not None or words & RATE_WORDS:
        return "rate"
    if is_direction:
        return "rate" if words <= UPLINK_WORDS | DOWNLINK_WORDS | {"speed"} else "other"
    return "time" if words & TIME_WORDS or time_unit(name) is not None else "other"


def _stated(words: set[str], unit: RateUnit | None) -> RateUnit | None:
    """A rate's unit; 'throughput_mbit' is a rate, 'throughput_bytes' may be either and is open."""
    if unit is None or not unit.amount or unit.total or not words & RATE_WORDS:
        return unit
    return RateUnit(f"{unit.name}/s", unit.bits) if "bit" in unit.name else None


def _direction(words: set[str]) -> Direction:
    up, down = words & UPLINK_WORDS, words & DOWNLINK_WORDS
    if bool(up) == bool(down):
        return "not said"
    return "uplink" if up else "downlink"
