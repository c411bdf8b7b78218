"""The device's two frame loops: pictures come at a fixed rate, or each after the last answer.

What becomes of a frame is `engine`'s. Imports nothing that a Pi does not need (no torch,
gymnasium, pandas, matplotlib).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs, FrameRecord, Raw
from controller.device.greeting import asked_intervals, most_reply_bytes
from controller.device.link_monitor import ProbeSettings
from controller.interface import Controller
from controller.link.edge_link import EdgeLink
from controller.link.interface import Link, Reply
from controller.link.secure import Security
from controller.physics import RESCUE_MARGIN_S, PlanTable
from models.executors import Executor
from models.facts.cards import Model
from models.facts.meaning import meaning_digest
from models.facts.profiles import Profile


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """How frames come and how long they may take.

    `stream`: a frame every `interval_s`, cancelled at the deadline. `closed`: the next frame comes
    when the last is answered, nothing is cancelled before `give_up_s`.
    """

    mode: Literal["stream", "closed"]
    deadline_s: float
    interval_s: float = 0.0
    frames: int | None = None
    duration_s: float | None = None
    rescue_margin_s: float = RESCUE_MARGIN_S
    rtt_s: float = 0.0
    give_up_s: float = 60.0
    loading_s: float = 0.0
    as_daemon: bool = False
    """Frames and link are treated as a daemon does (`FrameEngine.guard`)."""

    @property
    def engine(self) -> EngineArgs:
        """What of it concerns a single frame."""
        closed = self.mode == "closed"
        return EngineArgs(
            self.deadline_s, closed, self.rescue_margin_s, self.rtt_s, self.give_up_s,
            interval_s=math.inf if closed else self.interval_s,
        )  # fmt: skip


@dataclass
class DeviceLoop:
    """Runs a stream of samples through an engine. One use, one stream."""

    engine: FrameEngine
    config: DeviceConfig
    records: list[FrameRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Every frame that ends is kept, beside whatever else hears of it."""
        others = self.engine.on_record

        def keep(record: FrameRecord) -> None:
            self.records.append(record)
            others(record)

        self.engine.on_record = keep

    @property
    def link(self) -> Link:
        """The engine's link to its edge."""
        return self.engine.link

    def run(self, samples: Raw, start_at_s: float | None = None) -> list[FrameRecord]:
        """Send every sample (cycling) through; gives a record per frame, in order.

        The stream begins at `start_at_s` of the clock (now).
        """
        c, engine = self.config, self.engine
        begin_s = engine.clock() if start_at_s is None else start_at_s
        engine.begin(begin_s, float("inf") if c.duration_s is None else begin_s + c.duration_s)
        engine.wait(begin_s + c.loading_s)
        engine.probe()
        if c.mode == "closed":
            self._closed_loop(samples)
        else:
            self._stream(samples)
        engine.close()
        self.records.sort(key=lambda r: r.frame)
        return self.records

    def _stream(self, samples: Raw) -> None:
        number, c, engine = 0, self.config, self.engine
        while True:
            due = engine.begin_s + c.loading_s + number * c.interval_s
            if self._finished(number, due):
                break
            engine.wait(due)
            engine.start(number, due, samples[number % len(samples)])
            engine.look_around()
            number += 1
        for frame in list(engine.live.values()):
            engine.wait(frame.limit_s, frame)

    def _closed_loop(self, samples: Raw) -> None:
        number, engine = 0, self.engine
        while not self._finished(number, engine.clock()):
            now = engine.clock()
            frame = engine.start(number, now, samples[number % len(samples)])
            engine.wait(frame.limit_s, frame)
            number += 1

    def _finished(self, number: int, at_s: float) -> bool:
        c = self.config
        enough = c.frames is not None and number >= c.frames
        last = c.deadline_s if c.mode == "stream" else 0.0
        return enough or at_s + last > self.engine.end_s


def connect_engine(
    model: Model,
    executor: Executor,
    profile: Profile,
    table: PlanTable,
    controller: Controller,
    edge: tuple[str, int],
    args: EngineArgs,
    *,
    connect_timeout_s: float = 5.0,
    security: Security | None = None,
    clock: Callable[[], float] = time.monotonic,
    on_record: Callable[[FrameRecord], None] = lambda record: None,
) -> FrameEngine:
    """An engine with its link. An edge that does not answer is no error: frames stay local."""
    made: list[FrameEngine] = []

    def on_reply(reply: Reply) -> None:
        if made:
            made[0].on_reply(reply)

    link = EdgeLink(
        edge[0], edge[1], model.digest, on_reply, intervals=asked_intervals(table), clock=clock,
        security=security, reply_bytes=most_reply_bytes(table, model.answers),
        meaning=meaning_digest(model.card),
    )  # fmt: skip
    made.append(
        FrameEngine(
            model, executor, profile, table, controller, link, args, clock, on_record=on_record
        )
    )
    link.wait_connected(connect_timeout_s)
    return made[0]


def connect_loop(
    model: Model,
    executor: Executor,
    profile: Profile,
    table: PlanTable,
    controller: Controller,
    edge: tuple[str, int],
    config: DeviceConfig,
    **options: Any,
) -> DeviceLoop:
    """A frame loop over `connect_engine` (the same `options`)."""
    engine = connect_engine(
        model, executor, profile, table, controller, edge, config.engine, **options
    )
    if config.as_daemon:
        engine.guard(ProbeSettings(), random.Random(0))
    return DeviceLoop(engine, config)


def labels_agree(records: Sequence[FrameRecord], labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether each record's answer is its frame's label (labels cycle as the pictures do)."""
    return np.array(
        [r.label is not None and r.label == int(labels[r.frame % len(labels)]) for r in records],
        dtype=np.bool_,
    )
