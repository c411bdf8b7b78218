"""The simplest controllers: one plan for ever."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artefacts import UsageError
from controller.interface import FrameResult, Measurement, Situation
from controller.plans import all_remote
from controller.scenarios import Setting


@dataclass(slots=True)
class FixedController:
    """Always the plan with index `plan`: device-only, edge-only, `fixed`, best single."""

    name: str
    plan: int
    initial_probe_bytes: int = 0

    def reset(self) -> None:
        """Nothing to forget."""

    def observe(self, measurement: Measurement) -> None:
        """Measurements change nothing."""

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The one plan."""
        return self.plan


def device_only_plan(setting: Setting) -> int:
    """The local plan of greatest expected reward (steadily fed: the queue it makes counts).

    Without gates: it is what a device does that nobody tuned.
    """
    table = setting.table
    local = np.flatnonzero(table.local & ~table.gated)
    frames = setting.scenario.frames
    seconds = table.prefix_s[local]
    if setting.closed_loop:
        fits = seconds <= frames.deadline_s
        value = np.where(fits, np.exp(table.accuracy[local]) + 1.0 / seconds, 0.0)
    else:
        fits = (seconds <= frames.deadline_s) & (seconds <= 1.0 / frames.rate_fps)
        value = np.where(fits, table.accuracy[local], 0.0) - seconds * 1e-9
    return int(local[np.argmax(value)])


def edge_only_plan(setting: Setting) -> int:
    """The most accurate plan that does everything on the edge; of equals, the fewest bytes."""
    table = setting.table
    remote = [k for k, p in enumerate(table.plans) if all_remote(setting.spec, p) and not p.hedge]
    if not remote:
        raise UsageError(
            f"controller 'edge-only', plans: found none of {len(table)} that the edge alone "
            "computes, expected one at least; the scenario's codecs decide which there are"
        )
    return max(remote, key=lambda k: (table.accuracy[k], -table.up_bytes[k]))


def hedging_plans(setting: Setting) -> npt.NDArray[np.bool_]:
    """Which plans of a setting's table hedge (P,)."""
    return np.array([plan.hedge for plan in setting.table.plans], dtype=np.bool_)
