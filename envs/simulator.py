"""The batched environment: L lanes of one scenario, stepped together. Everything else wraps it.

Owns the streams' clocks, the delivery of measurements (censored: only transfers that happened, only
once known), sampled pictures and rewards. The arithmetic of a frame is `controller.physics`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.device.cpu import PACED_S
from controller.physics import FrameOutcome, TraceBank, run_frames
from controller.scenarios import OutcomeRows, Setting
from controller.scenarios.rewards import edgent_reward, priced
from controller.sensing.pace import DevicePace
from envs.admission import AdmittedLanes
from envs.noticed import noticed
from envs.records import Delivered, Ended, PendingEnds, StepResult, Taken
from envs.world import World


class Simulator:
    """L lanes of a scenario. Decide with `now_s`, `deliver`, `backlogs`; then `step`.

    `half` names the outcomes' half that samples are drawn from. `rng` is the only randomness; with
    the same seed and the same number of lanes, frames, samples and compute times are the same
    whatever is decided (common random numbers). With `admission` devices apply their own rules to
    what is decided, as a daemon does: `plan` says what the newest frames ran by. `factors` is what
    each node's computing took for them over its medians.
    """

    def __init__(
        self,
        setting: Setting,
        bank: TraceBank,
        lanes: int,
        half: str,
        rng: np.random.Generator,
        admission: AdmittedLanes | None = None,
    ) -> None:
        self.admission = admission
        self.plan = np.zeros(lanes, dtype=np.int64)
        self.factors: list[Floats | float] = []
        self.setting, self.bank, self.lanes, self.rng = setting, bank, lanes, rng
        self.shares: Floats = bank.durations_s / bank.durations_s.sum()
        """Chances of the traces where lanes are placed randomly: by duration at first."""
        self.rows: OutcomeRows = setting.rows(half)
        self.model = setting.link_model
        self._accuracy = self.rows.means
        frames = setting.scenario.frames
        self.deadline_s = frames.deadline_s
        self.interval_s = 1.0 / frames.rate_fps if frames.rate_fps > 0 else 0.0
        # frames and measurements a lane may have under way: news are a round trip old at most
        overlap = (self.deadline_s + 2.0 * self.model.rtt_s) * frames.rate_fps
        self._pending = math.ceil(overlap) + 2
        self.trace = np.zeros(lanes, dtype=np.int64)
        self.now_s = np.zeros(lanes)
        self.resources = setting.idle(lanes)
        # one slot more for a probe, which may outlast many frames
        self._known = np.full((self._pending + 1, lanes), np.inf)
        self._bytes = np.zeros((self._pending + 1, lanes))
        self._duration = np.zeros((self._pending + 1, lanes))
        self._complete = np.zeros((self._pending + 1, lanes), dtype=np.bool_)
        # until when the device counts an upload's bytes as its own backlog, and frames' ends
        self._live_from = np.full((self._pending + 1, lanes), np.inf)
        self._live_until = np.full((self._pending + 1, lanes), -np.inf)
        self._live_bytes = np.zeros((self._pending + 1, lanes))
        # until when what was handed to the link is on it
        self._passed_s = np.full((self._pending + 1, lanes), -np.inf)
        self._stale_s = np.full(lanes, -np.inf)
        # when the link would be free without that upload: it counts only once handed over
        self._free_before_s = np.zeros((self._pending + 1, lanes))
        # frames whose gates are still to be asked: when the device expects them to end, on average,
        # when it will know better, and when they really end
        self._mean_prefix_s = setting.table.mean_prefix_s
        self._asks = bool(setting.table.gated.any())
        self._expected_s, self._over_s = np.zeros((2, self._pending, lanes))
        self._asked_s = np.full((self._pending, lanes), -np.inf)
        # frames whose end is not reported yet; a lane whose trace is over never comes to know
        self._ends = PendingEnds.of(self._pending, lanes)
        self.frame = np.zeros(lanes, dtype=np.int64)
        self._slot = 0
        self.link = bank.lanes(self.trace)
        tidy = setting.scenario.world.tidy
        self._pace = DevicePace(lanes)
        # a generator of its own: what is drawn without a world stays what it is
        self.world = None if tidy else World(setting, self.rows, half, lanes, rng.spawn(1)[0])

    def place(self, lanes: Bools, trace: Ints, start_s: Floats) -> None:
        """Put the masked lanes at `start_s` of `trace`, with idle resources and nothing known."""
        self.trace = np.where(lanes, trace, self.trace)
        self.now_s = np.where(lanes, start_s, self.now_s)
        self.link = self.bank.lanes(self.trace)
        state = self.resources
        state.free_s[:, lanes] = start_s[lanes]
        state.kept.forget(lanes)
        for window_bytes, model in zip(state.window_bytes, self.setting.link_models, strict=True):
            window_bytes[lanes] = model.initial_window_bytes
        self._known[:, lanes] = np.inf
        self._live_until[:, lanes] = self._passed_s[:, lanes] = -np.inf
        self._stale_s[lanes] = -np.inf
        self._asked_s[:, lanes] = -np.inf
        self._ends.known_s[:, lanes] = np.inf
        self.frame = np.where(lanes, 0, self.frame)
        if self.admission is not None:
            self.admission.reset(lanes)
        if self.world is not None:
            self.world.place(lanes, start_s)
            self._pace.reset(lanes)

    def place_randomly(self, lanes: Bools, frames: int) -> None:
        """Put the masked lanes at random starts (traces by `shares`) with room for `frames`."""
        trace = self.rng.choice(len(self.shares), self.lanes, p=self.shares)
        room = np.maximum(self.bank.durations_s[trace] - frames * self.interval_s - 1.0, 0.0)
        self.place(lanes, trace, self.rng.random(self.lanes) * room)

    def charge_probe(self, lanes: Bools, n_bytes: float) -> Floats:
        """One charged transfer at the masked lanes' present time; its measurement comes when done.

        Gives the bytes charged per lane. Until it ends the uplink is busy with it.
        """
        wire = np.where(lanes, self.model.on_wire(np.full(self.lanes, n_bytes)), 0.0)
        start = np.maximum(self.now_s, self.resources.uplink_s)
        open_bytes = self.resources.window_bytes[0]
        end = self.model.transfer_end(self.link, start, wire, open_bytes)
        window = self.model.window_after(open_bytes, wire)
        self.resources.uplink_s = np.where(lanes, end, self.resources.uplink_s)
        self.resources.window_bytes[0] = np.where(lanes, window, open_bytes)
        known = np.where(lanes, end + self.model.rtt_s, np.inf)
        self._known[self._pending] = np.where(lanes, known, self._known[self._pending])
        self._bytes[self._pending] = np.where(lanes, n_bytes, self._bytes[self._pending])
        took = np.subtract(end, start, out=np.zeros(self.lanes), where=end < np.inf)
        self._duration[self._pending] = np.where(lanes, took, self._duration[self._pending])
        self._complete[self._pending] |= lanes
        self._live_from[self._pending] = np.where(lanes, start, self._live_from[self._pending])
        self._live_until[self._pending] = np.where(lanes, known, self._live_until[self._pending])
        self._live_bytes[self._pending] = np.where(lanes, n_bytes, self._live_bytes[self._pending])
        return wire

    @property
    def device_pace(self) -> Floats:
        """What devices know their computing to take over the profile (L,); 1 in a tidy world."""
        return self._pace.at(self.now_s)

    def backlogs(self) -> tuple[Floats, Floats]:
        """Device backlog in seconds and uplink backlog in bytes, as the device knows them.

        An upload counts whole from when it is handed to the link until its answer is here or its
        frame is over, begun or not; what a cancelled one left on the link counts until it has
        passed (the device asks its socket). A frame whose gates are not asked yet counts as its
        plan's frames do on average: which way it goes the device does not know.
        """
        ready = self.resources.computes_until_s(self.now_s)
        if self._asks:
            unknown = self._asked_s > self.now_s
            more = np.maximum(self._expected_s, self.now_s) - self._over_s
            ready = ready + (more * unknown).sum(axis=0)
        device = np.maximum(ready - self.now_s, 0.0)
        under_way = self._live_until > self.now_s
        alive = under_way & (self._live_from <= self.now_s)
        live = (self._live_bytes * alive).sum(axis=0)
        coming = under_way ^ alive
        # of what is still wanted the device knows no part that has passed: that would give away the
        # rate before any answer does
        left = (~under_way & (self._passed_s > self.now_s)).any(axis=0)
        left |= self._stale_s > self.now_s
        free = np.where(coming, self._free_before_s, self.resources.uplink_s).min(axis=0)
        lanes = np.flatnonzero(left & (free > self.now_s))
        if len(lanes):
            own, now, free = live.take(lanes), self.now_s.take(lanes), free.take(lanes)
            until = np.minimum(free, self.link.duration_s.take(lanes))
            owed = self.link.some(lanes).bytes_between(now, np.maximum(until, now))
            owed = np.where(free < np.inf, owed, self.model.send_buffer_bytes)
            live.put(lanes, np.maximum(own, owed))
        return device, live

    def ends(self) -> list[Ended]:
        """Frames whose end is known by the lanes' present times, a lane's oldest first; once each.

        A frame without an answer is known to be late at its deadline, not when it was decided.
        """
        ends, news = self._ends, self._news(self._ends.known_s, self._oldest_first())
        if self.world is not None:
            for lanes, index, known_s in news:
                pace = ends.pace.take(index)
                self._pace.took(lanes & np.isfinite(pace), pace, known_s)
        return [
            Ended(
                lanes,
                ends.frame.take(index),
                ends.plan.take(index),
                known_s,
                ends.latency_s.take(index),
                ends.exit.take(index),
                ends.in_time.take(index),
                ends.by_plan.take(index),
                ends.noticed.reshape(len(ends.noticed), -1)[:, index],
            )
            for lanes, index, known_s in news
        ]

    def deliver(self) -> list[Delivered]:
        """Measurements known by the lanes' present times, a lane's oldest first; once each."""
        order = np.append(self._pending, self._oldest_first())
        return [
            Delivered(
                lanes,
                known_s,
                self._bytes.take(index),
                self._duration.take(index),
                self._complete.take(index),
            )
            for lanes, index, known_s in self._news(self._known, order)
        ]

    def _oldest_first(self) -> Ints:
        return (self._slot + np.arange(self._pending)) % self._pending

    def _news(self, known_s: Floats, order: Ints) -> list[tuple[Bools, Ints, Floats]]:
        """What is known by now of (slots, L), and made inf: lanes (mask), flat indices, known when.

        First what every lane comes to know first in the slots' `order`, then what it does second,
        and so on: few rounds, however many slots.
        """
        ready = known_s <= self.now_s
        turn, lane = np.divmod(np.flatnonzero(ready[order]), self.lanes)
        entry = order.take(turn) * self.lanes + lane
        found, reported = [], entry
        while len(lane):
            index, lanes = (
                np.zeros(self.lanes, dtype=np.int64),
                np.zeros(self.lanes, dtype=np.bool_),
            )
            # of a lane's entries the last to be written stays: its first
            index[lane[::-1]] = entry[::-1]
            lanes[lane] = True
            found.append((lanes, index, known_s.take(index)))
            later = index.take(lane) != entry
            lane, entry = lane[later], entry[later]
        known_s.put(reported, np.inf)
        return found

    def step(self, plan: Ints) -> StepResult:
        """Run one frame in every lane and move every lane to its next decision time."""
        table = self.rows.gate_rows.table
        self.plan = plan = self._admitted(plan)
        run = plan if self.admission is None else self.admission.with_fallback(plan)
        arrival = self.now_s
        sample, self.factors, beyond = self._drawn()
        # which way a gated plan goes is the sample's doing; the device does not know beforehand
        ending = self.rows.ending(run, sample)
        weight = self.rows.weight(ending, sample)
        self._free_before_s[self._slot] = self.resources.uplink_s
        outcome, self.resources = run_frames(
            table,
            ending,
            arrival,
            self.resources,
            self.setting.links(self.link),
            self.setting.link_models,
            self.setting.timing,
            *self.factors,
            **beyond,
            weight=weight,
            pace=self.device_pace,
        )
        self._remember(outcome, table.up_bytes.take(ending) * weight)
        if self._asks:
            self._await_gates(outcome, run, ending)
        if self.admission is not None:
            self.admission.ran(plan, arrival, outcome)
        if self.setting.closed_loop:
            result = self._closed(outcome, ending, arrival, sample)
        else:
            result = self._streamed(outcome, ending, arrival, sample)
        self._await_end(result, plan)
        if self.world is not None:
            slot, ends = self._slot, self._ends
            ends.noticed[:, slot] = noticed(self.rows, result, weight, sample)
            ends.pace[slot] = np.where(outcome.device_s > PACED_S, self.factors[0], np.nan)
        self._slot = (self._slot + 1) % self._pending
        return result

    def _drawn(self) -> tuple[Ints, list[Floats | float], dict[str, Any]]:
        """Samples (L,), factors on every node's medians, and what comes beyond (`run_frames`)."""
        sigmas = self.rows.gate_rows.table.sigmas
        sample = self.rng.integers(0, self.rows.samples, self.lanes)
        noise = self.rng.standard_normal((len(sigmas), self.lanes))
        factors = [np.exp(s * n) if s else 1.0 for s, n in zip(sigmas, noise, strict=True)]
        if self.world is None:
            return sample, factors, {}
        drawn = self.world.draw(self.now_s)
        for node, (own, slower) in enumerate(zip(drawn.factors, drawn.slower, strict=True)):
            factors[node] = (factors[node] if own is None else own) * slower
        beyond = {"overheads_s": drawn.overheads_s, "others_s": drawn.queued_s}
        return sample if drawn.sample is None else drawn.sample, factors, beyond

    def _admitted(self, plan: Ints) -> Ints:
        """What devices make of the plans that were decided."""
        if self.admission is None:
            return plan
        return self.admission.admit(
            plan, self.now_s, self.frame, *self.backlogs(), self.device_pace
        )

    def mean_reward(self, result: StepResult) -> Floats:
        """A step's rewards with the answers' accuracies in place of what single samples gave.

        The same in expectation, with less noise; the closed loop's rewards are such already.
        """
        if self.setting.closed_loop:
            return result.reward
        costs = result.taken.accuracy + result.device_cost + result.byte_cost
        return np.asarray(self._worth(result) - costs)

    def _worth(self, result: StepResult) -> Floats:
        """Mean quality of the answers, 0 where there is none in time."""
        outcome, exit_ = result.outcome, np.maximum(result.outcome.answer_exit, 0)
        accuracy = self.rows.accuracy(result.ending, exit_, outcome.by_plan)
        return np.asarray(np.where(result.in_time, accuracy, 0.0))

    def _streamed(
        self, outcome: FrameOutcome, ending: Ints, arrival: Floats, sample: Ints
    ) -> StepResult:
        in_time = outcome.answer_exit >= 0
        row = self.rows.row(ending, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
        quality = np.where(in_time, self.rows.of(row, sample), 0.0)
        taken = self._ends.take_back(outcome.lost, self._slot)
        reward, device_cost, byte_cost = priced(
            self.setting, quality - taken.quality, outcome.device_s, outcome.bytes_sent
        )
        self.now_s = arrival + self.interval_s
        ended = self.now_s + self.deadline_s > self.link.duration_s
        return StepResult(
            outcome, arrival, quality, in_time, reward, device_cost, byte_cost,
            self._energy_j(outcome), ended, ending, taken,
        )  # fmt: skip

    def _closed(
        self, outcome: FrameOutcome, ending: Ints, arrival: Floats, sample: Ints
    ) -> StepResult:
        latency = outcome.latency_s
        in_time = latency <= self.deadline_s
        row = self.rows.row(ending, np.maximum(outcome.answer_exit, 0), outcome.by_plan)
        quality = np.where(in_time, self.rows.of(row, sample), 0.0)
        reward = edgent_reward(self._accuracy[row], latency, self.deadline_s)
        # an inference that the rest of the trace cannot finish ends the lane, unrewarded
        duration = self.link.duration_s
        reward = np.where(outcome.answered_s <= duration, reward, 0.0)
        self.now_s = np.minimum(outcome.answered_s, duration)
        ended = ~(self.now_s < duration)
        zero = np.zeros(self.lanes)
        return StepResult(
            outcome, arrival, quality, in_time, reward, zero, zero, self._energy_j(outcome), ended,
            ending, Taken.none(self.lanes),
        )  # fmt: skip

    def _energy_j(self, outcome: FrameOutcome) -> Floats:
        power = self.setting.device.power
        if power is None:
            return np.zeros(self.lanes)
        return power.energy_j(outcome.device_s, outcome.measured_duration_s, outcome.bytes_sent)

    def _await_gates(self, outcome: FrameOutcome, plan: Ints, ending: Ints) -> None:
        """What the device cannot know yet of frames whose gates are still to be asked."""
        slot, took = self._slot, outcome.device_prefix_s
        self._expected_s[slot] = outcome.device_start_s + self._mean_prefix_s.take(plan)
        self._over_s[slot] = outcome.device_start_s + took
        # one that a gate stops is known for it when it is over
        known = np.where(ending != plan, self._over_s[slot], outcome.asked_s)
        gated = self.setting.table.gated.take(plan) & (took > 0)
        self._asked_s[slot] = np.where(gated, known, -np.inf)

    def _remember(self, outcome: FrameOutcome, upload_bytes: Floats) -> None:
        slot = self._slot
        self._known[slot] = outcome.measured_known_s
        self._bytes[slot] = outcome.measured_bytes
        self._duration[slot] = outcome.measured_duration_s
        self._complete[slot] = outcome.measured_complete
        offloads = np.isfinite(outcome.measured_known_s)
        over = np.minimum(outcome.measured_known_s, self.now_s + self.deadline_s)
        self._live_from[slot] = outcome.handed_s
        self._live_until[slot] = np.where(offloads, over, -np.inf)
        self._live_bytes[slot] = upload_bytes
        # a slot is taken anew when its frame is long over
        self._stale_s = np.maximum(self._stale_s, self._passed_s[slot])
        self._passed_s[slot] = np.where(offloads, self.resources.uplink_s, -np.inf)

    def _await_end(self, result: StepResult, plan: Ints) -> None:
        answered = result.in_time | self.setting.closed_loop
        at_deadline = result.arrival_s + self.deadline_s
        known = np.where(answered, result.outcome.answered_s, at_deadline)
        self._ends.expect(self._slot, self.frame, plan, known, result, self._worth(result))
        self.frame = self.frame + 1
