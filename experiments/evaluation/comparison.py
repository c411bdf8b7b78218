"""`coinfer compare`: every controller on the same traces, pooled and per trace, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from artefacts.arrays import Floats
from controller.interface import Controller
from controller.physics import TraceBank
from controller.scenarios import Setting
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.closed_gap import ClosedGap, closed_gap
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.evaluation.optimum import Optimum
from experiments.evaluation.optimum_play import OptimumController
from experiments.evaluation.statistics import bootstrap_ratio, paired
from traces.library import TraceSet

MOST_USED = 3


class TraceFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """One controller on one trace (or pooled over all): what a user feels, and what it cost.

    Latencies are of the frames answered in time (frame stream) or of all (closed loop).
    """

    frames: int
    goodput_accuracy: float
    late_share: float
    mean_latency_s: float
    p95_latency_s: float
    bytes_per_frame: float
    device_compute_s_per_frame: float
    reward: float
    share_of_bound: float
    mean_reward: float | None = None
    throughput_fps: float | None = None
    energy_j_per_frame: float | None = None


class ControllerFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """One controller: pooled figures, the interval of its share over traces, and each trace."""

    goodput_accuracy: float
    late_share: float
    mean_latency_s: float
    p95_latency_s: float
    bytes_per_frame: float
    device_compute_s_per_frame: float
    reward: float
    share_of_bound: float
    interval95: tuple[float, float]
    per_trace: dict[str, TraceFigures]
    mean_reward: float | None = None
    throughput_fps: float | None = None
    energy_j_per_frame: float | None = None
    """The device's beyond idling; None where nothing is known of its power."""
    share_of_optimum: float | None = None
    """Of the optimum's expectation, where 'optimum' was among the controllers."""
    plans: dict[str, float] = {}
    """The plans chosen most often and their share of the frames (`MOST_USED` at most)."""


class PairedDifference(msgspec.Struct, frozen=True):
    """Difference of mean reward per frame between two controllers, paired over traces."""

    of: str
    over: str
    mean: float
    interval95: tuple[float, float]
    p_value: float
    """Two-sided sign-flip test over traces."""
    leave_one_out: tuple[float, float] | None = None
    """Range of the mean when any one trace is left out; None of a single trace."""
    sign_flip95: tuple[float, float] | None = None
    """What the sign-flip test does not refuse at 5 %; None of fewer than six traces."""


class WorstTraces(msgspec.Struct, frozen=True):
    """A controller less the device alone, on the trace where that is worst for it.

    Shares of the frames: goodput accuracy (below 0 is worse) and late frames (above 0 is worse).
    """

    goodput_accuracy: float
    goodput_trace: str
    late_share: float
    late_trace: str


class Comparison(msgspec.Struct, frozen=True):
    """What `compare --json` prints."""

    scenario: str
    traces: tuple[str, ...]
    generated: bool
    source: str
    seed: int
    bound: float
    controllers: dict[str, ControllerFigures]
    differences: tuple[PairedDifference, ...]
    against_device_only: dict[str, WorstTraces] = {}
    """Where 'device-only' was among the controllers."""
    optimum: float | None = None
    """The expected reward per frame of the optimum over the coupled queue, where it was asked for:
    what no controller of this stream can exceed but by luck (`experiments.evaluation.optimum`).
    """
    optimum_per_trace: dict[str, float] = {}
    gap: ClosedGap | None = None
    """What 'learned' closes of the gap to both limits; None in a closed loop."""


def compare(
    setting: Setting,
    traces: TraceSet,
    names: Sequence[str],
    factory: ControllerFactory,
    *,
    seed: int | None = None,
    progress: Callable[[str, float], None] = lambda name, share: None,
    max_frames: int | None = None,
    half: str = "report",
    as_daemon: bool = False,
) -> Comparison:
    """Run every named controller over every trace and gather the figures.

    `half` of the outcomes: what choices rest on must be judged on 'policy'. `as_daemon`: what a
    daemon decides after its controller is decided here, too (`controller.admission`).

    `names` are controllers, which `factory` makes for `setting`. Of `traces`, scaled already, at
    most `max_frames` are run, drawn by `seed`; `progress(name, share)` hears how far each is.
    """
    seed = setting.scenario.seeds.evaluate if seed is None else seed
    _ = "learned" in names and factory.learned  # one that is missing is refused at once
    optima, bank = list[tuple[str, Optimum]](), TraceBank(traces.traces)

    def run(name: str) -> list[TraceRun]:
        progress(name, 0.0)
        made: list[Controller] = []
        make = factory.maker(name, traces.traces)

        def kept(k: int) -> Controller:
            made.append(make(k))
            return made[-1]

        found = evaluate(
            setting, traces.traces, kept, seed=seed, half=half,
            progress=lambda share: progress(name, share), max_frames=max_frames,
            as_daemon=as_daemon, bank=bank,
        )  # fmt: skip
        optima.extend(_optima(traces, made))
        return found

    runs = {name: run(name) for name in names}
    bounds = _bounds(setting, traces, runs, half)
    figures = {n: controller_figures(setting, runs[n], bounds[n], seed) for n in names}
    bound = float(np.concatenate(next(iter(bounds.values()))).mean())
    optimum, figures = _against_optimum(optima, figures)
    return Comparison(
        scenario=setting.scenario.name,
        traces=tuple(t.name for t in traces.traces),
        generated=traces.generated,
        source=traces.source,
        seed=seed,
        bound=bound,
        controllers=figures,
        differences=tuple(_differences(runs, seed)),
        against_device_only=_against_device(figures),
        optimum=optimum,
        optimum_per_trace={name: o.per_frame for name, o in optima},
        gap=None if setting.closed_loop else closed_gap(figures, bound, optimum),
    )


def _optima(traces: TraceSet, made: Sequence[Controller]) -> list[tuple[str, Optimum]]:
    """Every trace's name and optimum, where the controllers that ran play it."""
    return [
        (trace.name, controller.optimum)
        for trace, controller in zip(traces.traces, made, strict=True)
        if isinstance(controller, OptimumController) and controller.optimum is not None
    ]


def _against_optimum(
    optima: Sequence[tuple[str, Optimum]], figures: dict[str, ControllerFigures]
) -> tuple[float | None, dict[str, ControllerFigures]]:
    """The optimum's reward per frame over all traces (None: not run), and shares of it."""
    if not optima:
        return None, figures
    optimum = sum(o.expected for _, o in optima) / sum(o.frames for _, o in optima)
    return optimum, {
        n: msgspec.structs.replace(f, share_of_optimum=f.reward / optimum)
        for n, f in figures.items()
    }


def _against_device(figures: dict[str, ControllerFigures]) -> dict[str, WorstTraces]:
    alone = figures.get("device-only")
    if alone is None:
        return {}
    found = {}
    for name, own in figures.items():
        off = [
            (
                f.goodput_accuracy - alone.per_trace[trace].goodput_accuracy,
                f.late_share - alone.per_trace[trace].late_share,
                trace,
            )
            for trace, f in own.per_trace.items()
        ]
        low, high = min(off), max(off, key=lambda row: row[1])
        found[name] = WorstTraces(low[0], low[2], high[1], high[2])
    return found


def _bounds(
    setting: Setting, traces: TraceSet, runs: dict[str, list[TraceRun]], half: str
) -> dict[str, list[Floats]]:
    """The bound at every frame's start; the same for all in a stream, whose starts are fixed."""
    found: dict[str, list[Floats]] = {}
    for name, of_controller in runs.items():
        if not setting.closed_loop and found:
            found[name] = next(iter(found.values()))
            continue
        found[name] = [
            bound_per_frame(setting, trace, run.arrival_s, half)
            for trace, run in zip(traces.traces, of_controller, strict=True)
        ]
    return found


def controller_figures(
    setting: Setting, runs: Sequence[TraceRun], bounds: Sequence[Floats], seed: int
) -> ControllerFigures:
    """Pooled figures, a bootstrap interval over traces for the share, and every trace's own.

    `runs` of `setting` and `bounds` (F,) of their frames are by trace; `seed` draws the bootstrap.
    """
    closed = setting.closed_loop
    pooled = figures_of(runs, bounds, closed)
    sums = np.array([[r.reward.sum(), b.sum()] for r, b in zip(runs, bounds, strict=True)])
    return ControllerFigures(
        goodput_accuracy=pooled.goodput_accuracy,
        late_share=pooled.late_share,
        mean_latency_s=pooled.mean_latency_s,
        p95_latency_s=pooled.p95_latency_s,
        bytes_per_frame=pooled.bytes_per_frame,
        device_compute_s_per_frame=pooled.device_compute_s_per_frame,
        reward=pooled.reward,
        share_of_bound=pooled.share_of_bound,
        interval95=share_interval(sums[:, 0], sums[:, 1], seed),
        per_trace={
            r.trace: figures_of([r], [b], closed) for r, b in zip(runs, bounds, strict=True)
        },
        mean_reward=pooled.mean_reward,
        throughput_fps=pooled.throughput_fps,
        energy_j_per_frame=pooled.energy_j_per_frame,
        plans=_most_used(setting, runs),
    )


def share_interval(rewards: Floats, bounds: Floats, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of sum(rewards) / sum(bounds) over traces; of nothing it is 0."""
    return bootstrap_ratio(rewards, np.maximum(bounds, 1e-12), seed) or (0.0, 0.0)


def _most_used(setting: Setting, runs: Sequence[TraceRun]) -> dict[str, float]:
    chosen = np.concatenate([r.plan for r in runs])
    rows, counts = np.unique(chosen[chosen >= 0], return_counts=True)
    first = np.argsort(-counts, kind="stable")[:MOST_USED]
    return {str(setting.table.plans[rows[k]]): float(counts[k] / len(chosen)) for k in first}


def figures_of(
    runs: Sequence[TraceRun], bounds: Sequence[Floats] | None, closed: bool
) -> TraceFigures:
    """Figures pooled over runs; without bounds the share is of nothing (0)."""
    rewards = np.concatenate([r.reward for r in runs])
    frames = max(len(rewards), 1)
    in_time = np.concatenate([r.in_time for r in runs])
    latency = np.concatenate([r.latency_s for r in runs])
    seen = latency if closed else latency[in_time]
    sent = sum(float(r.bytes_sent.sum()) + r.probe_bytes for r in runs)
    bound = float(sum(b.sum() for b in bounds)) if bounds is not None else 0.0
    spent = sum(_spent_s(r) for r in runs)
    return TraceFigures(
        frames=len(rewards),
        goodput_accuracy=float(np.concatenate([r.quality for r in runs]).sum()) / frames,
        late_share=1.0 - float(in_time.sum()) / frames,
        mean_latency_s=float(seen.mean()) if len(seen) else 0.0,
        p95_latency_s=float(np.quantile(seen, 0.95)) if len(seen) else 0.0,
        bytes_per_frame=sent / frames,
        device_compute_s_per_frame=float(np.concatenate([r.device_s for r in runs]).sum()) / frames,
        reward=float(rewards.sum()) / frames,
        share_of_bound=float(rewards.sum()) / bound if bound > 0 else 0.0,
        mean_reward=float(rewards.sum()) / frames if closed else None,
        throughput_fps=len(rewards) / spent if closed and spent > 0 else None,
        energy_j_per_frame=_known(np.concatenate([r.energy_j for r in runs])),
    )


def _known(energy_j: Floats) -> float | None:
    """Mean of what is known; a real run, or a device without a power model, tells nothing."""
    known = energy_j[np.isfinite(energy_j)]
    return float(known.mean()) if known.any() else None


def _spent_s(run: TraceRun) -> float:
    """Seconds from the stream's beginning (model loading included) to the last answer."""
    if not len(run.arrival_s):
        return 0.0
    return float(run.arrival_s[-1] + run.latency_s[-1])


def trace_means(runs: Sequence[TraceRun]) -> Floats:
    """Mean reward per frame of every trace, (traces,); 0 of one without frames."""
    return np.array([float(r.reward.mean()) if len(r.reward) else 0.0 for r in runs])


def _differences(runs: dict[str, list[TraceRun]], seed: int) -> list[PairedDifference]:
    """The learned policy over every other controller, paired by trace, each trace equally."""
    if "learned" not in runs:
        return []
    mine = trace_means(runs["learned"])
    others = {name: trace_means(own) for name, own in runs.items() if name != "learned"}
    return [paired_difference("learned", n, mine, own, seed) for n, own in others.items()]


def paired_difference(
    of: str, over: str, mine: Floats, theirs: Floats, seed: int
) -> PairedDifference:
    """Statistics of two controllers' mean rewards (traces,).

    `of` and `over` name the controllers, `mine` and `theirs` are their mean rewards; `seed` draws
    sign patterns.
    """
    found = paired(mine, theirs, seed)
    return PairedDifference(
        of, over, found.mean, found.interval95, found.p_value, found.leave_one_out,
        found.sign_flip95,
    )  # fmt: skip


def comparison_rows(result: Comparison) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the printed table, best reward first."""
    closed = any(f.mean_reward is not None for f in result.controllers.values())
    columns = ["controller", "goodput accuracy", "late", "mean ms", "p95 ms", "bytes/frame"]
    columns += ["mean reward", "frames/s"] if closed else ["device ms/frame", "mJ/frame"]
    columns += ["share of bound", "95 % interval"]
    columns += ["of optimum"] if result.optimum is not None else []
    rows = []
    for name, f in sorted(result.controllers.items(), key=lambda item: -item[1].reward):
        row: list[Any] = [
            name,
            f"{100 * f.goodput_accuracy:.2f} %",
            f"{100 * f.late_share:.2f} %",
            f"{1000 * f.mean_latency_s:.1f}",
            f"{1000 * f.p95_latency_s:.1f}",
            f"{f.bytes_per_frame:.0f}",
        ]
        if closed:
            row += [f"{f.mean_reward or 0:.2f}", f"{f.throughput_fps or 0:.2f}"]
        else:
            energy = f.energy_j_per_frame
            row += [f"{1000 * f.device_compute_s_per_frame:.1f}"]
            row += ["" if energy is None else f"{1000 * energy:.0f}"]
        low, high = f.interval95
        row += [f"{f.share_of_bound:.4f}", f"{low:.4f} to {high:.4f}"]
        row += [f"{f.share_of_optimum:.4f}"] if f.share_of_optimum is not None else []
        rows.append(row)
    return columns, rows
