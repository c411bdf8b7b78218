"""What a policy is trained and judged on: settings with their encoders, traces and shares of lanes.

A specialist has one task; a policy for any prices has one for each of several prices; the
generalist one for each of several devices, links and deadlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats
from controller.physics import TraceBank
from controller.planners.queue_values import PricedAdvantages
from controller.policies.network import encoder_of
from controller.policies.observation import MOST_DEVICE_SECOND, MOST_MEGABYTE, ObservationEncoder
from controller.scenarios import Setting
from controller.sensing.belief import BandwidthBelief
from envs.observed import ObservedLanes
from traces.library import TraceSet
from traces.trace import log_digest

GRID = (0.0, 0.25, 1.0)
"""Places of the prices planned for, from none to the greatest."""
PRICE_TASKS = 8


@dataclass(frozen=True)
class Data:
    """Traces to learn from, and those that choices are made on."""

    train: TraceSet
    validation: TraceSet

    @property
    def record(self) -> dict[str, Any]:
        """What a policy's card says of them: the source, and every log's digest."""
        both = (*self.train.traces, *self.validation.traces)
        digests = sorted({log_digest(trace) for trace in both})
        return {"traces": self.train.source, "trace_digests": digests}

    @classmethod
    def of(cls, setting: Setting) -> Data:
        """The scenario's own split."""
        return cls(setting.traces("train"), setting.traces("validation"))

    @classmethod
    def leaving_out(cls, setting: Setting, name: str) -> Data:
        """All but one test log to learn from; choices on the validation logs as ever."""
        own, test = cls.of(setting), setting.traces("test")
        # a stand-in is named after its log
        names = (name, f"{name}.generated")
        kept = tuple(t for t in test.traces if t.name not in names)
        if len(kept) == len(test.traces):
            raise UsageError(
                f"training, leave out: found '{name}', expected one of "
                f"{', '.join(t.name for t in test.traces)}"
            )
        source = f"{own.train.source} and the test logs without {name}"
        everything = TraceSet((*own.train.traces, *kept), own.train.generated, source)
        return cls(everything, own.validation)

    @classmethod
    def held_out(cls, traces: TraceSet, each: int = 5) -> Data:
        """Every fifth trace is for choices; the only one of a single trace is for both."""
        kept = tuple(t for k, t in enumerate(traces.traces) if k % each)
        judged = traces.traces[::each]
        if not traces.traces:
            raise UsageError("training traces: found none, expected one or more")
        return cls(
            TraceSet(kept or judged, traces.generated, traces.source),
            TraceSet(judged, traces.generated, traces.source),
        )


@dataclass(frozen=True)
class TrainingTask:
    """Lanes of one setting at its prices, over `bank`."""

    setting: Setting
    encoder: ObservationEncoder
    bank: TraceBank
    lanes: int

    def started(self, rng: np.random.Generator, blind_s: float) -> ObservedLanes:
        """The lanes of this task, on the policy half of the outcomes."""
        return ObservedLanes(
            self.setting, self.bank, self.lanes, self.encoder, "policy", rng, blind_s
        )


@dataclass(frozen=True)
class TrainingTasks:
    """Tasks to train on, and those to judge on (a lane a trace)."""

    trained: tuple[TrainingTask, ...]
    judged: tuple[TrainingTask, ...]


def price_grids(
    setting: Setting, most_device_second: float, most_megabyte: float
) -> tuple[Floats, Floats]:
    """Prices planned for: the scenario's own alone, or a grid up to the greatest, where above 0."""
    most = most_device_second, most_megabyte
    if setting.closed_loop and max(most) > 0:
        raise UsageError(
            f"prices: found up to {most[0]:g} and {most[1]:g} for '{setting.scenario.name}', a "
            "closed loop, expected none (its reward is the paper's)"
        )
    own = setting.prices
    return (
        _price_grid("a device second", own.device_second, most[0], MOST_DEVICE_SECOND),
        _price_grid("a megabyte", own.megabyte, most[1], MOST_MEGABYTE),
    )


def _price_grid(what: str, own: float, most: float, seen: float) -> Floats:
    """`seen` is the greatest price that the observation distinguishes from greater ones."""
    if most <= 0:
        return np.array([own])
    if not own <= most <= seen:
        raise UsageError(
            f"prices, {what}: found at most {most:g}, expected {own:g} (the scenario's) to "
            f"{seen:g} (above that a policy sees no difference)"
        )
    return most * np.array(GRID)


def for_prices(
    setting: Setting,
    belief: BandwidthBelief,
    advantages: PricedAdvantages,
    data: Data,
    lanes: int,
    rng: np.random.Generator,
) -> TrainingTasks:
    """One task at fixed prices; for a range `PRICE_TASKS`, and the corners to judge on.

    `setting` is the scenario loaded, `belief` how its bandwidth moves, `advantages` what was
    planned. `data` are traces to learn and to choose on; a task has `lanes` streams, which `rng`
    draws.
    """
    bank, judging = TraceBank(data.train.traces), TraceBank(data.validation.traces)

    def task(at: Setting, bank: TraceBank, lanes: int) -> TrainingTask:
        return TrainingTask(at, encoder_of(at, belief, advantages), bank, lanes)

    grids = (advantages.device_second, advantages.megabyte)
    if all(len(grid) == 1 for grid in grids):
        return TrainingTasks(
            (task(setting, bank, lanes),), (task(setting, judging, len(judging.names)),)
        )
    own = setting.prices
    corners = [(float(d), float(m)) for d in grids[0][[0, -1]] for m in grids[1][[0, -1]]]
    ends = list(dict.fromkeys([(own.device_second, own.megabyte), *corners]))

    def drawn_price(grid: Floats, u: float) -> float:
        # squares: small prices are as many as great ones
        return float(grid[0] if len(grid) == 1 else grid[-1] * u**2)

    drawn = [
        (drawn_price(grids[0], one), drawn_price(grids[1], two))
        for one, two in rng.random((PRICE_TASKS - len(ends), 2)).tolist()
    ]
    each = max(lanes // PRICE_TASKS, 1)
    return TrainingTasks(
        tuple(task(setting.at_prices(*pair), bank, each) for pair in [*ends, *drawn]),
        tuple(task(setting.at_prices(*pair), judging, len(judging.names)) for pair in ends),
    )
