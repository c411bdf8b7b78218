"""Time to answer through the production path on a shaped link: warm, cold and after a silence.

Device and edge are processes in namespaces joined by a link of known rate and delay
(`experiments.replay.testbed`). A warm connection is held against bytes over rate plus the round
trip; a cold one, and one that was silent, against the ramp of `controller.physics`. Needs root and
tc.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from artefacts import processes
from artefacts.endings import orderly
from controller.link.estimate import UPLOAD_CHUNK_BYTES
from controller.physics.links import LinkModel, ramp_s
from controller.wire.messages import HEADER
from experiments.benches.wire import Ask, opened, peer
from experiments.replay.testbed.link import open_link
from experiments.replay.testbed.namespaces import TestbedError, run
from traces.trace import BandwidthTrace

SIZES = (10_000, 100_000)
RATES_BPS = (2e6, 10e6)
RTTS_S = (0.0, 0.04)
WARMUP = 12
SILENCE_S = 1.5
GREETED_S = 0.2
"""After which the greeting and its ping are over."""
SEGMENT_BYTES = 1448
TCP_IP_BYTES, ETHERNET_BYTES = 52, 14
REQUEST_BYTES = 220
"""Of a REQUEST message: header and metadata."""


class ShapedRow(msgspec.Struct, frozen=True):
    """One size on one link: medians of seconds, and what they are held against.

    `ideal_s`: bytes over rate and the round trip. `model_s`: with headers, and TCP's ramp where the
    connection is not warm. `believed_of_rate`: the link's own estimate afterwards over its rate.
    """

    case: str
    rtt_s: float
    rate_bps: float
    size_bytes: int
    measured_s: float
    ideal_s: float
    model_s: float
    believed_of_rate: float

    @property
    def of_ideal(self) -> float:
        """Measured over ideal."""
        return self.measured_s / self.ideal_s

    @property
    def of_model(self) -> float:
        """Measured over the model."""
        return self.measured_s / self.model_s


def shaped_rows(
    repeats: int,
    sizes: Sequence[int] = SIZES,
    rates_bps: Sequence[float] = RATES_BPS,
    rtts_s: Sequence[float] = RTTS_S,
) -> list[ShapedRow]:
    """All cases on all links, one after another.

    `repeats` requests of each of `sizes` bytes, at `rates_bps` in bit/s and `rtts_s` in seconds.
    """
    rows: list[ShapedRow] = []
    for rtt_s in rtts_s:
        for rate_bps in rates_bps:
            found = _on_link(repeats, sizes, rate_bps, rtt_s)
            for size, cases in found.items():
                for case, (seconds, believed) in cases.items():
                    rows.append(_row(case, rtt_s, rate_bps, int(size), seconds, believed))
    return rows


def _row(
    case: str, rtt_s: float, rate_bps: float, size: int, seconds: list[float], believed: float
) -> ShapedRow:
    wire = on_wire_bytes(size, carried=rtt_s > 0)
    window = math.inf if case == "warm" else LinkModel().initial_window_bytes
    return ShapedRow(
        case, rtt_s, rate_bps, size, float(np.median(seconds)),
        8.0 * size / rate_bps + rtt_s, ramp_s(wire, window, rtt_s, rate_bps) + rtt_s,
        believed / rate_bps,
    )  # fmt: skip


def on_wire_bytes(size: int, *, carried: bool) -> float:
    """What tc counts of a request: our headers and TCP's, and Ethernet's where there is one."""
    message = size + REQUEST_BYTES + HEADER.size * math.ceil(size / UPLOAD_CHUNK_BYTES)
    packet = TCP_IP_BYTES + (0 if carried else ETHERNET_BYTES)
    return message + packet * math.ceil(message / SEGMENT_BYTES)


def _on_link(
    repeats: int, sizes: Sequence[int], rate_bps: float, rtt_s: float
) -> dict[str, dict[str, tuple[list[float], float]]]:
    """Of every size the cases' seconds and the estimate, measured by a process on the device."""
    trace = BandwidthTrace.from_intervals("constant", [3600.0], [rate_bps])
    with (
        orderly(),
        open_link(trace, rtt_s, "tc") as link,
        peer("coinfer", sizes, "--host", link.edge_host, prefix=link.edge_prefix) as port,
    ):
        # the ramp of RFC 5681 is that of Reno; what the system prefers may have another
        run([*link.device_prefix, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"])
        link.start(time.monotonic())
        host, port = link.target(port)
        done = processes.run(
            [*link.device_prefix, *processes.module_command(
                "experiments.benches.shaped", host, str(port), str(repeats), *map(str, sizes)
            )]
        )  # fmt: skip
        link.report()
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing said"]
        raise TestbedError(f"device on the shaped link: {last[0]}")
    found: dict[str, dict[str, tuple[list[float], float]]] = json.loads(done.stdout)
    return found


def device(host: str, port: int, repeats: int, sizes: Sequence[int]) -> None:
    """The device's process: prints the seconds of every request.

    The edge is at `host` and `port`; `repeats` requests of each of `sizes` bytes.
    """
    found: dict[str, dict[str, tuple[list[float], float]]] = {}
    for size in sizes:
        cases: dict[str, tuple[list[float], float]] = {}
        cold, believed = [], 0.0
        for _ in range(max(repeats // 5, 3)):
            with opened(host, port, size, None) as (ask, link):
                time.sleep(GREETED_S)
                cold.append(_timed(ask))
                believed = link.rate_bps or 0.0
        cases["cold"] = cold, believed
        with opened(host, port, size, None) as (ask, link):
            for _ in range(WARMUP):
                ask()
            warm = [_timed(ask) for _ in range(repeats)]
            cases["warm"] = warm, link.rate_bps or 0.0
            silent = []
            for _ in range(max(repeats // 5, 3)):
                time.sleep(SILENCE_S)
                silent.append(_timed(ask))
            cases["after silence"] = silent, link.rate_bps or 0.0
        found[str(size)] = cases
    print(json.dumps(found))


def _timed(ask: Ask) -> float:
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun


if __name__ == "__main__":
    device(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(s) for s in sys.argv[4:]])
