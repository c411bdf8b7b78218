"""One trace a frame over device and edge; nothing where it is not asked for."""

import subprocess
import sys

import pytest

from artefacts import UsageError
from controller.daemon.monitoring.tracing import (
    DeviceTracing,
    EdgeTracing,
    TracingSettings,
    _parent,
    make_provider,
)
from controller.device.frame import EngineArgs
from controller.device.frame_loops import connect_engine
from controller.edge.server import EdgeServer
from controller.physics import PlanTable
from controller.planners.fixed import FixedController, edge_only_plan
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor

memory = pytest.importorskip(
    "opentelemetry.sdk.trace.export.in_memory_span_exporter",
    reason="needs opentelemetry-sdk (extra 'tracing')",
)


def spans_of(stream, frames, share):
    """(device's spans, edge's spans) of frames that go to the edge."""
    import numpy as np

    executor, out = OnnxExecutor(stream.model), []
    exporters = memory.InMemorySpanExporter(), memory.InMemorySpanExporter()
    settings = TracingSettings("unused", share)
    providers = [make_provider(n, settings, e) for n, e in zip("de", exporters, strict=True)]
    server = EdgeServer(stream.model, executor)
    server.computing.on_answer = EdgeTracing(providers[1], server.clock).answered
    server.start()
    assert isinstance(stream.table, PlanTable)
    plan = FixedController("edge", edge_only_plan(stream))
    engine = connect_engine(
        stream.model, executor, stream.device, stream.table, plan, ("127.0.0.1", server.port),
        EngineArgs(5.0),
    )  # fmt: skip
    tracing = DeviceTracing(providers[0], engine.clock)
    engine.on_begun = tracing.begun
    engine.on_record = lambda record: tracing.ended(record, engine.begin_s)
    pictures = generated_pictures(frames, np.random.default_rng(0))
    try:
        engine.begin(engine.clock())
        for number in range(frames):
            frame = engine.start(number, engine.clock(), pictures[number])
            engine.wait(engine.clock() + 10.0, frame)
            out.append(frame.answered_by_edge)
    finally:
        engine.close()
        engine.link.close()
        server.close()
        for provider in providers:
            provider.force_flush()
    return out, *(e.get_finished_spans() for e in exporters)


def test_a_frame_is_one_trace_over_both_machines(stream):
    by_edge, ours, theirs = spans_of(stream, 2, 1.0)
    assert by_edge == [True, True]
    assert [s.name for s in ours] == ["frame", "frame"]
    for frame in ours:
        reported = [s for s in theirs if s.context.trace_id == frame.context.trace_id]
        assert sorted(s.name for s in reported) == ["compute", "edge", "queue", "receive"]
        (edge,) = [s for s in reported if s.name == "edge"]
        assert edge.parent.span_id == frame.context.span_id
        assert {s.parent.span_id for s in reported if s is not edge} == {edge.context.span_id}
        # one machine, one clock: what the edge did lies within the frame
        assert frame.start_time <= edge.start_time <= edge.end_time <= frame.end_time
        assert frame.attributes["coinfer.where"] == "edge"
        assert frame.attributes["coinfer.exit"] >= 1


def test_a_frame_that_is_not_sampled_costs_neither_end_a_span(stream):
    by_edge, ours, theirs = spans_of(stream, 2, 0.0)
    assert by_edge == [True, True]
    assert not ours
    assert not theirs


@pytest.mark.parametrize(
    "reported", [None, 7, "", "00-xyz", "00-" + 32 * "0" + "-" + 16 * "0" + "-01", "99" * 40]
)
def test_what_is_no_traceparent_is_passed_over(reported):
    assert _parent(reported) is None


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError, match=r"opentelemetry-sdk"):
        make_provider("x", TracingSettings("http://127.0.0.1:1"))


def test_a_daemon_that_traces_nothing_loads_none_of_it():
    code = (
        "import sys, controller.daemon.main, controller.daemon.edge_main; "
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
