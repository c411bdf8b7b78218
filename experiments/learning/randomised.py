"""Scenarios drawn at random, for a policy that shall serve ones it never saw.

Device speed, round trip, deadline, frame rate, bandwidth and prices are drawn around the shipped
scenarios' networks, over Belgium's training logs and generated ones. No Norwegian log, nor anything
fitted to one, is used: those are kept to test on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import msgspec
import numpy as np

from controller.physics import TraceBank
from controller.planners.queue_values import Solving, solve_prices
from controller.policies.generalist import Generalist, make_generalist
from controller.policies.network import encoder_of, written_belief
from controller.scenarios import (
    RewardSection,
    Scenario,
    Setting,
    TraceSection,
    load_setting,
    read_scenario,
)
from controller.sensing.belief import BandwidthBelief, Counting
from experiments.learning.curriculum import generated, with_generated
from experiments.learning.tasks import Data, TrainingTask, TrainingTasks
from experiments.learning.training import learn
from experiments.learning.training_args import TrainArgs, TrainReport
from experiments.learning.validation import Judging, unheard
from traces.library import load_split

STREAMS = ("lte-mobilenet", "lte-mobilenet", "3g-alexnet")
"""Their turns; the first one's second was that of the same scenario at prices, which are drawn."""
CLOSED = "edgent"
LEVELS = 44
"""Of the belief: it spans the rates of every scale."""
SCALES = (0.03, 0.06, 0.12, 0.25, 0.5)
"""Of Belgium's logs, whose mean is 30 Mbit/s, for the belief."""
GENERALIST = TrainArgs(
    learning_rate=3e-4, validations=6, validation_frames=600, generated=8, batch=8192, blind_s=0.5
)
"""Many scenarios are judged: shorter, and less often. Small steps: what pays here costs there."""
JUDGED = 12
"""Settings that checkpoints are judged on."""


def draw(rng: np.random.Generator, number: int) -> Scenario:
    """A scenario: every eighth a closed loop, the others streams."""

    def between(low: float, high: float) -> float:
        return float(np.round(low * (high / low) ** rng.random(), 6))

    scale = between(0.03, 0.5)
    traces = TraceSection(family="belgium", scale=scale)
    name = f"random-{number}"
    change = msgspec.structs.replace
    if number % 8 == 7:
        base = read_scenario(CLOSED)
        return change(base.with_link(0, traces=traces), name=name)
    base = read_scenario(STREAMS[number % len(STREAMS)])
    slowdown = between(0.6, 1.8)
    rate = base.frames.rate_fps / slowdown * between(0.5, 1.15)
    priced = rng.random() < 0.6
    prices = 4.0 * rng.random(2) ** 2 * np.array([0.5, 3.0]) if priced else np.zeros(2)
    moved = base.with_link(0, traces=traces, rtt_s=between(0.005, 0.08))
    return change(
        moved.with_node(0, slowdown=slowdown),
        name=name,
        frames=change(base.frames, deadline_s=between(0.06, 0.2), rate_fps=round(rate, 3)),
        plans=change(base.plans, hedge=bool(rng.random() < 0.3)),
        reward=RewardSection(*map(float, np.round(prices, 4))),
    )


def pooled_belief() -> BandwidthBelief:
    """How bandwidth moves over Belgium's training logs at every scale."""
    traces = load_split("belgium", "train").traces
    pooled = [trace.scale(scale) for scale in SCALES for trace in traces]
    return BandwidthBelief.from_traces(pooled, Counting(LEVELS))


def train_generalist(
    args: TrainArgs,
    settings: int,
    report: Callable[[TrainReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    planning: Callable[[float], None] = lambda share: None,
    judging: Judging = unheard,
) -> Generalist:
    """Plan for every drawn scenario by one belief, then learn over all of them at once.

    `settings` scenarios are drawn from the seed of `args`, which say how is learnt. `report` is
    called after every rollout, `planning` with the share of the planning that is done; `stopped` is
    asked after every rollout, `judging` is called with what is judged, and how far.
    """
    rng = np.random.default_rng(args.seed)
    belief = written_belief(pooled_belief())
    drawn = [load_setting(draw(rng, number)) for number in range(settings)]
    tasks, judged, sources = [], [], []
    for number, setting in enumerate(drawn):
        planning(number / settings)
        data = Data.of(setting)
        if args.generated:
            data = Data(
                with_generated(data.train, generated(setting, args.generated, rng)),
                data.validation,
            )
        sources.append(data.train.source)
        task = _task(setting, belief, data, args, settings)
        tasks.append(task)
        if number < JUDGED:
            bank = TraceBank(data.validation.traces)
            judged.append(TrainingTask(setting, task.encoder, bank, len(bank.names)))
    planning(1.0)
    both = TrainingTasks(tuple(tasks), tuple(judged))
    weights, contexts, record = learn(both, args, belief, report, stopped, judging=judging)
    settings_in_short = [_in_short(setting) for setting in drawn]
    training = asdict(args) | {"traces": "; ".join(sorted(set(sources)))}
    training |= {"settings": settings_in_short} | record
    return make_generalist(weights, belief, contexts, training, args.blind_s)


def _task(
    setting: Setting, belief: BandwidthBelief, data: Data, args: TrainArgs, settings: int
) -> TrainingTask:
    own = setting.scenario.reward
    how = Solving(args.planning_backlogs, sweeps=args.planning_sweeps)
    grids = np.array([own.device_second]), np.array([own.megabyte])
    solved = solve_prices(setting, belief, *grids, how)
    lanes = max(args.lanes // settings, 1)
    return TrainingTask(
        setting, encoder_of(setting, belief, solved), TraceBank(data.train.traces), lanes
    )


def _in_short(setting: Setting) -> dict[str, float | str]:
    """A drawn scenario in short."""
    scenario = setting.scenario
    return {
        "network": scenario.network,
        "kind": scenario.kind,
        "family": scenario.traces.family,
        "scale": scenario.traces.scale,
        "device_slowdown": round(scenario.device_slowdown, 4),
        "deadline_s": scenario.frames.deadline_s,
        "rate_fps": scenario.frames.rate_fps,
        "rtt_s": scenario.link.rtt_s,
        "device_second": scenario.reward.device_second,
        "megabyte": scenario.reward.megabyte,
    }
