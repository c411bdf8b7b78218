"""One decision of a learned policy, explained: what was seen, what plans scored, who else would."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from controller.interface import Controller, Measurement, Situation
from controller.policies.features import MAX_AGE_S, Scales
from controller.policies.learned import LearnedController
from controller.policies.network import Policy
from controller.policies.observation import CONTEXT, DESCRIBED, SHARPNESS
from controller.scenarios import Setting
from experiments.evaluation.controllers import ControllerFactory

BASELINES = ("device-only", "algorithm1-online", "map", "rate-rule", "robust")
MEASURED = 8
"""Transfers that went before, at the bandwidth, one an interval."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A made-up moment: a steady bandwidth, measured last `age_s` ago, and the backlogs."""

    bandwidth_bps: float
    age_s: float = 0.05
    device_backlog_s: float = 0.0
    uplink_backlog_bytes: int = 0


class Candidate(msgspec.Struct, frozen=True):
    """A plan the policy looked at: its score, planning's word, and how it was described."""

    plan: str
    score: float
    advantage: float
    described: dict[str, float]


class PolicyExplanation(msgspec.Struct, frozen=True):
    """What `plan --policy --json` prints; candidates by falling score.

    `seen` is normalised, as the policy is given it; `stands_for` says the same in units.
    `outside`: what was seen beyond the range of training; then the robust planner decides.
    `probing`: the link was asked in the place of a plan that measures nothing.
    """

    plan: str
    decided_by: str
    seen: dict[str, float]
    stands_for: dict[str, str]
    outside: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    baselines: dict[str, str]
    reason: str


def explain_policy(
    setting: Setting,
    policy: Policy,
    moment: Moment,
    factory: ControllerFactory,
    baselines: Sequence[str] = BASELINES,
) -> PolicyExplanation:
    """The policy's decision at `moment`, and what each baseline would choose there.

    `policy` was trained for `setting`; `baselines` are names of controllers, which `factory` makes.
    """
    names = [str(plan) for plan in setting.table.plans]
    learned = LearnedController(policy, setting)
    situation = _led_to(learned, setting, moment)
    observation = learned.observation(situation)
    scores = policy.scores(observation.flat)[0]
    context = observation.context[0]
    outside = [
        name
        for k, name in enumerate(CONTEXT)
        if policy.outside(np.where(np.arange(len(CONTEXT)) == k, context, policy.lowest)[None])[0]
    ]
    chosen = learned.decide(situation)
    order = [int(k) for k in np.argsort(-scores, kind="stable") if observation.present[0, k]]
    candidates = tuple(
        Candidate(
            names[observation.plans[0, k]],
            float(scores[k]),
            float(observation.described[0, k, 0]) / SHARPNESS,
            dict(zip(DESCRIBED, map(float, observation.described[0, k]), strict=True)),
        )
        for k in order
    )
    others: dict[str, str] = {}
    for name in baselines:
        made = factory.maker(name, ())(0)
        others[name] = names[made.decide(_led_to(made, setting, moment))]
    decided_by = _decided_by(names[chosen], candidates[0].plan, bool(outside))
    return PolicyExplanation(
        names[chosen],
        decided_by,
        dict(zip(CONTEXT, map(float, context), strict=True)),
        _in_units(context, setting),
        tuple(outside),
        candidates,
        others,
        _reason(decided_by, candidates, outside),
    )


def _led_to(controller: Controller, setting: Setting, moment: Moment) -> Situation:
    """Tell a controller of the transfers that went before; gives the situation."""
    gap_s = setting.interval_s if np.isfinite(setting.interval_s) else 0.1
    now_s = MEASURED * gap_s + moment.age_s
    size = int(setting.table.up_bytes.max()) or 1
    took_s = 8.0 * float(setting.link_model.on_wire(np.array(size))) / moment.bandwidth_bps
    controller.reset()
    for k in range(MEASURED):
        known_s = now_s - moment.age_s - (MEASURED - 1 - k) * gap_s
        controller.observe(Measurement(known_s, size, took_s))
    return Situation(
        now_s, MEASURED, setting.scenario.frames.deadline_s, moment.device_backlog_s,
        moment.uplink_backlog_bytes, setting.scenario.link.rtt_s,
    )  # fmt: skip


def _in_units(context: npt.NDArray[np.float32], setting: Setting) -> dict[str, str]:
    """What the numbers of the context stand for: their normalisation undone."""
    deadline_s = setting.scenario.frames.deadline_s
    backlog_bytes = Scales(deadline_s).backlog_bytes

    def rate(value: float) -> str:
        return f"{10.0 ** (0.75 * value):.3g} Mbit/s"

    def age(value: float) -> str:
        return f"{math.expm1(value * math.log1p(MAX_AGE_S)):.2f} s"

    def yes(value: float) -> str:
        return "yes" if value else "no"

    def share(value: float) -> str:
        return f"{100.0 * value:.0f} %"

    def of_deadline(value: float) -> str:
        return f"{1000.0 * value * deadline_s:.0f} ms"

    def times(value: float) -> str:
        return f"x {2.0**value:.2f}"

    said: dict[str, Callable[[float], str]] = {
        "log_rate": rate, "fast_log_rate": rate, "slow_log_rate": rate, "shift_log_rate": rate,
        "belief_mean": rate, "log_age": age, "log_shift_age": age, "complete": yes,
        "seen_anything": yes, "recent_in_time": share, "recent_by_plan": share,
        "device_backlog": of_deadline, "round_trip": of_deadline,
        "uplink_backlog": lambda value: f"{value * backlog_bytes:.0f} bytes",
        "log_rate_spread": lambda value: f"x {10.0 ** (0.75 * value):.2f}",
        "belief_spread": lambda value: f"x {10.0**value:.2f}",
        "device_price": lambda value: f"{value:.3g} a second",
        "byte_price": lambda value: f"{5.0 * value:.3g} a megabyte",
        "deadline": lambda value: f"{100.0 * 8.0**value:.0f} ms",
        "interval": lambda value: f"{50.0 * 8.0**value:.0f} ms",
        "best_reward": lambda value: f"{value:.3f}",
        "device_pace": times, "own_size": times, "size_changes": times, "confidence": share,
        "edge_queue": of_deadline, "last_latency": of_deadline,
    }  # fmt: skip
    return {
        name: said[re.sub(r"_\d+$", "", name)](value) + (" or beyond" if abs(value) >= 3.0 else "")
        for name, value in zip(CONTEXT, map(float, context), strict=True)
    }


def _decided_by(chosen: str, best: str, outside: bool) -> str:
    if outside:
        return "the robust planner"
    return "the policy" if chosen == best else "the probing rule"


def _reason(decided_by: str, candidates: Sequence[Candidate], outside: Sequence[str]) -> str:
    best = candidates[0]
    planned = max(candidates, key=lambda c: c.advantage)
    if decided_by == "the robust planner":
        return f"seen outside the range of training: {', '.join(outside)}"
    if decided_by == "the probing rule":
        return "nothing was heard of the link for too long, and the best plan would not measure it"
    if best is planned:
        second = f"; next {candidates[1].plan}" if len(candidates) > 1 else ""
        return f"the best by planning, and nothing learnt speaks against it{second}"
    return (
        f"learnt: planning alone would take '{planned.plan}', which it holds "
        f"{planned.advantage - best.advantage:.4f} of an answer better"
    )
