"""One link for a device process and an edge process that follows a trace, by whichever means."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from artefacts import UsageError, processes
from artefacts.endings import shielded
from controller.link.addresses import LINK_HOST
from experiments.replay.cell.carried import Carried, CellLink
from experiments.replay.cell.kernel import CellError
from experiments.replay.testbed.namespaces import (
    NamespacePair,
    TestbedError,
    can_carry,
    has_netem,
    missing_tools,
    remove_orphans,
)
from experiments.replay.testbed.relay import Relay
from experiments.replay.testbed.shaping import TcShaper
from traces.trace import BandwidthTrace

Ways = tuple[BandwidthTrace, BandwidthTrace]
"""The traces up and down."""
METHODS = ("auto", "cell", "tc", "relay")
ALIASES = {"user-space": "relay"}
"""Other names of methods, as scripts and notes of runs have them."""
CALIBRATION_BPS = 2e6
CALIBRATION_BYTES = 100_000
CALIBRATION_BOUNDS = (0.85, 1.25)
CALIBRATION_LIMIT_S, CALIBRATIONS = 30.0, 3

_SINK = (
    "import socket,sys\n"
    "s=socket.create_server((sys.argv[1],0)); print(s.getsockname()[1],flush=True)\n"
    "c,_=s.accept(); n=0\n"
    "while n<int(sys.argv[2]): n+=len(c.recv(65536))\n"
    "c.sendall(b'k')\n"
)
_SOURCE = (
    "import socket,sys,time\n"
    "c=socket.create_connection((sys.argv[1],int(sys.argv[2]))); t=time.monotonic()\n"
    "c.sendall(bytes(int(sys.argv[3]))); c.recv(1); print(time.monotonic()-t)\n"
)


@dataclass
class LinkReport:
    """What shaped the link: method, remarks, how late rate changes came, measured over ideal."""

    method: str
    notes: list[str] = field(default_factory=list)
    rate_changes: int = 0
    worst_lateness_s: float = 0.0
    calibration: float | None = None


class ShapedLink(Protocol):
    """Where processes run and connect; `start` begins the trace, `report` says what was done."""

    edge_host: str
    edge_prefix: Sequence[str]
    device_prefix: Sequence[str]

    def target(self, edge_port: int) -> tuple[str, int]:
        """Where the device connects to reach an edge that listens on `edge_port`."""

    def start(self, begin_s: float) -> None:
        """Let the trace's time 0 be `begin_s` of the monotonic clock."""

    def report(self) -> LinkReport:
        """What was applied and seen."""


class UserSpaceLink:
    """A relay in this process; device and edge are ordinary processes on loopback."""

    edge_host = "127.0.0.1"

    def __init__(self, ways: Ways, rtt_s: float, notes: Sequence[str]) -> None:
        self.edge_prefix: Sequence[str] = ()
        self.device_prefix: Sequence[str] = ()
        self._ways, self._rtt_s = ways, rtt_s
        self._report = LinkReport("relay", list(notes))
        self._relay: Relay | None = None

    def target(self, edge_port: int) -> tuple[str, int]:
        """The relay's own address."""
        up, down = self._ways
        self._relay = Relay((self.edge_host, edge_port), up, self._rtt_s, down=down)
        return self._relay.host, self._relay.port

    def start(self, begin_s: float) -> None:
        """Begin the trace."""
        assert self._relay is not None
        self._relay.start_at(begin_s)

    def report(self) -> LinkReport:
        """What was done."""
        return self._report

    def close(self) -> None:
        """Drop the relay."""
        if self._relay is not None:
            self._relay.close()


class TcLink:
    """Two namespaces, tc on both ends of the veth; a delay relay where the kernel lacks netem."""

    def __init__(self, ways: Ways, rtt_s: float, pair: NamespacePair) -> None:
        self._ways, self._rtt_s, self._pair = ways, rtt_s, pair
        self.edge_host = pair.edge_address
        self.edge_prefix: Sequence[str] = ("ip", "netns", "exec", pair.edge)
        self.device_prefix: Sequence[str] = ("ip", "netns", "exec", pair.device)
        self._shapers = [
            TcShaper(pair.device, pair.device_interface),
            TcShaper(pair.edge, pair.edge_interface),
        ]
        carried = pair.rtt_s > 0
        applied = [s.set_up(CALIBRATION_BPS, 0.0 if carried else rtt_s) for s in self._shapers]
        self._delayed = carried or all(a.delay for a in applied)
        notes = [n for a in applied[:1] for n in a.notes]
        if carried:
            notes.append("this kernel has no netem: packets are delayed by a process between")
        self._report = LinkReport(f"tc ({applied[0].by})", notes)
        self._stopped = threading.Event()
        self._relay: subprocess.Popen[Any] | None = None
        try:
            self._calibrate()
        except BaseException:
            self.close()
            raise

    def _calibrate(self) -> None:
        """A measured transfer before the link is trusted; a link that stays far off is refused.

        A busy machine makes one transfer slow, so it is tried again.
        """
        for shaper in self._shapers:
            shaper.change(CALIBRATION_BPS)
        ideal = 8.0 * CALIBRATION_BYTES / CALIBRATION_BPS
        low, high = CALIBRATION_BOUNDS
        for _ in range(CALIBRATIONS):
            taken_s = self._transfer_s() - (self._rtt_s if self._delayed else 0.0)
            self._report.calibration = taken_s / ideal
            if low <= self._report.calibration <= high:
                return
        raise TestbedError(
            f"calibration: found {self._report.calibration:.2f} x the ideal time of "
            f"{CALIBRATION_BYTES} bytes at {CALIBRATION_BPS / 1e6:g} Mbit/s, expected "
            f"{low} to {high} in one of {CALIBRATIONS} transfers"
        )

    def _transfer_s(self) -> float:
        """Seconds of `CALIBRATION_BYTES` from the device to the edge."""
        size = str(CALIBRATION_BYTES)
        sink = processes.start(
            [*self.edge_prefix, sys.executable, "-P", "-c", _SINK, self.edge_host, size],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert sink.stdout is not None
            port = sink.stdout.readline().strip()
            source = [sys.executable, "-P", "-c", _SOURCE, self.edge_host, port, size]
            done = processes.run([*self.device_prefix, *source], timeout_s=CALIBRATION_LIMIT_S)
            done.check_returncode()
            return float(done.stdout)
        except (subprocess.SubprocessError, ValueError) as error:
            raise TestbedError(f"calibration of the shaped link failed: {error}") from None
        finally:
            processes.end([sink], grace_s=0.0)

    def target(self, edge_port: int) -> tuple[str, int]:
        """The edge itself, or the delay relay in the edge's namespace."""
        if self._delayed or self._rtt_s <= 0:
            return self.edge_host, edge_port
        relay = processes.module_command(
            "experiments.replay.testbed.delay", self.edge_host, str(edge_port), str(self._rtt_s)
        )
        self._relay = processes.start(
            [*self.edge_prefix, *relay], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert self._relay.stdout is not None
        ready = json.loads(self._relay.stdout.readline() or "{}")
        if "port" not in ready:
            raise TestbedError("delay relay: found no port, expected it to listen")
        self._report.notes.append("the round trip is added by a relay at the edge")
        return self.edge_host, int(ready["port"])

    def start(self, begin_s: float) -> None:
        """Follow the trace on both ends."""
        for shaper, trace in zip(self._shapers, self._ways, strict=True):
            threading.Thread(
                target=shaper.follow, args=(trace, begin_s, self._stopped), daemon=True
            ).start()

    def report(self) -> LinkReport:
        """What was applied."""
        self._report.rate_changes = self._shapers[0].changes
        self._report.worst_lateness_s = max(s.worst_lateness_s for s in self._shapers)
        for shaper in self._shapers:
            if shaper.failure is not None:
                raise TestbedError(f"{shaper.failure}: what was measured is not of this trace")
        return self._report

    def close(self) -> None:
        """Stop following; end the relay."""
        self._stopped.set()
        with shielded():
            self._close()

    def _close(self) -> None:
        for shaper in self._shapers:
            complaint = shaper.close()
            if complaint:
                self._report.notes.append(f"tc: {complaint.splitlines()[0]}")
        if self._relay is not None:
            processes.end([self._relay], grace_s=0.0)


class CellShapedLink:
    """Two namespaces without names, and a process that carries packets by the trace."""

    edge_host = LINK_HOST

    def __init__(self, carried: Carried) -> None:
        self._carried = carried
        self.edge_prefix: Sequence[str] = carried.outside()
        self.device_prefix: Sequence[str] = carried.inside()

    def target(self, edge_port: int) -> tuple[str, int]:
        """The edge itself."""
        return self.edge_host, edge_port

    def start(self, begin_s: float) -> None:
        """Begin the traces."""
        self._carried.begin(begin_s)

    def report(self) -> LinkReport:
        """What was done."""
        said = self._carried.report()
        link = self._carried.link
        queue = " and ".join(f"{link.queue_of(t):,}" for t in (link.up, link.down or link.up))
        notes = [f"queues of {queue} bytes, TCP by {self._carried.ready.congestion_control}"]
        dropped = said.up.dropped + said.down.dropped
        if dropped:
            notes.append(f"{dropped} packets found their queue full")
        worst_s = max(said.up.worst_lateness_s, said.down.worst_lateness_s)
        return LinkReport("cell", notes, worst_lateness_s=worst_s)


@contextlib.contextmanager
def open_link(
    trace: BandwidthTrace,
    rtt_s: float,
    method: str = "auto",
    *,
    down: BandwidthTrace | None = None,
) -> Iterator[ShapedLink]:
    """A link that will follow `trace` with a round trip of `rtt_s`; removed at the end.

    `down` is what it carries down, where that is another trace.

    `method` is one of `METHODS`, or of their `ALIASES`; 'auto' takes the first of cell, tc and
    relay that can be had, and says in the report why not those before it.
    """
    method = ALIASES.get(method, method)
    if method not in METHODS:
        raise UsageError(f"shaping method: found '{method}', expected one of {', '.join(METHODS)}")
    ways = trace, down or trace
    tried = METHODS[1:] if method == "auto" else (method,)
    notes: list[str] = []
    with contextlib.ExitStack() as stack:
        link: ShapedLink | None = None
        for one in tried:
            try:
                if one == "cell":
                    link = _by_cell(ways, rtt_s, stack)
                elif one == "tc":
                    link = _by_tc(ways, rtt_s, stack)
                else:
                    made = UserSpaceLink(ways, rtt_s, [*notes, "shaped by a user-space relay"])
                    link = stack.enter_context(contextlib.closing(made))
                break
            except (CellError, TestbedError, OSError, subprocess.SubprocessError) as error:
                # root in a container may have neither namespaces nor HTB
                if method != "auto":
                    raise
                stack.close()
                notes.append(f"no link by {one} here ({error})")
        assert link is not None
        yield link


def _by_cell(ways: Ways, rtt_s: float, stack: contextlib.ExitStack) -> CellShapedLink:
    asked = CellLink(*ways, rtt_s, past_end="stop")
    return CellShapedLink(stack.enter_context(Carried(asked)))


def _by_tc(ways: Ways, rtt_s: float, stack: contextlib.ExitStack) -> TcLink:
    lacking = missing_tools()
    if lacking:
        raise TestbedError(f"shaping by tc: found no {' and no '.join(lacking)}, expected both")
    remove_orphans()
    carried = rtt_s > 0 and not has_netem() and can_carry()
    pair = stack.enter_context(NamespacePair(rtt_s=rtt_s if carried else 0.0))
    return stack.enter_context(contextlib.closing(TcLink(ways, rtt_s, pair)))


def wait_for_file(path: Path, process: subprocess.Popen[Any], timeout_s: float) -> str:
    """The text of a file another process writes; an error where that process ends first."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if path.exists() and (text := path.read_text().strip()):
            return text
        if process.poll() is not None:
            raise TestbedError(f"{process.args!r} ended with {process.returncode} at start")
        threading.Event().wait(0.02)
    raise TestbedError(f"'{path}': found nothing after {timeout_s:g} s, expected it written")
