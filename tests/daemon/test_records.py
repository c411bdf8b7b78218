"""A real daemon keeps its figures, takes other settings over, and shows what it keeps."""

import json
import re
import signal
import stat
import time
import urllib.request

import numpy as np
import pytest

from coinfer import Client
from controller.daemon.records.segments import segment_files
from controller.edge.server import EdgeServer
from experiments.learning.records import check_streams, measured_traces, read_streams
from experiments.replay.testbed.relay import Relay
from models.data.pictures import generated_pictures
from models.executors import OnnxExecutor
from traces.trace import BandwidthTrace

RATE_BPS = 1e6


@pytest.fixture(scope="module")
def relay(stream):
    """An edge behind a link of a rate that is known."""
    server = EdgeServer(stream.model, OnnxExecutor(stream.model))
    server.start()
    trace = BandwidthTrace.from_intervals("constant", [3600.0], [RATE_BPS])
    made = Relay(("127.0.0.1", server.port), trace, 0.01)
    made.start_at(time.monotonic())
    yield made
    made.close()
    server.close()


def metric(daemon, name):
    with urllib.request.urlopen(f"{daemon.address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def ask(daemon, frames):
    """Frames one after the other; those that the edge answered."""
    pictures = generated_pictures(4, np.random.default_rng(0))
    with Client(daemon.address) as client:
        found = [client.infer(pictures[k % 4], deadline_s=5.0) for k in range(frames)]
    return [answer for answer in found if answer.where == "edge"]


def test_a_daemon_keeps_its_figures_and_a_reload_changes_where(running, relay, stream):
    more = f'edges = ["127.0.0.1:{relay.port}"]\ncontroller = "edge-only"\n'
    with running(f'{more}[records]\nfolder = "records"\n') as daemon:
        folder = daemon.folder / "records"
        daemon.until(lambda: ask(daemon, 1))  # the edge is connected
        assert ask(daemon, 20)
        daemon.until(lambda: sum(e["kind"] == "frame" for e in kept(folder)) > 20)
        assert metric(daemon, "coinfer_records_dropped_total") == 0
        assert metric(daemon, "coinfer_records_bytes") == sum(
            path.stat().st_size for path in segment_files(folder)
        )
        header, *entries = kept(folder)
        assert header["scenario"] == "3g-alexnet"
        assert header["model_digest"] == stream.model.digest
        kinds = {entry["kind"] for entry in entries}
        assert kinds == {"frame", "measurement"}
        assert all("label" not in entry and "error" not in entry for entry in entries)
        assert {stat.S_IMODE(path.stat().st_mode) for path in segment_files(folder)} == {0o600}

        streams = read_streams(folder)
        check_streams(folder, streams, stream)
        (trace,) = measured_traces(streams, shortest_s=0.2)
        rates = [8 * m.payload_bytes / m.duration_s for m in streams[0].measurements]
        assert np.median(rates) == pytest.approx(RATE_BPS, rel=0.15)
        assert trace.mean_bps == pytest.approx(RATE_BPS, rel=0.3)

        daemon.write(f'{more}[records]\nfolder = "elsewhere"\n')
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until(lambda: (daemon.folder / "elsewhere").is_dir())
        assert all(path.suffix == ".jsonl" for path in segment_files(folder))
        daemon.write(f"{more}[records]\nfolder = 'elsewhere'\nhours = 0.0\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.until(lambda: "not reloaded" in daemon.said())
        assert "field 'records.hours': found 0, expected 0.01 to 8784" in daemon.said()
        ask(daemon, 3)
        assert daemon.stop() == 0
        (path,) = segment_files(daemon.folder / "elsewhere")
        assert path.suffix == ".jsonl"
        assert len(kept(daemon.folder / "elsewhere")) >= 4


def test_a_place_that_cannot_be_written_stops_no_daemon(running):
    with running('[records]\nfolder = "/proc/records"\n') as daemon:
        ask(daemon, 2)
        daemon.until(lambda: metric(daemon, "coinfer_records_dropped_total") == 2)
        assert daemon.said().count("records are not kept: /proc/records") == 1


def kept(folder):
    return [
        json.loads(line)
        for path in segment_files(folder)
        for line in path.read_bytes().splitlines()
    ]
