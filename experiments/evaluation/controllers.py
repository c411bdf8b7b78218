"""Controllers by name, made for a setting; the one place that knows every name.

Names: device-only, edge-only, best-single (hindsight), fixed, fixed-hedged, algorithm1,
algorithm1-online, map, rate-rule, robust, bandit, learned, oracle; only where asked for: generalist
(a learned policy that was not trained for the scenario), optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from controller.interface import Controller, FrameResult, Measurement, Situation
from controller.physics import TraceBank
from controller.planners.bandit import BanditController
from controller.planners.configuration_map import ConfigurationMap, MapController, build_map
from controller.planners.deadline_rule import OnlineAlgorithm1, StaticAlgorithm1
from controller.planners.fixed import FixedController, device_only_plan, edge_only_plan
from controller.planners.rate_rule import MARGINS, RateRule
from controller.planners.robust import RobustPlanner
from controller.policies import SHIPPED_GENERALIST, SHIPPED_POLICIES
from controller.policies.generalist import load_generalist
from controller.policies.learned import LearnedController
from controller.policies.network import Policy, load_policy
from controller.scenarios import Setting
from controller.sensing.belief import BandwidthBelief
from controller.sensing.state_tracker import StateTracker
from envs.simulator import Simulator
from experiments.analyses.detectors.page_hinkley import make_detector
from experiments.evaluation.evaluator import clairvoyant_values, mean_rewards
from experiments.evaluation.optimum_play import OptimumController
from experiments.evaluation.optimum_queue import CoupledQueue, check_coupled
from traces.library import TraceSet
from traces.states import BandwidthState, oboe_states, states_by_quantiles
from traces.trace import BandwidthTrace

NAMES = (
    "device-only",
    "edge-only",
    "best-single",
    "fixed",
    "fixed-hedged",
    "algorithm1",
    "algorithm1-online",
    "map",
    "rate-rule",
    "robust",
    "bandit",
    "planning",
    "learned",
    "generalist",
    "oracle",
    "optimum",
)
SIMULATION_ONLY = ("best-single", "oracle", "optimum")
DEPLOYABLE = tuple(n for n in NAMES if n not in SIMULATION_ONLY)
LEARNT = ("planning", "learned", "generalist")
"""Made of a policy, or of a part of it: `planning` is the policy's own without what PPO added."""
ON_DEMAND = ("planning", "generalist", "optimum")
"""Of interest beside the policy, seconds to plan, minutes a log: not among all controllers, only
where named."""
MAP_STATES = 32
CHOICE_FRAMES = 16_000
"""Of every training trace, for what is chosen there: whole Belgium logs and all but few Norwegian
ones (with the first minutes alone others are chosen, which do worse)."""
FIRST_FRAMES, FINALISTS = 1500, 3
"""The rate rule's margins are tried on so many first; so many of the best on all of the above."""
NOT_TRIED = -1e9

Maker = Callable[[int], Controller]
Floats = npt.NDArray[np.float64]


@dataclass
class ControllerFactory:
    """Makes controllers for one setting; what is learnt from training traces is learnt once."""

    setting: Setting
    policy: Policy | None = None
    policy_folder: Path | None = None
    generalist_folder: Path | None = None
    detector: str = "bayes"
    max_frames: int | None = None
    """How many frames of a trace are run, where not all: so far what has hindsight looks."""
    progress: Callable[[str], None] = field(default=lambda what: None)

    @cached_property
    def training(self) -> TraceSet:
        """The training split, scaled."""
        return self.setting.traces("train")

    @cached_property
    def belief(self) -> BandwidthBelief:
        """How the bandwidth moves, counted on the training traces."""
        return BandwidthBelief.counted(self.training.traces)

    @cached_property
    def configuration_map(self) -> ConfigurationMap:
        """Algorithm 2 over Oboe's states (closed loop, as the paper) or the training traces'."""
        states, source = map_states(self.setting, self.training.traces)
        return build_map(self.setting, states, source)

    @cached_property
    def fixed_plan(self) -> int:
        """The single plan without hedging that did best on the training traces."""
        rewards = self.single_rewards
        return int(np.argmax(np.where(hedged(self.setting), -np.inf, rewards)))

    @cached_property
    def hedged_plan(self) -> int:
        """The single plan with hedging that did best on the training traces."""
        which = hedged(self.setting)
        if not which.any():
            raise UsageError(
                f"controller 'fixed-hedged': scenario '{self.setting.scenario.name}' has no plan "
                "that hedges, expected some ([plans] hedge = true)"
            )
        return int(np.argmax(np.where(which, self.single_rewards, -np.inf)))

    @cached_property
    def single_rewards(self) -> Floats:
        """What every plan alone earned on the training traces (P,)."""
        self.progress("best plan on the training traces")
        traces = self.training.traces
        return single_plan_rewards(self.setting, traces, "policy", max_frames=CHOICE_FRAMES)

    @cached_property
    def margin(self) -> float:
        """The rate rule's safety margin that did best on the training traces."""
        return MARGINS[int(np.argmax(self.margin_rewards))]

    @cached_property
    def margin_rewards(self) -> Floats:
        """What the rate rule earned with each of `MARGINS` on the training traces (`NOT_TRIED`
        where it was not among the `FINALISTS`).
        """
        self.progress("the rate rule's margin on the training traces")
        traces = self.training.traces
        bank = TraceBank(traces)

        def earned(margin: float, frames: int) -> float:
            rules = [RateRule(self.setting, margin) for _ in traces]
            return float(mean_rewards(self.setting, bank, rules, "policy", frames).mean())

        first = [earned(margin, FIRST_FRAMES) for margin in MARGINS]
        found = np.full(len(MARGINS), NOT_TRIED)
        for k in np.argsort(first)[-FINALISTS:]:
            found[k] = earned(MARGINS[k], CHOICE_FRAMES)
        return found

    def maker(self, name: str, traces: Sequence[BandwidthTrace]) -> Maker:
        """A function that makes the controller `name` for trace k of `traces`."""
        setting, table = self.setting, self.setting.table
        interval = setting.interval_s
        simple: dict[str, Callable[[], Any]] = {
            "algorithm1": lambda: StaticAlgorithm1(table, interval),
            "algorithm1-online": lambda: OnlineAlgorithm1(table, interval),
            "rate-rule": lambda: RateRule(setting, self.margin),
            "robust": lambda: RobustPlanner(setting, self.belief),
            "bandit": lambda: BanditController(setting),
            "planning": lambda: LearnedController(self.planned, setting, "planning"),
            "learned": lambda: LearnedController(self.learned, setting),
            "generalist": lambda: LearnedController(self.adapted, setting, "generalist"),
            "map": self._map_controller,
        }
        if name in simple:
            return lambda k: simple[name]()
        plans: dict[str, Callable[[], int]] = {
            "device-only": lambda: device_only_plan(setting),
            "edge-only": lambda: edge_only_plan(setting),
            "fixed": lambda: self.fixed_plan,
            "fixed-hedged": lambda: self.hedged_plan,
            "best-single": lambda: best_single(
                setting, traces, "report", max_frames=self.max_frames
            ),
        }
        if name in plans:
            plan = plans[name]()
            return lambda k: FixedController(name, plan)
        if name in ("oracle", "optimum") and not traces:
            raise UsageError(f"controller: found '{name}', expected one that needs no trace here")
        if name == "oracle":
            return lambda k: OracleController(setting, traces[k])
        if name == "optimum":
            queue = self.queue
            return lambda k: OptimumController(queue, traces[k], self.max_frames, self.progress)
        raise UsageError(f"controller: found '{name}', expected one of {', '.join(NAMES)}")

    @cached_property
    def queue(self) -> CoupledQueue:
        """The states of the stream's queue, for the optimum."""
        return CoupledQueue(self.setting)

    @cached_property
    def learned(self) -> Policy:
        """The policy given, or the shipped one of this scenario."""
        if self.policy is not None:
            return self.policy
        folder = self.policy_folder or SHIPPED_POLICIES / self.setting.scenario.name
        if not (folder / "policy.json").exists():
            raise UsageError(
                f"learned policy: found none in '{folder}', expected policy.json and policy.npz "
                "(name one with --policy, or make one: coinfer train --scenario ... --out ..., or "
                "without training coinfer adapt --scenario ... --out ...)"
            )
        return load_policy(folder, self.setting)

    @cached_property
    def planned(self) -> Policy:
        """The policy's planning alone."""
        return self.learned.planned()

    @cached_property
    def adapted(self) -> Policy:
        """The generalist, planned for this setting."""
        self.progress("planning for the generalist")
        return load_generalist(self.generalist_folder or SHIPPED_GENERALIST).adapted(self.setting)

    def _map_controller(self) -> MapController:
        made = self.configuration_map
        tracker = StateTracker(made.states, make_detector(self.detector))
        return MapController(self.setting, made, tracker)


def hedged(setting: Setting) -> npt.NDArray[np.bool_]:
    """Which plans of a setting hedge."""
    return np.array([plan.hedge for plan in setting.table.plans], dtype=np.bool_)


def chosen_names(listed: str, setting: Setting | None = None) -> list[str]:
    """Controllers named in 'a,b'; all that `setting` has, but `ON_DEMAND`, where nothing is named.

    Refuses one that does not exist.
    """
    names = [n.strip() for n in listed.split(",") if n.strip()]
    if listed.strip() and not names:
        raise UsageError(f"controllers: found '{listed}', expected names separated by commas")
    if not names:
        hedges = setting is None or hedged(setting).any()
        names = [n for n in NAMES if n not in ON_DEMAND and (hedges or n != "fixed-hedged")]
    for name in names:
        if name not in NAMES:
            raise UsageError(f"controller: found '{name}', expected one of {', '.join(NAMES)}")
    if "fixed-hedged" in names and setting is not None and not hedged(setting).any():
        raise UsageError(
            f"controller 'fixed-hedged': scenario '{setting.scenario.name}' has no plan that "
            "hedges, expected some ([plans] hedge = true)"
        )
    if "optimum" in names and setting is not None:
        check_coupled(setting)
    return list(dict.fromkeys(names))


def map_states(
    setting: Setting, training: Sequence[BandwidthTrace]
) -> tuple[tuple[BandwidthState, ...], str]:
    """Bandwidth states for a scenario's map, and where they come from."""
    if setting.closed_loop:
        return tuple(oboe_states()), "the 428 sessions of Oboe"
    states = states_by_quantiles(training, MAP_STATES, 5.0)
    return tuple(states), f"{MAP_STATES} quantile states of the training traces"


def best_single(
    setting: Setting,
    traces: Sequence[BandwidthTrace],
    half: str,
    *,
    max_frames: int | None = None,
) -> int:
    """The plan that earns most when used for every frame of `traces` (each plan is run)."""
    return int(np.argmax(single_plan_rewards(setting, traces, half, max_frames=max_frames)))


def single_plan_rewards(
    setting: Setting,
    traces: Sequence[BandwidthTrace],
    half: str,
    *,
    max_frames: int | None = None,
) -> Floats:
    """Mean reward per frame of every plan of the table, used alone on all `traces`.

    Each plan on each trace is a lane of one batched run: no controller is asked.
    """
    bank = TraceBank(traces)
    plans, lanes = len(setting.table), len(setting.table) * len(traces)
    rng = np.random.default_rng(setting.scenario.seeds.evaluate)
    simulator = Simulator(setting, bank, lanes, half, rng)
    everyone = np.ones(lanes, dtype=np.bool_)
    plan = np.repeat(np.arange(plans), len(traces))
    loading = setting.device.model_loading_s if setting.closed_loop else 0.0
    simulator.place(everyone, np.tile(np.arange(len(traces)), plans), np.full(lanes, loading))
    alive, totals, counts = everyone, np.zeros(plans), np.zeros(plans)
    frame = 0
    while alive.any() and (max_frames is None or frame < max_frames):
        result = simulator.step(plan)
        counted = alive & ~result.ended if setting.closed_loop else alive
        totals += np.bincount(plan, np.where(counted, simulator.mean_reward(result), 0.0), plans)
        counts += np.bincount(plan, counted, plans)
        alive = alive & ~result.ended
        simulator.now_s = np.where(alive, simulator.now_s, 0.0)
        frame += 1
    return np.asarray(totals / np.maximum(counts, 1))


class OracleController:
    """Knows the trace and nothing of the samples: the best plan at each start.

    In a stream what keeps a resource busy past the next frame takes that share of an answer from
    the plan's value, or it would overload the device; it is a strong rival, not the bound. Values
    are worked out ahead, `AHEAD` frames at a time, at a few device backlogs (rounded up).
    """

    AHEAD = 512
    BACKLOGS = 6

    def __init__(self, setting: Setting, trace: BandwidthTrace, name: str = "oracle") -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._setting, self._trace = setting, trace
        self._levels_s = np.linspace(0.0, setting.scenario.frames.deadline_s, self.BACKLOGS)
        self.reset()

    def reset(self) -> None:
        """Nothing worked out."""
        self._first = -1
        self._plans = np.zeros((0, 0), dtype=np.int64)

    def observe(self, measurement: Measurement) -> None:
        """It knows already."""

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The plan of greatest value at this moment."""
        if self._setting.closed_loop:
            return int(self._best(np.array([situation.now_s]), 0.0)[0])
        place = situation.frame - self._first
        if self._first < 0 or not 0 <= place < len(self._plans):
            starts = situation.now_s + np.arange(self.AHEAD) * self._setting.interval_s
            self._plans = np.stack(
                [
                    self._best(np.asarray(starts, dtype=np.float64), float(b))
                    for b in self._levels_s
                ],
                axis=1,
            )
            self._first, place = situation.frame, 0
        level = int(np.searchsorted(self._levels_s, situation.device_backlog_s - 1e-9))
        return int(self._plans[place, min(level, self.BACKLOGS - 1)])

    def _best(self, starts_s: Floats, backlog_s: float) -> npt.NDArray[np.int64]:
        values, busy = clairvoyant_values(self._setting, self._trace, starts_s, "policy", backlog_s)
        if not self._setting.closed_loop:
            over = np.maximum(busy / self._setting.interval_s - 1.0, 0.0)
            values = values - over * np.maximum(values.max(axis=1, keepdims=True), 0.0)
        return np.asarray(values.argmax(axis=1))
