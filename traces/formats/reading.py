"""What reading a trace needs and gives: options, what was understood, and what a format is."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from artefacts import ArtefactError, UsageError
from traces.formats.units import (
    RATE_UNIT_NAMES,
    TIME_UNIT_NAMES,
    RateUnit,
    TimeUnit,
    rate_unit,
    time_unit,
)
from traces.trace import BandwidthTrace

if TYPE_CHECKING:
    from traces.formats.source import Source

MAX_RATE_BPS = 1e12
LONGEST_S = 1e7
"""Of a trace (116 days): a stray stamp must not fill the memory."""
SHORTEST_USUAL_S = 1.0
SLOWEST_USUAL_BPS = 10e3
FASTEST_USUAL_BPS = 10e9

Direction = Literal["uplink", "downlink", "not said"]


class TraceQuestion(ArtefactError):
    """A file can be read in more than one way: names the readings, and the options to choose."""

    def __init__(self, path: Path, *, found: str, expected: str, line: int | None = None) -> None:
        where = "options of 'coinfer traces' info, plot and convert, which writes a CSV"
        super().__init__(path, found=found, expected=f"{expected} ({where})", line=line)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a caller knows of a file; None where the file shall say it.

    `time_unit` and `rate_unit` are spelt as in a header ('ms', 'Mbit/s', 'bytes'); `column` and
    `time_column` are names in a header, of the rate and of the time; `interval_s` is of files
    without times; `direction` chooses where a file has both.
    """

    format: str | None = None
    time_unit: str | None = None
    rate_unit: str | None = None
    column: str | None = None
    time_column: str | None = None
    interval_s: float | None = None
    direction: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any file is opened."""
        if self.time_unit is not None and time_unit(self.time_unit) is None:
            raise UsageError(f"--time-unit: found '{self.time_unit}', expected {TIME_UNIT_NAMES}")
        if self.rate_unit is not None and rate_unit(self.rate_unit) is None:
            raise UsageError(f"--rate-unit: found '{self.rate_unit}', expected {RATE_UNIT_NAMES}")
        if self.interval_s is not None and not 0 < self.interval_s <= LONGEST_S:
            raise UsageError(
                f"--interval: found {self.interval_s:g}, expected seconds above 0, at most "
                f"{LONGEST_S:g}"
            )
        if self.direction not in (None, "uplink", "downlink"):
            raise UsageError(f"--direction: found '{self.direction}', expected uplink or downlink")

    @property
    def time(self) -> TimeUnit | None:
        """The unit of time that was given."""
        return None if self.time_unit is None else time_unit(self.time_unit)

    @property
    def rate(self) -> RateUnit | None:
        """The unit of rate that was given."""
        return None if self.rate_unit is None else rate_unit(self.rate_unit)

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the fields that were given, the format aside."""
        named = [f.name for f in fields(self) if f.name != "format"]
        return tuple(name for name in named if getattr(self, name) is not None)


OPTION_NAMES = {
    "time_unit": "--time-unit",
    "rate_unit": "--rate-unit",
    "column": "--column",
    "time_column": "--time-column",
    "interval_s": "--interval",
    "direction": "--direction",
}
NO_OPTIONS = ReadOptions()


@dataclass(frozen=True, slots=True)
class Understood:
    """What a reader took a file to say.

    `time` and `rate` name the columns and their units, `layout` how columns are separated where
    that was found out; `interval_s` is the usual (median) one;
    `gaps` counts steps of more than three usual intervals, `gap_s` is their length together;
    `repeats` counts rows with the stamp of the row before; `turned` says that rows ran backwards.
    """

    format: str
    time: str
    rate: str
    direction: Direction
    interval_s: float
    layout: str = ""
    gaps: int = 0
    gap_s: float = 0.0
    repeats: int = 0
    turned: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """A trace and what was understood of its file."""

    trace: BandwidthTrace
    understood: Understood

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on how the file was read, then what is odd of the trace."""
        return (*self.understood.remarks, *oddities(self.trace))

    def with_remarks(self, remarks: tuple[str, ...]) -> Reading:
        """The same with more to remark."""
        known = replace(self.understood, remarks=(*self.understood.remarks, *remarks))
        return Reading(self.trace, known)


def number_of(number: int, what: str) -> str:
    """'1 row', '2 rows'."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def oddities(trace: BandwidthTrace) -> tuple[str, ...]:
    """What hardly any link's trace shows: a wrong unit looks like this."""
    found = []
    if trace.duration_s <= SHORTEST_USUAL_S:
        found.append(f"odd: it lasts {trace.duration_s:.3g} s (is the unit of the time right?)")
    mean = trace.mean_bps
    if mean < SLOWEST_USUAL_BPS:
        found.append(f"odd: a mean of {mean / 1e3:.3g} kbit/s (is the unit of the rate right?)")
    if mean > FASTEST_USUAL_BPS:
        found.append(f"odd: a mean of {mean / 1e9:.4g} Gbit/s (is the unit of the rate right?)")
    return tuple(found)


class Format(Protocol):
    """One format of trace files.

    Options that it does not obey are refused before it reads.
    """

    @property
    def name(self) -> str:
        """What `--format` takes."""

    @property
    def title(self) -> str:
        """What files of it look like, in a few words."""

    @property
    def options(self) -> frozenset[str]:
        """The fields of `ReadOptions` that it obeys."""

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """Whether the file looks like this format; raises for one outside the bounds alone."""

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Read it, or raise `ArtefactError` (of which `TraceQuestion` is one)."""


def checked_trace(
    path: Path, name: str, times_s: object, rates_bps: object, duration_s: float
) -> BandwidthTrace:
    """A trace; what cannot be one is refused with the file's name.

    `path` is the file, `name` the trace's. `times_s` (N,) are seconds that rise from 0, `rates_bps`
    (N,) the bit/s from each on, `duration_s` is the end. Raises an `ArtefactError`.
    """
    if duration_s > LONGEST_S:
        raise ArtefactError(
            path,
            found=f"a trace of {duration_s:g} s",
            expected=f"{LONGEST_S:g} s (116 days) at most: is a stamp or the time's unit wrong?",
        )
    try:
        return BandwidthTrace(name, times_s, rates_bps, duration_s)  # type: ignore[arg-type]
    except UsageError as error:
        raise ArtefactError(path, found=str(error), expected="a bandwidth trace") from None
