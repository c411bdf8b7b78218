"""What is on its way to the edge, and what its silence says of the bandwidth.

The device knows what it handed to the link, and when; where the uplink stands follows for every
level of the bandwidth that is believed possible. An answer that should long be here speaks against
the levels at which it would be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.physics import LinkModel
from controller.planners.due_fallbacks import ALONE, NONE, SPARE, fallback_due_s
from controller.scenarios import Setting

LATE_S = 0.030
"""How much later than expected an answer may be before it speaks against a level.

A busy edge, or a device whose clock ticks late, is no slow link; 10 to 40 ms make no difference to
planning on the validation logs.
"""
UNLIKELY = 0.03
"""Likelihood of a level at which it would be here."""


@dataclass(frozen=True, slots=True)
class UploadCosts:
    """What is on its way by every plan of a setting, (P,), and how long it counts.

    `certain`: that its silence says something. `slots`: frames that may be under way at once.
    `rescued`: time is kept for a fallback, until `due_s` seconds after the frame's arrival, which
    is over after `deadline_s`.
    """

    model: LinkModel
    certain: Bools
    prefix_s: Floats
    remote_s: Floats
    payload_bytes: Floats
    wire_bytes: Floats
    slots: int
    rescued: Bools
    due_s: float
    deadline_s: float

    @classmethod
    def of(cls, setting: Setting) -> UploadCosts:
        """Those of a setting's table."""
        table, frames, model = setting.table, setting.scenario.frames, setting.link_model
        payload_bytes = np.where(table.local, 0.0, table.up_bytes)
        # in the closed loop one thing comes after the other
        slots = 1
        if not setting.closed_loop:
            slots = math.ceil((frames.deadline_s + 2.0 * model.rtt_s) * frames.rate_fps) + 2
        return cls(
            # one that a gate may have stopped says nothing by its silence
            model, ~table.gated, table.mean_prefix_s, table.remote_s, payload_bytes,
            model.on_wire(payload_bytes), slots, np.isfinite(table.rescue_s),
            fallback_due_s(setting), frames.deadline_s,
        )  # fmt: skip


class InFlight:
    """Uploads of L lanes whose frames have not ended; the oldest ends first."""

    def __init__(self, setting: Setting, lanes: int) -> None:
        self._costs = costs = UploadCosts.of(setting)
        slots = costs.slots
        self._handed_s = np.full((slots, lanes), -np.inf)
        self._bytes = np.zeros((slots, lanes))
        self._payload = np.zeros((slots, lanes))
        self._back_s = np.zeros((slots, lanes))
        self._sure = np.zeros((slots, lanes), dtype=np.bool_)
        self._frame = np.full((slots, lanes), -1, dtype=np.int64)
        self._kept_until_s = np.full((slots, lanes), -np.inf)
        self._limit_s = np.full((slots, lanes), -np.inf)
        self._next = 0

    def forget(self, lanes: Bools) -> None:
        """Nothing is on its way in the masked lanes."""
        self._bytes[:, lanes] = self._payload[:, lanes] = 0.0
        self._frame[:, lanes] = -1
        self._kept_until_s[:, lanes] = -np.inf

    def chosen(
        self, frame: Ints, plan: Ints, now_s: Floats, device_backlog_s: Floats, rtt_s: Floats
    ) -> None:
        """The frames (L,) that arrived now run by these plans.

        `frame` are their numbers and `plan` indices of the table. `now_s`, `device_backlog_s` and
        `rtt_s` are seconds: the arrival, what the device has still to do, and the round trip. All
        are (L,).
        """
        slot, costs = self._next, self._costs
        prefix = costs.prefix_s[plan]
        self._next = (slot + 1) % len(self._bytes)
        waits = np.where(prefix > 0, device_backlog_s, 0.0)
        self._handed_s[slot] = now_s + waits + prefix
        self._bytes[slot] = costs.wire_bytes[plan]
        self._payload[slot] = costs.payload_bytes[plan]
        self._back_s[slot] = rtt_s + costs.remote_s[plan]
        self._sure[slot] = costs.certain[plan]
        self._frame[slot] = frame
        self._kept_until_s[slot] = np.where(costs.rescued[plan], now_s + costs.due_s, -np.inf)
        self._limit_s[slot] = now_s + costs.deadline_s

    def changed(self, lanes: Bools, frame: Ints, plan: Ints) -> None:
        """Of these frames of the masked lanes something else was made than was chosen."""
        mine, costs = lanes & (self._frame == frame), self._costs
        self._bytes = np.where(mine, costs.wire_bytes[plan], self._bytes)
        self._payload = np.where(mine, costs.payload_bytes[plan], self._payload)
        self._sure = np.where(mine, costs.certain[plan], self._sure)
        self._kept_until_s = np.where(mine & ~costs.rescued[plan], -np.inf, self._kept_until_s)

    def ended(self, lanes: Bools, frame: Ints) -> None:
        """These frames of the masked lanes are over: what they left is in the socket's backlog."""
        over = lanes & (self._frame == frame)
        self._bytes[over] = self._payload[over] = 0.0
        self._kept_until_s[over] = -np.inf

    def at_levels(
        self, rates_bps: Floats, now_s: Floats, uplink_backlog_bytes: Floats
    ) -> tuple[Floats, Floats, Ints]:
        """(L, K) at each of K rates: seconds until the uplink is free, likelihoods, and states of
        the fallback that is due (`controller.planners.due_fallbacks`).

        What was handed to the link never takes longer than all that the device counts as not yet
        acknowledged would; what its frame's prefix still computes comes behind.
        """
        lanes, levels = len(now_s), len(rates_bps)
        per_byte = 8.0 / rates_bps
        most = self._costs.model.on_wire(uplink_backlog_bytes)[:, None] * per_byte
        free = np.full((lanes, levels), -np.inf)
        likelihood, due = np.ones((lanes, levels)), np.full((lanes, levels), NONE)
        coming = self._handed_s > now_s
        slots = [(self._next + shift) % len(self._bytes) for shift in range(len(self._bytes))]
        for slot in slots:
            busy = np.flatnonzero((self._bytes[slot] > 0) & ~coming[slot])
            if not len(busy):
                continue
            handed, now = self._handed_s[slot, busy, None], now_s[busy, None]
            done = np.maximum(free[busy], handed) + self._bytes[slot, busy, None] * per_byte
            free[busy] = done
            back = done + self._back_s[slot, busy, None]
            silent = self._sure[slot, busy, None] & (back + LATE_S < now)
            likelihood[busy] *= np.where(silent, UNLIKELY, 1.0)
            due[busy] = np.maximum(due[busy], self._fallback(slot, busy, now, back))
        # however many are silent, some level must stay possible
        likelihood = np.maximum(likelihood, 1e-30)
        left = np.clip(free - now_s[:, None], 0.0, None)
        # beyond the frames there is what cancelled ones have left: only the socket knows of that
        known = (self._payload * ~coming).sum(axis=0)
        owed = np.maximum(uplink_backlog_bytes - known, 0.0)[:, None] * per_byte
        left = np.minimum(np.maximum(left, owed), most)
        for slot in slots:
            later = np.flatnonzero((self._bytes[slot] > 0) & coming[slot])
            if len(later):
                starts = self._handed_s[slot, later, None] - now_s[later, None]
                takes = self._bytes[slot, later, None] * per_byte
                left[later] = np.maximum(left[later], starts) + takes
                now = now_s[later, None]
                back = now + left[later] + self._back_s[slot, later, None]
                due[later] = np.maximum(due[later], self._fallback(slot, later, now, back))
        return left, likelihood, due

    def _fallback(self, slot: int, lanes: Ints, now_s: Floats, back_s: Floats) -> Ints:
        """States (N, K) of the fallbacks of frames whose answers would be back at `back_s`."""
        kept = self._kept_until_s[slot, lanes, None] > now_s
        late = back_s > self._limit_s[slot, lanes, None]
        return np.where(kept, np.where(late, ALONE, SPARE), NONE)
