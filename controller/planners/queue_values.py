"""What a plan is worth now and for the frames behind it: dynamic programming over the queue.

A frame's plan keeps device and uplink busy for the next ones, and the bandwidth moves. A state s is
the bandwidth's level, the device's backlog, what becomes of the fallback of the frame before
(`controller.planners.due_fallbacks`), and the uplink's backlog when a frame arrives; an action is
a plan p. The physics give the expected reward r(s, p) and the backlogs that the next frame finds;
the level moves by a Markov chain that was counted on training traces. The worth of a plan is then
the solution of Bellman's equation

    Q(s, p) = r(s, p) + discount * E[max over p' of Q(s', p')]

which value iteration approaches from any beginning, because one sweep brings two guesses nearer by
the discount (Puterman, Markov Decision Processes, 1994, section 6.3). Backlogs are continuous:
values lie on a grid, and between its points linearly, which keeps a sweep a contraction (Gordon,
Stable Function Approximation in Dynamic Programming, ICML 1995). Expectations over compute times
and over rates within a level are sums over a few nodes. Decisions need only the advantage
Q(s, p) - max Q(s, .), so sweeps end when all values move by nearly the same amount (the span of the
difference; Puterman, section 6.6).

A level is not seen. Advantages are averaged over the belief (QMDP: Littman, Cassandra and
Kaelbling, ICML 1995). That gives nothing for finding out, which `controller.policies.probing` makes
up for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats, Ints
from controller.physics import ConstantLink, run_frames
from controller.planners.due_fallbacks import (
    due_next,
    fallback_states,
    fallbacks_due,
    resources_before,
)
from controller.scenarios import Setting
from controller.scenarios.rewards import expectation, priced, reward_scale
from controller.sensing.belief import BandwidthBelief

LEAST_BPS = 1e3
"""A level without any rate counts as this one, so that seconds stay finite."""
WORST = -2.0
"""Advantages below this are all the same: nobody wants them."""
BATCH = 2**16
"""Pairs of a state and a plan that are worked on together."""
Landing = tuple[float, Ints, Float32s, Float32s]
"""A share of what may happen, and where it leads: index and weights in the next state."""
Leading = tuple[list[Landing], Ints]
"""Landings (N,) each of what differs, and for every state and row which of the N is its own."""


@dataclass(frozen=True, slots=True)
class Solving:
    """How value iteration is done: states of a backlog up to the deadline, discount, sweeps."""

    backlogs: int = 12
    discount: float = 0.97
    sweeps: int = 150
    tolerance: float = 2e-4


@dataclass(frozen=True)
class QueueAdvantages:
    """How far every plan is below the best, (D, U, F, levels, P), at most 0.

    At device backlogs `device_s` (D,) and uplink backlogs `uplink_s` (U,) in seconds at each of the
    belief's levels; between them linearly, beyond them as at the end. F is 3 where planning follows
    the fallback of the frame before (`controller.planners.due_fallbacks`), else 1.
    """

    device_s: Floats
    uplink_s: Floats
    table: Float32s

    def of(
        self, probability: Floats, device_backlog_s: Floats, uplink_backlog_s: Floats, due: Ints
    ) -> Float32s:
        """Advantages (L, P) under beliefs `probability` (L, levels).

        `device_backlog_s` (L,) and `uplink_backlog_s` (L, levels) are in seconds, `due` (L, levels)
        are the states of the fallback of the frame before.
        Levels that are hardly believed in are left out, the others share their belief.
        """
        believed = np.where(probability >= HARDLY, probability, 0.0)
        believed /= believed.sum(axis=1, keepdims=True)
        lane, level = np.nonzero(believed)
        at = uplink_backlog_s[lane, level], due[lane, level], level
        values = self.at(device_backlog_s[lane], *at)
        values *= believed[lane, level].astype(np.float32)[:, None]
        found = np.zeros((len(probability), self.table.shape[-1]), dtype=np.float32)
        # pairs stand lane by lane, and every lane has one
        found += np.add.reduceat(values, np.searchsorted(lane, np.arange(len(found))), axis=0)
        return found

    def at(
        self, device_backlog_s: Floats, uplink_backlog_s: Floats, due: Ints, level: Ints
    ) -> Float32s:
        """Advantages (N, P) of N states whose `level` is known.

        `device_backlog_s`, `uplink_backlog_s`, `due` and `level` are (N,), as in `of`.
        """
        # a policy may have been planned with fewer states
        f = np.minimum(due, self.table.shape[2] - 1)
        d, dw = _between(self.device_s, device_backlog_s)
        u, uw = _between(self.uplink_s, uplink_backlog_s)
        if len(self.uplink_s) == 1:
            return np.array(self.table[d, u, f, level])
        dw, uw = dw[:, None], uw[:, None]
        near = (1 - uw) * self.table[d, u, f, level] + uw * self.table[d, u + 1, f, level]
        far = (1 - uw) * self.table[d + 1, u, f, level] + uw * self.table[d + 1, u + 1, f, level]
        return np.asarray((1 - dw) * near + dw * far)


@dataclass(frozen=True)
class PricedAdvantages:
    """Advantages on a grid of prices, (A, B, D, U, F, levels, P), so that prices may change.

    `device_second` (A,) and `megabyte` (B,) rise from the least to the greatest price; one price
    each is all a policy of fixed prices knows.
    """

    device_second: Floats
    megabyte: Floats
    device_s: Floats
    uplink_s: Floats
    table: Float32s

    def covers(self, device_second: float, megabyte: float) -> bool:
        """Whether the grid reaches these prices."""
        pairs = ((self.device_second, device_second), (self.megabyte, megabyte))
        return all(grid[0] - 1e-9 <= at <= grid[-1] + 1e-9 for grid, at in pairs)

    def at(self, device_second: float, megabyte: float) -> QueueAdvantages:
        """Advantages at prices that the grid covers; between its points linearly.

        An advantage is an action value less what is common to all plans of a state, so that mixing
        advantages ranks plans as mixing action values does.
        """
        if not self.covers(device_second, megabyte):
            raise UsageError(
                f"prices: found {device_second:g} a device second and {megabyte:g} a megabyte, "
                f"expected {self.range_text}"
            )
        table = _mixed(
            _mixed(self.table, self.device_second, device_second), self.megabyte, megabyte
        )
        if self.table.shape[:2] != (1, 1):
            table = table - table.max(axis=-1, keepdims=True)
        return QueueAdvantages(self.device_s, self.uplink_s, table)

    @property
    def range_text(self) -> str:
        """The prices covered, in words."""
        (a, b), (c, d) = (
            (f"{grid[0]:g}", f"{grid[-1]:g}") for grid in (self.device_second, self.megabyte)
        )
        first = a if a == b else f"{a} to {b}"
        return f"{first} and {c if c == d else f'{c} to {d}'}"


def _mixed(table: Float32s, grid: Floats, at: float) -> Float32s:
    """The first axis at a place of its grid."""
    if len(grid) == 1:
        first: Float32s = table[0]
        return first
    low, weight = _between(grid, np.array(at))
    w = np.float32(weight)
    return np.asarray((1 - w) * table[low] + w * table[low + 1])


HARDLY = 0.004
"""Levels of less belief are left out: with 32 of them there is always one that has more."""


def solve(setting: Setting, belief: BandwidthBelief, how: Solving | None = None) -> QueueAdvantages:
    """Value iteration at the setting's prices; the closed loop has no queue and one state."""
    if setting.closed_loop:
        value = reward_scale(setting) * expectation(setting, belief.rates_bps).reward
        table = value - value.max(axis=-1, keepdims=True)
        return QueueAdvantages(
            np.zeros(1), np.zeros(1), np.maximum(table, WORST)[None, None, None].astype(np.float32)
        )
    return _Queue(setting, belief, Solving() if how is None else how).advantages()


def solve_prices(
    setting: Setting,
    belief: BandwidthBelief,
    device_second: Floats,
    megabyte: Floats,
    how: Solving | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> PricedAdvantages:
    """Value iteration at every point of a grid of prices; `progress` gets the share done.

    `setting` is the scenario loaded, `belief` how its bandwidth moves. `device_second` (A,) are
    prices of a second of the device and `megabyte` (B,) of a megabyte, in correct answers, each
    rising. `how` sets grid, discount and sweeps.
    """
    solved: list[QueueAdvantages] = []
    for d in device_second:
        for m in megabyte:
            solved.append(solve(setting.at_prices(float(d), float(m)), belief, how))
            progress(len(solved) / (len(device_second) * len(megabyte)))
    table = np.stack([one.table for one in solved])
    table = table.reshape(len(device_second), len(megabyte), *table.shape[1:])
    return PricedAdvantages(device_second, megabyte, solved[0].device_s, solved[0].uplink_s, table)


class _Queue:
    """States are (level, device backlog in s, uplink backlog in s at its rate, fallbacks due)."""

    def __init__(self, setting: Setting, belief: BandwidthBelief, how: Solving) -> None:
        if how.backlogs < 2:
            raise UsageError(f"planning, backlogs: found {how.backlogs}, expected at least 2")
        self._how, self._setting = how, setting
        deadline_s = setting.scenario.frames.deadline_s
        self._rates = np.maximum(belief.rates_bps, LEAST_BPS)
        self._within = [np.maximum(rates, LEAST_BPS) for rates in belief.within]
        even_s = np.linspace(0.0, deadline_s, how.backlogs)
        # a few milliseconds decide whether a fallback that is due still fits
        finer = 2 if fallbacks_due(setting) else 1
        self._device_s = np.linspace(0.0, deadline_s, finer * how.backlogs)
        # what a cancelled upload leaves on a slow link outlasts a deadline by far
        beyond = deadline_s * np.array([1.5, 2.5, 5.0, 12.0])
        self._uplink_s = np.concatenate([even_s, beyond])
        self._rows = setting.rows("policy")
        self._flags = fallback_states(setting)
        parts = [self._run(levels) for levels in self._batches()]
        self._reward = np.concatenate([reward for reward, _ in parts])
        self._landings = [landings for _, landings in parts]
        self._moves = self._level_moves(belief)

    def _batches(self) -> list[slice]:
        """Levels that are worked on together: few enough for the processor's cache."""
        states = len(self._device_s) * len(self._uplink_s) * self._flags
        step = max(BATCH // (states * len(self._rows.gate_rows.table)), 1)
        return [slice(k, k + step) for k in range(0, len(self._rates), step)]

    def _run(self, levels: slice) -> tuple[Float32s, Leading]:
        """Rewards (K, D, U, F, P) of K levels, and where rows lead.

        Compute times of the device by three nodes of their distribution, the edge's at their
        medians; rates by three within each level, for what just arrives in time at
        the middle one is late at the lower.
        """
        setting, rows = self._setting, self._rows
        table, interval_s = rows.gate_rows.table, setting.interval_s
        backlogs = len(self._device_s), len(self._uplink_s)
        middle = self._rates[levels]
        shape = (len(middle), *backlogs, self._flags, len(table))
        plan = np.broadcast_to(np.arange(len(table)), shape)
        reward, landings = np.zeros(shape), []
        level = np.arange(len(self._rates))[levels, None, None, None, None] * shape[1]
        nodes = _compute_nodes(setting, table.device_sigma)
        for (factor, share), within in itertools.product(nodes, self._within):
            weight, rates = share / len(self._within), within[levels]
            # what is owed is in seconds of the level's middle rate
            slower = (middle / rates)[:, None, None, None, None]
            resources = resources_before(setting, shape)
            resources.device_s = np.array(
                np.broadcast_to(self._device_s[:, None, None, None], shape)
            )
            resources.uplink_s = slower * np.broadcast_to(self._uplink_s[:, None, None], shape)
            link = ConstantLink(np.broadcast_to(rates[:, None, None, None, None], shape))
            outcome, after = run_frames(
                table, plan, np.zeros(shape), resources, setting.links(link), setting.link_models,
                setting.timing, factor, **setting.scenario.world.expected,
            )  # fmt: skip
            own = rows.accuracy(plan, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
            answer = np.where(outcome.answer_exit >= 0, own, 0.0)
            for lost in outcome.lost:
                gone = rows.accuracy(plan, np.maximum(lost, 0), np.zeros(shape, dtype=np.bool_))
                answer = answer - np.where(lost >= 0, gone, 0.0)
            earned = priced(setting, answer, outcome.device_s, outcome.bytes_sent)[0]
            reward += weight * earned
            busy_s = after.computes_until_s(np.full(shape, interval_s))
            d, dw = _between(self._device_s, busy_s - interval_s)
            u, uw = _between(self._uplink_s, (after.uplink_s - interval_s) / slower)
            at = ((level + d) * shape[2] + u) * shape[3] + due_next(setting, after)
            landings.append((weight, at, dw, uw))
        return rows.gate_rows.mixed(reward, rows.share).astype(np.float32), _distinct(landings)

    def _level_moves(self, belief: BandwidthBelief) -> Floats:
        """P(level at the next frame | level now), (K, K)."""
        ahead_s, lags = self._setting.interval_s, belief.lags_s
        # the kernel of lag 0 looks one step of the grid ahead: within that nothing was counted
        kernels = np.concatenate([np.eye(len(self._rates))[None], belief.kernels[1:]])
        position = float(np.interp(ahead_s, lags, np.arange(len(lags))))
        low = min(int(position), len(lags) - 2)
        share = position - low
        return np.asarray((1 - share) * kernels[low] + share * kernels[low + 1])

    def _moved(self, value: Float32s) -> Float32s:
        """Value (K, D, U, F) expected of the next frame's level, where the owed takes longer."""
        ratio = self._rates[:, None] / self._rates
        u, weight = _between(self._uplink_s, self._uplink_s * ratio[..., None])
        to = np.arange(len(self._rates))[:, None]
        levels, devices, uplinks, flags = value.shape
        by_uplink = value.transpose(0, 2, 1, 3).reshape(levels, uplinks, devices * flags)
        found = np.empty_like(value)
        for k in range(len(self._rates)):
            w = weight[k][..., None]
            there = (1 - w) * by_uplink[to, u[k]] + w * by_uplink[to, u[k] + 1]
            moved = np.tensordot(self._moves[k], there, 1)
            found[k] = moved.reshape(uplinks, devices, flags).transpose(1, 0, 2)
        return found

    def _sweep(self, value: Float32s) -> Float32s:
        """Action values (K, D, U, F, P) where the next frame's states are worth `value`."""
        after = self._moved(value).ravel()
        action = np.empty_like(self._reward)
        for levels, landings in zip(self._batches(), self._landings, strict=True):
            later = self._later(after, landings)
            mixed = self._rows.gate_rows.mixed(later, self._rows.share)
            action[levels] = self._reward[levels] + self._how.discount * mixed
        return action

    def _later(self, after: Float32s, leading: Leading) -> Floats:
        """What the next frame's states are worth on average, of the levels of one batch."""
        landings, which = leading
        one, width = self._flags, self._flags * len(self._uplink_s)
        later: Float32s | float = 0.0
        for weight, at, dw, uw in landings:
            near = (1 - uw) * after.take(at) + uw * after.take(at + one)
            far = (1 - uw) * after.take(at + width) + uw * after.take(at + width + one)
            later = later + np.float32(weight) * ((1 - dw) * near + dw * far)
        return np.asarray(later).take(which)

    def advantages(self) -> QueueAdvantages:
        """Sweep until values move together."""
        value = np.zeros(self._reward.shape[:-1], dtype=np.float32)
        action = self._reward
        for _ in range(self._how.sweeps):
            action = self._sweep(value)
            fresh = action.max(axis=-1)
            moved = fresh - value
            value = fresh
            if float(moved.max() - moved.min()) < self._how.tolerance:
                break
        below = np.maximum(action - action.max(axis=-1, keepdims=True), WORST)
        table = np.ascontiguousarray(below.transpose(1, 2, 3, 0, 4), dtype=np.float32)
        return QueueAdvantages(self._device_s, self._uplink_s, table)


def _distinct(landings: list[Landing]) -> Leading:
    """Landings without what is there again.

    Whatever plan a device follows, a queue that it does not touch runs down alike: of all pairs of
    a state and a row few lead anywhere else than another does, and every sweep asks where.
    """
    shape = landings[0][1].shape
    parts = [part.ravel() for _, at, dw, uw in landings for part in (at, dw, uw)]
    mark = np.zeros(parts[0].size, dtype=np.uint64)
    for part in parts:
        # the bits count, not what they say; the last shift carries the upper ones to the lower
        mark += part.view(f"u{part.itemsize}")
        mark *= np.uint64(0x9E3779B97F4A7C15)
        mark ^= mark >> np.uint64(29)
    _, first, which = np.unique(mark, return_index=True, return_inverse=True)
    if not all(np.array_equal(part[first][which], part) for part in parts):
        first = which = np.arange(mark.size)  # two that differ have one mark
    kept = [
        (weight, at.ravel()[first], dw.ravel()[first], uw.ravel()[first])
        for weight, at, dw, uw in landings
    ]
    return kept, which.reshape(shape)


def _compute_nodes(setting: Setting, sigma: float) -> list[tuple[float, float]]:
    """Factors on the device's compute times, and how probable each is.

    Of a measured spread the middles of its thirds; of a log-normal one of `sigma` the nodes of
    Gauss and Hermite.
    """
    spread = setting.scenario.world.device.spread
    if spread:
        at = np.linspace(0.0, 1.0, len(spread))
        return [(float(np.interp(q, at, spread)), 1 / 3) for q in (1 / 6, 1 / 2, 5 / 6)]
    if not sigma:
        return [(1.0, 1.0)]
    nodes = ((-np.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (np.sqrt(3.0), 1 / 6))
    return [(float(np.exp(sigma * node)), share) for node, share in nodes]


def _between(grid: Floats, at: Floats) -> tuple[Ints, Float32s]:
    """The grid's point before each value, and the weight of the one behind it."""
    if len(grid) == 1:
        return np.zeros(np.shape(at), dtype=np.int64), np.zeros(np.shape(at), dtype=np.float32)
    # np.clip is slow on the few numbers of one lane
    inside = np.minimum(np.maximum(at, grid[0]), grid[-1])
    low = np.minimum(np.maximum(grid.searchsorted(inside), 1), len(grid) - 1) - 1
    weight = (inside - grid[low]) / (grid[low + 1] - grid[low])
    return low, weight.astype(np.float32)
