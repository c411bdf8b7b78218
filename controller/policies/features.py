"""What a controller sees of the world, as numbers: the learned policy's observation.

This serves the batched environment (L lanes). A device's one stream is seen by
`controller.policies.single_stream`, which is held to this. Shipped policies are trained by
`controller.policies.stream_state`, which gives it the link's own rates (headers counted). Only what
a real device knows enters: measured transfers with their ages, its own backlog, its own recent
results. No trace, no future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Bools, Float32s, Floats, Ints
from controller.sensing.level_shifts import LevelShifts
from controller.sensing.log_rates import BLIND_RATE_BPS, log_rate

HISTORY = 4
MAX_AGE_S = 60.0
WORLD: tuple[str, ...] = (
    "device_pace", "own_size", "size_changes", "edge_queue", "last_latency", "confidence",
)  # fmt: skip
"""What shows in a world that is not tidy (`[world]` of a scenario): log2 of what the device's jobs
took over what its profile expects, and of the bytes that crossed over their mean; how far that
moves from frame to frame; how long requests wait at the edge, over the deadline; the last frame's
latency, over the deadline (2: no answer); how sure the device's exits are. 0 in a tidy world."""
FEATURES = 3 * HISTORY + 10
NAMES: tuple[str, ...] = (
    *(f"log_rate_{k}" for k in range(HISTORY)),
    *(f"log_age_{k}" for k in range(HISTORY)),
    *(f"complete_{k}" for k in range(HISTORY)),
    "fast_log_rate",
    "slow_log_rate",
    "log_rate_spread",
    "shift_log_rate",
    "log_shift_age",
    "device_backlog",
    "uplink_backlog",
    "recent_in_time",
    "recent_by_plan",
    "seen_anything",
)
"""Names of the features, in order (k = 0 is the newest measurement)."""

WORLD_WEIGHTS = np.array([0.5, 0.2, 0.5, 1.0, 0.3])
"""Of the newest frame, in each of `WORLD` but the first: what changes soon is followed quickly."""
LEAST_RATIO = 0.125
"""Below this ratios are all the same: three octaves, the end of the scale."""
NO_ANSWER = 2.0
"""The latency of a frame without an answer, in deadlines."""


@dataclass(frozen=True, slots=True)
class Scales:
    """What features are divided by: the deadline, and bytes of backlog that count as 1."""

    deadline_s: float
    backlog_bytes: float = 16384.0
    worldly: bool = False
    """Whether `WORLD` is shown: the scenario's world is not tidy."""


class Observer:
    """Keeps what L lanes have seen and turns it into (L, FEATURES) float32 within [-3, 3].

    Log rates are (log10 bit/s - 6) / 0.75; ages are log1p(age / 1 s) / log1p(60). The fast and slow
    means weigh a measurement by 1 - exp(-age gap / 1 s and 10 s), so that irregular sampling does
    not bend them. The shift's rate and age are of the mean since the last change point
    (`controller.sensing.level_shifts`).
    """

    def __init__(self, lanes: int, scales: Scales) -> None:
        self.lanes, self.scales = lanes, scales
        self._rates = np.zeros((lanes, HISTORY))
        self._at = np.full((lanes, HISTORY), -np.inf)
        self._newest_bps = np.full(lanes, BLIND_RATE_BPS)
        self._complete = np.zeros((lanes, HISTORY))
        self._fast = np.zeros(lanes)
        self._slow = np.zeros(lanes)
        self._spread = np.zeros(lanes)
        self._shifts = LevelShifts(lanes)
        self._in_time = np.ones(lanes)
        self._by_plan = np.ones(lanes)
        self._world = np.zeros((len(WORLD) - 1, lanes))
        self.reset(np.ones(lanes, dtype=np.bool_))

    def reset(self, lanes: Bools) -> None:
        """Forget everything the masked lanes have seen."""
        blind = log_rate(np.array(BLIND_RATE_BPS))
        self._rates[lanes] = blind
        self._shifts.reset(lanes, float(blind))
        self._at[lanes] = -np.inf
        self._newest_bps[lanes] = BLIND_RATE_BPS
        self._complete[lanes] = 0.0
        for mean in (self._fast, self._slow):
            mean[lanes] = blind
        self._spread[lanes] = 0.0
        self._in_time[lanes] = 1.0
        self._by_plan[lanes] = 1.0
        self._world[:, lanes] = 0.0

    def measured(self, lanes: Bools, known_s: Floats, rate_bps: Floats, complete: Bools) -> None:
        """A measurement became known in the masked lanes (arrays of length L).

        `lanes` says which they are. `known_s` is when it became known, in seconds, `rate_bps` the
        link's own rate in bit/s, `complete` whether the transfer was whole.
        """
        at = np.flatnonzero(lanes)
        if not len(at):
            return
        rate, known = rate_bps.take(at), known_s.take(at)
        value, newest = log_rate(rate), self._at[:, 0].take(at)
        gap = np.clip(known - newest, 0.0, MAX_AGE_S)
        first = ~np.isfinite(newest)
        for mean, horizon_s in ((self._fast, 1.0), (self._slow, 10.0)):
            weight = np.where(first, 1.0, 1.0 - np.exp(-np.maximum(gap, 0.05) / horizon_s))
            old = mean.take(at)
            mean[at] = old + weight * (value - old)
        weight = 1.0 - np.exp(-np.maximum(gap, 0.05) / 10.0)
        off, old = np.abs(value - self._slow.take(at)), self._spread.take(at)
        self._spread[at] = old + weight * (off - old)
        self._newest_bps[at] = rate
        self._shifts.measured(at, known, value)
        news = (value, known, complete.take(at))
        for history, new in zip((self._rates, self._at, self._complete), news, strict=True):
            rows = history.take(at, axis=0)
            rows[:, 1:] = rows[:, :-1]
            rows[:, 0] = new
            history[at] = rows

    def ended(
        self, lanes: Bools, in_time: Bools, by_plan: Bools, latency_s: Floats, noticed: Floats
    ) -> None:
        """A frame ended in the masked `lanes` (L,).

        `in_time`, `by_plan` and `latency_s` (inf: no answer) are (L,). `noticed` (3, L) is what it
        has shown, as `controller.interface.Noticed` has it: NaN where it showed nothing.
        """
        at = np.flatnonzero(lanes)
        for share, new in ((self._in_time, in_time), (self._by_plan, by_plan)):
            old = share.take(at)
            share[at] = old + 0.2 * (new.take(at) - old)
        if self.scales.worldly:
            self._learn(at, latency_s.take(at) / self.scales.deadline_s, noticed.take(at, axis=1))

    def _learn(self, at: Ints, latency: Floats, noticed: Floats) -> None:
        size, queue_s, confidence = noticed
        before = self._world[:, at]
        size = np.log2(np.maximum(size, LEAST_RATIO))
        news = np.stack(
            [
                size, np.abs(size - before[0]), queue_s / self.scales.deadline_s,
                np.minimum(latency, NO_ANSWER), confidence,
            ]
        )  # fmt: skip
        weight = np.where(np.isnan(news), 0.0, WORLD_WEIGHTS[:, None])
        self._world[:, at] = before + weight * (np.nan_to_num(news) - before)

    def newest(self) -> tuple[Floats, Floats]:
        """The newest measured rate of every lane, and when it became known (-inf: never)."""
        return self._newest_bps, self._at[:, 0]

    def rates_bps(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Newest, fast mean, slow mean and least of the last rates of every lane."""
        logs = (self._rates[:, 0], self._fast, self._slow, self._rates.min(axis=1))
        newest, fast, slow, least = (10.0 ** (6.0 + 0.75 * value) for value in logs)
        return newest, fast, slow, least

    def observe(
        self, now_s: Floats, device_backlog_s: Floats, uplink_backlog_bytes: Floats
    ) -> Float32s:
        """The observation of every lane at its decision time."""
        out = np.empty((self.lanes, FEATURES), dtype=np.float32)
        age = np.clip(now_s[:, None] - self._at, 0.0, MAX_AGE_S)
        out[:, :HISTORY] = self._rates
        out[:, HISTORY : 2 * HISTORY] = np.log1p(age) / np.log1p(MAX_AGE_S)
        out[:, 2 * HISTORY : 3 * HISTORY] = self._complete
        rest = 3 * HISTORY
        out[:, rest] = self._fast
        out[:, rest + 1] = self._slow
        out[:, rest + 2] = self._spread
        out[:, rest + 3] = self._shifts.level
        since = np.clip(now_s - self._shifts.since_s, 0.0, MAX_AGE_S)
        out[:, rest + 4] = np.log1p(since) / np.log1p(MAX_AGE_S)
        out[:, rest + 5] = np.minimum(device_backlog_s / self.scales.deadline_s, 3.0)
        out[:, rest + 6] = np.minimum(uplink_backlog_bytes / self.scales.backlog_bytes, 3.0)
        out[:, rest + 7] = self._in_time
        out[:, rest + 8] = self._by_plan
        out[:, rest + 9] = np.isfinite(self._at[:, 0])
        return out

    def world(self, device_pace: Floats) -> Floats:
        """What shows of every lane's world, (L, 6): `WORLD`; `device_pace` (L,) is its own."""
        pace = np.zeros(self.lanes)
        if self.scales.worldly:
            pace = np.log2(np.maximum(device_pace, LEAST_RATIO))
        return np.concatenate([pace[:, None], self._world.T], axis=1)
