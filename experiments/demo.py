"""`coinfer demo`: the whole path on embedded defaults, in a few minutes.

Trains a policy, runs device and edge as real processes over a link that follows a trace, compares
the policy with static Algorithm 1 in simulation and for real, and writes plots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from artefacts import atomic_write, write_json
from controller.policies.network import save_policy
from controller.scenarios import load_setting, read_scenario
from experiments.evaluation.comparison import Comparison, compare
from experiments.evaluation.controllers import ControllerFactory
from experiments.learning.training import TrainArgs, TrainReport, train_policy
from experiments.replay.session import ReplayArgs, ReplayResult, replay
from traces.trace import BandwidthTrace

CONTROLLERS = ("device-only", "edge-only", "algorithm1", "map", "robust", "learned")
REPLAYED = ("learned", "algorithm1")


@dataclass(frozen=True, slots=True)
class DemoArgs:
    """How long the demo takes: training frames, seconds replayed, frames compared."""

    scenario: str = "3g-alexnet"
    frames: int = 1_500_000
    replay_s: float = 60.0
    compared_frames: int = 3000
    method: str = "auto"
    out: Path = Path("runs/demo")

    @classmethod
    def short(cls, out: Path, method: str) -> DemoArgs:
        """For continuous integration: the same path, less of it."""
        return cls(frames=100_000, replay_s=10.0, compared_frames=500, out=out, method=method)


class DemoResult(msgspec.Struct, frozen=True):
    """What the demo found."""

    comparison: Comparison
    replays: tuple[ReplayResult, ...]
    policy: str
    plots: tuple[str, ...]


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
    policy = train_policy(
        setting,
        TrainArgs(frames=args.frames),
        progress.trained,
        planning=lambda share: progress.share("planning", share),
    )
    folder = args.out / "policy"
    save_policy(folder, policy)
    factory = ControllerFactory(setting, policy=policy)
    result = compare(
        setting,
        test,
        CONTROLLERS,
        factory,
        progress=lambda name, share: progress.share(f"compare {name}", share),
        max_frames=args.compared_frames,
    )
    trace = liveliest(test.traces, args.replay_s)
    replays = []
    for name in REPLAYED:
        replays.append(
            replay(
                setting,
                trace,
                ReplayArgs(
                    args.scenario, name, folder if name == "learned" else None, args.method, 1
                ),
                progress.say,
                lambda share, name=name: progress.share(f"replay {name}", share),  # type: ignore[misc]
            )
        )
    plots = draw(args.out, trace, result)
    write_json(args.out / "demo.json", DemoResult(result, tuple(replays), str(folder), plots))
    return DemoResult(result, tuple(replays), str(folder), plots)


def liveliest(traces: tuple[BandwidthTrace, ...], seconds: float) -> BandwidthTrace:
    """The part of `seconds` whose rate varies most about 1 Mbit/s, where decisions matter."""
    best, found = -1.0, traces[0].slice(0.0, min(seconds, traces[0].duration_s))
    for trace in traces:
        for start in np.arange(0.0, trace.duration_s - seconds, seconds):
            part = trace.slice(float(start), float(start) + seconds)
            logs = np.log(np.maximum(part.resample(1.0).rates_bps, 1e4) / 1e6)
            lively = float(logs.std() - abs(logs.mean()))
            if lively > best:
                best, found = lively, part
    return found


def draw(out: Path, trace: BandwidthTrace, result: Comparison) -> tuple[str, ...]:
    """The replayed trace, and every controller's goodput accuracy with its bound."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from traces.plots import plot_traces

    plot_traces([trace], out / "trace.png")
    names = sorted(result.controllers, key=lambda n: result.controllers[n].goodput_accuracy)
    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    axes.barh(names, [100 * result.controllers[n].goodput_accuracy for n in names])
    axes.axvline(100 * result.bound, linestyle="--", color="black", label="clairvoyant bound")
    axes.set_xlabel("goodput accuracy (%): frames answered correctly in time")
    axes.legend(loc="lower right", fontsize="small")
    with atomic_write(out / "comparison.png", "wb") as stream:
        figure.savefig(stream, format="png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return (str(out / "trace.png"), str(out / "comparison.png"))
