"""The batched simulator as the policy sees it: observations out, candidates in.

`ObservedLanes` carries out what the learned controller does on the device, for L lanes at once: the
same observer, encoder and probing rule. Training steps it, validation and distillation run it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from artefacts.arrays import Bools, Float32s, Floats, Ints
from controller.physics import TraceBank
from controller.policies.observation import Observation, ObservationEncoder
from controller.policies.stream_state import StreamState
from controller.scenarios import Setting
from controller.sensing.log_rates import log_rate
from envs.once import earned
from envs.records import StepResult
from envs.simulator import Simulator

AHEAD_S = ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0), (1.0, 3.0))
"""Stretches of the trace to come whose rates the value estimate is given in training."""
HIDDEN = len(AHEAD_S) + 1


class ObservedLanes:
    """L lanes, each with what its controller has seen."""

    def __init__(
        self,
        setting: Setting,
        bank: TraceBank,
        lanes: int,
        encoder: ObservationEncoder,
        half: str,
        rng: np.random.Generator,
        blind_s: float,
    ) -> None:
        self.setting, self.lanes = setting, lanes
        self.simulator = Simulator(setting, bank, lanes, half, rng)
        self._half = half
        self.plan: Ints = np.zeros(lanes, dtype=np.int64)
        """The plans (L,) that were carried out last, probes among them."""
        self._stream = StreamState(setting, encoder, lanes, blind_s)
        self._rows = np.arange(lanes)
        self._rtt_s = np.full(lanes, setting.scenario.link.rtt_s)

    def restart(self, rng: np.random.Generator) -> None:
        """Every lane begins anew with other randomness; place them before the next step."""
        self.simulator = Simulator(self.setting, self.simulator.bank, self.lanes, self._half, rng)
        self.forget(np.ones(self.lanes, dtype=np.bool_))

    def forget(self, lanes: Bools) -> None:
        """The masked lanes begin anew and have seen nothing."""
        self._stream.forget(lanes)

    def observe(self) -> Observation:
        """What has become known is taken in; the observation of every lane at its decision time."""
        simulator, stream = self.simulator, self._stream
        for found in simulator.deliver():
            stream.measured(
                found.lanes, found.known_s, found.payload_bytes, found.duration_s, found.complete
            )
        for ended in simulator.ends():
            stream.ended(
                ended.lanes, ended.frame, ended.in_time, ended.by_plan,
                np.where(ended.in_time, ended.latency_s, np.inf), ended.noticed,
            )  # fmt: skip
        self._device_s, uplink_bytes = simulator.backlogs()
        # the device counts whole bytes
        return stream.observation(
            simulator.now_s,
            self._device_s,
            np.floor(uplink_bytes),
            simulator.device_pace,
        )

    def step(self, observation: Observation, candidate: Ints) -> StepResult:
        """One frame in every lane, a probe in the place of blind candidates."""
        simulator = self.simulator
        plan = observation.plans[self._rows, candidate]
        plan = self._stream.applied(plan, observation, simulator.now_s)
        self.plan = plan
        self._stream.carried_out(
            simulator.frame, plan, simulator.now_s, self._device_s, self._rtt_s
        )
        return simulator.step(plan)

    def hidden(self) -> Float32s:
        """What no controller may see, (L, HIDDEN): rates to come, and the uplink's true backlog.

        For a value estimate in training only (asymmetric actor-critic: Pinto et al., RSS 2018).
        """
        simulator = self.simulator
        now, end = simulator.now_s, simulator.link.duration_s
        link, parts = simulator.link, []
        for begin_s, end_s in AHEAD_S:
            start, stop = np.minimum(now + begin_s, end), np.minimum(now + end_s, end)
            passed = link.bytes_between(start, stop)
            parts.append(log_rate(8.0 * passed / (end_s - begin_s)))
        busy = np.nan_to_num(simulator.resources.uplink_s, posinf=1e9) - now
        parts.append(np.clip(5.0 * busy, 0.0, 3.0))
        return np.stack(parts, axis=1).astype(np.float32)


class Decider(Protocol):
    """Anything that names a candidate for every row of observations."""

    def decide(self, flat: Float32s) -> Ints:
        """Candidates (L,)."""


class PlanningAlone:
    """Decides as planning does: candidates stand in its order."""

    def decide(self, flat: Float32s) -> Ints:
        """The first candidate of every row."""
        return np.zeros(len(flat), dtype=np.int64)


def mean_reward(lanes: ObservedLanes, decide: Decider, frames: int) -> Floats:
    """Mean reward per frame of every trace (L,), each run once from its start by lane k.

    With the answers' accuracies in place of single samples' luck.
    """
    lanes.forget(np.ones(lanes.lanes, dtype=np.bool_))

    def step(alive: Bools) -> StepResult:
        observation = lanes.observe()
        return lanes.step(observation, decide.decide(observation.flat))

    return earned(lanes.simulator, step, frames)
