"""How exactly a cell link follows its trace, and what it costs.

Three figures of every rate. Datagrams are sent a fifth faster than the link carries, and what
arrives in every second of the trace is held against its integral. Transfers of 100 KB on a warm TCP
connection are held against the arithmetic: bytes and headers over the rate, and the round trip.
Processor time is that of the process that carries the packets, under the datagrams.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from artefacts import processes
from artefacts.endings import orderly
from controller.link.addresses import LINK_HOST
from experiments.replay.cell.carried import Carried, CellLink
from experiments.replay.cell.kernel import CellError
from traces.trace import BandwidthTrace

RATES_BPS = (1e5, 3e5, 1e6, 3e6, 10e6, 30e6)
MOVING = (10e6, 0.5e6, 30e6, 2e6, 0.1e6, 5e6)
"""Of the last row: a rate every 0.7 s, so that rates change within the seconds."""
MOVING_S = 0.7
RTT_S = 0.04
QUEUE_S = 0.5
SIZE_BYTES, WARMUP = 100_000, 3
MEASURED_S, MOST_TRANSFERS, LEAST_TRANSFERS = 6.0, 20, 3
SEGMENT_BYTES, TCP_IP_BYTES, UDP_IP_BYTES = 1448, 52, 28
MOST_BYTES, LEAST_BYTES, SHARE = 1472, 64, 0.005
"""Of a datagram: a small share of a second's bytes, or a percent of a second could not be seen."""
EXCESS, AHEAD_S, TURN_S = 1.2, 0.03, 0.004
BEGIN_AFTER_S = 0.2
SETTLED = 1
"""Seconds until the queue is never empty."""


class CellRow(msgspec.Struct, frozen=True):
    """One rate; `rate_bps` None is the moving one, which has no transfers.

    `off` is by how much of the integral the bytes of each second were off, `cpu_share` of a core.
    """

    rate_bps: float | None
    seconds: int
    off: tuple[float, ...]
    cpu_share: float
    transfers: int
    transfer_s: float | None
    arithmetic_s: float | None
    lateness_s: float

    @property
    def worst_off(self) -> float:
        """Of the worst second."""
        return max(self.off)

    @property
    def of_arithmetic(self) -> float | None:
        """The median transfer over the arithmetic."""
        if self.transfer_s is None or self.arithmetic_s is None:
            return None
        return self.transfer_s / self.arithmetic_s


class CellFigures(msgspec.Struct, frozen=True):
    """All rates, and TCP's congestion control."""

    congestion_control: str
    rtt_s: float
    rows: tuple[CellRow, ...]


def cell_figures(
    seconds: int, rates_bps: Sequence[float] = RATES_BPS, done: Callable[[], None] = lambda: None
) -> CellFigures:
    """All rates, one after another, and the moving one."""
    rows = []
    control = ""
    with orderly():
        for rate_bps in (*rates_bps, None):
            trace = _trace(rate_bps, seconds)
            off, cpu_share, lateness_s, control = _datagrams(trace, seconds)
            taken = [] if rate_bps is None else _transfers(trace, rate_bps)
            rows.append(
                CellRow(
                    rate_bps, seconds, tuple(off), cpu_share, len(taken),
                    float(np.median(taken)) if taken else None,
                    arithmetic_s(rate_bps) if rate_bps else None, lateness_s,
                )
            )  # fmt: skip
            done()
    return CellFigures(control, RTT_S, tuple(rows))


def arithmetic_s(rate_bps: float, size_bytes: int = SIZE_BYTES) -> float:
    """Seconds of a transfer: bytes with headers over the rate, the round trip, a byte's answer."""
    sent = size_bytes + TCP_IP_BYTES * -(-size_bytes // SEGMENT_BYTES)
    return 8.0 * (sent + TCP_IP_BYTES + 1) / rate_bps + RTT_S


def _trace(rate_bps: float | None, seconds: int) -> BandwidthTrace:
    if rate_bps is not None:
        return BandwidthTrace.from_intervals("constant", [3600.0], [rate_bps])
    pieces = int(seconds / MOVING_S) + 10
    rates = [MOVING[k % len(MOVING)] for k in range(pieces)]
    return BandwidthTrace.from_intervals("moving", [MOVING_S] * pieces, rates)


def _datagrams(trace: BandwidthTrace, seconds: int) -> tuple[list[float], float, float, str]:
    """How much each second is off, the share of a core, the worst lateness, and TCP's control."""
    with Carried(CellLink(trace, rtt_s=RTT_S, queue_s=QUEUE_S)) as carried:
        sink = _start(carried.outside(), "sink", seconds)
        source = _start(
            carried.inside(), "source", seconds, _line(sink),
            json.dumps([trace.times_s.tolist(), trace.rates_bps.tolist(), trace.duration_s]),
        )  # fmt: skip
        _line(source)  # it is ready
        begin_s = time.monotonic() + BEGIN_AFTER_S
        carried.begin(begin_s)
        for process in (sink, source):
            print(begin_s, file=process.stdin, flush=True)
        time.sleep(max(begin_s + SETTLED - time.monotonic(), 0.0))
        before, at_s = carried.report(), time.monotonic()
        delivered = json.loads(_line(sink))
        after, then_s = carried.report(), time.monotonic()
        processes.end([source, sink], grace_s=0.0)
        control = carried.ready.congestion_control
    edges = SETTLED + np.arange(seconds + 1.0)
    due = trace.bytes_between(edges[:-1], edges[1:], "wrap")
    off = np.abs(np.array(delivered) / due - 1.0)
    late_s = after.up.worst_lateness_s
    return off.tolist(), (after.cpu_s - before.cpu_s) / (then_s - at_s), late_s, control


def _transfers(trace: BandwidthTrace, rate_bps: float) -> list[float]:
    count = round(MEASURED_S / arithmetic_s(rate_bps))
    count = min(max(count, LEAST_TRANSFERS), MOST_TRANSFERS)
    with Carried(CellLink(trace, rtt_s=RTT_S, queue_s=QUEUE_S)) as carried:
        carried.begin(time.monotonic())
        server = _start(carried.outside(), "server")
        client = _start(carried.inside(), "client", _line(server), count)
        taken: list[float] = json.loads(_line(client))
        processes.end([client, server], grace_s=0.0)
    return taken


def _start(prefix: Sequence[str], *arguments: object) -> subprocess.Popen[Any]:
    command = processes.module_command("experiments.benches.cell", *map(str, arguments))
    return processes.start(
        [*prefix, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _line(process: subprocess.Popen[Any]) -> str:
    assert process.stdout is not None
    line: str = process.stdout.readline().strip()
    if not line:
        raise CellError("bench of the link: found a process that said nothing, expected a line")
    return line


def sink(seconds: int) -> None:
    """Count what arrives in every second of the trace, base delay aside; print the counts."""
    counts = [0] * (SETTLED + seconds + 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        heard.bind((LINK_HOST, 0))
        print(heard.getsockname()[1], flush=True)
        first_s = float(sys.stdin.readline()) + RTT_S / 2.0
        second = 0
        while second < SETTLED + seconds:
            size = len(heard.recv(2048))
            second = int(time.monotonic() - first_s)
            if 0 <= second < len(counts):
                counts[second] += size + UDP_IP_BYTES
    print(json.dumps(counts[SETTLED:-1]), flush=True)


def source(seconds: int, port: int, spelled: str) -> None:
    """Send a fifth more than the trace lets pass, a little ahead of it."""
    times, rates, duration_s = json.loads(spelled)
    trace = BandwidthTrace("sent", np.array(times), np.array(rates), duration_s)
    grid = np.arange(0.0, SETTLED + seconds + 1.0, TURN_S)
    wanted = EXCESS * trace.bytes_between(0.0, grid + AHEAD_S, "wrap")
    pieces = np.searchsorted(trace.times_s, (grid + AHEAD_S) % duration_s, side="right") - 1
    sizes = np.clip(SHARE * trace.rates_bps[pieces] / 8.0, LEAST_BYTES, MOST_BYTES).astype(int)
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect((LINK_HOST, port))
        print("ready", flush=True)
        begin_s = float(sys.stdin.readline())
        for at_s, size, goal in zip(grid, sizes.tolist(), wanted.tolist(), strict=True):
            time.sleep(max(begin_s + float(at_s) - AHEAD_S - time.monotonic(), 0.0))
            while sent < goal:
                out.send(bytes(size))
                sent += size + UDP_IP_BYTES


def server() -> None:
    """Answer every `SIZE_BYTES` with a byte."""
    with socket.create_server((LINK_HOST, 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        peer, _ = listener.accept()
        count = 0
        while data := peer.recv(1 << 20):
            count += len(data)
            if count >= SIZE_BYTES:
                count -= SIZE_BYTES
                peer.sendall(b"k")


def client(port: int, count: int) -> None:
    """Transfers on one connection; print the seconds of those after the first few."""
    taken = []
    with socket.create_connection((LINK_HOST, port)) as out:
        out.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(WARMUP + count):
            begun_s = time.perf_counter()
            out.sendall(bytes(SIZE_BYTES))
            out.recv(1)
            taken.append(time.perf_counter() - begun_s)
    print(json.dumps(taken[WARMUP:]), flush=True)


def main() -> None:
    """One of the processes at the link's ends."""
    what, *given = sys.argv[1:]
    if what == "sink":
        sink(int(given[0]))
    elif what == "source":
        source(int(given[0]), int(given[1]), given[2])
    elif what == "server":
        server()
    else:
        client(int(given[0]), int(given[1]))


if __name__ == "__main__":
    main()
