"""How a scenario's deadline is chosen: single plans against the bound, on training logs alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from artefacts import UsageError
from controller.scenarios import NO_PRICES, Prices, Scenario
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.single_plans import single_plan_rewards


@dataclass(frozen=True, slots=True)
class DeadlineRow:
    """At one deadline: the bound, the best single plan and the best local one (shares of it)."""

    deadline_s: float
    bound: float
    best_plan: str
    best_single: float
    best_local: str
    device_only: float


def scan_deadlines(
    scenario: Scenario,
    deadlines_s: Sequence[float],
    max_frames: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    prices: Prices = NO_PRICES,
) -> list[DeadlineRow]:
    """The best single plan's share of the clairvoyant bound at every deadline.

    On the training traces and the policy half of the outcomes: nothing that is reported is seen.

    `deadlines_s` replace that of `scenario`, in seconds. `max_frames` of each trace are run;
    `progress(done, total)` counts deadlines. `prices` are those that were given.
    """
    if scenario.kind != "frame-stream":
        raise UsageError(
            f"scenario '{scenario.name}': found a closed loop, expected a frame stream (there the "
            "next frame waits for the last, and no plan can fall behind)"
        )
    rows = []
    for done, deadline_s in enumerate(deadlines_s):
        progress(done, len(deadlines_s))
        frames = msgspec.structs.replace(scenario.frames, deadline_s=deadline_s)
        setting = prices.applied(msgspec.structs.replace(scenario, frames=frames))
        traces = setting.traces("train").traces
        rewards = single_plan_rewards(setting, traces, "policy", max_frames=max_frames)
        arrival_s = np.arange(max_frames, dtype=np.float64) * setting.interval_s
        bounds = [
            bound_per_frame(setting, t, arrival_s[arrival_s < t.duration_s], "policy")
            for t in traces
        ]
        bound = float(np.concatenate(bounds).mean())
        if not bound > 0:
            raise UsageError(
                f"deadline: found {1e3 * deadline_s:g} ms, expected one that some plan meets"
            )
        local = np.where(setting.table.local, rewards, -np.inf)
        best, alone = int(np.argmax(rewards)), int(np.argmax(local))
        rows.append(
            DeadlineRow(
                deadline_s, bound, str(setting.table.plans[best]), float(rewards[best] / bound),
                str(setting.table.plans[alone]), float(rewards[alone] / bound),
            )
        )  # fmt: skip
    progress(len(deadlines_s), len(deadlines_s))
    return rows
