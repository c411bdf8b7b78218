"""`BandwidthTrace`: piecewise-constant bandwidth over time, and exact integrals of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import UsageError, digest_bytes
from artefacts.arrays import Floats

PastEnd = Literal["wrap", "stop"]


@dataclass(frozen=True, eq=False)
class BandwidthTrace:
    """An immutable, piecewise-constant rate.

    Piece k holds `rates_bps[k]` (bit/s, >= 0) from `times_s[k]` to the next piece's start; the
    first piece starts at 0 and the last ends at `duration_s`. What happens past the end is said at
    every call: `wrap` repeats the trace, `stop` lets nothing more pass.
    """

    name: str
    times_s: Floats
    rates_bps: Floats
    duration_s: float
    log: str = ""
    """Digest of the log whose seconds were made uneven (none: the trace is as it was logged)."""

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        times = np.array(self.times_s, dtype=np.float64)
        rates = np.array(self.rates_bps, dtype=np.float64)
        if times.ndim != 1 or times.shape != rates.shape or not len(times):
            raise UsageError(
                f"trace '{self.name}': found times of shape {times.shape} and rates of shape "
                f"{rates.shape}, expected two equally long rows of numbers"
            )
        edges = np.append(times, self.duration_s)
        if times[0] != 0 or not np.all(np.isfinite(edges)) or np.any(np.diff(edges) <= 0):
            raise UsageError(
                f"trace '{self.name}': found times that do not rise from 0 to the duration "
                f"{self.duration_s} s, expected strictly rising finite times"
            )
        if not np.all(np.isfinite(rates)) or np.any(rates < 0):
            raise UsageError(
                f"trace '{self.name}': found a negative or infinite rate, expected bit/s >= 0"
            )
        times.setflags(write=False)
        rates.setflags(write=False)
        object.__setattr__(self, "times_s", times)
        object.__setattr__(self, "rates_bps", rates)
        object.__setattr__(self, "duration_s", float(self.duration_s))

    @classmethod
    def from_intervals(cls, name: str, lengths_s: Any, rates_bps: Any) -> BandwidthTrace:
        """A trace of consecutive pieces given by their lengths."""
        edges = np.concatenate([[0.0], np.cumsum(np.asarray(lengths_s, dtype=np.float64))])
        return cls(name, edges[:-1], np.asarray(rates_bps, dtype=np.float64), float(edges[-1]))

    @cached_property
    def cumulative_bits(self) -> Floats:
        """Bits delivered before each piece, and by the end: length pieces + 1."""
        lengths = np.diff(np.append(self.times_s, self.duration_s))
        bits = np.concatenate([[0.0], np.cumsum(lengths * self.rates_bps)])
        bits.setflags(write=False)
        return bits

    @property
    def total_bytes(self) -> float:
        """Bytes that pass in one run of the trace."""
        return float(self.cumulative_bits[-1]) / 8.0

    @property
    def mean_bps(self) -> float:
        """Time-weighted mean rate."""
        return float(self.cumulative_bits[-1]) / self.duration_s

    def bits_before(self, t_s: npt.ArrayLike, past_end: PastEnd) -> Floats:
        """Bits delivered in [0, t); scalar or array."""
        t = np.asarray(t_s, dtype=np.float64)
        total = self.cumulative_bits[-1]
        if past_end == "wrap":
            laps = np.floor(t / self.duration_s)
            return np.asarray(laps * total + self._within(t - laps * self.duration_s))
        return self._within(np.minimum(t, self.duration_s))

    def bytes_between(
        self, start_s: npt.ArrayLike, end_s: npt.ArrayLike, past_end: PastEnd
    ) -> Floats:
        """Bytes that pass in [start, end); scalar or array."""
        passed = self.bits_before(end_s, past_end) - self.bits_before(start_s, past_end)
        return np.maximum(passed, 0.0) / 8.0

    def transfer_end(
        self, start_s: npt.ArrayLike, n_bytes: npt.ArrayLike, past_end: PastEnd
    ) -> Floats:
        """Earliest time at which `n_bytes` that start at `start_s` have passed; inf if never.

        Exact for any start >= 0 and any number of zero-rate pieces; scalar or array.
        """
        start = np.asarray(start_s, dtype=np.float64)
        size = np.asarray(n_bytes, dtype=np.float64)
        total = float(self.cumulative_bits[-1])
        target = self.bits_before(start, past_end) + 8.0 * size
        if past_end == "stop":
            end = np.where(target > total, np.inf, self._first_time(np.minimum(target, total)))
        elif total > 0:
            # a target that falls on a lap's last bit belongs to that lap, not to the next's start
            laps = np.maximum(np.ceil(target / total) - 1.0, 0.0)
            end = laps * self.duration_s + self._first_time(
                np.clip(target - laps * total, 0.0, total)
            )
        else:
            end = np.full(np.broadcast(start, size).shape, np.inf)
        return np.where(size > 0, np.maximum(end, start), start)

    def slice(self, start_s: float, end_s: float) -> BandwidthTrace:
        """The part [start, end), its own time beginning at 0."""
        if not 0 <= start_s < end_s <= self.duration_s:
            raise UsageError(
                f"trace '{self.name}': found a slice [{start_s}, {end_s}) s, expected it within "
                f"[0, {self.duration_s}) s"
            )
        first = int(np.searchsorted(self.times_s, start_s, side="right")) - 1
        last = int(np.searchsorted(self.times_s, end_s, side="left"))
        times = np.maximum(self.times_s[first:last], start_s) - start_s
        return BandwidthTrace(self.name, times, self.rates_bps[first:last], end_s - start_s)

    def scale(self, factor: float) -> BandwidthTrace:
        """The same moments at `factor` times the rate."""
        if not (np.isfinite(factor) and factor > 0):
            raise UsageError(f"trace scale: found {factor}, expected a finite number above 0")
        return BandwidthTrace(self.name, self.times_s, self.rates_bps * factor, self.duration_s)

    def resample(self, step_s: float) -> BandwidthTrace:
        """On a grid of `step_s` (the last piece may be shorter); bytes are conserved."""
        if not (np.isfinite(step_s) and step_s > 0):
            raise UsageError(f"trace grid: found {step_s} s, expected a finite number above 0")
        edges = np.arange(0.0, self.duration_s, step_s)
        if len(edges) > 1 and self.duration_s - edges[-1] < 1e-9:
            edges = edges[:-1]
        edges = np.append(edges, self.duration_s)
        bits = np.diff(self._within(edges))
        return BandwidthTrace(
            self.name, edges[:-1], np.maximum(bits, 0.0) / np.diff(edges), self.duration_s
        )

    def _within(self, t: Floats) -> Floats:
        piece = np.searchsorted(self.times_s, t, side="right") - 1
        piece = np.clip(piece, 0, len(self.rates_bps) - 1)
        bits = self.cumulative_bits[piece] + self.rates_bps[piece] * (t - self.times_s[piece])
        return np.asarray(np.minimum(bits, self.cumulative_bits[-1]))

    def _first_time(self, bits: Floats) -> Floats:
        edges = np.append(self.times_s, self.duration_s)
        boundary = np.searchsorted(self.cumulative_bits, bits, side="left")
        piece = np.clip(boundary - 1, 0, len(self.rates_bps) - 1)
        rate = self.rates_bps[piece]
        safe = np.where(rate > 0, rate, 1.0)
        inside = np.where(rate > 0, (bits - self.cumulative_bits[piece]) / safe, 0.0)
        return np.asarray(np.minimum(edges[piece] + inside, edges[piece + 1]))


def trace_digest(trace: BandwidthTrace) -> str:
    """SHA-256 of what a trace says, its name aside."""
    digest = hashlib.sha256(repr(trace.duration_s).encode())
    for array in (trace.times_s, trace.rates_bps):
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()


def log_digest(trace: BandwidthTrace) -> str:
    """SHA-256 of the log that a trace is of, whether its seconds were made uneven or not."""
    return trace.log or trace_digest(trace)


def traces_digest(traces: Sequence[BandwidthTrace]) -> str:
    """SHA-256 of named traces in their order."""
    return digest_bytes(msgspec.json.encode([(t.name, trace_digest(t)) for t in traces]))
