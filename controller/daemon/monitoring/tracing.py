"""OpenTelemetry spans, one trace a frame across device and edge. Optional (extra `tracing`).

The device's span of a frame goes to the edge as `traceparent` of the request's metadata (W3C Trace
Context), which an edge that traces nothing passes over; the edge adds what it received, how long
the request waited and how long it was computed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from artefacts import UsageError

if TYPE_CHECKING:
    from controller.device.frame import Frame, FrameRecord
    from controller.edge.arrivals import Arrival

TRACEPARENT = re.compile(
    r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)

EXPORT_S = 2
"""A collector that takes longer is done without: the end of a daemon must not wait for it."""


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[tracing]` of either file."""

    endpoint: str = ""
    """Where spans are sent by OTLP over HTTP, as http://127.0.0.1:4318/v1/traces ('': nowhere)."""
    share: float = 1.0
    """Of the device's frames; the edge follows the device."""


def make_provider(service: str, settings: TracingSettings, exporter: Any = None) -> Any:
    """OpenTelemetry's tracer provider, sending in the background; `exporter` instead of OTLP."""
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=EXPORT_S)
    except ImportError:
        raise UsageError(
            "tracing.endpoint: found no OpenTelemetry, expected SDK and OTLP exporter "
            "(pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http)"
        ) from None
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.share)),
        resource=Resource.create({"service.name": service}),
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=1e3 * EXPORT_S))
    return provider


class _Clock:
    """Nanoseconds of the wall clock for moments of a monotonic one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def ns(self, at_s: float) -> int:
        return time.time_ns() + int(1e9 * (at_s - self._clock()))


class DeviceTracing:
    """A span a frame. `begun` gives what goes to the edge; `ended` closes it."""

    def __init__(self, provider: Any, clock: Callable[[], float]) -> None:
        self._provider, self._clock = provider, _Clock(clock)
        self._tracer = provider.get_tracer("coinfer.device")
        self._open: dict[int, Any] = {}

    def begun(self, frame: Frame) -> str | None:
        """A frame's plan is decided; its traceparent, None where it is not sampled."""
        span = self._tracer.start_span("frame", start_time=self._clock.ns(frame.arrival_s))
        context = span.get_span_context()
        if not span.is_recording():
            return None
        span.set_attribute("coinfer.frame", frame.number)
        span.set_attribute("coinfer.plan", str(frame.plan))
        self._open[frame.number] = span
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def ended(self, record: FrameRecord, begin_s: float) -> None:
        """A frame is over; `record`'s times count from `begin_s`."""
        span = self._open.pop(record.frame, None)
        if span is None:
            return
        facts: dict[str, Any] = {
            "coinfer.exit": None if record.exit is None else record.exit + 1,
            "coinfer.by_plan": record.by_plan,
            "coinfer.where": record.where,
            "coinfer.confidence": record.confidence,
            "coinfer.bytes_sent": record.bytes_sent,
            "coinfer.device_compute_s": record.device_s,
            "coinfer.late": record.latency_s is None,
            "coinfer.error": record.error,
        }
        for name, value in facts.items():
            if value is not None:
                span.set_attribute(name, value)
        if record.latency_s is None:
            span.end()
            return
        # counted from its own begin: a wall clock that jumped meanwhile must not turn it round
        span.end(end_time=span.start_time + int(1e9 * record.latency_s))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class EdgeTracing:
    """Spans of what the edge did for requests that name their trace."""

    def __init__(self, provider: Any, clock: Callable[[], float]) -> None:
        self._provider, self._clock = provider, _Clock(clock)
        self._tracer = provider.get_tracer("coinfer.edge")

    def answered(self, arrival: Arrival, began_s: float, done_s: float, batch: int) -> None:
        """A request was computed in [began, done) in a batch of so many."""
        context = _parent(arrival.meta.get("traceparent"))
        if context is None:
            return
        timing, ns = arrival.timing, self._clock.ns
        whole = self._tracer.start_span("edge", context, start_time=ns(timing.first_s))
        whole.set_attribute("coinfer.received_bytes", len(arrival.data))
        whole.set_attribute("coinfer.batch", batch)
        from opentelemetry.trace import set_span_in_context

        inside = set_span_in_context(whole, context)
        for name, begin, end in (
            ("receive", timing.first_s, timing.last_s),
            ("queue", timing.last_s, began_s),
            ("compute", began_s, done_s),
        ):
            self._tracer.start_span(name, inside, start_time=ns(begin)).end(end_time=ns(end))
        whole.end(end_time=ns(done_s))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


def _parent(sent: object) -> Any:
    """The context that a device's traceparent names; None for anything else."""
    found = TRACEPARENT.fullmatch(sent) if isinstance(sent, str) else None
    if found is None:
        return None
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    parent = SpanContext(
        int(found["trace"], 16), int(found["span"], 16), is_remote=True,
        trace_flags=TraceFlags(int(found["flags"], 16)),
    )  # fmt: skip
    return set_span_in_context(NonRecordingSpan(parent)) if parent.is_valid else None
