"""Files of bare columns, without a header: stamps and rates, rates alone, rates with their units.

Two bare columns mean ms and kbit/s to some (Oboe), seconds and Mbit/s to others (Pensieve). What
the numbers make impossible is ruled out; where two readings are left, the user is asked. A unit
that no option stated is said in a remark, with the option that reads the other one.
"""

from __future__ import annotations

import itertools
import re
from array import array
from dataclasses import dataclass

import numpy as np

from artefacts import ArtefactError
from artefacts.arrays import Floats
from traces.formats.limits import MOST_WORDED_ROWS, check_count
from traces.formats.numbers import bare_columns, bare_numbers, is_number, line_of, separator_of
from traces.formats.packets import may_be_packets
from traces.formats.reading import (
    LONGEST_S,
    MAX_RATE_BPS,
    Reading,
    ReadOptions,
    TraceQuestion,
)
from traces.formats.series import Rows, facts_of, from_lengths, stamped
from traces.formats.source import Source
from traces.formats.stamps import FIRST_EPOCH_MS, epoch_unit
from traces.formats.units import (
    KBIT_S,
    MBIT_S,
    MILLISECONDS,
    SECONDS,
    RateUnit,
    TimeUnit,
    rate_unit,
)

OBOE_LAST_CHUNK_MS = 1000.0
VALUE_UNIT_INTERVAL_S = 1.0
"""Of the NYU-METS set: one line a second."""
USUAL_MBPS = 10.0
"""Mean below which rates with fractions, beside seconds, are Mbit/s (Pensieve's)."""
ABSURD_MBPS = 1e4
"""No link of these sets has such a mean: beside ms a greater one is of kbit/s."""
LONG_STEP = 10.0
"""A step of more seconds may as well be one of ms."""
TWO_NUMBERS = "two numbers: a time that does not fall, a rate >= 0"
ONE_NUMBER = "one number, a rate >= 0"
_VALUE_UNIT = re.compile(r"(?P<value>[0-9.eE+]+)[\s,;]+(?P<unit>[A-Za-z]+(?:/[A-Za-z]+)?)[\s,;]*")
VALUE_UNIT = "a rate >= 0 and its unit, as '12.5,Mbits/sec'"

Pair = tuple[TimeUnit, RateUnit]
OBOE: Pair = (MILLISECONDS, KBIT_S)
PENSIEVE: Pair = (SECONDS, MBIT_S)


def possible_pairs(columns: Floats, options: ReadOptions) -> list[Pair]:
    """The readings that two columns (rows, 2) leave open, given what the caller knows."""
    times, rates = columns[:, 0], columns[:, 1]
    if options.given:
        clocks = [options.time] if options.time else _clocks(times)
        units = [options.rate] if options.rate else _units(rates)
        return list(itertools.product(clocks, units))
    if _in_chunks(times, rates):
        return [OBOE]
    clocks, units = _clocks(times), _units(rates)
    usual = [p for p in (OBOE, PENSIEVE) if p[0] in clocks and p[1] in units]
    if len(usual) == 2:
        return usual
    if not usual:
        return list(itertools.product(clocks, units))
    return [*usual, *_beside(usual[0], times, rates, clocks)]


def _in_chunks(times: Floats, rates: Floats) -> bool:
    """Whether every rate stands twice, at a chunk's start and end, in whole ms: Oboe's form."""
    if len(rates) % 2 or len(rates) < 4 or np.any(times != np.floor(times)):
        return False
    pairs = rates.reshape(-1, 2)
    return bool(np.all(pairs[:, 0] == pairs[:, 1]) and np.any(pairs[:, 0] != pairs[0, 0]))


def _clocks(times: Floats) -> list[TimeUnit]:
    """Units of time that are possible: no fraction of a ms, no time longer than a trace may be."""
    whole = not np.any(times != np.floor(times))
    clocks = []
    if whole and epoch_unit(float(times.min())) != SECONDS:
        clocks.append(MILLISECONDS)
    if times.max() - times.min() <= LONGEST_S and times.max() < FIRST_EPOCH_MS:
        clocks.append(SECONDS)
    return clocks


def _units(rates: Floats) -> list[RateUnit]:
    """Units of rate that are possible: not below 1 kbit/s throughout, not above 1 Tbit/s."""
    units = [] if 0 < rates.max() < 1 else [KBIT_S]
    return [*units, MBIT_S] if rates.max() * MBIT_S.bits <= MAX_RATE_BPS else units


def _beside(usual: Pair, times: Floats, rates: Floats, clocks: list[TimeUnit]) -> list[Pair]:
    """Readings as likely as the one usual pair that is left."""
    units = _units(rates)
    if usual == OBOE:
        fast = MBIT_S in units and rates.mean() < ABSURD_MBPS
        others = [(MILLISECONDS, MBIT_S)] if fast else []
        return [*others, (SECONDS, KBIT_S)] if SECONDS in clocks else others
    if KBIT_S in units and not _of_pensieve(rates):
        return [(SECONDS, KBIT_S)]
    step = float(np.median(np.abs(np.diff(times)))) if len(times) > 1 else 0.0
    in_ms = MILLISECONDS in clocks and KBIT_S not in units and step > LONG_STEP
    return [(MILLISECONDS, MBIT_S)] if in_ms else []


def _of_pensieve(rates: Floats) -> bool:
    """Whether rates have the size of that set's: a few Mbit/s, with fractions."""
    return bool(rates.mean() < USUAL_MBPS and np.any(rates != np.floor(rates)))


def _inferred(pair: Pair, options: ReadOptions) -> tuple[str, ...]:
    """What to say of units that neither the file nor the caller states."""
    if options.format is not None or (options.time and options.rate):
        return ()
    clock, unit = pair
    if options.rate:
        other = SECONDS if clock == MILLISECONDS else MILLISECONDS
        said = (
            f"no unit of the time is stated: {clock.name} are taken (or: --time-unit {other.name})"
        )
        return (said,)
    slow_or_fast = MBIT_S if unit == KBIT_S else KBIT_S
    return (
        f"no units are stated: {clock.name} and {unit.name} are taken (or: --time-unit "
        f"{clock.name} --rate-unit {slow_or_fast.name})",
    )


def _question(source: Source, columns: Floats, pairs: list[Pair]) -> ArtefactError:
    if not pairs:
        return source.error(
            "times and rates that some unit fits (--time-unit, --rate-unit)",
            found="two columns that are neither ms and kbit/s nor seconds and Mbit/s",
        )
    return TraceQuestion(
        source.path,
        found="two bare columns: " + " or ".join(_described(columns, pair) for pair in pairs),
        expected=" or ".join(_choice(p) for p in pairs),
    )


def _choice(pair: Pair) -> str:
    names = {OBOE: "--format oboe", PENSIEVE: "--format pensieve"}
    return names.get(pair, f"--time-unit {pair[0].name} --rate-unit {pair[1].name}")


def _described(columns: Floats, pair: Pair) -> str:
    """What the trace would be, roughly."""
    span = float(columns[:, 0].max() - columns[:, 0].min()) / pair[0].per_s
    mean = float(columns[:, 1].mean())
    return f"{pair[0].name} and {pair[1].name} ({span:.4g} s of {mean:.4g} {pair[1].name})"


def _two_columns(source: Source) -> Floats:
    """Both columns (rows, 2) of numbers >= 0; raises at the first line that is none."""
    columns = bare_numbers(source, 2, TWO_NUMBERS)
    bad = (columns < 0).any(axis=1)
    if np.any(bad):
        raise source.error(TWO_NUMBERS, line_of(source, int(np.flatnonzero(bad)[0])))
    return columns


@dataclass(frozen=True)
class NamedPair:
    """Two bare columns of a pair of units that has a name."""

    name: str
    title: str
    pair: Pair
    options: frozenset[str] = frozenset()

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """Where no other reading is left."""
        if bare_columns(source) != 2 or options.given:
            return False
        try:
            return possible_pairs(_two_columns(source), options) == [self.pair]
        except ArtefactError:
            return False

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Every row's rate holds to the next row's stamp; Oboe's last line lasts a second."""
        columns = _two_columns(source)
        if self.pair == OBOE:
            return _read_chunks(source, columns, options)
        return _read_pair(source, self.name, columns, self.pair, options)


class TwoColumns:
    """Two bare columns of any units, which the caller names."""

    name = "two-columns"
    title = "a time and a rate a line (--time-unit, --rate-unit)"
    options = frozenset({"time_unit", "rate_unit"})

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """Any two bare columns that have no certain name."""
        return bare_columns(source) == 2

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """As the caller's units say; asks where they leave more than one reading."""
        columns = _two_columns(source)
        pairs = possible_pairs(columns, options)
        if len(pairs) != 1:
            raise _question(source, columns, pairs)
        return _read_pair(source, self.name, columns, pairs[0], options)


def _read_pair(
    source: Source, name: str, columns: Floats, pair: Pair, options: ReadOptions
) -> Reading:
    clock, unit = pair
    per_row = " a row" if unit.amount and not unit.total else ""
    facts = facts_of(
        name,
        f"column 1, {clock.name}",
        f"column 2, {unit.name}{per_row}",
        "not said",
        *_inferred(pair, options),
        layout=separator_of(source).said,
    )
    rows = Rows(columns[:, 0], columns[:, 1], unit, lambda row: line_of(source, row), clock)
    return stamped(source, rows, facts)


def _read_chunks(source: Source, columns: Floats, options: ReadOptions) -> Reading:
    """Oboe: two lines a chunk; of lines with one stamp the last counts."""
    remarks = _inferred(OBOE, options)
    facts = facts_of("oboe", "column 1, ms", "column 2, kbit/s", "not said", *remarks)
    rows = Rows(
        columns[:, 0],
        columns[:, 1],
        KBIT_S,
        lambda row: line_of(source, row),
        MILLISECONDS,
        last_s=OBOE_LAST_CHUNK_MS / 1000.0,
        irregular=True,
    )
    return stamped(source, rows, facts)


class RateColumn:
    """One bare column of rates, a line every `--interval` seconds."""

    name = "column"
    title = "one column of rates (--interval, --rate-unit)"
    options = frozenset({"rate_unit", "interval_s"})

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """Any bare column that is no packet-delivery file."""
        return bare_columns(source) == 1

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Both the interval and the unit must be given: the file has neither."""
        values = bare_numbers(source, 1, ONE_NUMBER)[:, 0]
        bad = np.flatnonzero(values < 0)
        if len(bad):
            raise source.error(ONE_NUMBER, line_of(source, int(bad[0])))
        unit, step = options.rate, options.interval_s
        if unit is None or step is None:
            raise self._question(source, values, options)
        if unit.total:
            raise source.error("a rate or an amount a row", found="--rate-unit total-bytes")
        facts = facts_of(
            self.name,
            f"a line every {step:g} s (--interval)",
            f"column 1, {unit.name}" + (" a row" if unit.amount else ""),
        )
        rates = values * unit.bits / (step if unit.amount else 1.0)
        return from_lengths(source, np.full(len(values), step), rates, facts)

    def _question(self, source: Source, values: Floats, options: ReadOptions) -> TraceQuestion:
        missing = []
        if options.interval_s is None:
            missing.append(f"--interval SECONDS (1 makes it {len(values)} s)")
        if options.rate is None:
            mean = float(values.mean())
            missing.append(
                f"--rate-unit kbit/s (mean {mean / 1e3:.4g} Mbit/s) or --rate-unit Mbit/s "
                f"(mean {mean:.4g} Mbit/s)"
            )
        asked = " and ".join(missing)
        if options.given or not may_be_packets(values):
            return TraceQuestion(
                source.path, found="one bare column of rates, without a time", expected=asked
            )
        return TraceQuestion(
            source.path,
            found=f"one bare column of {len(values)} whole numbers that do not fall: the ms of "
            "packets, or rates",
            expected=f"--format mahimahi, or {asked}",
        )


class ValueUnit:
    """A rate and its unit a line, a line a second: the NYU-METS set's form."""

    name = "value-unit"
    title = "a rate and its unit a line (NYU-METS)"
    options = frozenset({"interval_s"})

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """The first line, or the one after a header, is a number and a unit of rate."""
        return any(_value_unit(line) is not None for _, line in source.head[:2])

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Each line has its own unit."""
        step = options.interval_s or VALUE_UNIT_INTERVAL_S
        rates, names = _rates_with_units(source)
        units = ", ".join(names)
        said = "stated by --interval" if options.interval_s else "as the NYU-METS set has"
        taken = f"no interval is stated: {step:g} s a line is taken (or: --interval)"
        facts = facts_of(
            self.name,
            f"a line every {step:g} s, {said}",
            f"column 1, {units}",
            "not said",
            *(() if options.interval_s or options.format else (taken,)),
        )
        return from_lengths(source, np.full(len(rates), step), rates, facts)


def _rates_with_units(source: Source) -> tuple[Floats, list[str]]:
    """Rates in bit/s, and the names of their units; a first line without digits is a header."""
    rates, names = array("d"), set()
    check_count(source.path, source.raw.count(b"\n"), "lines with units", MOST_WORDED_ROWS)
    for number, line in source.lines():
        row = _value_unit(line)
        if row is not None:
            rates.append(row[0] * row[1].bits)
            names.add(row[1].name)
        elif number > source.head[0][0] or any(c.isdigit() for c in line):
            raise source.error(VALUE_UNIT, number)
    return np.array(rates), sorted(names)


def _value_unit(line: str) -> tuple[float, RateUnit] | None:
    """The number and unit of a line such as '12.5,Mbits/sec'; None where it is none."""
    match = _VALUE_UNIT.fullmatch(line.strip())
    if match is None or not is_number(match["value"]):
        return None
    unit = rate_unit(match["unit"])
    return None if unit is None or unit.amount else (float(match["value"]), unit)
