"""A device process's run: scenario, controller and pictures joined to `controller.device`.

Imports no torch and no gymnasium: it is what `coinfer device` runs on a Pi.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from artefacts import UsageError, read_json, write_json
from artefacts.endings import Terminated
from controller.daemon.records.entries import RecordSettings
from controller.daemon.records.keeping import RecordsKeeper, engine_keeper
from controller.device.frame import FrameRecord
from controller.device.frame_loops import DeviceConfig, DeviceLoop, connect_loop
from controller.device.warming import warm
from controller.interface import Controller
from controller.registry import SHIPPED, find_controller
from controller.scenarios import NO_PRICES, Prices, Setting, load_priced
from experiments.evaluation.controllers import ControllerFactory
from experiments.replay.answers import answers_quality
from experiments.replay.pictures import run_pictures
from models.executors import Executor, PacedExecutor
from models.networks.torch_executor import any_executor

FORMAT_VERSION = 3
READ_VERSIONS = (2, FORMAT_VERSION)
"""Format 2 has right or wrong in the place of quality."""


@dataclass(frozen=True, slots=True)
class DeviceRun:
    """What `coinfer device` was asked for."""

    scenario: str
    edge: tuple[str, int]
    controller: str
    policy: Path | None
    executor: str
    pace: bool
    frames: int | None
    duration_s: float | None
    agreed_start: Callable[[], float] | None
    """Called when all is loaded and connected: the moment at which the stream begins."""
    seed: int
    as_daemon: bool = False
    """As the daemon treats frames and link (`DeviceConfig.as_daemon`)."""
    interval_s: float | None = None
    """Between two frames of a stream, instead of the scenario's."""
    data: Path | None = None
    """The labelled pictures that the network was judged on."""
    slowdown: float = 1.0
    """A paced device takes so many times what its profile says, and nobody tells it."""
    keep: Path | None = None
    """Folder for records of the run, as a daemon keeps them."""
    needs_edge: bool = False
    """Whether a run is of no use where the edge cannot be asked when it begins."""
    prices: Prices = NO_PRICES
    """Those that were given."""


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run on disk: every frame and how good its answer was."""

    format_version: int
    scenario: str
    """Its name."""
    controller: str
    """Who decided."""
    pictures: str
    """Where they are from."""
    frames: tuple[FrameRecord, ...]
    """Every frame."""
    quality: tuple[float, ...]
    """Of each frame's answer, 0 to 1: of a class right or wrong. 0 where there is none."""
    probe_bytes: int
    """Sent to learn of the link alone."""
    late_replies: int
    """Answers of the edge that nobody waited for."""
    reconnects: int
    """Connections lost."""
    edge_error: str | None
    """What the link said last (null: nothing)."""
    real: bool = False
    """Whether the pictures are those that the scenario's outcomes were recorded of."""

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(path, self)


def read_run(path: Path) -> RunRecord:
    """Read a run's record."""
    return read_json(path, RunRecord, version=READ_VERSIONS, older=_with_quality)


def _with_quality(plain: dict[str, Any]) -> dict[str, Any]:
    """A record of format 2, or a damaged one as it is, with the names of today's."""
    if plain.get("format_version") == 2 and isinstance(plain.get("correct"), list):
        plain["quality"] = [float(right is True) for right in plain.pop("correct")]
    return plain


def check_deployable(controller: str) -> None:
    """Refuse what no device can be asked to do."""
    if not find_controller(controller).deployable:
        only = ", ".join(e.name for e in SHIPPED if not e.deployable)
        raise UsageError(
            f"controller: found '{controller}', expected one that needs no hindsight "
            f"({only}: in simulation only)"
        )


def run_device(run: DeviceRun, say: Callable[[str], None]) -> RunRecord:
    """Run the frame loop to its end; an absent edge is said and survived (answers stay local)."""
    check_deployable(run.controller)
    setting = load_priced(run.scenario, run.prices)
    # a daemon's planners believe what its policy believes
    own = run.as_daemon and run.policy is not None
    factory = ControllerFactory(setting, policy_folder=run.policy, policy_tells=own)
    return run_loop(setting, run, factory.maker(run.controller, ())(0), say)


def run_loop(
    setting: Setting,
    run: DeviceRun,
    controller: Controller,
    say: Callable[[str], None],
    progress: Callable[[float], None] = lambda at_s: None,
) -> RunRecord:
    """The same of a scenario loaded already, by any controller.

    `setting` is `run`'s scenario, `controller` decides its frames, `say` is given lines for people
    and `progress` the seconds of the stream that have passed.
    """
    executor: Executor = any_executor(run.executor, setting.model, setting.device.threads)
    warm(setting, executor)
    pictures = run_pictures(setting, executor, run.seed, run.data)
    if run.pace:
        executor = PacedExecutor(executor, setting.device.slowed(run.slowdown))
    loop = connect_loop(
        setting.model,
        executor,
        setting.device,
        setting.table,
        controller,
        run.edge,
        device_config(setting, run),
        on_record=lambda record: progress(record.arrival_s),
    )
    keeper = None if run.keep is None else _keeping(setting, loop, run.keep)
    if not loop.link.connected:
        if run.needs_edge:
            loop.link.close()
            raise UsageError(f"edge: found {loop.link.last_error}, expected one that answers")
        say(f"device: no edge ({loop.link.last_error}); frames are answered locally until one is")
    try:
        loop.run(pictures.x, None if run.agreed_start is None else run.agreed_start())
    except (KeyboardInterrupt, Terminated):
        say(f"device: interrupted after {len(loop.records)} frames")
    loop.link.close()
    if keeper is not None:
        keeper.close()
    quality = answers_quality(
        loop.records, pictures.labels, setting.model.answers, setting.model.card.judge
    )
    return RunRecord(
        FORMAT_VERSION,
        setting.scenario.name,
        run.controller,
        pictures.what,
        tuple(loop.records),
        tuple(quality.tolist()),
        loop.engine.watch.initial_probe_bytes,
        loop.link.late_replies,
        loop.link.reconnects,
        loop.link.last_error if loop.link.reconnects or not loop.records else None,
        pictures.judged,
    )


def _keeping(setting: Setting, loop: DeviceLoop, folder: Path) -> RecordsKeeper:
    """Have a loop's frames and measurements kept as a daemon keeps them."""
    keeper = engine_keeper(loop.engine, setting)
    others = loop.engine.on_record

    def keep(record: FrameRecord) -> None:
        keeper.keep(record)
        others(record)

    loop.engine.on_record = keep
    keeper.change(RecordSettings(str(folder)))
    return keeper


def device_config(setting: Setting, run: DeviceRun) -> DeviceConfig:
    """The scenario's clock for the real loop."""
    frames = setting.scenario.frames
    return DeviceConfig(
        mode="closed" if setting.closed_loop else "stream",
        deadline_s=frames.deadline_s,
        interval_s=0.0 if setting.closed_loop else run.interval_s or setting.interval_s,
        frames=run.frames,
        duration_s=run.duration_s,
        rescue_margin_s=setting.timing.rescue_margin_s,
        rtt_s=setting.scenario.link.rtt_s,
        loading_s=setting.device.model_loading_s if setting.closed_loop else 0.0,
        as_daemon=run.as_daemon,
    )


def run_figures(record: RunRecord) -> dict[str, Any]:
    """A run's figures by the names of `compare --json`."""
    frames = max(len(record.frames), 1)
    failed = Counter(f.error for f in record.frames if f.error is not None)
    latencies = np.array([f.latency_s for f in record.frames if f.latency_s is not None])
    return {
        "frames": len(record.frames),
        "goodput_accuracy": sum(record.quality) / frames,
        "late_share": sum(f.latency_s is None for f in record.frames) / frames,
        "mean_latency_s": float(latencies.mean()) if len(latencies) else 0.0,
        "p95_latency_s": float(np.quantile(latencies, 0.95)) if len(latencies) else 0.0,
        "payload_bytes_per_frame": sum(f.bytes_sent for f in record.frames) / frames,
        "device_compute_s_per_frame": sum(f.device_s for f in record.frames) / frames,
        "offloaded_share": sum(f.bytes_sent > 0 for f in record.frames) / frames,
        "late_replies": record.late_replies,
        "reconnects": record.reconnects,
        "edge_failures": sum(failed.values()),
        "edge_failure": failed.most_common(1)[0][0] if failed else "none",
        "pictures": record.pictures,
    }
