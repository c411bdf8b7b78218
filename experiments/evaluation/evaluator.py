"""One evaluator for every controller: whole traces, once, without wrapping, and what came of it.

Frames, samples and compute times are drawn by the scenario's evaluation seed and are the same for
every controller of a frame stream. Quality comes from the report half of the outcomes, which
nothing was trained or chosen on. Rewards are expectations over the samples, as the clairvoyant
bound they are held against is: the answers' accuracies stand in the place of single answers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from artefacts.arrays import Floats, Ints
from controller.interface import (
    Controller,
    FrameResult,
    Measurement,
    Noticed,
    Overruled,
    Situation,
)
from controller.physics import Resources, TraceBank
from controller.scenarios import Setting
from envs.admission import AdmittedLanes
from envs.once import earned
from envs.records import StepResult
from envs.simulator import Simulator
from experiments.evaluation.known_world import Clairvoyant, foreseen
from experiments.evaluation.learned_lanes import together
from traces.trace import BandwidthTrace


@dataclass(frozen=True)
class TraceRun:
    """One controller on one trace, a value a frame; `loading_s` is the closed loop's one charge.

    `quality`, 0 to 1, is of the sample that was drawn, `reward` with the answer's accuracy in its
    place. A frame that takes the answer away from one before bears what that costs in its own
    `reward`.
    """

    trace: str
    plan: npt.NDArray[np.int64]
    arrival_s: Floats
    latency_s: Floats
    quality: Floats
    in_time: npt.NDArray[np.bool_]
    reward: Floats
    bytes_sent: Floats
    device_s: Floats
    energy_j: Floats
    probe_bytes: float
    loading_s: float
    duration_s: float


Watch = Callable[[Simulator, StepResult, Ints, Ints], None]
"""Sees a simulator, the step that it just made, and the frames' numbers and plans (L,)."""


class _Recorder:
    """Collects one lane's frames while it is alive."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def add(
        self,
        plan: int,
        result: StepResult,
        reward: float,
        lane: int,
        requirement_s: float | None,
        end_s: float,
    ) -> None:
        """One frame. In the closed loop (`requirement_s`) the trace's end cuts the last one off.

        It is left out where it could still have met the requirement, and a miss otherwise.
        """
        latency = float(result.outcome.latency_s[lane])
        cut_off = requirement_s is not None and not result.outcome.answered_s[lane] <= end_s
        if requirement_s is not None and cut_off:
            latency = end_s - float(result.arrival_s[lane])
            if latency <= requirement_s:
                return
        self.rows.append(
            (
                plan,
                result.arrival_s[lane],
                latency,
                0.0 if cut_off else result.quality[lane],
                result.in_time[lane] and not cut_off,
                reward,
                result.outcome.bytes_sent[lane],
                result.outcome.device_s[lane],
                result.energy_j[lane],
            )
        )

    def lose(self, before: int) -> None:
        """A later frame took the time of the fallback that was to answer this many frames ago."""
        if before <= len(self.rows):
            plan, arrival_s, _, _, _, *rest = self.rows[-before]
            self.rows[-before] = (plan, arrival_s, np.inf, 0, 0, *rest)

    def blocked(self, start_s: float, end_s: float) -> None:
        """A loop that the one charged transfer at its start held up to the trace's end: a miss."""
        self.rows.append((0, start_s, end_s - start_s, 0, 0, 0, 0, 0, 0))

    def run(self, trace: str, probe: float, loading: float, duration: float) -> TraceRun:
        """The frames as arrays."""
        table = np.array(self.rows, dtype=np.float64).reshape(-1, 9)
        return TraceRun(
            trace, table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3],
            table[:, 4] > 0, table[:, 5], table[:, 6], table[:, 7], table[:, 8], probe, loading,
            duration,
        )  # fmt: skip


def evaluate(
    setting: Setting,
    traces: Sequence[BandwidthTrace],
    make: Callable[[int], Controller],
    *,
    seed: int | None = None,
    half: str = "report",
    progress: Callable[[float], None] = lambda share: None,
    max_frames: int | None = None,
    as_daemon: bool = False,
    bank: TraceBank | None = None,
    watch: Watch | None = None,
) -> list[TraceRun]:
    """Run `make(k)`'s controller over trace k, for all traces side by side.

    `progress` is given the share of the longest trace that is done; `max_frames` ends early.
    `as_daemon`: frames are treated as a daemon does after its controller (`envs.admission`).
    `bank`: the traces laid end to end, where several controllers run over the same. `watch` is
    shown every step.

    `setting` is the scenario loaded; `traces` are scaled already. `seed` draws phases, compute
    times and samples (None: the scenario's) of the `half` of the outcomes.
    """
    bank = TraceBank(traces) if bank is None else bank
    lanes = len(traces)
    rng = np.random.default_rng(setting.scenario.seeds.evaluate if seed is None else seed)
    first = setting.scenario.seeds.evaluate if seed is None else seed
    rules = _daemon_rules(setting, lanes, first) if as_daemon else None
    simulator = Simulator(setting, bank, lanes, half, rng, rules)
    controllers = [make(k) for k in range(lanes)]
    for controller in controllers:
        controller.reset()
    loading = setting.device.model_loading_s if setting.closed_loop else 0.0
    phase = rng.random(lanes) * simulator.interval_s + loading
    simulator.place(np.ones(lanes, dtype=np.bool_), np.arange(lanes), phase)
    _foretell(simulator, controllers, max_frames)
    probes = _charged(simulator, controllers)
    recorders = [_Recorder() for _ in range(lanes)]
    alive = np.isfinite(simulator.now_s)
    for lane in np.flatnonzero(~alive).tolist():
        recorders[lane].blocked(float(phase[lane]), float(bank.durations_s[lane]))
    _run(simulator, controllers, recorders, alive, max_frames, progress, watch)
    return [
        recorder.run(name, float(probe), loading, float(duration))
        for recorder, name, probe, duration in zip(
            recorders, bank.names, probes, bank.durations_s, strict=True
        )
    ]


def _foretell(simulator: Simulator, controllers: Sequence[Controller], frames: int | None) -> None:
    """Tell those with hindsight what the world will be for their lanes' `frames` (None: all)."""
    hindsight = {k: one for k, one in enumerate(controllers) if isinstance(one, Clairvoyant)}
    if simulator.world is None or not hindsight:
        return
    known = foreseen(simulator, frames)
    for k, own in hindsight.items():
        own.foresee(known[k], partial(_resources, simulator, k))


def _resources(simulator: Simulator, lane: int) -> Resources:
    """How one lane's stand now."""
    return simulator.resources.take(np.array([lane]))


def _daemon_rules(setting: Setting, lanes: int, seed: int) -> AdmittedLanes:
    """What a daemon decides after its controller, for L lanes; refuses a closed loop."""
    if setting.closed_loop:
        raise UsageError(
            f"as a daemon: found scenario '{setting.scenario.name}', a closed loop, expected a "
            "frame stream: daemons serve no other"
        )
    return AdmittedLanes(setting, lanes, seed)


def _charged(simulator: Simulator, controllers: Sequence[Controller]) -> Floats:
    """Begin the transfers that controllers want before the first frame; bytes charged (L,)."""
    probes = np.zeros(simulator.lanes)
    for size in {c.initial_probe_bytes for c in controllers} - {0}:
        mask = np.array([c.initial_probe_bytes == size for c in controllers])
        probes += simulator.charge_probe(mask, float(size))
        if simulator.setting.closed_loop:
            # the paper's loop is one thing after the other: the first inference waits
            simulator.now_s = np.where(mask, simulator.resources.uplink_s, simulator.now_s)
    return probes


def _overruled(
    simulator: Simulator, controllers: Sequence[Controller], frames: Ints, chosen: Ints
) -> Ints:
    """What ran in the place of the plans `chosen` (L,) of `frames` (L,).

    Controllers that ask for it hear of it.
    """
    if simulator.admission is None:
        return chosen
    for lane in np.flatnonzero(simulator.plan != chosen).tolist():
        controller = controllers[lane]
        if isinstance(controller, Overruled):
            controller.overruled(int(frames[lane]), int(simulator.plan[lane]))
    return simulator.plan.copy()


def _run(
    simulator: Simulator,
    controllers: Sequence[Controller],
    recorders: Sequence[_Recorder],
    alive: npt.NDArray[np.bool_],
    max_frames: int | None,
    progress: Callable[[float], None],
    watch: Watch | None,
) -> None:
    """Run the lanes that are `alive` (L,) to their traces' ends, every frame recorded."""
    durations_s, setting = simulator.bank.durations_s, simulator.setting
    # a learned policy's many arrays cost the same for one lane as for dozens
    at_once = None if simulator.admission is not None else together(controllers, setting)
    requirement_s = simulator.deadline_s if setting.closed_loop else None
    frame = 0
    while alive.any() and (max_frames is None or frame < max_frames):
        if at_once is not None:
            plan = at_once.decide(simulator, alive)
        else:
            plan = decide(simulator, controllers, alive, *tell(simulator, controllers, alive))
        frames = simulator.frame
        result = simulator.step(plan)
        plan = _overruled(simulator, controllers, frames, plan)
        if watch is not None:
            watch(simulator, result, frames, plan)
        rewards = simulator.mean_reward(result)
        taken = result.taken.frames & alive
        for number, lane in np.argwhere(taken).tolist():
            recorders[lane].lose(len(taken) - number)
        for lane in np.flatnonzero(alive).tolist():
            limit, reward = float(durations_s[lane]), float(rewards[lane])
            recorders[lane].add(int(plan[lane]), result, reward, lane, requirement_s, limit)
        alive = alive & ~result.ended
        simulator.now_s = np.where(alive, simulator.now_s, 0.0)
        frame += 1
        if frame % 200 == 0:
            progress(float(np.max(simulator.now_s / durations_s)))
    progress(1.0)
    if at_once is not None:
        at_once.record_fallbacks(controllers)


def tell(
    simulator: Simulator,
    controllers: Sequence[Controller],
    alive: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Tell every controller what its device knows by now; gives the backlogs."""
    for found in simulator.deliver():
        for k in np.flatnonzero(found.lanes & alive).tolist():
            controllers[k].observe(
                Measurement(
                    float(found.known_s[k]),
                    int(found.payload_bytes[k]),
                    float(found.duration_s[k]),
                    bool(found.complete[k]),
                )
            )
    for ended in simulator.ends():
        for k in np.flatnonzero(ended.lanes & alive).tolist():
            in_time = bool(ended.in_time[k])
            controllers[k].record(
                FrameResult(
                    int(ended.frame[k]),
                    int(ended.plan[k]),
                    float(ended.known_s[k]),
                    float(ended.latency_s[k]) if in_time else None,
                    int(ended.exit[k]) if in_time else None,
                    bool(ended.by_plan[k]),
                    Noticed(*(_known(value) for value in ended.noticed[:, k].tolist())),
                )
            )
    return simulator.backlogs()


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def decide(
    simulator: Simulator,
    controllers: Sequence[Controller],
    alive: npt.NDArray[np.bool_],
    device_backlog_s: Floats,
    uplink_backlog_bytes: Floats,
) -> npt.NDArray[np.int64]:
    """Every controller's plan for the frame that arrives now in its lane.

    Lane k of `simulator` is that of `controllers[k]`; only lanes that are `alive` (L,) are asked.
    `device_backlog_s` (L,) in seconds and `uplink_backlog_bytes` (L,) are what still waits.
    """
    plan = np.zeros(simulator.lanes, dtype=np.int64)
    for k in np.flatnonzero(alive).tolist():
        plan[k] = controllers[k].decide(
            Situation(
                float(simulator.now_s[k]),
                int(simulator.frame[k]),
                simulator.deadline_s,
                float(device_backlog_s[k]),
                int(uplink_backlog_bytes[k]),
                simulator.model.rtt_s,
                float(simulator.device_pace[k]),
            )
        )
    return plan


def mean_rewards(
    setting: Setting,
    bank: TraceBank,
    controllers: Sequence[Controller],
    half: str,
    frames: int,
    heard: Callable[[float], None] = lambda share: None,
) -> Floats:
    """Mean reward per frame (T,) of controller k on trace k, each run once from its start.

    With the answers' accuracies in place of single samples: as `envs.observed.mean_reward` for
    observers, on the same phases and compute times.

    `controllers` are of `setting`, `bank` holds the traces. `half` is that of the outcomes,
    `frames` the most of a trace; `heard` is called at every frame with the share that is done.
    """
    rng = np.random.default_rng(setting.scenario.seeds.evaluate)
    simulator = Simulator(setting, bank, len(controllers), half, rng)
    for controller in controllers:
        controller.reset()
    stepped = itertools.count()

    def step(alive: npt.NDArray[np.bool_]) -> StepResult:
        heard(next(stepped) / frames)
        backlogs = tell(simulator, controllers, alive)
        return simulator.step(decide(simulator, controllers, alive, *backlogs))

    return earned(simulator, step, frames)
