"""The shipped Grafana dashboard asks for metrics that are there, and for all of them."""

import datetime
import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from coinfer.documentation.shown import blocks
from controller.daemon.configuration.certificates import make_authority
from controller.daemon.configuration.settings import HttpSettings
from controller.daemon.monitoring.edge_metrics import edge_registry
from controller.daemon.monitoring.metrics import DeviceMetrics
from controller.daemon.monitoring.process import CertificateEnds
from controller.device.engine import FrameEngine
from controller.device.frame import EngineArgs, FrameRecord
from controller.edge.server import EdgeServer
from controller.link.interface import NoLink
from controller.link.secure import TlsFiles
from controller.planners.fixed import FixedController
from models.executors import OnnxExecutor

DEPLOY = Path(__file__).parents[3] / "deploy"
DOCS = DEPLOY.parent / "docs"
PAGE, INSTALLATION = DOCS / "how-to" / "observe.md", DOCS / "reference" / "installation.md"
DASHBOARD, ALERTS = DEPLOY / "grafana.json", DEPLOY / "alerts.yml"


@pytest.fixture
def shown(stream, tmp_path):
    """Names of all series that a device and an edge expose."""
    made = make_authority(tmp_path, datetime.datetime.now(datetime.UTC))
    executor = OnnxExecutor(stream.model)
    engine = FrameEngine(
        stream.model, executor, stream.device, stream.table, FixedController("x", 0), NoLink(),
        EngineArgs(0.1),
    )  # fmt: skip
    metrics = DeviceMetrics(engine, lambda: 0)
    CertificateEnds(metrics.registry).loaded(TlsFiles(authority=str(made)))
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
    return set(re.findall(r"^((?:coinfer|process)_\w+)", text, re.MULTILINE))


def test_every_panel_asks_for_what_there_is_and_nothing_is_left_out(shown):
    text = DASHBOARD.read_text()
    shown = {name for name in shown if name.startswith("coinfer_")}
    asked = set(re.findall(r"coinfer_\w+", " ".join(
        t["expr"] for p in json.loads(text)["panels"] for t in p["targets"]
    )))  # fmt: skip
    assert asked <= shown, asked - shown
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in shown}
    used = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in asked}
    assert families == used


def rules():
    """The alerts, as they are shipped."""
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed (extra dev)")
    return [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]


def test_every_alert_asks_for_metrics_that_are_there(shown):
    for rule in rules():
        asked = set(re.findall(r"\b(?:coinfer|process)_\w+", rule["expr"]))
        assert asked <= shown, rule["alert"]
        assert asked or "up{" in rule["expr"], rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_every_alert_says_what_is_wrong_and_is_on_the_page():
    page = PAGE.read_text()
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 5
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "0m"))
        assert f"`{rule['alert']}`" in page


def test_the_page_s_scrape_configuration_finds_both_daemons_and_the_alerts_name_its_jobs():
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed (extra dev)")
    (text,) = [block for lang, block in blocks(PAGE.read_text()) if lang == "yaml"]
    found = yaml.safe_load(text)
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in found["scrape_configs"]
    }
    assert targets["coinfer-device"] == [f"127.0.0.1:{HttpSettings().port}"]
    (edge,) = targets["coinfer-edge"]
    assert f'metrics = "{edge}"' in INSTALLATION.read_text()
    jobs = {re.search(r'job=~"([^"]+)"', rule["expr"]) for rule in rules()} - {None}
    assert jobs
    for job in jobs:
        assert all(re.fullmatch(job[1], name) for name in targets)
    assert found["rule_files"] == [ALERTS.name]


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
