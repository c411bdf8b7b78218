"""What a device and an edge take beyond their profiles, fitted to a run: `coinfer calibrate`.

The run sends some frames and keeps others, by plans that leave both machines idle in between. So
what passes before a frame is begun is nobody's queue, and what a computation takes is its own. The
fit is of quantiles and shares; nothing of it looks at another figure than the run's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from artefacts import UsageError
from artefacts.arrays import Bools, Floats, Ints
from controller.daemon.records.entries import KeptFrame
from controller.device.frame import FrameRecord
from controller.interface import FrameResult, Measurement, Situation
from controller.policies.network import LEAST_PACE, MOST_PACE
from controller.scenarios import Setting
from controller.scenarios.world import (
    LoadSection,
    NodeWorldSection,
    StateSection,
    WorldSection,
)

LEAST_FRAMES = 60
"""On device and edge each; of fewer nothing is fitted."""
QUANTILES = 11
LOCAL_SHARE = 0.8
"""Of the deadline: what a local plan may take here, and one that sends half of that."""
SPARE = 2.5
"""A frame comes after so many times the longest that the device computes for one."""
USUAL = 0.05
"""Quantile of waits that stands for what every frame waits."""
QUEUED_S = 0.002
"""A request that waits this much longer than usual stands behind another device's."""
SLOWER = 1.15
"""A stretch of frames whose computing takes this much longer than usual is a state of its own."""
SMOOTHED = 5
"""Frames whose median is looked at for that."""
AS_PROFILED = 1.05
"""A device whose usual pace is this near its profile's is as the profile says."""
LEAST_SHARE = 0.02
"""Of the frames: what is rarer is part of the spread."""


@dataclass
class AlternatingController:
    """Plans at random among a few that leave both machines time to spare."""

    setting: Setting
    rng: np.random.Generator
    name: str = "alternating"
    initial_probe_bytes: int = 0
    plans: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        """The two quickest local plans without gates, and the lightest that send at once."""
        table, deadline_s = self.setting.table, self.setting.scenario.frames.deadline_s
        prefix_s, plain = table.prefix_s, ~table.gated & (table.suffix_s == 0)
        local = np.flatnonzero(table.local & plain & (prefix_s < LOCAL_SHARE * deadline_s))
        alone = ~table.local & plain & (table.wait_exit[:, 0] < 0)
        senders = np.flatnonzero(alone & (prefix_s < LOCAL_SHARE / 2 * deadline_s))
        quick = local[np.argsort(prefix_s[local], kind="stable")][:2]
        light = senders[np.argsort(table.up_bytes[senders], kind="stable")][:4]
        if not len(quick) or not len(light):
            raise UsageError(
                f"scenario '{self.setting.scenario.name}': found no plan on the device, or none "
                "that sends, with time to spare within the deadline, expected both"
            )
        self.plans = (*quick.tolist(), *light.tolist())

    @property
    def interval_s(self) -> float:
        """Between two frames, so that both machines are idle before the next."""
        longest = float(self.setting.table.prefix_s[list(self.plans)].max())
        return max(self.setting.interval_s, SPARE * longest)

    def reset(self) -> None:
        """Nothing is remembered."""

    def observe(self, measurement: Measurement) -> None:
        """Measurements change nothing."""

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """Any of them."""
        return int(self.rng.choice(self.plans))


class Calibration(msgspec.Struct, frozen=True):
    """The fit and what it rests on."""

    world: WorldSection
    rtt_s: float | None
    """Least round trip beyond computing and receiving (null: no frame was answered)."""
    frames: int
    idle_frames: int
    """Those that found the device idle."""
    edge_frames: int
    device_ratio: float
    """Median of a computation's time on the device over its profile's."""
    edge_ratio: float
    """The same of the edge."""


def calibrate(setting: Setting, frames: Sequence[FrameRecord]) -> Calibration:
    """Fit `[world]` to the frames of a run by `AlternatingController`; refuses too few."""
    idle, answered = _idle(frames), np.array(["edge compute" in f.stages_s for f in frames])
    for what, count in (
        ("found the device idle", idle.sum()),
        ("the edge answered", answered.sum()),
    ):
        if count < LEAST_FRAMES:
            raise UsageError(
                f"calibration: found {count} frames that {what}, expected {LEAST_FRAMES} at least "
                "(a longer run, or an edge that answers)"
            )
    plans = np.array([f.plan for f in frames])
    device, edge = _on_device(setting, frames, plans, idle), _on_edge(setting, frames, plans)
    sized = (setting.model.folder / "sizes.npz").exists()
    # what no run of minutes can measure stays the scenario's
    own = setting.scenario.world
    world = msgspec.structs.replace(
        own, sub_second=True, picture_sizes=sized, edge=edge.section,
        device=msgspec.structs.replace(device.section, throttled=own.device.throttled),
    )  # fmt: skip
    both = _moments(frames, "replied") - _moments(frames, "handed")
    both -= sum(_stages(frames, name) for name in ("receive", "edge queue", "edge compute"))
    known = both[np.isfinite(both)]
    return Calibration(
        world, float(max(known.min(), 0.0)) if len(known) else None, len(frames), int(idle.sum()),
        int(answered.sum()), device.ratio, edge.ratio,
    )  # fmt: skip


def recorded_pace(setting: Setting, frames: Sequence[FrameRecord | KeptFrame]) -> float:
    """What computing takes on a device all the time, over the profile; 1 where nobody knows.

    The median of whole runs on the device, slower states aside. Up to `AS_PROFILED` off it is the
    profile's: that much the medians of few frames are.
    """
    plans = np.array([f.plan for f in frames], dtype=np.int64)
    at_s, ratio = _runs(setting, frames, plans)
    if len(ratio) < LEAST_FRAMES:
        return 1.0
    pace = float(np.median(ratio[_state(at_s, ratio)[1]]))
    if not math.isfinite(pace) or abs(math.log(max(pace, 1e-9))) <= math.log(AS_PROFILED):
        return 1.0
    return round(min(max(pace, LEAST_PACE), MOST_PACE), 4)


def recorded_world(setting: Setting, frames: Sequence[FrameRecord | KeptFrame]) -> WorldSection:
    """The world of `setting` with what a device's own frames say of it and of its edge.

    What the frames do not tell stays: of a device that was hardly ever idle, of an edge that hardly
    answered, and throttling, which takes longer than they do.
    """
    own = setting.scenario.world
    if not frames:
        return own
    idle, plans = _idle(frames), np.array([f.plan for f in frames])
    answered = sum("edge compute" in f.stages_s for f in frames)
    device, edge = own.device, own.edge
    if np.isfinite(_begun(frames)[idle]).sum() >= LEAST_FRAMES:
        found = _on_device(setting, frames, plans, idle).section
        # whole runs on the device tell how it computes; without enough of them nothing is known
        computes = found if found.spread else own.device
        device = msgspec.structs.replace(
            found, spread=computes.spread, shared=computes.shared, throttled=own.device.throttled
        )
    if answered >= LEAST_FRAMES:
        edge = _on_edge(setting, frames, plans).section
    return msgspec.structs.replace(own, device=device, edge=edge)


def _moments(frames: Sequence[FrameRecord | KeptFrame], name: str) -> Floats:
    return np.array([f.moments_s.get(name, np.nan) for f in frames])


def _stages(frames: Sequence[FrameRecord | KeptFrame], name: str) -> Floats:
    return np.array([f.stages_s.get(name, np.nan) for f in frames])


def _begun(frames: Sequence[FrameRecord | KeptFrame]) -> Floats:
    """When each was set about, since its arrival: its prefix, or where it has none its encoding."""
    begun, encoding = _moments(frames, "begun"), _moments(frames, "encoding")
    return np.where(np.isfinite(begun), begun, encoding)


def _idle(frames: Sequence[FrameRecord | KeptFrame]) -> Bools:
    """Frames that found nothing left to compute of those before."""
    arrival = np.array([f.arrival_s for f in frames])
    end = arrival + np.nan_to_num(_begun(frames)) + np.array([f.device_s for f in frames])
    before = np.concatenate([[-np.inf], np.maximum.accumulate(end)[:-1]])
    return np.asarray(arrival >= before)


@dataclass(frozen=True, slots=True)
class _Node:
    section: NodeWorldSection
    ratio: float


def _on_device(
    setting: Setting, frames: Sequence[FrameRecord | KeptFrame], plans: Ints, idle: Bools
) -> _Node:
    """What the device takes: waits of frames that found it idle, and its own computing."""
    waits = _begun(frames)[idle]
    waits = waits[np.isfinite(waits)]
    overhead, jitter = _overhead(waits)
    at_s, ratio = _runs(setting, frames, plans)
    state, usual = _state(at_s, ratio)
    return _Node(
        NodeWorldSection(overhead, jitter, _spread(ratio[usual]), shared=state),
        float(np.median(ratio)) if len(ratio) else 1.0,
    )


def _runs(
    setting: Setting, frames: Sequence[FrameRecord | KeptFrame], plans: Ints
) -> tuple[Floats, Floats]:
    """Of whole runs on the device: when, and what each took over what the profile says.

    Those of plans without gates that the device answered: by the plan's own prefix, or by the local
    fallback of one that sends.
    """
    spent, table = np.array([f.device_s for f in frames]), setting.table
    known = {plan: k for k, plan in enumerate(table.plans)}
    twins = [known.get(replace(plan, rescue=True), k) for k, plan in enumerate(table.plans)]
    own = table.local[plans] & np.array([f.by_plan for f in frames], dtype=np.bool_)
    # time is kept for a fallback also where the plan has none; an exit passed is one, too
    waits = (table.wait_exit >= 0).sum(axis=1)
    fallback_s = np.where(waits == 1, table.wait_s[:, 0], table.rescue_s[np.array(twins)])
    fallback_s = np.where(waits > 1, np.inf, fallback_s)[plans]
    by_fallback = np.array([f.where == "device" and not f.by_plan for f in frames], dtype=np.bool_)
    by_fallback &= np.isfinite(fallback_s) & ~table.local[plans]
    expected = table.prefix_s[plans] + np.where(by_fallback, fallback_s, 0.0)
    clear = (own | by_fallback) & ~table.gated[plans] & (expected > 0)
    at_s = np.array([f.arrival_s for f in frames])
    return at_s[clear], spent[clear] / expected[clear]


def _on_edge(setting: Setting, frames: Sequence[FrameRecord | KeptFrame], plans: Ints) -> _Node:
    """What the edge takes: waits of requests, and computing."""
    queue, compute = _stages(frames, "edge queue"), _stages(frames, "edge compute")
    known = np.isfinite(queue) & np.isfinite(compute)
    waits = queue[known]
    base = float(np.quantile(waits, USUAL))
    behind = waits > base + QUEUED_S
    share = float(behind.mean())
    overhead, jitter = _overhead(waits[~behind])
    load = None
    if share >= LEAST_SHARE:
        # of a first-come queue with exponential jobs a wait is as long as share / (1 - share) jobs
        # on average, and there is none at all in 1 - share of the cases (M/M/1)
        burst_s = float((waits[behind] - base).mean()) * (1.0 - share)
        load = LoadSection(share / burst_s, burst_s)
    ratio = compute[known] / setting.table.cost_of("compute", 1)[plans[known]]
    return _Node(
        NodeWorldSection(overhead, jitter, _spread(ratio), load=load), float(np.median(ratio))
    )


def _overhead(waits: Floats) -> tuple[float, float]:
    """What every frame waits, and the mean of what comes on top, in seconds."""
    least = max(float(np.quantile(waits, USUAL)), 0.0) if len(waits) else 0.0
    above = max(float(waits.mean()) - least, 0.0) if len(waits) else 0.0
    return round(least, 6), round(above, 6)


def _spread(ratio: Floats) -> tuple[float, ...]:
    """Quantiles of times over the profile's medians; none of too few."""
    if len(ratio) < LEAST_FRAMES:
        return ()
    shares = np.linspace(0.0, 1.0, QUANTILES)
    # the very least and greatest of a run are chance
    shares[0], shares[-1] = 0.005, 0.995
    found = np.maximum.accumulate(np.quantile(ratio, shares))
    return tuple(round(float(q), 4) for q in found)


def _state(at_s: Floats, ratio: Floats) -> tuple[StateSection | None, Bools]:
    """A slower state of a node in which stretches of frames were computed, and the other frames.

    `ratio` (N,) are times over the profile's at `at_s` (N,), in order.
    """
    usual = np.ones(len(ratio), dtype=np.bool_)
    if len(ratio) < LEAST_FRAMES:
        return None, usual
    pad = SMOOTHED // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(ratio, pad, mode="edge"), SMOOTHED)
    smooth = np.median(windows, axis=1)
    least = float(np.quantile(smooth, 0.25))
    slow = smooth > SLOWER * least
    share = float(slow.mean())
    if not LEAST_SHARE <= share <= 1.0 - LEAST_SHARE:
        return None, usual
    changes = int(np.count_nonzero(slow[1:] & ~slow[:-1])) or 1
    span_s = float(at_s[-1] - at_s[0])
    factor = float(np.median(ratio[slow]) / np.median(ratio[~slow]))
    if factor < SLOWER or not math.isfinite(factor):
        return None, usual
    slow_s, usual_s = share * span_s / changes, (1 - share) * span_s / changes
    # a visit too short to be smoothed is none of the spread either
    usual = _apart(slow) & (ratio < least * (1.0 + factor) / 2)
    return StateSection(round(factor, 3), round(slow_s, 3), round(usual_s, 3)), usual


def _apart(slow: Bools) -> Bools:
    """Frames outside of the slower state and not near a change, which smoothing misplaces."""
    near = np.convolve(slow, np.ones(2 * SMOOTHED + 1), mode="same") > 0
    return np.asarray(~near)


def world_text(found: Calibration, scenario: str) -> str:
    """TOML of a scenario's world, with what it was fitted to."""
    lines = [
        f"# fitted by coinfer calibrate to {found.frames} frames of '{scenario}'; it",
        "# takes the place of [world] in the scenario's file",
    ]
    if found.rtt_s is not None:
        lines.append(f"# round trip of the link: {1e3 * found.rtt_s:.1f} ms (rtt_s of its section)")
    plain = msgspec.to_builtins(found.world)
    nodes = {name: plain.pop(name) for name in ("device", "edge") if name in plain}
    lines += ["[world]", *(_line(name, value) for name, value in plain.items())]
    for name, values in nodes.items():
        lines += ["", f"[world.{name}]", *(_line(key, value) for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _line(name: str, value: object) -> str:
    return f"{name} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(_line(k, v) for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)
