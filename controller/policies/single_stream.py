"""What a learned controller keeps of one stream, in plain numbers: a device has one.

Arithmetic on arrays of one number costs a device ten times what it costs on the number itself. So
these are `controller.policies.features.Observer`, `controller.policies.in_flight.InFlight` and
`controller.policies.probing.Prober` of a single lane: the same rules, and no others. Those of many
lanes are the reference; `tests/policies/test_single_stream.py` holds these to them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Float32s, Floats
from controller.interface import FrameResult, Measurement
from controller.physics import LinkModel, PlanTable
from controller.policies.features import (
    HISTORY,
    LEAST_RATIO,
    MAX_AGE_S,
    NO_ANSWER,
    WORLD_WEIGHTS,
    Scales,
)
from controller.policies.in_flight import LATE_S, UploadCosts
from controller.sensing.level_shifts import ALARM, REMEMBERED, SLACK
from controller.sensing.log_rates import BLIND_RATE_BPS

_AGES = math.log1p(MAX_AGE_S)
_WEIGHTS: tuple[float, ...] = tuple(WORLD_WEIGHTS.tolist())


class SingleObserver:
    """What one stream has seen; see `controller.policies.features.Observer`."""

    def __init__(self, scales: Scales, model: LinkModel) -> None:
        self._scales, self._model = scales, model
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        blind = single_log_rate(BLIND_RATE_BPS)
        self.newest_bps = BLIND_RATE_BPS
        # the newest first
        self.rates = deque([blind] * HISTORY, HISTORY)
        self.known_s = deque([-math.inf] * HISTORY, HISTORY)
        self._complete = deque([0.0] * HISTORY, HISTORY)
        self.fast = self.slow = blind
        self._spread = 0.0
        self._level, self._since_s = blind, -math.inf
        self._count = self._above = self._below = 0.0
        self._in_time = self._by_plan = 1.0
        self._world = [0.0] * len(_WEIGHTS)

    def measured(self, measurement: Measurement) -> None:
        """A measurement became known."""
        known_s = measurement.known_s
        wire_bytes = single_on_wire(self._model, float(measurement.payload_bytes))
        rate_bps = 8.0 * wire_bytes / max(measurement.duration_s, 1e-6)
        value = single_log_rate(rate_bps)
        gap_s = min(max(known_s - self.known_s[0], 0.0), MAX_AGE_S)
        gain = 1.0 - math.exp(-max(gap_s, 0.05) / 10.0)
        if self.known_s[0] == -math.inf:
            self.fast = self.slow = value
        else:
            fast_gain = 1.0 - math.exp(-max(gap_s, 0.05))
            self.fast += fast_gain * (value - self.fast)
            self.slow += gain * (value - self.slow)
        self._spread += gain * (abs(value - self.slow) - self._spread)
        self.newest_bps = rate_bps
        self._shifted(known_s, value)
        self.rates.appendleft(value)
        self.known_s.appendleft(known_s)
        self._complete.appendleft(float(measurement.complete))

    def _shifted(self, known_s: float, value: float) -> None:
        """`controller.sensing.level_shifts.LevelShifts.measured`."""
        off = value - self._level
        above = max(self._above + off - SLACK, 0.0)
        below = max(self._below - off - SLACK, 0.0)
        if self._count == 0 or above > ALARM or below > ALARM:
            self._count, self._since_s = 1.0, known_s
            above = below = 0.0
        else:
            self._count = min(self._count + 1.0, REMEMBERED)
        self._level += off / self._count
        self._above, self._below = above, below

    def ended(self, result: FrameResult) -> None:
        """A frame ended."""
        latency_s, seen = result.latency_s, result.noticed
        self._in_time += 0.2 * ((latency_s is not None) - self._in_time)
        self._by_plan += 0.2 * (result.by_plan - self._by_plan)
        if not self._scales.worldly:
            return
        deadline_s, size = self._scales.deadline_s, None
        if seen.size is not None and not math.isnan(seen.size):
            size = math.log2(max(seen.size, LEAST_RATIO))
        news = (
            size,
            None if size is None else abs(size - self._world[0]),
            None if seen.edge_queue_s is None else seen.edge_queue_s / deadline_s,
            NO_ANSWER if latency_s is None else min(latency_s / deadline_s, NO_ANSWER),
            seen.confidence,
        )
        for k, (new, weight) in enumerate(zip(news, _WEIGHTS, strict=True)):
            if new is not None and not math.isnan(new):
                self._world[k] += weight * (new - self._world[k])

    def seen(
        self, now_s: float, device_backlog_s: float, uplink_backlog_bytes: float
    ) -> list[float]:
        """`Observer.observe`: the features' numbers at `now_s` in seconds.

        `device_backlog_s` and `uplink_backlog_bytes` are what still waits.
        """
        return [
            *self.rates,
            *[_log_age(now_s - at) for at in self.known_s],
            *self._complete,
            self.fast,
            self.slow,
            self._spread,
            self._level,
            _log_age(now_s - self._since_s),
            min(device_backlog_s / self._scales.deadline_s, 3.0),
            min(uplink_backlog_bytes / self._scales.backlog_bytes, 3.0),
            self._in_time,
            self._by_plan,
            float(self.known_s[0] > -math.inf),
        ]

    def world(self, device_pace: float) -> list[float]:
        """`Observer.world`: what shows of the world at the device's own `device_pace`."""
        pace = math.log2(max(device_pace, LEAST_RATIO)) if self._scales.worldly else 0.0
        return [pace, *self._world]


_Way = tuple[float, float]
"""A time and bytes: at a rate, what waits for an upload and the upload itself end no sooner than
these bytes would if they began then. The greatest over all ways is when they end."""


@dataclass(slots=True)
class _Upload:
    """A frame that was decided: what it hands to the link, and when."""

    frame: int
    handed_s: float
    wire_bytes: float
    payload_bytes: float
    back_s: float
    certain: bool
    kept_until_s: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class AtLevels:
    """What is on its way, at every level of the rate.

    `uplink_s` (K,): seconds until the uplink is free (None: it is). `silent`: for every answer that
    is overdue, the first of the levels that it speaks against. `kept`: time is kept for a fallback;
    at the first `alone` levels nothing else will answer.
    """

    uplink_s: Float32s | None
    silent: list[int]
    kept: bool
    alone: int


class SingleInFlight:
    """Uploads of one stream whose frames have not ended; see `InFlight`."""

    def __init__(self, costs: UploadCosts, rates_bps: Floats) -> None:
        self._model, self._due_s, self._deadline_s = costs.model, costs.due_s, costs.deadline_s
        self._prefix_s: list[float] = costs.prefix_s.tolist()
        self._remote_s: list[float] = costs.remote_s.tolist()
        self._payload_bytes: list[float] = costs.payload_bytes.tolist()
        self._wire_bytes: list[float] = costs.wire_bytes.tolist()
        self._certain: list[bool] = costs.certain.tolist()
        self._rescued: list[bool] = costs.rescued.tolist()
        per_byte = 8.0 / rates_bps
        self._rising: list[float] = per_byte[::-1].tolist()
        self._per_byte: Float32s = per_byte.astype(np.float32)
        self._uploads: deque[_Upload] = deque(maxlen=costs.slots)

    def forget(self) -> None:
        """Nothing is on its way."""
        self._uploads.clear()

    def chosen(
        self, frame: int, plan: int, now_s: float, device_backlog_s: float, rtt_s: float
    ) -> None:
        """Frame number `frame`, which arrived at `now_s`, runs by `plan`.

        `device_backlog_s` is what the device has still to do, and `rtt_s` the round trip, both in
        seconds.
        """
        prefix_s = self._prefix_s[plan]
        handed_s = now_s + (device_backlog_s if prefix_s > 0 else 0.0) + prefix_s
        kept_until_s = now_s + self._due_s if self._rescued[plan] else -math.inf
        self._uploads.append(
            _Upload(
                frame, handed_s, self._wire_bytes[plan], self._payload_bytes[plan],
                rtt_s + self._remote_s[plan], self._certain[plan], kept_until_s,
                now_s + self._deadline_s,
            )
        )  # fmt: skip

    def changed(self, frame: int, plan: int) -> None:
        """Of that frame something else was made than was chosen."""
        for upload in self._uploads:
            if upload.frame == frame:
                upload.wire_bytes = self._wire_bytes[plan]
                upload.payload_bytes = self._payload_bytes[plan]
                upload.certain = self._certain[plan]
                if not self._rescued[plan]:
                    upload.kept_until_s = -math.inf

    def ended(self, frame: int) -> None:
        """That frame is over: what it left is in the socket's backlog."""
        for upload in self._uploads:
            if upload.frame == frame:
                upload.wire_bytes = upload.payload_bytes = 0.0
                upload.kept_until_s = -math.inf

    def at_levels(self, now_s: float, uplink_backlog_bytes: float) -> AtLevels:
        """`InFlight.at_levels` at `now_s`, with `uplink_backlog_bytes` not yet acknowledged."""
        ways, later, silent = list[_Way](), list[_Upload](), list[int]()
        known_bytes, kept, alone = 0.0, False, 0
        for upload in self._uploads:
            if not upload.wire_bytes > 0:
                continue
            if upload.handed_s > now_s:
                later.append(upload)
                continue
            known_bytes += upload.payload_bytes
            ways.append((upload.handed_s, 0.0))
            ways = [(begin_s, sent + upload.wire_bytes) for begin_s, sent in ways]
            if upload.certain:
                self._overdue(upload, ways, now_s, silent)
            if upload.kept_until_s > now_s:
                kept, alone = True, max(alone, self._too_slow(upload, ways))
        if not uplink_backlog_bytes > 0 and not later:
            return AtLevels(None, silent, kept, alone)
        left = self._left(ways, now_s, uplink_backlog_bytes, known_bytes)
        for upload in later:
            begin_s = upload.handed_s - now_s
            left = np.maximum(left, begin_s) + upload.wire_bytes * self._per_byte
            if upload.kept_until_s > now_s:
                late = left > upload.limit_s - now_s - upload.back_s
                kept, alone = True, max(alone, int(np.count_nonzero(late)))
        return AtLevels(left, silent, kept, alone)

    def _left(
        self, ways: list[_Way], now_s: float, uplink_backlog_bytes: float, known_bytes: float
    ) -> Float32s:
        """Seconds until the uplink is free of what it was handed, at every level.

        That are the uploads that end by `ways`; of the `uplink_backlog_bytes` that are not yet
        acknowledged at `now_s` they are `known_bytes`.
        """
        left: Float32s = max(uplink_backlog_bytes - known_bytes, 0.0) * self._per_byte
        for begin_s, sent in ways:
            left = np.maximum(left, (begin_s - now_s) + sent * self._per_byte)
        if not ways:
            return left
        most = single_on_wire(self._model, uplink_backlog_bytes)
        return np.asarray(np.minimum(left, most * self._per_byte))

    def _overdue(self, upload: _Upload, ways: list[_Way], now_s: float, silent: list[int]) -> None:
        """Where `upload` ends by `ways`: the levels at which its answer would be here."""
        due_s = now_s - (upload.back_s + LATE_S)
        if due_s <= upload.handed_s:
            return
        quicker = bisect_left(self._rising, min((due_s - begin_s) / sent for begin_s, sent in ways))
        if quicker:
            silent.append(len(self._rising) - quicker)

    def _too_slow(self, upload: _Upload, ways: list[_Way]) -> int:
        """Where `upload` ends by `ways`: how many levels bring its answer after the frame's end."""
        end_s = upload.limit_s - upload.back_s
        least = min((end_s - begin_s) / sent for begin_s, sent in ways)
        return len(self._rising) - bisect_right(self._rising, least)


class SingleProber:
    """When one stream must ask the link; see `controller.policies.probing.Prober`."""

    def __init__(self, table: PlanTable, blind_s: float) -> None:
        self._quiet: list[bool] = table.quiet.tolist()
        self._asks, self._blind_s = bool(len(table.senders)), blind_s
        self.reset()

    def reset(self) -> None:
        """Nothing was heard."""
        self._heard_s = -math.inf

    def measured(self, known_s: float) -> None:
        """A measurement became known."""
        self._heard_s = max(self._heard_s, known_s)

    def asks(self, plan: int, now_s: float) -> bool:
        """Whether a plan that asks the link must take the place of `plan`, decided at `now_s`."""
        if not self._asks or not self._quiet[plan] or now_s - self._heard_s < self._blind_s:
            return False
        self._heard_s = now_s
        return True


def single_log_rate(rate_bps: float) -> float:
    """`controller.sensing.log_rates.log_rate` of one rate in bit/s."""
    return min(max((math.log10(max(rate_bps, 1.0)) - 6.0) / 0.75, -3.0), 3.0)


def single_on_wire(model: LinkModel, payload_bytes: float) -> float:
    """`LinkModel.on_wire` of one message."""
    if not payload_bytes > 0:
        return 0.0
    message = payload_bytes + model.message_bytes
    return message + math.ceil(message / model.segment_bytes) * model.packet_bytes


def _log_age(age_s: float) -> float:
    return math.log1p(min(max(age_s, 0.0), MAX_AGE_S)) / _AGES
