"""What the device shows of itself: Prometheus metrics, and the last minutes for people."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from controller.daemon.monitoring.counters import CounterCollector, CountOfMany, Figures
from controller.daemon.monitoring.guarding import HandedOver
from controller.daemon.monitoring.process import add_process_metrics
from controller.device.engine import FrameEngine
from controller.device.frame import FrameRecord

BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
KEPT_S = 300
"""Seconds of the past that the live page and `coinfer top` can show."""


class Second(msgspec.Struct):
    """One second of the recent past. Latencies in ms, bandwidth in Mbit/s (None: not measured)."""

    at_s: int
    frames: int = 0
    late: int = 0
    offloaded: int = 0
    bytes_sent: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    bandwidth_mbps: float | None = None
    exits: dict[str, int] = msgspec.field(default_factory=dict)
    plans: dict[str, int] = msgspec.field(default_factory=dict)


class DeviceMetrics:
    """Hears of every frame; gives Prometheus' text and the last `KEPT_S` seconds.

    Frames are reported on the engine's thread, figures are asked for on another.
    """

    def __init__(self, engine: FrameEngine, under_way: Callable[[], int]) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._plans = [str(plan) for plan in engine.table.plans]
        self._recent: deque[Second] = deque(maxlen=KEPT_S)
        self._latencies: list[float] = []
        self.registry = CollectorRegistry()
        self._guarded, self._faults = CountOfMany(), CountOfMany()
        self.handed_over = HandedOver()
        add_process_metrics(self.registry, "device")
        self._make_frame_metrics(self.registry)
        self._make_engine_metrics(under_way)

    def _make_frame_metrics(self, into: CollectorRegistry) -> None:
        """What frames bring, one by one."""
        self._frames = Counter(
            "coinfer_frames", "Frames answered, by exit, where, and whether by the plan itself",
            ("exit", "where", "by_plan"), registry=into,
        )  # fmt: skip
        self._late = Counter("coinfer_late_frames", "Frames not answered in time", registry=into)
        self._latency = Histogram(
            "coinfer_latency_seconds", "From arrival to answer", ("plan",),
            buckets=BUCKETS_S, registry=into,
        )  # fmt: skip
        self._compute = Histogram(
            "coinfer_device_compute_seconds", "Computed on the device for a frame",
            buckets=BUCKETS_S, registry=into,
        )  # fmt: skip
        self._stages = Histogram(
            "coinfer_stage_seconds", "Of frames an edge answered, by stage", ("stage",),
            buckets=BUCKETS_S, registry=into,
        )  # fmt: skip
        self._sent = Counter("coinfer_sent_bytes", "Payload sent to edges", registry=into)
        self._fallbacks = Counter(
            "coinfer_fallbacks",
            "Frames of plans with an edge that another answer of the device ended",
            registry=into,
        )

    def _make_engine_metrics(self, under_way: Callable[[], int]) -> None:
        """What the engine is asked for whenever somebody looks."""
        link = self._engine.link
        counts: Figures = {
            "coinfer_change_points": (
                "Times the bandwidth became another",
                lambda: self._known("changes"),
            ),
            "coinfer_probed_bytes": (
                "Sent to learn of the link alone",
                lambda: self._known("probed_bytes"),
            ),
            "coinfer_breaker_opened": ("Times frames were kept back", self._opened),
            "coinfer_policy_fallbacks": (
                "Frames that the robust planner decided: outside training, or on a slow device",
                lambda: self._guarded.total(self._of_controller("fallbacks")),
            ),
            "coinfer_controller_faults": (
                "Calls of another package's controller that failed",
                lambda: self._faults.total(self._of_controller("faults")),
            ),
            "coinfer_reconnects": ("Connections lost", lambda: link.reconnects),
            "coinfer_late_replies": ("Replies nobody waited for", lambda: link.late_replies),
        }
        gauges: Figures = {
            "coinfer_bandwidth_bps": ("Newest measurement of the uplink", self._bandwidth),
            "coinfer_bandwidth_estimate_bps": (
                "What measurements of some 2 s say together; it stays while nothing is measured",
                self._estimate,
            ),
            "coinfer_rtt_seconds": ("Round trip to the edge", lambda: link.rtt_s or math.nan),
            "coinfer_edge_connected": ("1: an edge has greeted us", self._connected),
            "coinfer_breaker_open": ("1: frames are kept on the device", self._open),
            "coinfer_under_way": ("Frames under way", under_way),
        }
        self.add(counts, gauges)

    def add(self, counts: Figures, gauges: Figures) -> None:
        """Show what is asked for whenever somebody looks."""
        self.registry.register(CounterCollector(counts))
        for name, (what, value) in gauges.items():
            Gauge(name, what, registry=self.registry).set_function(value)

    def _bandwidth(self) -> float:
        measured = self._engine.watch.measured
        return math.nan if measured is None else measured.rate_bps

    def _estimate(self) -> float:
        known, now = self._engine.watch.monitor, self._engine.clock() - self._engine.begin_s
        found = None if known is None else known.bandwidth_bps(now)
        return math.nan if found is None else found

    def _known(self, name: str) -> float:
        known = self._engine.watch.monitor
        return 0.0 if known is None else float(getattr(known, name))

    def _of_controller(self, count: str) -> float:
        return float(getattr(self._engine.controller, count, 0))

    def _opened(self) -> float:
        return float(self._engine.admission.opened)

    def _connected(self) -> float:
        return float(self._engine.link.connected)

    def _open(self) -> float:
        return float(self._engine.admission.open)

    def frame_ended(self, record: FrameRecord) -> None:
        """A frame has ended."""
        plan = self._plans[record.plan]
        self._compute.observe(record.device_s)
        self._sent.inc(record.bytes_sent)
        for stage, seconds in record.stages_s.items():
            self._stages.labels(stage).observe(max(seconds, 0.0))
        if record.latency_s is None:
            self._late.inc()
        else:
            self._latency.labels(plan).observe(record.latency_s)
            exit_ = "" if record.exit is None else str(record.exit + 1)
            self._frames.labels(exit_, record.where or "", str(record.by_plan).lower()).inc()
            remote = not self._engine.table.local[record.plan]
            if remote and not record.by_plan:
                self._fallbacks.inc()
        with self._lock:
            self._add(self._now(), record, plan)

    def _add(self, now: Second, record: FrameRecord, plan: str) -> None:
        now.frames += 1
        now.late += record.latency_s is None
        now.offloaded += record.bytes_sent > 0
        now.bytes_sent += record.bytes_sent
        now.plans[plan] = now.plans.get(plan, 0) + 1
        if record.latency_s is not None and record.exit is not None:
            key = str(record.exit + 1)
            now.exits[key] = now.exits.get(key, 0) + 1
            self._latencies.append(1e3 * record.latency_s)
        rate = self._bandwidth()
        now.bandwidth_mbps = None if math.isnan(rate) else rate / 1e6

    def _now(self) -> Second:
        second = int(self._engine.clock() - self._engine.begin_s)
        if not self._recent or self._recent[-1].at_s != second:
            self._summarise()
            self._recent.append(Second(second))
            self._latencies = []
        return self._recent[-1]

    def _summarise(self) -> None:
        """Quantiles of the newest second: when it is over, or looked at."""
        if self._latencies:
            last = self._recent[-1]
            last.p50_ms, last.p95_ms = np.quantile(self._latencies, [0.5, 0.95]).tolist()

    def text(self) -> bytes:
        """Prometheus' exposition format."""
        found: bytes = generate_latest(self.registry)
        return found

    def recent(self) -> list[dict[str, Any]]:
        """The last seconds in which a frame ended, oldest first."""
        with self._lock:
            self._summarise()
            found: list[dict[str, Any]] = msgspec.to_builtins(list(self._recent))
        return found
