"""tc in namespaces: what is applied is read back, and nothing is left behind."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from artefacts.owners import this_process
from experiments.replay.testbed.link import open_link
from experiments.replay.testbed.namespaces import (
    NamespacePair,
    TestbedError,
    can_carry,
    missing_tools,
    run,
)
from experiments.replay.testbed.shaping import TcShaper, parse_classes
from traces.trace import BandwidthTrace

_ECHO = (
    "import socket,sys\n"
    "s=socket.create_server((sys.argv[1],0)); print(s.getsockname()[1],flush=True)\n"
    "c,_=s.accept()\n"
    "while d:=c.recv(1): c.sendall(d)\n"
)
_ASK = (
    "import socket,sys,time\n"
    "t=time.monotonic(); c=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
    "a=time.monotonic()-t; r=[]\n"
    "for _ in range(5):\n"
    "  t=time.monotonic(); c.sendall(b'x'); c.recv(1); r.append(time.monotonic()-t)\n"
    "print(a,min(r))\n"
)
TRACE = BandwidthTrace("t", np.array([0.0, 0.2]), np.array([1e6, 0.0]), 1.0)
needs_root = pytest.mark.skipif(
    bool(missing_tools()), reason=f"needs {', '.join(missing_tools())} for network namespaces"
)


def test_classes_are_read_from_tc():
    text = (
        "class htb 1:10 root prio 0 rate 2Mbit ceil 2Mbit burst 1600b cburst 1600b\n"
        "class htb 1a:7 parent 1a:1 leaf 3: prio 0 rate 500Kbit ceil 1Gbit burst 1b cburst 1b\n"
    )
    one, two = parse_classes(text)
    assert (one.handle, one.parent, one.rate_bps) == ("1:10", "1:", 2e6)
    assert (two.handle, two.parent, two.rate_bps) == ("1a:7", "1a:1", 5e5)
    assert parse_classes("") == []


def namespaces():
    """This process's own: other runs on this machine make theirs meanwhile."""
    own = this_process().name("")
    return [n for n in run(["ip", "netns", "list"]).split() if n.startswith(own)]


@needs_root
def test_namespaces_are_removed_also_after_an_error():
    assert namespaces() == []
    with pytest.raises(ZeroDivisionError), NamespacePair(), NamespacePair():
        assert len(namespaces()) == 4
        raise ZeroDivisionError
    assert namespaces() == []


@needs_root
def test_what_is_said_to_be_applied_is_what_tc_shows():
    with NamespacePair() as pair:
        shaper = TcShaper(pair.device, pair.device_interface)
        applied = shaper.set_up(2e6, 0.04)
        kinds = shaper.qdisc_kinds()
        assert applied.rate
        assert any(abs(c.rate_bps - 2e6) < 4e4 for c in shaper.classes())
        assert applied.delay == ("netem" in kinds)
        if not applied.delay:
            assert any("no delay" in note or "not installed" in note for note in applied.notes)
        shaper.change(5e5)
        assert shaper.close() == ""
        assert any(abs(c.rate_bps - 5e5) < 1e4 for c in shaper.classes())


@needs_root
@pytest.mark.skipif(not can_carry(), reason="needs /dev/net/tun")
def test_packets_are_delayed_where_the_kernel_cannot():
    """A real TCP connection between the namespaces sees the round trip, and its rate stays."""
    with NamespacePair(rtt_s=0.08) as pair:
        sink = subprocess.Popen(
            ["ip", "netns", "exec", pair.edge, sys.executable, "-c", _ECHO, pair.edge_address],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            port = sink.stdout.readline().strip()
            done = subprocess.run(
                ["ip", "netns", "exec", pair.device, sys.executable, "-c", _ASK, pair.edge_address,
                 port], capture_output=True, text=True, check=True, timeout=30,
            )  # fmt: skip
        finally:
            sink.kill()
            sink.communicate()
    connected, least = map(float, done.stdout.split())
    assert connected >= 0.08
    assert 0.08 <= least <= 0.12


@needs_root
def test_a_tc_link_is_calibrated_and_removed():
    assert namespaces() == []
    with open_link(TRACE, 0.0, "tc") as link:
        report = link.report()
        assert report.method.startswith("tc")
        assert report.calibration is not None
        assert 0.85 <= report.calibration <= 1.25
        seen = subprocess.run(
            [*link.device_prefix, "ip", "-o", "addr"], capture_output=True, text=True, check=True
        )
        assert "10.200." in seen.stdout
    assert namespaces() == []


def test_tc_without_the_means_is_an_error_that_names_them(monkeypatch):
    monkeypatch.setattr("experiments.replay.testbed.link.missing_tools", lambda: ("tc", "root"))
    with pytest.raises(TestbedError, match="found no tc and no root"), open_link(TRACE, 0.0, "tc"):
        pass
    with open_link(TRACE, 0.0, "auto") as link:
        assert link.report().method == "user-space"
        assert "no tc and no root" in link.report().notes[0]


def test_where_tc_fails_the_relay_takes_over_and_says_so(monkeypatch):
    def no_namespaces(argv):
        raise TestbedError("ip netns add: Operation not permitted")

    monkeypatch.setattr("experiments.replay.testbed.link.missing_tools", lambda: ())
    monkeypatch.setattr("experiments.replay.testbed.namespaces.run", no_namespaces)
    with pytest.raises(TestbedError, match="not permitted"), open_link(TRACE, 0.0, "tc"):
        pass
    with open_link(TRACE, 0.0, "auto") as link:
        assert link.report().method == "user-space"
        assert "tc cannot be had here" in link.report().notes[0]
        assert "not permitted" in link.report().notes[0]


def test_a_tc_that_ends_is_reported_and_nothing_is_reported():
    shaper = TcShaper("nowhere", "nothing")

    def broken(rate_bps):
        raise BrokenPipeError("broken pipe")

    shaper.change = broken
    shaper.follow(TRACE, 0.0, threading.Event(), clock=lambda: 1e9)
    assert "tc ended at 0.0 s of the trace" in shaper.failure
