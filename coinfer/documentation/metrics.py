"""docs/reference/metrics.md: every metric, as a device and an edge really show them.

Both are started on loopback and one frame goes through them, so that every label is there. What
they show is Prometheus' text, which names each metric, its type and its meaning.
"""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from artefacts import UsageError
from artefacts.owners import temporary_folder
from artefacts.processes import Children, module_command
from coinfer.documentation.markdown import code, page, table
from controller.daemon.client import Client
from experiments.replay.testbed.link import wait_for_file

INTRODUCTION = """\
A device shows its metrics at `/metrics` of its local interface, an edge at the address in
`metrics` of `edge.toml`. Both are Prometheus' text. A histogram `NAME` has the series
`NAME_bucket`, `NAME_sum` and `NAME_count`; `_created` series hold the time of the first value."""
WAIT_S = 60.0
DEVICE = """\
format_version = 1
scenario = "3g-alexnet"
edges = ["127.0.0.1:{port}"]
controller = "edge-only"

[http]
port = 0

[grpc]
port = 0

[log]
form = "json"
"""
EDGE = """\
format_version = 1
models = ["alexnet"]
port = 0
metrics = "127.0.0.1:{metrics}"
"""


@dataclass(slots=True)
class Metric:
    """One metric of Prometheus' text."""

    name: str
    kind: str = ""
    meaning: str = ""
    labels: list[str] = field(default_factory=list)


def parse(text: str) -> list[Metric]:
    """The metrics of Prometheus' text, in their order; buckets' and creation's labels left out."""
    found: dict[str, Metric] = {}
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, meaning = line.removeprefix("# HELP ").partition(" ")
            found.setdefault(name, Metric(name)).meaning = meaning
        elif line.startswith("# TYPE "):
            name, _, kind = line.removeprefix("# TYPE ").partition(" ")
            found.setdefault(name, Metric(name)).kind = kind
        elif "{" in line:
            series, _, rest = line.partition("{")
            owner = max((n for n in found if series.startswith(n)), key=len, default="")
            for part in rest.partition("}")[0].split(","):
                label = part.partition("=")[0]
                if owner and label.isidentifier() and label != "le":
                    _add(found[owner].labels, label)
    return [one for one in found.values() if not one.name.endswith("_created")]


def _add(labels: list[str], label: str) -> None:
    if label not in labels:
        labels.append(label)


def metrics_page(device: list[Metric], edge: list[Metric]) -> str:
    """The page of what both showed."""
    return page(
        "Metrics", INTRODUCTION, "## The device", _table(device), "## The edge", _table(edge)
    )


def _table(found: list[Metric]) -> str:
    rows = ((code(m.name), m.kind, ", ".join(map(code, m.labels)), m.meaning) for m in found)
    return table(("metric", "type", "labels", "meaning"), rows)


def shown_metrics() -> tuple[list[Metric], list[Metric]]:
    """What a device and an edge show after one frame; raises `UsageError` where none comes."""
    with temporary_folder("metrics") as folder, Children() as children:
        exposed = _free_port()
        edge_file, port_file = folder / "edge.toml", folder / "port"
        edge_file.write_text(EDGE.format(metrics=exposed))
        edge = _start(children, folder, "edge", "--config", edge_file, "--port-file", port_file)
        device_file, ready = folder / "device.toml", folder / "ready"
        device_file.write_text(DEVICE.format(port=wait_for_file(port_file, edge, WAIT_S)))
        device = _start(children, folder, "device", "--config", device_file, "--ready-file", ready)
        address = wait_for_file(ready, device, WAIT_S).splitlines()[0]
        _until(lambda: _answered_by_edge(address), "answer of the edge")
        bucket = "coinfer_stage_seconds_bucket{"  # a moment after the answer
        _until(lambda: bucket in _fetched(f"{address}/metrics"), "counted frame")
        return parse(_fetched(f"{address}/metrics")), parse(
            _fetched(f"http://127.0.0.1:{exposed}/metrics")
        )


def _start(children: Children, folder: Path, *command: object) -> subprocess.Popen[Any]:
    with open(folder / f"{command[0]}.log", "w") as log:
        return children.start(
            module_command("coinfer.cli.entry", *map(str, command)),
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder,
        )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _fetched(address: str) -> str:
    with urllib.request.urlopen(address, timeout=WAIT_S) as answer:
        return str(answer.read().decode())


def _answered_by_edge(address: str) -> bool:
    """Whether a frame was answered by the edge: it has to be connected first."""
    with Client(address) as client:
        answer = client.infer(np.zeros((32, 32, 3), dtype=np.uint8), deadline_s=10.0)
    return answer.where == "edge"


def _until(found: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not found():
        if time.monotonic() > until:
            raise UsageError(f"metrics: found no {what} within {WAIT_S:g} s, expected one")
        time.sleep(0.05)
