"""The shipped Grafana dashboard asks for metrics that are there, and for all of them."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from controller.daemon.edge_main import edge_registry
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs, FrameRecord
from controller.edge.server import EdgeServer
from controller.link.interface import NoLink
from controller.planners.fixed import FixedController
from models.executors import OnnxExecutor

DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana.json"


@pytest.fixture
def shown(stream):
    """Names of all series that a device and an edge expose."""
    executor = OnnxExecutor(stream.model)
    engine = FrameEngine(
        stream.model, executor, stream.device, stream.table, FixedController("x", 0), NoLink(),
        EngineArgs(0.1),
    )  # fmt: skip
    metrics = DeviceMetrics(engine, lambda: 0)
    for latency in (0.05, None):
        metrics.frame_ended(
            FrameRecord(0, 0, 0.0, latency, 0, True, "device", 1, 0.5, 10, 0.01, None,
                        {"receive": 0.01, "edge queue": 0.0, "edge compute": 0.002})
        )  # fmt: skip
    server = EdgeServer(stream.model, executor)
    server.start()
    registry: CollectorRegistry = edge_registry(server)
    server.computing.on_batch(3, 0.01)
    text = metrics.text().decode() + generate_latest(registry).decode()
    server.close()
    engine.close()
    return set(re.findall(r"^(coinfer_\w+)", text, re.MULTILINE))


def test_every_panel_asks_for_what_there_is_and_nothing_is_left_out(shown):
    text = DASHBOARD.read_text()
    asked = set(re.findall(r"coinfer_\w+", " ".join(
        t["expr"] for p in json.loads(text)["panels"] for t in p["targets"]
    )))  # fmt: skip
    assert asked <= shown, asked - shown
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in shown}
    used = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked}
    assert families == used


def test_panels_do_not_lie_on_one_another():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        taken |= cells


def test_frames_the_guard_decided_are_counted_over_all_controllers(stream):
    class Guarded(FixedController):
        fallbacks = 0

    executor = OnnxExecutor(stream.model)
    engine = FrameEngine(
        stream.model, executor, stream.device, stream.table, Guarded("x", 0), NoLink(),
        EngineArgs(0.1),
    )  # fmt: skip
    metrics = DeviceMetrics(engine, lambda: 0)

    def frames():
        found = re.search(r"^coinfer_policy_fallbacks_total (\S+)", metrics.text().decode(), re.M)
        return float(found[1])

    assert frames() == 0
    engine.controller.fallbacks = 7
    assert frames() == 7
    engine.controller = Guarded("y", 0)
    engine.controller.fallbacks = 2
    assert frames() == 9
    engine.close()
