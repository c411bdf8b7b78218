"""`coinfer train --from`: records read, a policy that goes on from them, and the verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.policies.network import Policy
from controller.scenarios import Setting
from experiments.learning.continued import Mixed, continued, mixed
from experiments.learning.records import RecordedLink, Stream, measured_traces, split_by_time
from experiments.learning.training_args import TrainArgs, TrainReport
from experiments.learning.validation import Judging, unheard
from experiments.learning.verdict import Verdict, judge


@dataclass(frozen=True)
class FromRecords:
    """What a folder of records holds, split by time and mixed with the scenario's own traces."""

    setting: Setting
    link: RecordedLink
    material: Mixed
    lines: tuple[str, ...]
    """What was read, for people."""


def read_material(setting: Setting, folder: Path, streams: Sequence[Stream]) -> FromRecords:
    """The material of `streams`, which `folder` holds and which are of `setting`."""
    frames = sum(len(stream.frames) for stream in streams)
    measurements = sum(len(stream.measurements) for stream in streams)
    traces = measured_traces(streams)
    seconds = sum(trace.duration_s for trace in traces)
    first = (
        f"records: {frames:,} frames and {measurements:,} measurements in {len(streams)} streams; "
        f"{seconds:,.0f} s of the link in {len(traces)} pieces"
    )
    link = split_by_time(traces, f"records in {folder}")
    material = mixed(setting, link, streams)
    lines = (first, _of_material(material), _of_machines(setting, material))
    return FromRecords(setting, link, material, lines)


def learnt(
    found: FromRecords,
    start: Policy,
    args: TrainArgs,
    report: Callable[[TrainReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    planning: Callable[[float], None] = lambda share: None,
    judging: Judging = unheard,
) -> Policy:
    """The policy that goes on from `start` by what was `found`, and is trained as `args` say.

    `report`, `stopped`, `planning` and `judging` are those of `train_policy`.
    """
    return continued(
        found.setting, start, found.material, args, report, stopped, planning, judging
    )  # fmt: skip


def verdict_on(found: FromRecords, before: Policy, made: Policy) -> Verdict:
    """What the held-back records say of the policies `before` and `made`."""
    there = found.setting.in_world(found.material.judged_world)
    return judge(found.setting, there, before, made, found.link.held_back.traces)


def _of_material(material: Mixed) -> str:
    return (
        f"learnt from: {material.records_s:,.0f} s of records, {material.scenario_s:,.0f} s of the "
        f"scenario's own traces: the records' weight is {100 * material.weight:.0f} %"
    )


def _of_machines(setting: Setting, material: Mixed) -> str:
    """What the records say of the two machines, or that they say nothing."""
    if material.world == setting.scenario.world:
        return "the machines are taken as the scenario has them"
    parts = []
    for name in ("device", "edge"):
        node = getattr(material.world, name)
        pace = f"{np.median(node.spread):.2f} of its profile" if node.spread else "its profile"
        parts.append(
            f"the {name} takes {pace} and {1e3 * (node.overhead_s + node.jitter_s):.1f} ms a frame"
        )
    if material.pace != 1.0:
        parts.append(f"the profile counts {material.pace:.2f}-fold for this device")
    return "by the records " + ", ".join(parts)
