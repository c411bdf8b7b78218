"""How long bytes take on a link: constant bandwidth, or many traces at once, with TCP's ramp.

All times are seconds on the trace's own clock, all functions broadcast over lanes. A transfer that
never ends (zero rate, or past the end of a log that is run without wrapping) ends at infinity.

**A trace as a link.** A trace is a rate r(t) that is constant within pieces. What it has let pass
until t is the integral C(t), which is linear within pieces and never falls. A first-come link that
begins n bytes at s is done with them at the earliest t with C(t) = C(s) + 8 n. That is the fluid
model of a server by cumulative curves (Le Boudec and Thiran, Network Calculus, 2001, chapter 1),
and exact for rates that are constant within pieces. So a transfer is one evaluation of C and one of
its inverse, whatever its length. Both need the piece that a time, or a number of bits, lies in. A
`TraceBank` lays all traces end to end on one axis of time and one of bits, so that lanes on
different traces are looked up together. It keeps, for an even grid of places, the piece to begin
from, and goes on from there: guide tables (Chen and Asau 1974; Devroye, Non-Uniform Random Variate
Generation, 1986, section III.2.4). A few steps do for almost all lookups, where a binary search
takes the logarithm of all pieces.

**TCP's window.** A sender may have only its congestion window under way, and hears of what arrived
one round trip later. The window begins at ten segments (RFC 6928) and doubles every round trip
while slow start lasts (RFC 5681, section 3.1). So a round ends when its window has passed the link
or one round trip after it began, whichever is later, and the next may send twice as much. After a
pause of `idle_reset_s` the window is stale, and a sender begins again from the first one (RFC 5681,
section 4.1; RFC 7661, an experiment, lets a sender that did not fill its window keep it for up to
five minutes). No losses are counted: once the window is wider than what the link takes in a round
trip, the trace's rate alone is the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from artefacts.arrays import Floats, Ints
from traces.trace import BandwidthTrace

GRID_PER_PIECE = 2
STEPS = 3


class Link(Protocol):
    """A first-come link: when does a transfer end, how much passes in an interval."""

    def transfer_end(self, start_s: Floats, n_bytes: Floats) -> Floats:
        """Time at which `n_bytes` that start at `start_s` have passed; inf if never."""

    def bytes_between(self, start_s: Floats, end_s: Floats) -> Floats:
        """Bytes that pass in [start_s, end_s); both finite."""

    def some(self, lanes: Ints) -> Link:
        """The link of the lanes at these flat indices only."""


@dataclass(frozen=True, slots=True)
class ConstantLink:
    """A link of constant bandwidth (scalar or one value a lane); planners' estimate."""

    rate_bps: Floats

    def transfer_end(self, start_s: Floats, n_bytes: Floats) -> Floats:
        """Start plus bytes over rate."""
        with np.errstate(divide="ignore", invalid="ignore"):
            spent = np.where(n_bytes > 0, 8.0 * n_bytes / self.rate_bps, 0.0)
        return np.asarray(start_s + spent, dtype=np.float64)

    def bytes_between(self, start_s: Floats, end_s: Floats) -> Floats:
        """Rate times time."""
        return np.asarray(self.rate_bps * np.maximum(end_s - start_s, 0.0) / 8.0)

    def some(self, lanes: Ints) -> ConstantLink:
        """Those lanes' rates; one rate is everybody's."""
        rate = np.asarray(self.rate_bps)
        return self if rate.size == 1 else ConstantLink(rate.take(lanes))


class TraceBank:
    """Many traces laid end to end on one axis, so that one binary search serves every lane.

    Trace k occupies [offset_k, offset_k + duration_k); times passed in and out are the trace's own.
    """

    def __init__(self, traces: Sequence[BandwidthTrace]) -> None:
        durations = np.array([t.duration_s for t in traces], dtype=np.float64)
        bits = np.array([t.cumulative_bits[-1] for t in traces], dtype=np.float64)
        self.durations_s: Floats = durations
        self.names = tuple(t.name for t in traces)
        self._offset_s = np.concatenate([[0.0], np.cumsum(durations)[:-1]])
        self._offset_bits = np.concatenate([[0.0], np.cumsum(bits)[:-1]])
        self._total_bits = bits
        edges = [
            np.append(t.times_s, t.duration_s)[:-1] + o
            for t, o in zip(traces, self._offset_s, strict=True)
        ]
        levels = [
            t.cumulative_bits[:-1] + o for t, o in zip(traces, self._offset_bits, strict=True)
        ]
        self._times_s = np.append(np.concatenate(edges), durations.sum())
        self._bits = np.append(np.concatenate(levels), bits.sum())
        self._rates_bps = np.append(np.concatenate([t.rates_bps for t in traces]), 0.0)
        # where nothing passes any number of bits over this rate is no time
        self._divisors_bps = np.where(self._rates_bps > 0, self._rates_bps, np.inf)
        self._ends_s = np.append(self._times_s[1:], np.inf)
        self._ends_bits = np.append(self._bits[1:], np.inf)
        # where to begin to look for the piece of a time: half a piece apart, so that few steps do
        pieces = len(self._rates_bps)
        self._grid_s = float(self._times_s[-1]) / (GRID_PER_PIECE * pieces)
        grid = np.arange(GRID_PER_PIECE * pieces + 1) * self._grid_s
        self._begin = np.searchsorted(self._times_s, grid, side="right") - 1
        # and the piece of a number of bits; a hair early, for what the slot's division rounds
        self._grid_bits = max(float(self._bits[-1]) / (GRID_PER_PIECE * pieces), 1e-300)
        grid = np.arange(GRID_PER_PIECE * pieces + 1) * (self._grid_bits * (1.0 - 1e-9))
        self._begin_bits = np.maximum(np.searchsorted(self._bits, grid, side="left") - 1, 0)

    def lanes(self, index: Ints) -> BankLink:
        """The link of lanes whose traces are `index` (any shape that broadcasts with the times)."""
        return BankLink(
            self,
            self._offset_s[index],
            self._offset_bits[index],
            self._total_bits[index],
            self.durations_s[index],
        )

    def cumulative(self, at_s: Floats) -> Floats:
        """Bits delivered before the bank's own time `at_s`."""
        return self.delivered(at_s, self.piece(at_s))

    def delivered(self, at_s: Floats, piece: Ints) -> Floats:
        """The same where the pieces of the times are known."""
        return np.asarray(
            self._bits.take(piece)
            + self._rates_bps.take(piece) * (at_s - self._times_s.take(piece))
        )

    def piece(self, at_s: Floats) -> Ints:
        """The piece that each time lies in."""
        slot = (at_s / self._grid_s).astype(np.int64)
        return _advanced(self._begin.take(slot, mode="clip"), self._ends_s, at_s, "right")

    def first_time(self, bits: Floats, piece: Ints) -> Floats:
        """Earliest own time at which `bits` have been delivered (bits within the bank's total).

        From `piece` on, at whose beginning no more than `bits` had been.
        """
        slot = np.minimum((bits / self._grid_bits).astype(np.int64), len(self._begin_bits) - 1)
        piece = np.maximum(piece, self._begin_bits.take(slot))
        piece = _advanced(piece, self._ends_bits, bits, "left")
        inside = (bits - self._bits.take(piece)) / self._divisors_bps.take(piece)
        return np.asarray(self._times_s.take(piece) + inside)


def _advanced(piece: Ints, ends: Floats, value: Floats, side: Literal["left", "right"]) -> Ints:
    """`np.searchsorted(ends, value, side)` for those who know a piece at or before it.

    A few steps from there do for almost all; the others are searched for.
    """
    for _ in range(STEPS):
        end = ends.take(piece)
        beyond = end <= value if side == "right" else end < value
        if not np.count_nonzero(beyond):
            return piece
        piece = piece + beyond
    end = ends.take(piece)
    far = np.flatnonzero(end <= value if side == "right" else end < value)
    piece.put(far, np.searchsorted(ends, value.take(far), side=side))
    return piece


@dataclass(frozen=True, slots=True)
class BankLink:
    """Lanes of a `TraceBank`; past a trace's end nothing passes (logs are never wrapped)."""

    bank: TraceBank
    offset_s: Floats
    offset_bits: Floats
    total_bits: Floats
    duration_s: Floats

    def _delivered(self, at_s: Floats) -> Floats:
        inside = np.minimum(np.maximum(at_s, 0.0), self.duration_s)
        bits = self.bank.cumulative(inside + self.offset_s) - self.offset_bits
        return np.minimum(bits, self.total_bits)

    def transfer_end(self, start_s: Floats, n_bytes: Floats) -> Floats:
        """Exact end of a transfer by integrating the trace; inf where the trace ends first."""
        own_s = np.minimum(np.maximum(start_s, 0.0), self.duration_s) + self.offset_s
        piece = self.bank.piece(own_s)
        before = np.minimum(self.bank.delivered(own_s, piece) - self.offset_bits, self.total_bits)
        target = before + 8.0 * n_bytes
        end = self.bank.first_time(np.minimum(target, self.total_bits) + self.offset_bits, piece)
        end = np.maximum(end - self.offset_s, start_s)
        np.putmask(end, target > self.total_bits * (1 + 1e-12), np.inf)
        return np.where(n_bytes > 0, end, start_s)

    def bytes_between(self, start_s: Floats, end_s: Floats) -> Floats:
        """Bytes that pass in [start_s, end_s)."""
        if np.shape(start_s) != np.shape(end_s):
            start_s, end_s = np.broadcast_arrays(start_s, end_s)
        before, after = self._delivered(np.array([start_s, end_s]))
        return np.asarray(np.maximum(after - before, 0.0) / 8.0)

    def some(self, lanes: Ints) -> BankLink:
        """Those lanes of the bank."""
        own = (self.offset_s, self.offset_bits, self.total_bits, self.duration_s)
        return BankLink(self.bank, *(value.take(lanes) for value in own))


@dataclass(frozen=True, slots=True)
class LinkModel:
    """What lies around the rate: propagation, headers, TCP's window and the send buffer.

    `message_bytes` is added to every message and `packet_bytes` to every `segment_bytes` of it
    (Ethernet, IP and TCP headers: 66 bytes on 1,448). TCP starts from `initial_window_bytes`
    (RFC 6928: ten segments), doubles it every round trip, and starts anew after `idle_reset_s`
    without sending (RFC 5681 section 4.1). A cancelled upload still owes up to
    `send_buffer_bytes` that were already handed to the kernel.
    """

    rtt_s: float = 0.0
    message_bytes: float = 0.0
    packet_bytes: float = 0.0
    segment_bytes: float = 1448.0
    initial_window_bytes: float = 14480.0
    idle_reset_s: float = 0.3
    send_buffer_bytes: float = 16384.0

    def on_wire(self, payload_bytes: Floats) -> Floats:
        """Bytes that cross the link for a message of `payload_bytes`; 0 for no message."""
        message = payload_bytes + self.message_bytes
        packets = np.ceil(message / self.segment_bytes)
        return np.where(payload_bytes > 0, message + packets * self.packet_bytes, 0.0)

    def rate_bps(self, payload_bytes: Floats, duration_s: Floats) -> Floats:
        """The link's own rate where a message of `payload_bytes` took `duration_s`."""
        return np.asarray(8.0 * self.on_wire(payload_bytes) / np.maximum(duration_s, 1e-6))

    def transfer_end(
        self, link: Link, start_s: Floats, wire_bytes: Floats, window_bytes: Floats | float
    ) -> Floats:
        """End of an upload that may send `window_bytes` in its first round trip, then double.

        It begins at `start_s` on `link` and has `wire_bytes` (headers included); the arrays have
        the lanes' shape. Without a round trip there is no ramp. The result is in seconds of the
        link's clock, infinity where it never ends.
        """
        if self.rtt_s <= 0.0:
            return link.transfer_end(start_s, wire_bytes)
        wider = (wire_bytes > window_bytes) & (start_s < np.inf)
        end = link.transfer_end(start_s, np.where(wider, window_bytes, wire_bytes))
        lanes = np.flatnonzero(wider)
        if len(lanes):
            window = np.broadcast_to(window_bytes, wider.shape).take(lanes)
            left = wire_bytes.take(lanes) - window
            at = np.maximum(end.take(lanes), start_s.take(lanes) + self.rtt_s)
            end.put(lanes, self._ramp_end(link.some(lanes), at, left, 2.0 * window))
        return end

    def _ramp_end(self, link: Link, at_s: Floats, left: Floats, window: Floats) -> Floats:
        """End of uploads that go on at `at_s` with `left` bytes under a window that doubles."""
        while np.any(left > window):
            sent = np.minimum(left, window)
            end = link.transfer_end(at_s, sent)
            left = left - sent
            at_s = np.where(left > 0, np.maximum(end, at_s + self.rtt_s), end)
            window = 2.0 * window
        return np.where(left > 0, link.transfer_end(at_s, left), at_s)

    def window_after(self, window_bytes: Floats, wire_bytes: Floats) -> Floats:
        """Window after an upload that began with `window_bytes`: doubled for every full round."""
        after = np.array(window_bytes, dtype=np.float64)
        lanes = np.flatnonzero(wire_bytes > window_bytes)
        window, wire = after.take(lanes), wire_bytes.take(lanes)
        rounds = np.ceil(np.log2(wire / window + 1.0)) - 1.0
        after.put(lanes, window * 2.0**rounds)
        return after


def ramp_s(wire_bytes: float, window_bytes: float, rtt_s: float, rate_bps: float) -> float:
    """Seconds of an upload on a link of constant rate: `LinkModel.transfer_end` for one transfer.

    From the first byte sent to the last one through; `window_bytes` may go in the first round trip.

    `wire_bytes` are all bytes with headers, `rtt_s` the round trip in seconds, `rate_bps` the
    link's rate in bit/s, above 0.
    """
    spent, left, window = 0.0, wire_bytes, window_bytes
    while left > window and rtt_s > 0:
        spent += max(8.0 * window / rate_bps, rtt_s)
        left -= window
        window *= 2.0
    return spent + 8.0 * left / rate_bps
