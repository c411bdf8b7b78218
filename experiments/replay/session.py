"""`coinfer replay`: a trace on a real link between two real processes, beside the simulation."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from artefacts.owners import temporary_folder
from artefacts.processes import Children, module_command
from controller.scenarios import NO_PRICES, Prices, Setting
from controller.scenarios.rewards import edgent_reward
from experiments.evaluation.bound import bound_per_frame
from experiments.evaluation.comparison import TraceFigures, figures_of
from experiments.evaluation.controllers import ControllerFactory
from experiments.evaluation.evaluator import TraceRun, evaluate
from experiments.replay.answers import another_judge
from experiments.replay.device_run import RunRecord, check_deployable, read_run
from experiments.replay.testbed.link import LinkReport, ShapedLink, open_link, wait_for_file
from experiments.replay.testbed.namespaces import TestbedError
from traces.trace import BandwidthTrace

LOADED_WITHIN_S = 120.0
START_AFTER_S = 0.5
"""The trace begins for everybody at one agreed moment, once the device has loaded and connected."""


@dataclass(frozen=True, slots=True)
class ReplayArgs:
    """What `coinfer replay` was asked for."""

    scenario: str
    controller: str
    policy: Path | None
    method: str
    seed: int
    as_daemon: bool = False
    """Device and prediction treat frames as the daemon does (the prediction sends no probes)."""
    down: BandwidthTrace | None = None
    """What the real link carries down, where that differs (the prediction's is the other's)."""
    data: Path | None = None
    """The labelled pictures that the network was judged on."""
    slowdown: float = 1.0
    """The device takes so many times what its profile says; the prediction knows nothing of it."""
    keep: Path | None = None
    """Folder for records of the run, as a daemon keeps them."""
    prices: Prices = NO_PRICES
    """Those that were given."""


class ReplayResult(msgspec.Struct, frozen=True):
    """Measured beside predicted, for the same trace, controller and scenario."""

    scenario: str
    trace: str
    controller: str
    duration_s: float
    pictures: str
    """What was measured on."""
    predicted_pictures: str
    """What the prediction's answers were recorded on."""
    same_pictures: bool
    """Whether both are the same."""
    link: LinkReport
    measured: TraceFigures
    predicted: TraceFigures
    late_replies: int
    reconnects: int
    edge_error: str | None
    """Why the connection was last lost, if it was."""
    another_judge: str = ""
    """Why measured answers are held to another judge than predicted ones (empty: they are not)."""

    @property
    def same_bound(self) -> bool:
        """Whether the prediction's bound is one for what was measured, too."""
        return self.same_pictures and not self.another_judge


@dataclass(frozen=True)
class Replayed:
    """A replay with its frames: what was measured, and what the simulation predicts."""

    result: ReplayResult
    measured: TraceRun
    predicted: TraceRun
    record: RunRecord
    """Every frame, as the device wrote it."""


def replay(
    setting: Setting,
    trace: BandwidthTrace,
    args: ReplayArgs,
    say: Callable[[str], None],
    progress: Callable[[float], None] = lambda share: None,
) -> ReplayResult:
    """The figures of a replay (`run_replay`).

    `setting`, `trace`, `args`, `say` and `progress` are those of `run_replay`.
    """
    return run_replay(setting, trace, args, say, progress).result


def run_replay(
    setting: Setting,
    trace: BandwidthTrace,
    args: ReplayArgs,
    say: Callable[[str], None],
    progress: Callable[[float], None] = lambda share: None,
) -> Replayed:
    """Run device and edge processes over a link that follows `trace` (scaled already).

    `setting` is the scenario loaded, `args` say who decides and how the link is made. `say` gets
    remarks, `progress` the share of the trace that is over.
    """
    record, report = run_processes(setting, trace, args, say, progress)
    measured = measured_run(setting, trace, record)
    bound = bound_per_frame(setting, trace, measured.arrival_s)
    own = args.as_daemon and args.policy is not None
    factory = ControllerFactory(setting, policy_folder=args.policy, policy_tells=own)
    predicted = evaluate(
        setting, [trace], factory.maker(args.controller, [trace]), seed=args.seed,
        as_daemon=args.as_daemon and not setting.closed_loop,
    )  # fmt: skip
    predicted_bound = bound_per_frame(setting, trace, predicted[0].arrival_s)
    result = ReplayResult(
        setting.scenario.name,
        trace.name,
        args.controller,
        trace.duration_s,
        record.pictures,
        setting.outcomes.dataset,
        record.real,
        report,
        figures_of([measured], [bound], setting.closed_loop),
        figures_of(predicted, [predicted_bound], setting.closed_loop),
        record.late_replies,
        record.reconnects,
        record.edge_error,
        another_judge(setting.model.answers, setting.model.card.judge),
    )
    return Replayed(result, measured, predicted[0], record)


def run_processes(
    setting: Setting,
    trace: BandwidthTrace,
    args: ReplayArgs,
    say: Callable[[str], None],
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[RunRecord, LinkReport]:
    """The real part of a replay: what the device wrote, and how the link was made.

    `setting`, `trace`, `args`, `say` and `progress` are those of `run_replay`.
    """
    check_deployable(args.controller)
    rtt_s = setting.scenario.link.rtt_s
    with (
        temporary_folder("replay") as folder,
        open_link(trace, rtt_s, args.method, down=args.down) as link,
    ):
        for note in link.report().notes:
            say(f"link: {note}")
        record = _run(setting, trace, args, link, folder, progress)
        return record, link.report()


def _run(
    setting: Setting,
    trace: BandwidthTrace,
    args: ReplayArgs,
    link: ShapedLink,
    folder: Path,
    progress: Callable[[float], None],
) -> RunRecord:
    """Both processes, from start to their end; neither outlives this call."""
    coinfer = module_command("coinfer.cli.entry")
    port_file, ready_file = folder / "port", folder / "ready"
    records = folder / "records.json"
    with (folder / "errors.txt").open("w+") as errors, Children() as children:
        edge = children.start(
            [*link.edge_prefix, *coinfer, "edge", "--model", setting.scenario.network,
             "--host", link.edge_host, "--port", "0", "--port-file", str(port_file),
             "--pace", setting.scenario.edge_profile],
            stderr=errors, text=True,
        )  # fmt: skip
        port = int(_started("edge", port_file, edge, 30.0, errors))
        host, target = link.target(port)
        command = [
            *link.device_prefix, *coinfer, "device", "--scenario", args.scenario,
            "--edge", f"{host}:{target}", "--controller", args.controller,
            "--duration-s", repr(trace.duration_s), "--ready-file", str(ready_file),
            "--records", str(records), "--seed", str(args.seed), "--json", *args.prices.options(),
        ]  # fmt: skip
        if args.as_daemon:
            command.append("--as-daemon")
        if args.slowdown != 1.0:
            command += ["--slowdown", repr(args.slowdown)]
        paths = (("--policy", args.policy), ("--data", args.data), ("--keep", args.keep))
        for option, path in paths:
            if path is not None:
                command += [option, str(path)]
        device = children.start(
            command, stdin=subprocess.PIPE, stderr=errors, stdout=subprocess.DEVNULL, text=True
        )
        _started("device", ready_file, device, LOADED_WITHIN_S, errors)
        begin_s = time.monotonic() + START_AFTER_S
        assert device.stdin is not None
        device.stdin.write(f"{begin_s!r}\n")
        device.stdin.close()
        link.start(begin_s)
        _await(device, begin_s, trace.duration_s, progress)
        if device.returncode != 0:
            raise TestbedError(
                f"the device process ended with {device.returncode}: {_last_line(errors)}"
            )
        return read_run(records)


def _started(
    what: str, path: Path, process: subprocess.Popen[Any], timeout_s: float, errors: IO[str]
) -> str:
    """What a process writes once it is ready; where it ends instead, what it said."""
    try:
        return wait_for_file(path, process, timeout_s)
    except TestbedError as error:
        said = _last_line(errors)
        if not said:
            raise
        raise TestbedError(f"the {what} process did not start: {said}") from error


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = errors.read().strip().splitlines()
    return lines[-1].removeprefix("coinfer: ") if lines else ""


def _await(
    device: subprocess.Popen[Any],
    begin_s: float,
    duration_s: float,
    progress: Callable[[float], None],
) -> None:
    limit = begin_s + duration_s + 60.0
    while device.poll() is None:
        try:
            device.wait(0.5)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            progress(min(max((now - begin_s) / duration_s, 0.0), 1.0))
            if now > limit:
                raise TestbedError(
                    f"the device process runs {now - limit + 60:.0f} s past the trace's end"
                ) from None


def measured_run(setting: Setting, trace: BandwidthTrace, record: RunRecord) -> TraceRun:
    """A real run in the simulator's form. Rewards by the same functions; bytes with headers.

    The closed loop's last inference, which the trace's end cut off, is left out where it could
    still have met the requirement, and a miss otherwise, as in simulation.
    """
    requirement = setting.scenario.frames.deadline_s
    kept = [
        (frame, quality)
        for frame, quality in zip(record.frames, record.quality, strict=True)
        if not setting.closed_loop
        or frame.latency_s is not None
        or trace.duration_s - frame.arrival_s > requirement
    ]
    latency = np.array([np.inf if f.latency_s is None else f.latency_s for f, _ in kept])
    if setting.closed_loop:
        left = trace.duration_s - np.array([f.arrival_s for f, _ in kept])
        latency = np.where(np.isfinite(latency), latency, left)
    payload = np.array([float(f.bytes_sent) for f, _ in kept])
    sent = np.asarray(setting.link_model.on_wire(payload), dtype=np.float64)
    device_s = np.array([f.device_s for f, _ in kept])
    in_time = latency <= setting.scenario.frames.deadline_s + 1e-6
    quality = np.where(in_time, np.array([own for _, own in kept], dtype=np.float64), 0.0)
    plan = np.array([f.plan for f, _ in kept], dtype=np.int64)
    if setting.closed_loop:
        accuracy = setting.rows("report").means
        exits = np.array([-1 if f.exit is None else f.exit for f, _ in kept], dtype=np.int64)
        own = np.array([f.by_plan for f, _ in kept], dtype=np.bool_)
        row = setting.rows("report").row(plan, np.maximum(exits, 0), own)
        reward = edgent_reward(accuracy[row], latency, requirement)
    else:
        prices = setting.prices
        reward = quality - prices.device_second * device_s - prices.megabyte * sent / 1e6
    return TraceRun(
        trace.name,
        plan,
        np.array([f.arrival_s for f, _ in kept]),
        latency,
        quality,
        in_time,
        np.asarray(reward, dtype=np.float64),
        sent,
        device_s,
        np.full(len(kept), np.nan),
        float(record.probe_bytes),
        setting.device.model_loading_s if setting.closed_loop else 0.0,
        trace.duration_s,
    )


def _beside(result: ReplayResult) -> str:
    return "the same" if result.same_pictures else f"others: {result.predicted_pictures}"


def replay_rows(result: ReplayResult) -> list[tuple[str, str, str]]:
    """Rows of the printed table: figure, measured, predicted."""
    m, p = result.measured, result.predicted
    rows = [
        ("pictures", result.pictures, _beside(result)),
        ("frames", f"{m.frames}", f"{p.frames}"),
        (
            "goodput accuracy",
            f"{100 * m.goodput_accuracy:.2f} %",
            f"{100 * p.goodput_accuracy:.2f} %",
        ),
        ("late", f"{100 * m.late_share:.2f} %", f"{100 * p.late_share:.2f} %"),
        ("mean latency", f"{1e3 * m.mean_latency_s:.1f} ms", f"{1e3 * p.mean_latency_s:.1f} ms"),
        ("p95 latency", f"{1e3 * m.p95_latency_s:.1f} ms", f"{1e3 * p.p95_latency_s:.1f} ms"),
        ("bytes per frame", f"{m.bytes_per_frame:.0f}", f"{p.bytes_per_frame:.0f}"),
        ("device compute per frame", f"{1e3 * m.device_compute_s_per_frame:.1f} ms",
         f"{1e3 * p.device_compute_s_per_frame:.1f} ms"),
        ("reward per frame", f"{m.reward:.4f}", f"{p.reward:.4f}"),
        # the bound is of the pictures that the network was judged on, by the judge of then
        ("share of the bound", f"{m.share_of_bound:.4f}" if result.same_bound else "-",
         f"{p.share_of_bound:.4f}"),
    ]  # fmt: skip
    if m.throughput_fps is not None and p.throughput_fps is not None:
        rows.append(("throughput", f"{m.throughput_fps:.2f} /s", f"{p.throughput_fps:.2f} /s"))
    return rows
