"""`coinfer demo`: the whole path on embedded defaults, in a few minutes, and one page of it.

Trains a policy, runs device and edge as real processes over a link that follows a trace, compares
the policy with static Algorithm 1 in simulation and for real, and draws what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from artefacts import atomic_write, write_json
from controller.policies.network import Policy, save_policy
from controller.scenarios import Setting, load_setting, read_scenario
from experiments.evaluation.comparison import Comparison, compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.learning.training import train_policy
from experiments.learning.training_args import TrainArgs, TrainReport
from experiments.replay.choosing import liveliest
from experiments.replay.session import ReplayArgs, Replayed, ReplayResult, run_replay
from experiments.reporting.demo_page import SPOKEN, demo_page
from experiments.reporting.replay_picture import replay_figure
from traces.trace import BandwidthTrace

CONTROLLERS = ("device-only", "edge-only", "algorithm1", "map", "robust", "learned")


@dataclass(frozen=True, slots=True)
class DemoArgs:
    """How long the demo takes: training frames, seconds replayed, frames compared."""

    scenario: str = "3g-mobilenet"
    frames: int = 200_000
    replay_s: float = 30.0
    compared_frames: int = 1000
    method: str = "auto"
    out: Path = Path("runs/demo")

    @classmethod
    def short(cls, out: Path, method: str) -> DemoArgs:
        """For continuous integration: the same path, less of it."""
        return cls(frames=60_000, replay_s=8.0, compared_frames=300, out=out, method=method)


class DemoResult(msgspec.Struct, frozen=True):
    """What the demo found, and where its page lies."""

    comparison: Comparison
    replays: tuple[ReplayResult, ...]
    policy: str
    page: str


@dataclass(frozen=True, slots=True)
class DemoProgress:
    """Callbacks: a remark, training reports, and the share of a named long step."""

    say: Callable[[str], None]
    trained: Callable[[TrainReport], None]
    share: Callable[[str, float], None]


def run_demo(args: DemoArgs, progress: DemoProgress) -> DemoResult:
    """Train, compare, replay, draw."""
    setting = load_setting(read_scenario(args.scenario))
    test = setting.traces("test")
    progress.say(f"traces: {test.source}")
    policy = _trained(setting, args, progress)
    result = compare(
        setting,
        test,
        CONTROLLERS,
        ControllerFactory(setting, policy=policy),
        progress=lambda name, share: progress.share(f"compare {name}", share),
        max_frames=args.compared_frames,
    )
    trace = liveliest(test.traces, args.replay_s)
    replays = {name: _replayed(setting, trace, name, args, progress) for name in SPOKEN}
    page = args.out / "index.html"
    with atomic_write(page, "w") as stream:
        stream.write(_page(setting, trace, result, replays))
    found = DemoResult(
        result, tuple(r.result for r in replays.values()), str(args.out / "policy"), str(page)
    )
    write_json(args.out / "demo.json", found)
    return found


def _trained(setting: Setting, args: DemoArgs, progress: DemoProgress) -> Policy:
    policy = train_policy(
        setting,
        TrainArgs(frames=args.frames),
        progress.trained,
        planning=lambda share: progress.share("planning", share),
    )
    save_policy(args.out / "policy", policy)
    return policy


def _replayed(
    setting: Setting, trace: BandwidthTrace, name: str, args: DemoArgs, progress: DemoProgress
) -> Replayed:
    folder = args.out / "policy" if name == "learned" else None
    asked = ReplayArgs(args.scenario, name, folder, args.method, 1)
    return run_replay(
        setting, trace, asked, progress.say, lambda share: progress.share(f"replay {name}", share)
    )


def _page(
    setting: Setting, trace: BandwidthTrace, result: Comparison, replays: dict[str, Replayed]
) -> str:
    deadline_s = setting.scenario.frames.deadline_s
    runs = {name: one.measured for name, one in replays.items()}
    figure = replay_figure(trace, runs, setting.table.plans, deadline_s)
    caption = f"{trace.duration_s:.0f} s of {trace.name}; deadline {1000 * deadline_s:.0f} ms"
    first = next(iter(replays.values())).result
    notes = (f"The frames were {first.pictures}. The link was shaped by {first.link.method}.",)
    return demo_page(result, {caption: figure}, notes, "coinfer demo")
