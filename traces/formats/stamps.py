"""Points in time as people write them in a cell: dates, times of day, and Unix times as numbers.

A date is `2019-12-01T13:47:32.5+01:00` and its kin (year first) or `2019.12.01_13.47.32`. A time
of day is `13:47:32.5`; where it falls by more than half a day, midnight has passed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from artefacts.arrays import Floats
from traces.formats.numbers import is_number
from traces.formats.units import (
    MICROSECONDS,
    MILLISECONDS,
    NANOSECONDS,
    SECONDS,
    TimeUnit,
)

Kind = Literal["number", "date", "time of day"]
_DATE = re.compile(
    r"\d{4}[-./]\d{1,2}[-./]\d{1,2}"
    r"(?:[T _]+\d{1,2}[:.]\d{2}[:.]\d{2}(?:[.,]\d+)?\s*(?:Z|UTC|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2}):(\d{2}(?:[.,]\d+)?)", re.ASCII)
_PARTS = re.compile(
    r"(\d{4})\D(\d{1,2})\D(\d{1,2})(?:[T _]+(\d{1,2})\D(\d{2})\D(\d{2})(?:[.,](\d+))?)?"
    r"\s*(Z|UTC|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
EPOCH_S = (9.4e8, 4.2e9)
"""Unix times of 2000 to 2103: a number in this range, times the unit, is one."""
FIRST_EPOCH_MS = 1e3 * EPOCH_S[0]
_EPOCH_UNITS = (SECONDS, MILLISECONDS, MICROSECONDS, NANOSECONDS)


class BadStampError(ValueError):
    """A cell that is no point in time of its column's kind, by its place among the cells."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def kind_of(cell: str) -> Kind | None:
    """What a time column's cell is, or None."""
    text = cell.strip()
    if is_number(text) or is_number(text.replace(",", ".", 1)):
        return "number"
    if _DATE.fullmatch(text):
        return "date"
    return "time of day" if _CLOCK.fullmatch(text) else None


def is_day(cell: str) -> bool:
    """Whether a cell is a date without a time of day."""
    text = cell.strip()
    return kind_of(text) == "date" and ":" not in text and "_" not in text and "T" not in text


def epoch_unit(stamp: float) -> TimeUnit | None:
    """The unit in which a number is a Unix time of this century; None where it is none."""
    for unit in _EPOCH_UNITS:
        if EPOCH_S[0] <= stamp / unit.per_s < EPOCH_S[1]:
            return unit
    return None


def dates_us(cells: Sequence[str]) -> npt.NDArray[np.int64]:
    """Microseconds since 1970 of dates; raises `BadStampError`, also where zones come and go."""
    found = np.empty(len(cells), dtype=np.int64)
    aware: bool | None = None
    for place, cell in enumerate(cells):
        moment = _date(cell.strip(), place)
        zoned = moment.tzinfo is not None
        if aware is not None and zoned != aware:
            raise BadStampError(place)
        aware = zoned
        since = moment - (_EPOCH_UTC if zoned else _EPOCH)
        found[place] = since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds
    return found


def _date(text: str, place: int) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    match = _PARTS.fullmatch(text)
    if match is None:
        raise BadStampError(place)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    zone = {"Z": "+00:00", "UTC": "+00:00", None: ""}.get(zone, zone)
    clock = f"T{int(hour):02d}:{minute}:{second}.{(fraction or '0')[:6]:0<6}" if hour else ""
    try:
        return datetime.fromisoformat(f"{year}-{int(month):02d}-{int(day):02d}{clock}{zone}")
    except ValueError:
        raise BadStampError(place) from None


def clocks_us(cells: Sequence[str]) -> Floats:
    """Microseconds since a midnight of times of day, counting on over the next ones."""
    found = np.empty(len(cells))
    for place, cell in enumerate(cells):
        match = _CLOCK.fullmatch(cell.strip())
        if match is None:
            raise BadStampError(place)
        hour, minute, second = match.groups()
        seconds = float(second.replace(",", "."))
        found[place] = round(1e6 * (3600 * int(hour) + 60 * int(minute) + seconds))
    return found


def over_midnight(stamps_us: Floats) -> Floats:
    """Times of day with a day added (or taken off) wherever midnight passes between two rows."""
    steps = np.diff(stamps_us)
    days = np.where(steps < -_DAY_US / 2, 1, np.where(steps > _DAY_US / 2, -1, 0))
    return np.asarray(stamps_us + _DAY_US * np.concatenate([[0], np.cumsum(days)]))
