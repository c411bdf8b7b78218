"""What a plan is worth now and for the frames behind it: dynamic programming over the queue.

A frame's plan keeps device and uplink busy for the next ones, and the bandwidth moves. Were the
bandwidth's level seen, the best plan at every level and backlog would follow from value iteration
over the physics and the level's own moves, counted on training traces. What is not seen is averaged
over the belief (QMDP: Littman, Cassandra and Kaelbling, ICML 1995); that gives nothing for finding
out, which `controller.policies.probing` makes up for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from controller.physics import ConstantLink, Resources, run_frames
from controller.rewards import expectation, priced, reward_scale
from controller.scenario import Setting
from controller.sensing.belief import BandwidthBelief, Counting

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

COUNTING = Counting(32, (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0), 0.1)
"""How finely the belief is counted: a measurement a frame old says more than one a second old."""
UPLINK_BYTES = (
    0.0, 512.0, 1024.0, 1536.0, 2048.0, 3072.0, 4096.0, 6144.0, 8192.0, 12288.0, 16384.0, 32768.0,
)  # fmt: skip
LEAST_BPS = 1e3
"""A level without any rate counts as this one, so that seconds stay finite."""
WORST = -2.0
"""Advantages below this are all the same: nobody wants them."""


@dataclass(frozen=True, slots=True)
class Solving:
    """How value iteration is done: states of a backlog up to the deadline, discount, sweeps."""

    backlogs: int = 12
    discount: float = 0.97
    sweeps: int = 150
    tolerance: float = 2e-4


@dataclass(frozen=True)
class QueueAdvantages:
    """How far every plan is below the best, (D, U, levels, P), at most 0.

    At device backlogs `device_s` (D,), uplink backlogs `uplink_bytes` (U,) and the belief's levels;
    between them linearly, beyond them as at the end.
    """

    device_s: Floats
    uplink_bytes: Floats
    table: Float32s

    def corners(
        self, device_backlog_s: Floats, uplink_backlog_bytes: Floats
    ) -> tuple[Ints, Float32s]:
        """Places (L, 4) in the flattened (D, U) grid around L states, and their weights (L, 4)."""
        d, dw = _between(self.device_s, device_backlog_s)
        u, uw = _between(self.uplink_bytes, uplink_backlog_bytes)
        width = len(self.uplink_bytes)
        up = min(1, width - 1)
        down = width if len(self.device_s) > 1 else 0
        base = d * width + u
        place = np.stack([base, base + up, base + down, base + down + up], axis=-1)
        weight = np.stack(
            [(1 - dw) * (1 - uw), (1 - dw) * uw, dw * (1 - uw), dw * uw], axis=-1
        ).astype(np.float32)
        return place, weight

    def of(
        self, probability: Floats, device_backlog_s: Floats, uplink_backlog_bytes: Floats
    ) -> Float32s:
        """Advantages (L, P) under beliefs (L, levels)."""
        place, weight = self.corners(device_backlog_s, uplink_backlog_bytes)
        flat = self.table.reshape(-1, *self.table.shape[2:])
        return mixed_by_place(flat, probability.astype(np.float32), place, weight)


def mixed_by_place(
    tables: Float32s, probability: Float32s, place: Ints, weight: Float32s
) -> Float32s:
    """Sum over a state's corners and levels: tables (G, levels, W) give (L, W).

    Lanes of the same place share one matrix product.
    """
    found = np.zeros((len(place), tables.shape[-1]), dtype=np.float32)
    for c in range(place.shape[1]):
        at, share = place[:, c], weight[:, c]
        if len(at) == 1:
            if share[0] > 0:
                found[0] += share[0] * (probability[0] @ tables[at[0]])
            continue
        order = np.argsort(at, kind="stable")
        cuts = np.flatnonzero(np.diff(at[order])) + 1
        for lanes in np.split(order, cuts):
            found[lanes] += share[lanes, None] * (probability[lanes] @ tables[at[lanes[0]]])
    return found


def solve(setting: Setting, belief: BandwidthBelief, how: Solving | None = None) -> QueueAdvantages:
    """Value iteration at the setting's prices; the closed loop has no queue and one state."""
    if setting.closed_loop:
        value = reward_scale(setting) * expectation(setting, belief.rates_bps).reward
        table = value - value.max(axis=-1, keepdims=True)
        return QueueAdvantages(
            np.zeros(1), np.zeros(1), np.maximum(table, WORST)[None, None].astype(np.float32)
        )
    return _Queue(setting, belief, Solving() if how is None else how).advantages()


class _Queue:
    """States are (level, device backlog in s, uplink backlog in s at the level's rate)."""

    def __init__(self, setting: Setting, belief: BandwidthBelief, how: Solving) -> None:
        self._how, self._setting = how, setting
        deadline_s = setting.scenario.frames.deadline_s
        self._rates = np.maximum(belief.rates_bps, LEAST_BPS)
        self._device_s = np.linspace(0.0, deadline_s, how.backlogs)
        # what a cancelled upload leaves on a slow link outlasts a deadline by far
        beyond = deadline_s * np.array([1.5, 2.5, 5.0, 12.0])
        self._uplink_s = np.concatenate([self._device_s, beyond])
        self._rows = setting.rows("policy")
        self._reward, self._landings = self._run()
        self._moves = self._level_moves(belief)

    def _run(self) -> tuple[Float32s, list[tuple[float, Ints, Float32s, Float32s]]]:
        """Rewards (K, D, U, P), and where every row leads: index and weights in the next state.

        Compute times by three Gauss-Hermite nodes of their log-normal distribution.
        """
        setting, rows = self._setting, self._rows
        table, interval_s = rows.stops.table, setting.interval_s
        shape = (len(self._rates), len(self._device_s), len(self._uplink_s), len(table))
        plan = np.broadcast_to(np.arange(len(table)), shape)
        link = ConstantLink(np.broadcast_to(self._rates[:, None, None, None], shape))
        reward, landings = np.zeros(shape), []
        level = np.arange(shape[0])[:, None, None, None] * shape[1]
        for node, weight in ((-np.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (np.sqrt(3.0), 1 / 6)):
            resources = Resources.idle(shape)
            resources.device_s = np.array(np.broadcast_to(self._device_s[:, None, None], shape))
            resources.uplink_s = np.array(np.broadcast_to(self._uplink_s[:, None], shape))
            outcome, after = run_frames(
                table, plan, np.zeros(shape), resources, link, setting.link_model,
                setting.timing, float(np.exp(table.device_sigma * node)),
            )  # fmt: skip
            own = rows.accuracy(plan, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
            answer = np.where(outcome.answer_exit >= 0, own, 0.0)
            earned = priced(setting, answer, outcome.device_s, outcome.bytes_sent)[0]
            reward += weight * earned
            d, dw = _between(self._device_s, after.device_s - interval_s)
            u, uw = _between(self._uplink_s, after.uplink_s - interval_s)
            at = (level + d) * shape[2] + u
            landings.append((weight, at, dw, uw))
        return rows.stops.mixed(reward, rows.share).astype(np.float32), landings

    def _level_moves(self, belief: BandwidthBelief) -> Floats:
        """P(level at the next frame | level now), (K, K)."""
        share = min(self._setting.interval_s / belief.lags_s[1], 1.0)
        return np.asarray((1 - share) * np.eye(len(self._rates)) + share * belief.kernels[1])

    def _moved(self, value: Float32s) -> Float32s:
        """Value (K, D, U) expected of the next frame's level: what is owed takes longer there."""
        ratio = self._rates[:, None] / self._rates
        u, weight = _between(self._uplink_s, self._uplink_s * ratio[..., None])
        to = np.arange(len(self._rates))[:, None]
        by_uplink = np.ascontiguousarray(value.transpose(0, 2, 1))
        found = np.empty_like(value)
        for k in range(len(self._rates)):
            w = weight[k][..., None]
            there = (1 - w) * by_uplink[to, u[k]] + w * by_uplink[to, u[k] + 1]
            found[k] = np.tensordot(self._moves[k], there, 1).T
        return found

    def _sweep(self, value: Float32s) -> Float32s:
        """Action values (K, D, U, P) where the next frame's states are worth `value`."""
        after, width = self._moved(value).ravel(), len(self._uplink_s)
        later: Float32s | float = 0.0
        for weight, at, dw, uw in self._landings:
            near = (1 - uw) * after[at] + uw * after[at + 1]
            far = (1 - uw) * after[at + width] + uw * after[at + width + 1]
            later = later + np.float32(weight) * ((1 - dw) * near + dw * far)
        mixed = self._rows.stops.mixed(np.asarray(later), self._rows.share)
        return np.asarray(self._reward + self._how.discount * mixed, dtype=np.float32)

    def advantages(self) -> QueueAdvantages:
        """Sweep until values move together, then lay them over uplink backlogs in bytes."""
        value = np.zeros(self._reward.shape[:3], dtype=np.float32)
        action = self._reward
        for _ in range(self._how.sweeps):
            action = self._sweep(value)
            fresh = action.max(axis=-1)
            moved = fresh - value
            value = fresh
            if float(moved.max() - moved.min()) < self._how.tolerance:
                break
        return self._by_bytes(action)

    def _by_bytes(self, action: Float32s) -> QueueAdvantages:
        uplink_bytes = np.array(UPLINK_BYTES)
        u, weight = _between(self._uplink_s, 8.0 * uplink_bytes / self._rates[:, None])
        level = np.arange(len(self._rates))[:, None]
        by_uplink = action.transpose(0, 2, 1, 3)
        w = weight[..., None, None]
        found = (1 - w) * by_uplink[level, u] + w * by_uplink[level, u + 1]
        found = found - found.max(axis=-1, keepdims=True)
        table = np.maximum(found, WORST).transpose(2, 1, 0, 3)
        return QueueAdvantages(
            self._device_s, uplink_bytes, np.ascontiguousarray(table, dtype=np.float32)
        )


def _between(grid: Floats, at: Floats) -> tuple[Ints, Float32s]:
    """The grid's point before each value, and the weight of the one behind it."""
    if len(grid) == 1:
        return np.zeros(np.shape(at), dtype=np.int64), np.zeros(np.shape(at), dtype=np.float32)
    inside = np.clip(at, grid[0], grid[-1])
    low = np.clip(np.searchsorted(grid, inside), 1, len(grid) - 1) - 1
    weight = (inside - grid[low]) / (grid[low + 1] - grid[low])
    return low, weight.astype(np.float32)
