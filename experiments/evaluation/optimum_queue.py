"""What couples the frames of a stream, as states on a grid, and how one frame moves between them.

The ground of `experiments.evaluation.optimum`, which says what is in the state and what is left
out. It knows the physics and the rewards; of time it knows one frame. What depends on no trace is
worked out once for a setting: local plans, and what the device does while an upload is in vain.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Bools, Floats, Ints
from controller.physics import (
    ConstantLink,
    FrameOutcome,
    PlanTable,
    Resources,
    TraceBank,
    run_frames,
)
from controller.physics.links import BankLink, Link
from controller.scenarios import Setting
from controller.scenarios.rewards import priced
from experiments.evaluation.known_world import KnownWorld, paces
from experiments.evaluation.optimum_grid import Grid, Landing, Step, device_states
from experiments.evaluation.optimum_spread import Spread

LANES = 12_000
"""Evaluations in one call of the physics: more no longer fit the processor's cache."""


def check_coupled(setting: Setting) -> None:
    """Refuse a closed loop."""
    if setting.closed_loop:
        raise UsageError(
            f"optimum: found scenario '{setting.scenario.name}' of kind "
            f"'{setting.scenario.kind}', expected kind 'frame-stream' (no queue couples the "
            "inferences of a closed loop)"
        )


def _hindering(table: PlanTable) -> Bools:
    """Plans (P,) that keep time for a fallback where another one is the same without."""
    plans = table.plans
    same = [p.rescue and replace(p, rescue=False) in plans for p in plans]
    return np.array(same, dtype=np.bool_)


class CoupledQueue:
    """The states of a stream's queue and what no trace changes about them; serves any trace.

    It is of a device whose computing takes `pace` times what it takes usually. States are the same
    at every pace of the scenario's world: `at_pace` gives the queue of another one.

    Refuses a closed loop: there the next inference starts when the last ends, and no queue couples
    them.
    """

    def __init__(
        self, setting: Setting, half: str = "report", grid: Grid | None = None, pace: float = 1.0
    ) -> None:
        """`half` of the outcomes values the plans of `setting`."""
        check_coupled(setting)
        self.pace, self._paced = pace, dict[float, CoupledQueue]()
        self.setting, self.half, self.grid = setting, half, Grid() if grid is None else grid
        self.rows = setting.rows(half)
        self.table = self.rows.gate_rows.table
        self.deadline_s = setting.scenario.frames.deadline_s
        self.interval_s = setting.interval_s
        prices = setting.prices
        self.hindering = _hindering(setting.table)
        self.may_drop = prices.device_second > 0 or prices.megabyte > 0
        world = setting.scenario.world
        self.spread = Spread(self.table.device_sigma, world.device.spread)
        self.noise, self.weights = self.spread.nodes(self.grid.nodes)
        self.edge_factor = Spread(0.0, world.edge.spread).mean
        self.overheads_s: tuple[float, ...] = world.expected.get("overheads_s", ())
        self.negligible_s = self.grid.device_step_s / 10
        local_s = self.table.prefix_s[self.table.local]
        shortest_s = [k * float(local_s.min()) for k in paces(world) if len(local_s)]
        self.device_s = device_states(
            self.grid.device_step_s, self.deadline_s, self.interval_s, self.spread.most, shortest_s
        )
        self.span_s = max(self.deadline_s - self.interval_s, 0.0)
        self.span_steps = int(np.ceil(self.span_s / self.grid.uplink_step_s - 1e-9))
        self._remote()
        self._local()
        self._alone()

    def at_pace(self, pace: float) -> CoupledQueue:
        """The queue of the same states where the device's computing takes `pace` times as long."""
        if pace == self.pace:
            return self
        if pace not in self._paced:
            self._paced[pace] = CoupledQueue(self.setting, self.half, self.grid, pace)
        return self._paced[pace]

    @property
    def begin_s(self) -> float:
        """Of a frame: how long after its arrival the device begins with it."""
        return self.overheads_s[0] * self.pace if self.overheads_s else 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """States of the device and of the uplink."""
        return len(self.device_s), self.span_steps + 1 + self.grid.owed_steps

    def _remote(self) -> None:
        """Which (row, device, uplink) states of offloading rows are worked out, and for whom.

        Where the link is free before the tensor is there, it might as well be idle.
        """
        rows = np.flatnonzero(~self.table.local)
        devices, links = self.shape
        prefix = self.pace * self.table.prefix_s[rows][:, None, None]
        device = np.maximum(self.device_s, self.begin_s)[:, None]
        handed = np.where(prefix > 0, device + prefix * self.noise.min(), self.begin_s)
        latest = device + prefix * max(self.noise.max(), 1.0)
        certain = (latest < self.deadline_s) | (prefix == 0)
        seconds = np.linspace(0.0, self.span_s, self.span_steps + 1)
        idle_s = np.append(seconds, np.full(self.grid.owed_steps, np.inf))
        shared = certain & (idle_s <= handed)
        source = np.where(shared, 0, np.arange(links))
        every = np.arange(len(rows))[:, None, None] * devices + np.arange(devices)[:, None]
        flat = every * links + source
        used, expand = np.unique(flat, return_inverse=True)
        self.remote_rows = rows
        self.expand: Ints = expand.reshape(len(rows), devices, links)
        self.entry_row: Ints = rows[used // (devices * links)]
        self.entry_device: Ints = used // links % devices
        self.entry_uplink: Ints = used % links

    def _local(self) -> None:
        """Expected reward (K, D) and next device state (K, D, D) of the plans that may end locally.

        No trace enters. Of a gated plan that offloads it is the share that its gates stop.
        """
        share = self.rows.share
        rows = np.flatnonzero(self.table.local)
        reward, moves = self._unlinked(rows)
        owners = self.rows.gate_rows.owner[rows]
        self.local_plans: Ints = np.unique(owners)
        mix = (owners == self.local_plans[:, None]) * share[rows]
        self.local_reward: Floats = mix @ reward
        self.local_next: Floats = np.tensordot(mix, moves, 1)
        devices = len(self.device_s)
        later, weight = self.place_device(self.device_s - self.interval_s)
        self.idle_next = np.zeros((devices, devices))
        self.idle_next[np.arange(devices), later] = 1.0 - weight
        self.idle_next[np.arange(devices), later + 1] += weight
        # offloading plans that gates may stop, by their place among the remote rows
        both = np.isin(self.remote_rows, self.local_plans)
        self.gated_remote = np.flatnonzero(both)
        self.gated_local = np.searchsorted(self.local_plans, self.remote_rows[both])
        self.gated_share = share[self.remote_rows[both]][:, None, None]
        self.only_local = np.flatnonzero(~np.isin(self.local_plans, self.remote_rows))

    def _alone(self) -> None:
        """The same of offloading plans whose answer from the edge comes too late or never.

        Only of those that hand over at once: of a longer prefix the compute time decides whether
        the answer is late. Plans that do the same on the device meanwhile share it.
        """
        table, rows = self.table, self.remote_rows
        quick = self.pace * table.prefix_s * self.spread.deviation <= self.negligible_s
        rows = rows[quick[rows] & (table.suffix_s[rows] == 0)]
        does = np.column_stack(
            [table.prefix_s, table.rescue_s, table.wait_s, table.wait_exit, self.rows.share]
        )[rows].round(9)
        _, first, kind = np.unique(does, axis=0, return_index=True, return_inverse=True)
        self.alone_kind = np.full(len(table), -1, dtype=np.int64)
        self.alone_kind[rows] = kind.ravel()
        reward, moves = self._unlinked(rows[first])
        self.alone_reward, self.alone_next = reward.ravel(), moves.reshape(-1, moves.shape[2])

    def _unlinked(self, rows: Ints) -> tuple[Floats, Floats]:
        """Expected reward (K, D), bytes aside, and next device state (K, D, D) on a dead link."""
        devices = len(self.device_s)
        noise = self.spread.equally_likely(self.grid.local_nodes)
        count = len(noise)
        shape = (len(rows), devices, count)
        row = np.broadcast_to(rows[:, None, None], shape)
        resources = Resources.idle(shape, topology=self.setting.topology)
        resources.device_s = np.broadcast_to(self.device_s[:, None], shape)
        link = ConstantLink(np.zeros(shape))
        calm = KnownWorld.calm(1)
        reward, outcome, fresh = self.run(row, np.zeros(shape), resources, link, noise, calm)
        reward = reward - self._byte_costs(outcome)
        cell, weight = self.place_device(fresh.device_s - self.interval_s)
        first = np.arange(len(rows) * devices)[:, None] * devices
        at = (cell.reshape(-1, count) + first).ravel()
        part = weight.reshape(-1) / count
        size = len(rows) * devices * devices
        moves = np.bincount(at, 1.0 / count - part, size) + np.bincount(at + 1, part, size)
        return np.asarray(reward.mean(axis=2)), np.asarray(moves.reshape(-1, devices, devices))

    def _byte_costs(self, outcome: FrameOutcome) -> Floats:
        """What is left of the reward without answers and device seconds: not above 0."""
        zero = np.zeros(outcome.bytes_sent.shape)
        return priced(self.setting, zero, zero, outcome.bytes_sent)[0]

    def run(
        self,
        row: Ints,
        arrival_s: Floats,
        resources: Resources,
        link: Link,
        noise: Floats | float,
        known: KnownWorld,
    ) -> tuple[Floats, FrameOutcome, Resources]:
        """The physics, with the expected reward of each row.

        `row` are plans' rows of the gates' table, started at `arrival_s` in seconds on `resources`
        over `link`; `noise` multiplies compute times. All of one shape. Frames meet what is
        `known`, but for its pace, which is this queue's. The device knows that pace.
        """
        setting = self.setting
        sized = self.rows.weights is not None and bool((known.sample >= 0).all())
        overheads_s: list[Floats | float] = []
        if self.overheads_s:
            overheads_s = [self.begin_s, self.overheads_s[1] * known.edge]
        outcome, fresh = run_frames(
            self.table,
            row,
            arrival_s,
            resources,
            setting.links(link),
            setting.link_models,
            setting.timing,
            noise * self.pace,
            known.edge * self.edge_factor,
            overheads_s=overheads_s,
            others_s=known.queued_s,
            weight=self.rows.weight(row, known.sample) if sized else 1.0,
            pace=self.pace,
        )
        return self.reward(row, outcome), outcome, fresh

    def reward(self, row: Ints, outcome: FrameOutcome) -> Floats:
        """Expected reward of outcomes, over the samples that end in their rows."""
        own = self.rows.accuracy(row, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
        answered = np.where(outcome.answer_exit >= 0, own, 0.0)
        return priced(self.setting, answered, outcome.device_s, outcome.bytes_sent)[0]

    def place_device(self, backlog_s: Floats) -> tuple[Ints, Floats]:
        """Cell and place within it of device backlogs; beyond the grid its last state."""
        states = self.device_s
        clipped = np.clip(backlog_s, 0.0, states[-1])
        below = np.searchsorted(states, clipped, side="right") - 1
        cell = np.asarray(np.minimum(below, len(states) - 2), dtype=np.int64)
        return cell, np.asarray((clipped - states[cell]) / (states[cell + 1] - states[cell]))

    def place_uplink(self, link: BankLink, arrival_s: Floats, free_s: Floats) -> Floats:
        """Coordinate, in states, of uplinks that are free at `free_s` for a frame's arrival."""
        ahead = np.clip(free_s - arrival_s, 0.0, self.span_s)
        place = ahead * (self.span_steps / self.span_s) if self.span_steps else np.zeros_like(ahead)
        begin = arrival_s + self.span_s
        late = free_s > begin
        if late.any():
            never = ~np.isfinite(free_s)
            owed = link.bytes_between(begin, np.where(late & ~never, free_s, begin))
            share = np.where(never, 1.0, owed / self.setting.link_model.send_buffer_bytes)
            beyond = self.span_steps + np.minimum(share, 1.0) * self.grid.owed_steps
            place = np.where(late, beyond, place)
        return np.asarray(place)

    def uplink_free_s(self, link: BankLink, arrival_s: Floats) -> Floats:
        """When the uplink of every state is free, (F, U) for arrivals (F, 1)."""
        within = arrival_s + np.linspace(0.0, self.span_s, self.span_steps + 1)
        steps = np.arange(1, self.grid.owed_steps + 1) / self.grid.owed_steps
        owed = steps * self.setting.link_model.send_buffer_bytes
        beyond = link.transfer_end(arrival_s + self.span_s, owed)
        return np.concatenate([within, beyond], axis=1)

    def land(self, link: BankLink, arrival_s: Floats, reward: Floats, fresh: Resources) -> Landing:
        """Where frames lead: the state at the next arrival.

        Frames came at `arrival_s` in seconds, earned `reward` and left `fresh` resources, all of
        one shape; `link` gives the rates from there on.
        """
        following = arrival_s + self.interval_s
        # whoever knows the trace keeps time for a fallback only where it will be computed
        busy_s = fresh.kept.through_s(fresh.device_s)
        cell, device = self.place_device(busy_s - following)
        place = self.place_uplink(link, following, fresh.uplink_s)
        links = self.shape[1]
        below = np.minimum(place.astype(np.int64), links - 2)
        return Landing(
            reward.astype(np.float32),
            (cell * links + below).astype(np.int32),
            device.astype(np.float32),
            (place - below).astype(np.float32),
        )

    def steps(self, bank: TraceBank, arrival_s: Floats, known: KnownWorld) -> list[Step]:
        """The transitions of frames that arrive at `arrival_s` (F,) on the bank's first trace.

        The frames meet what is `known`.
        """
        at_once = max(LANES // max(len(self.entry_row), 1), 1)
        found: list[Step] = []
        for begin in range(0, len(arrival_s), at_once):
            some = np.arange(begin, min(begin + at_once, len(arrival_s)))
            found += self._steps(bank, arrival_s[some], known.take(some))
        return found

    def _steps(self, bank: TraceBank, arrival_s: Floats, known: KnownWorld) -> list[Step]:
        frames, entries = len(arrival_s), len(self.entry_row)
        first = bank.lanes(np.zeros(1, dtype=np.int64))
        free_s = self.uplink_free_s(first, arrival_s[:, None])
        following = arrival_s[:, None] + self.interval_s
        waiting = self.place_uplink(first, following, free_s)
        below = np.minimum(waiting.astype(np.int64), self.shape[1] - 2)
        frame = np.repeat(np.arange(frames), entries)
        arrival, met = arrival_s[frame], known.take(frame)
        row = np.tile(self.entry_row, frames)
        resources = Resources.idle(frames * entries, topology=self.setting.topology)
        resources.device_s = (arrival_s[:, None] + self.device_s[self.entry_device]).ravel()
        resources.uplink_s = free_s[:, self.entry_uplink].ravel()
        link = bank.lanes(np.zeros(frames * entries, dtype=np.int64))
        reward, outcome, fresh = self.run(row, arrival, resources, link, 1.0, met)
        landing = self.land(link, arrival, reward, fresh)
        # where the device's time hardly varies, one node is all of them
        spread = outcome.device_s * self.spread.deviation > self.negligible_s
        late = np.isfinite(outcome.handed_s) & ~outcome.by_plan
        late &= spread & (self.alone_kind[row] >= 0)
        in_vain, varied = np.flatnonzero(late), np.flatnonzero(spread & ~late)
        device = np.tile(self.entry_device, frames)
        alone = (self.alone_kind[row] * len(self.device_s) + device)[in_vain]
        alone_reward = (self.alone_reward[alone] + self._byte_costs(outcome)[in_vain]).astype(
            np.float32
        )
        by_node = self._by_node(bank, row, arrival, resources, met, varied)
        ends = np.arange(frames + 1) * entries
        cuts, vain = np.searchsorted(varied, ends), np.searchsorted(in_vain, ends)
        return [
            Step(
                landing.part(slice(k * entries, (k + 1) * entries)),
                varied[cuts[k] : cuts[k + 1]] - k * entries,
                by_node.part(slice(int(cuts[k]), int(cuts[k + 1]))),
                in_vain[vain[k] : vain[k + 1]] - k * entries,
                alone[vain[k] : vain[k + 1]],
                alone_reward[vain[k] : vain[k + 1]],
                below[k],
                waiting[k] - below[k],
            )
            for k in range(frames)
        ]

    def _by_node(
        self, bank: TraceBank, row: Ints, arrival_s: Floats, resources: Resources,
        known: KnownWorld, varied: Ints,
    ) -> Landing:  # fmt: skip
        """The lanes `varied` at every node of their compute times."""
        nodes = len(self.noise)
        parts = []
        for begin in range(0, max(len(varied), 1), LANES // nodes):
            each = np.repeat(varied[begin : begin + LANES // nodes], nodes)
            link = bank.lanes(np.zeros(len(each), dtype=np.int64))
            noise = np.tile(self.noise, len(each) // nodes)
            reward, _, fresh = self.run(
                row[each], arrival_s[each], resources.take(each), link, noise, known.take(each)
            )
            parts.append(self.land(link, arrival_s[each], reward, fresh))
        names = ("reward", "cell", "device", "uplink")
        joined = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        return Landing(*(part.reshape(-1, nodes) for part in joined))

    def before(self, step: Step, after: Floats) -> Floats:
        """Bellman's equation: the value (D, U) of a frame's states from the next one's."""
        weight = step.waiting_weight
        waiting = after[:, step.waiting] * (1 - weight) + after[:, step.waiting + 1] * weight
        local = self.local_reward[:, :, None] + self.local_next @ waiting
        best = local[self.only_local].max(axis=0, initial=-np.inf)
        if len(self.entry_row):
            value = step.at_median.value(after)
            value[step.varied] = step.by_node.value(after) @ self.weights
            value[step.in_vain] = self._value_alone(step, after)
            remote = value[self.expand]
            gated = self.gated_remote
            remote[gated] = self.gated_share * remote[gated] + local[self.gated_local]
            best = np.maximum(best, remote.max(axis=0))
        if self.may_drop:
            best = np.maximum(best, self.idle_next @ waiting)
        return np.asarray(best)

    def _value_alone(self, step: Step, after: Floats) -> Floats:
        """Value of what was sent in vain: the device went its way, the uplink is as it is."""
        links = self.shape[1]
        each = (self.alone_next @ after).ravel()
        at = step.alone * links + step.at_median.cell[step.in_vain] % links
        weight = step.at_median.uplink[step.in_vain]
        return np.asarray(step.alone_reward + each[at] * (1 - weight) + each[at + 1] * weight)
