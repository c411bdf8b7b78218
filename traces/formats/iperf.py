"""What iperf3 prints: text (iperf2's too), and JSON (`-J`, `--json-stream`).

Directions are the client's: what it sends is the uplink. In text KBytes are 1024 bytes and Kbits
1000 bits, as iperf's own source counts. Intervals left out by `-O` are left out here too. What a
sender of UDP counts is what it offered: only the receiver's intervals say what passed.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from artefacts import ArtefactError, UsageError
from traces.formats import limits
from traces.formats.reading import Direction, Reading, ReadOptions, number_of
from traces.formats.series import facts_of, from_lengths
from traces.formats.source import Source, shown

_ROW = re.compile(
    r"\[\s*(?P<id>SUM|\d+)\](?:\[(?P<role>[RT]X)-(?P<side>[CS])\])?\s+"
    r"(?P<start>\d+\.\d+)\s*-\s*(?P<end>\d+\.\d+)\s+sec\s+"
    r"\S+\s+[KMGT]?Bytes\s+(?P<rate>\d+(?:\.\d+)?)\s+(?P<unit>[KMGT]?(?:bits|Bytes)/sec)(?P<rest>.*)",
    re.ASCII,
)
_BEGIN = re.compile(r"Server listening|Accepted connection|onnecting to")
_UDP = re.compile(r"Datagrams|UDP port", re.IGNORECASE)
_RECEIVED = re.compile(r"\d ms\s+-?\d+/\s*\d+")
"""Jitter and lost datagrams: only a receiver of UDP knows them."""
_SUMMARY = re.compile(r"\b(sender|receiver)\b")
_BITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BYTES = {"": 8.0, "K": 8.0 * 2**10, "M": 8.0 * 2**20, "G": 8.0 * 2**30, "T": 8.0 * 2**40}
_ROLES: dict[str, Direction] = {
    "TXC": "uplink", "RXS": "uplink", "RXC": "downlink", "TXS": "downlink"
}  # fmt: skip
JOIN_S = 0.02
"""Intervals follow on each other to within it: text has two decimals."""


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of one direction; `total` are sums of all streams."""

    direction: Direction
    start_s: float
    end_s: float
    rate_bps: float
    total: bool
    line: int
    offered: bool = False
    """Counted by a sender of UDP."""


def _passed(
    source: Source, found: list[Interval], options: ReadOptions
) -> tuple[list[Interval], list[str]]:
    """The intervals that say what passed, and what was left out; refused where none is left."""
    passed = [i for i in found if not i.offered]
    offered = {i.direction for i in found if i.offered}
    left = {i.direction for i in passed}
    if offered and (not passed or options.direction in offered - left):
        raise source.error(
            "the receiver's report of UDP (the other side's, or: iperf3 --get-server-output)",
            found="a sender's intervals of UDP: what it offered, not what passed",
        )
    alone = sorted(offered - left)
    said = [
        f"{d}: a sender of UDP counts what it offered, not what passed: left out" for d in alone
    ]
    return passed, said


def _chosen(source: Source, found: list[Interval], options: ReadOptions) -> list[Interval]:
    """Intervals of one direction: the caller's, or the uplink where there are both."""
    directions = {i.direction for i in found}
    wanted = options.direction or ("uplink" if len(directions) > 1 else None)
    if wanted is not None and wanted not in directions:
        raise UsageError(
            f"{source.path}, --direction: found {wanted}, expected one of the file's "
            f"({', '.join(sorted(directions))})"
        )
    return [i for i in found if wanted in (None, i.direction)]


def _trace(
    source: Source, name: str, found: list[Interval], options: ReadOptions, *remarks: str
) -> Reading:
    if not found:
        raise source.error("one or more (iperf3 -i)", found="a report without intervals")
    found, said = _passed(source, found, options)
    remarks = (*remarks, *said)
    chosen = _chosen(source, found, options)
    for before, after in itertools.pairwise(chosen):
        if abs(after.start_s - before.end_s) > JOIN_S:
            raise source.error(
                f"an interval from {before.end_s:g} s on (one report of one test)",
                after.line or None,
                found=f"one from {after.start_s:g} s on",
            )
    lengths = np.array([i.end_s - i.start_s for i in chosen])
    direction = chosen[0].direction
    if len({i.direction for i in found}) > 1:
        means = [
            f"{d} {np.mean([i.rate_bps for i in found if i.direction == d]) / 1e6:.4g} Mbit/s"
            for d in ("uplink", "downlink")
        ]
        taken = f"the file has both directions ({', '.join(means)}): the {direction} is taken"
        remarks = (*remarks, taken)
    facts = facts_of(name, "intervals in s", "bitrate as iperf gives it", direction, *remarks)
    rates = np.array([i.rate_bps for i in chosen])
    if not np.all(lengths > 0):
        raise source.error("intervals longer than 0 s", found=f"one of {lengths.min():g} s")
    return from_lengths(source, lengths, rates, facts)


class IperfText:
    """The report of `iperf3 -c` or `-s` (one test), or of iperf2."""

    name = "iperf3"
    title = "iperf3's text report"
    options = frozenset({"direction"})

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """A line of an interval near the beginning."""
        return any(_ROW.search(line) for _, line in source.head)

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """Sums where there are several streams; the closing summary is left out."""
        limits.check_report(source.path, source.raw)
        omitted = rows_seen = 0
        udp, direction = _is_udp(source), _text_direction(source)
        offered: list[Interval] = []
        tests: list[list[Interval]] = [[]]
        for number, line in source.lines():
            match = _ROW.search(line)
            if match is None:
                if _BEGIN.search(line) and tests[-1]:
                    tests.append([])
            elif "(omitted)" in match["rest"]:
                omitted += 1
            elif not _SUMMARY.search(match["rest"]):
                rows_seen += 1
                limits.check_count(source.path, rows_seen, "intervals", limits.MOST_INTERVALS)
                sends = udp and not _RECEIVED.search(match["rest"])
                (offered if sends else tests[-1]).append(_parsed(number, match, direction))
        tests = [rows for rows in tests if rows]
        if len(tests) > 1:
            raise source.error(
                "the report of one", tests[1][0].line, found=f"{len(tests)} tests in one report"
            )
        rows = tests[0] if tests else []
        found = _without_whole(_summed(rows))
        found += [replace(i, offered=True) for i in _summed(offered)]
        remarks = [f"{number_of(omitted, 'line')} that iperf marks as omitted (-O): left out"]
        return _trace(source, self.name, found, options, *remarks[: bool(omitted)])


def _is_udp(source: Source) -> bool:
    """Whether a report is of UDP, by its header or by a row with lost datagrams."""
    rows = (_UDP.search(line) or _RECEIVED.search(line) for _, line in source.lines())
    return any(rows)


def _text_direction(source: Source) -> Direction:
    """The direction of a report without roles, of its own words."""
    server = client = reverse = False
    last = ""
    for _, line in source.lines():
        server = server or "Server listening" in line
        client = client or "onnecting to" in line
        reverse = reverse or "Reverse mode" in line
        summary = _SUMMARY.search(line) if _ROW.search(line) else None
        last = summary[1] if summary else last
    if server and not client:
        ends: dict[str, Direction] = {"receiver": "uplink", "sender": "downlink"}
        return ends.get(last, "not said")
    if not client:
        return "not said"
    return "downlink" if reverse else "uplink"


def _parsed(number: int, match: re.Match[str], direction: Direction) -> Interval:
    """A line's interval, of the direction that its role says, or else of the report's."""
    role = f"{match['role']}{match['side']}" if match["role"] else ""
    return Interval(
        _ROLES.get(role, direction),
        float(match["start"]),
        float(match["end"]),
        float(match["rate"]) * _factor(match["unit"]),
        match["id"] == "SUM",
        number,
    )


def _summed(parsed: list[Interval]) -> list[Interval]:
    """One interval a direction and time: iperf's own sum, or the sum of the streams."""
    if any(interval.total for interval in parsed):
        parsed = [interval for interval in parsed if interval.total]
    merged: dict[tuple[Direction, float, float], Interval] = {}
    for one in parsed:
        key = (one.direction, one.start_s, one.end_s)
        other = merged.get(key)
        rate = one.rate_bps + (other.rate_bps if other else 0.0)
        merged[key] = Interval(*key, rate, one.total, other.line if other else one.line)
    return list(merged.values())


def _factor(unit: str) -> float:
    """Bits a second of '[KMGT]bits/sec' or '[KMGT]Bytes/sec'."""
    table, word = (_BITS, "bits") if "bits" in unit else (_BYTES, "Bytes")
    return table[unit.split(word)[0]]


def _without_whole(found: list[Interval]) -> list[Interval]:
    """Without iperf2's closing line, which spans all the others."""
    if len(found) < 3:
        return found
    last, first = found[-1], found[0]
    spans = last.start_s == first.start_s and last.end_s >= found[-2].end_s - JOIN_S
    return found[:-1] if spans else found


class _Sum(msgspec.Struct, frozen=True):
    start: float
    end: float
    bits_per_second: float
    bytes: float | None = None
    omitted: bool = False
    sender: bool | None = None
    packets: int | None = None
    jitter_ms: float | None = None


class _Interval(msgspec.Struct, frozen=True):
    sum: _Sum | None = None
    sum_bidir_reverse: _Sum | None = None


class _Test(msgspec.Struct, frozen=True):
    reverse: int = 0
    protocol: str = ""


class _Peer(msgspec.Struct, frozen=True):
    """Only whether there is one counts."""


class _Start(msgspec.Struct, frozen=True):
    connecting_to: _Peer | None = None
    accepted_connection: _Peer | None = None
    test_start: _Test = _Test()


class _Report(msgspec.Struct, frozen=True):
    start: _Start = _Start()
    intervals: list[_Interval] = []
    error: str | None = None
    server_output_json: _Report | None = None
    server_output_text: str | None = None


class _Event(msgspec.Struct, frozen=True):
    event: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class IperfJson:
    """The report of `iperf3 -J`, client's or server's, or of `--json-stream`."""

    name = "iperf3-json"
    title = "iperf3's JSON report (-J)"
    options = frozenset({"direction"})

    def claims(self, source: Source, options: ReadOptions) -> bool:
        """An object in JSON."""
        return source.head[0][1].startswith("{")

    def read(self, source: Source, options: ReadOptions) -> Reading:
        """The sums of intervals; bytes are conserved."""
        report = _report(source)
        found, omitted = _json_intervals(source, report)
        if found and all(interval.offered for interval in found):
            if report.server_output_json is not None:
                found, omitted = _json_intervals(source, report.server_output_json)
            elif report.server_output_text is not None:
                return self._of_server(source, report.server_output_text, options)
        if report.error is not None and not found:
            raise source.error("a report with intervals", found=f"the error {shown(report.error)}")
        remarks = [f"{number_of(omitted, 'interval')} that iperf marks as omitted (-O): left out"]
        return _trace(source, self.name, found, options, *remarks[: bool(omitted)])

    def _of_server(self, source: Source, text: str, options: ReadOptions) -> Reading:
        """The server's report in words that `--get-server-output` puts into the client's."""
        if not text.strip():
            raise source.error("the server's report", found="an empty server_output_text")
        raw = text.encode()
        limits.check(source.path, raw)
        inner = IperfText().read(replace(source, raw=raw, comment=""), options)
        return Reading(inner.trace, replace(inner.understood, format=self.name))


def _json_intervals(source: Source, report: _Report) -> tuple[list[Interval], int]:
    """The intervals of a report, and how many were left out as omitted."""
    found = []
    omitted = 0
    for interval in report.intervals:
        for total, forward in ((interval.sum, True), (interval.sum_bidir_reverse, False)):
            if total is None:
                continue
            omitted += total.omitted
            if not total.omitted:
                found.append(_json_interval(source, report.start, total, forward))
    return found, omitted


def _report(source: Source) -> _Report:
    try:
        first = msgspec.json.decode(source.head[0][1], type=_Event) if source.head[1:] else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        first = None
    try:
        if first is not None and first.event:
            return _streamed(source)
        return msgspec.json.decode(source.raw, type=_Report)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtefactError(
            source.path,
            found=limits.short(str(error), 160),
            expected="one iperf3 report in JSON (-J)",
        ) from None


def _streamed(source: Source) -> _Report:
    """The events of `--json-stream`, one a line."""
    start, intervals, failed = _Start(), [], None
    for _, line in source.lines():
        event = msgspec.json.decode(line, type=_Event)
        if event.event == "start":
            start = msgspec.json.decode(event.data, type=_Start)
        elif event.event == "interval":
            intervals.append(msgspec.json.decode(event.data, type=_Interval))
        elif event.event == "error":
            said = bytes(memoryview(event.data)[: limits.LONGEST_LINE_BYTES])
            failed = said.decode("utf-8", "replace").strip('"')
    return _Report(start, intervals, failed)


def _json_interval(source: Source, start: _Start, total: _Sum, forward: bool) -> Interval:
    server = start.accepted_connection is not None and start.connecting_to is None
    sends = total.sender
    if sends is None:  # an older iperf3 does not say it in its sums
        sends = (bool(start.test_start.reverse) == server) == forward
    length = total.end - total.start
    if not (0 < length < np.inf and total.bits_per_second >= 0):
        raise source.error("intervals longer than 0 s and bits_per_second >= 0", found=str(total))
    rate = total.bits_per_second if total.bytes is None else 8.0 * total.bytes / length
    direction: Direction = "uplink" if sends != server else "downlink"
    udp = start.test_start.protocol.upper() == "UDP" or total.packets is not None
    offered = udp and (sends if start.test_start.protocol else total.jitter_ms is None)
    return Interval(direction, total.start, total.end, rate, True, 0, offered)
