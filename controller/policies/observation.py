"""What the policy decides on: the situation's context, and the plans worth considering, described.

A policy scores plans by what planning expects of them, not by their place in a table: the same
weights serve any network, any plans and any prices. The `CANDIDATES` that planning holds best are
described; the others could only win where it is far off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Bools, Float32s, Floats, Ints
from controller.planners.queue_values import LEAST_BPS, QueueAdvantages
from controller.planners.slowed import USUAL_PACE, paced_values
from controller.policies.features import NAMES, WORLD, Observer
from controller.policies.in_flight import InFlight
from controller.scenarios import Setting
from controller.scenarios.rewards import expectation, reward_scale
from controller.sensing.belief import BandwidthBelief

CANDIDATES = 12
SENDING = 3
"""Of the candidates, so many at least send every frame."""
CONTEXT: tuple[str, ...] = (
    *NAMES, "belief_mean", "belief_spread", "device_price", "byte_price", "deadline", "interval",
    "round_trip", "best_reward", *WORLD,
)  # fmt: skip
"""The observation (`controller.policies.features`), then: mean and deviation of the log rate
believed in; prices of a device second and, over 5, of a megabyte; log2 of the deadline over 0.1 s
and of the interval over 50 ms, over 3; round trip over the deadline; the greatest expected reward;
what shows of the world (`controller.policies.features.WORLD`).
"""
EARLIER_CONTEXTS: tuple[tuple[str, ...], ...] = (tuple(n for n in CONTEXT if n not in WORLD),)
"""Contexts that policies were trained on before and are still read with."""
DESCRIBED: tuple[str, ...] = (
    "advantage", "advantage_newest", "advantage_fast", "advantage_slow", "advantage_least",
    "reward", "own", "device", "uplink", "price", "send_share", "bytes", "local", "gated", "hedged",
)  # fmt: skip
"""Of a candidate: how far it is below the best by planning, under the belief and were the rate the
newest measured, the fast or slow mean, or the least of the last (20-fold); this frame's expected
reward, chance of the plan's own answer in time, intervals of device and uplink taken, price paid
(10-fold); share of its frames that send, log2 of 1 + KiB over 3; three marks of its kind.
"""
MOST_DEVICE_SECOND, MOST_MEGABYTE = 3.0, 15.0
"""Greatest prices that the context distinguishes from greater ones."""
SHARPNESS = 20.0
"""Advantages are said 20-fold: two hundredths of an answer matter."""
MOST_OBSERVED = 3.0
"""Numbers of an observation lie between this and its negative."""
MODEL_BACKLOGS = 6
MODEL_BYTES = (0.0, 2048.0, 6144.0, 16384.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """Of L lanes: `context` (L, C), `described` (L, K, F), the candidates' `plans` (L, K).

    Candidates stand in the order of `advantage` (L, P), planning's own word on every plan.
    `present` is False for those that fill up where the table has fewer than K plans.
    """

    context: Float32s
    described: Float32s
    plans: Ints
    present: Bools
    advantage: Float32s

    @property
    def flat(self) -> Float32s:
        """Everything as (L, WIDTH): context, descriptions, presence; one row a lane."""
        lanes = len(self.context)
        return np.concatenate(
            [self.context, self.described.reshape(lanes, -1), self.present.astype(np.float32)],
            axis=1,
        )


WIDTH = len(CONTEXT) + CANDIDATES * (len(DESCRIBED) + 1)
"""Numbers in a row of `Observation.flat`."""


class ObservationEncoder:
    """Encodes L lanes of a setting by a belief and planning's advantages; keeps no state."""

    def __init__(
        self, setting: Setting, belief: BandwidthBelief, advantages: QueueAdvantages
    ) -> None:
        table, scenario = setting.table, setting.scenario
        self.belief, self.advantages = belief, advantages
        self.model = FrameModel(setting, belief)
        self.paced = paced_values(setting, belief)
        self.log_rates = np.log10(np.maximum(belief.rates_bps, 1.0))
        self.senders = table.senders
        hedged = np.array([plan.hedge for plan in table.plans], dtype=np.bool_)
        size = np.log2(1.0 + table.up_bytes / 1024.0) / 3.0
        self.kind = np.stack(
            [table.send_share, size, table.local, table.gated, hedged], axis=1
        ).astype(np.float32)
        frames, unit_s = scenario.frames, self.model.unit_s
        self.constants = np.array(
            [
                setting.prices.device_second,
                setting.prices.megabyte / 5.0,
                np.log2(frames.deadline_s / 0.1) / 3.0,
                np.log2(unit_s / 0.05) / 3.0,
                scenario.link.rtt_s / frames.deadline_s,
            ]
        )

    @property
    def about(self) -> dict[str, float]:
        """What of the context is the setting's own, whatever happens (normalised)."""
        names = ("device_price", "byte_price", "deadline", "interval", "round_trip")
        return dict(
            zip(names, np.clip(self.constants, -MOST_OBSERVED, MOST_OBSERVED).tolist(), strict=True)
        )

    def encode(
        self,
        observer: Observer,
        in_flight: InFlight,
        now_s: Floats,
        device_backlog_s: Floats,
        uplink_backlog_bytes: Floats,
        device_pace: Floats,
    ) -> Observation:
        """The observation of every lane; the observer's rates are the link's own.

        `observer` holds the measurements and `in_flight` the uploads that are under way. `now_s`
        and `device_backlog_s` are seconds, `uplink_backlog_bytes` bytes, `device_pace` is what the
        device's jobs take over its profile; each (L,).
        """
        seen = observer.observe(now_s, device_backlog_s, uplink_backlog_bytes)
        probability, uplink_s, due = self.believed(observer, in_flight, now_s, uplink_backlog_bytes)
        believed = probability.astype(np.float32)
        advantage = self.advantages.of(probability, device_backlog_s, uplink_s, due)
        advantage = self._paced(advantage, believed, device_backlog_s, device_pace)
        plans, present = candidates_of(advantage, self.senders)
        levels = self.belief.level(np.stack(observer.rates_bps(), axis=1))
        there, each = np.take_along_axis(uplink_s, levels, 1), levels.shape[1]
        state = np.take_along_axis(due, levels, 1).ravel()
        known = self.advantages.at(
            np.repeat(device_backlog_s, each), there.ravel(), state, levels.ravel()
        )
        at_levels = known.reshape(*levels.shape, -1)[
            np.arange(len(plans))[:, None, None], np.arange(each), plans[:, :, None]
        ]
        model = self.model.of(believed, device_backlog_s, uplink_backlog_bytes, plans)
        mine = np.take_along_axis(advantage, plans, 1)
        described = np.concatenate(
            [
                SHARPNESS * (mine - mine[:, :1])[..., None],
                SHARPNESS * at_levels,
                model,
                self.kind[plans],
            ],
            axis=-1,
        )
        mean = probability @ self.log_rates
        spread = np.sqrt(np.maximum(probability @ self.log_rates**2 - mean**2, 0.0))
        context = np.concatenate(
            [
                seen,
                np.stack([(mean - 6.0) / 0.75, spread], axis=1),
                np.broadcast_to(self.constants, (len(now_s), len(self.constants))),
                model[:, :, 0].max(axis=1, keepdims=True),
                observer.world(device_pace),
            ],
            axis=1,
        )
        return Observation(
            np.clip(context, -MOST_OBSERVED, MOST_OBSERVED).astype(np.float32),
            np.clip(described, -MOST_OBSERVED, MOST_OBSERVED).astype(np.float32, copy=False),
            plans,
            present,
            advantage,
        )

    def _paced(
        self, advantage: Float32s, believed: Float32s, device_s: Floats, pace: Floats
    ) -> Float32s:
        """Advantages (L, P) of planning, which is made of the profile, with what a slower device
        costs each plan.
        """
        if (pace <= USUAL_PACE).all():
            return advantage
        found = advantage + self.paced.lost(believed, device_s, pace)
        return np.asarray(found - found.max(axis=1, keepdims=True))

    def believed(
        self, observer: Observer, in_flight: InFlight, now_s: Floats, uplink_backlog_bytes: Floats
    ) -> tuple[Floats, Floats, Ints]:
        """Probabilities of the levels (L, K); at each the seconds until the uplink is free and the
        state of the fallback that is due.

        `observer` holds the measurements, `in_flight` the uploads under way; `now_s` (L,) is in
        seconds, `uplink_backlog_bytes` (L,) in bytes.
        """
        rates = np.maximum(self.belief.rates_bps, LEAST_BPS)
        uplink_s, likelihood, due = in_flight.at_levels(rates, now_s, uplink_backlog_bytes)
        probability = self._measured(observer, now_s) * likelihood
        return probability / probability.sum(axis=1, keepdims=True), uplink_s, due

    def _measured(self, observer: Observer, now_s: Floats) -> Floats:
        rate, at = observer.newest()
        heard = np.isfinite(at)
        if not heard.any():
            return np.broadcast_to(self.belief.blind, (len(now_s), len(self.belief.blind)))
        age = np.maximum(now_s - np.where(heard, at, now_s), 0.0)
        return np.where(heard[:, None], self.belief.near(rate, age), self.belief.blind)


def candidates_of(advantage: Float32s, senders: Ints) -> tuple[Ints, Bools]:
    """The plans worth describing (L, K) by their `advantage` (L, P), and which are there.

    The best, of which `SENDING` at least are `senders`; in the order of advantage.
    """
    lanes, count = advantage.shape
    rows, key = np.arange(lanes)[:, None], advantage
    if len(senders) and count > CANDIDATES:
        most = senders[_greatest(advantage[:, senders], SENDING)]
        key = advantage.copy()
        key[rows, most] += 1e3
    chosen = _greatest(key, CANDIDATES)
    order = np.argsort(-advantage[rows, chosen], axis=1, kind="stable")
    plans = np.take_along_axis(chosen, order, 1)
    present = np.ones((lanes, CANDIDATES), dtype=np.bool_)
    if count < CANDIDATES:
        fill = np.repeat(plans[:, :1], CANDIDATES - count, axis=1)
        plans = np.concatenate([plans, fill], axis=1)
        present[:, count:] = False
    return plans, present


def single_candidates(below: Float32s, senders: Ints) -> Ints:
    """`candidates_of` one lane, those that are there; `below` (P,) are its negative advantages."""
    if len(below) <= CANDIDATES:
        return below.argsort(kind="stable")
    key = below
    if len(senders) > SENDING:
        best = below.take(senders).argpartition(SENDING - 1)[:SENDING]
        key = below.copy()
        key[senders.take(best)] -= 1e3
    elif len(senders):
        key = below.copy()
        key[senders] -= 1e3
    chosen = key.argpartition(CANDIDATES - 1)[:CANDIDATES]
    return chosen.take(below.take(chosen).argsort(kind="stable"))


class FrameModel:
    """What the physics expects of a frame on its own: reward, own answer, device, uplink, price."""

    PARTS = 5

    def __init__(self, setting: Setting, belief: BandwidthBelief) -> None:
        closed, frames = setting.closed_loop, setting.scenario.frames
        self.unit_s = frames.deadline_s if closed else setting.interval_s
        backlogs = [0.0] if closed else np.linspace(0.0, frames.deadline_s, MODEL_BACKLOGS)
        sizes = [0.0] if closed else list(MODEL_BYTES)
        self.device_s, self.backlog_bytes = np.array(backlogs), np.array(sizes)
        self.tables = np.stack(
            [self._table(setting, belief, float(d), b) for d in backlogs for b in sizes]
        )
        self.plans = len(setting.table)

    def _table(
        self, setting: Setting, belief: BandwidthBelief, device_s: float, uplink_bytes: float
    ) -> Float32s:
        found = expectation(setting, belief.rates_bps, device_s, uplink_bytes)
        uplink = np.minimum(found.uplink_s / self.unit_s, 3.0)
        scale = reward_scale(setting)
        parts = (
            scale * found.reward, found.own, found.device_s / self.unit_s, uplink,
            10.0 * (found.answer - found.reward),
        )  # fmt: skip
        stacked = np.stack(parts, axis=-1).astype(np.float32)
        return np.asarray(stacked.reshape(len(stacked), -1))

    def of(
        self, believed: Float32s, device_s: Floats, uplink_bytes: Floats, plans: Ints
    ) -> Float32s:
        """(L, K, 5) of the `plans` (L, K) under beliefs `believed` (L, levels).

        The backlogs `device_s` in seconds and `uplink_bytes`, (L,) each, are rounded up.
        """
        d = np.searchsorted(self.device_s, device_s - 1e-9)
        u = np.searchsorted(self.backlog_bytes, uplink_bytes - 1e-9)
        d = np.minimum(d, len(self.device_s) - 1)
        place = d * len(self.backlog_bytes) + np.minimum(u, len(self.backlog_bytes) - 1)
        found = np.empty((len(place), self.tables.shape[-1]), dtype=np.float32)
        # lanes of the same backlogs share one matrix product
        for k in np.unique(place).tolist():
            lanes = np.flatnonzero(place == k)
            found[lanes] = believed[lanes] @ self.tables[k]
        by_plan = found.reshape(len(place), self.plans, self.PARTS)
        return np.asarray(np.take_along_axis(by_plan, plans[..., None], 1))


def _greatest(values: Float32s, count: int) -> Ints:
    """Columns (L, count) of the greatest values of every row; all where there are no more."""
    columns = values.shape[1]
    if columns <= count:
        return np.tile(np.arange(columns), (len(values), 1))
    return np.asarray(np.argpartition(-values, count - 1, axis=1)[:, :count], dtype=np.int64)
