"""The process that is the link: two namespaces, a TUN interface in each, every packet by the trace.

    python -m experiments.replay.cell.carrier

Reads a `CarrierOrder` (JSON, one line) from standard input. Standard output is a socket on which it
answers `Ready`; from then on it carries packets. A line `begin SECONDS` lets the trace begin at
that moment of the monotonic clock, a line `report` is answered with a `Report`. It ends with its
standard input. Interfaces go with this process and the namespaces have no names: nothing is left
behind, however it ends.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from artefacts import CoinferError
from artefacts.endings import orderly
from controller.link.addresses import LINK_HOST, LINK_INSIDE, LINK_INTERFACE
from experiments.replay.cell import kernel
from experiments.replay.cell.orders import (
    CarrierOrder,
    DirectionCounts,
    DirectionOrder,
    Failed,
    Ready,
    Report,
    Said,
)
from experiments.replay.cell.services import Services

if TYPE_CHECKING:
    from experiments.replay.cell.queueing import CellQueue

READ_BYTES = 2048
MOST_READ = 64
"""Packets that are read before those that are due are handed over again."""
LONGEST_WAIT_S = 60.0


class Orders:
    """Lines of standard input, read without waiting."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.ended = False
        self._rest = b""

    def first(self) -> bytes:
        """The first line, waited for."""
        while b"\n" not in self._rest and not self.ended:
            self._read()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def lines(self) -> list[str]:
        """What came since; called where there is something to read."""
        self._read()
        *whole, self._rest = self._rest.split(b"\n")
        return [line.decode() for line in whole]

    def _read(self) -> None:
        data = os.read(self.handle, 1 << 20)
        self.ended = not data
        self._rest += data


class Carrier:
    """Both directions: `ends` are the TUN interfaces inside and outside."""

    def __init__(
        self, ends: tuple[int, int], queues: tuple[CellQueue, CellQueue], services: Services | None
    ) -> None:
        self._inner, self._outer = ends
        self._up, self._down = queues
        self._services = services

    def begin(self, at_s: float) -> None:
        """Let both traces begin."""
        self._up.begin(at_s)
        self._down.begin(at_s)

    def report(self) -> Report:
        """What was carried so far."""
        up, down = (DirectionCounts(**vars(q.counts)) for q in (self._up, self._down))
        return Report(up, down, time.process_time())

    def run(self, orders: Orders, tell: socket.socket) -> None:
        """Carry until the orders end."""
        while True:
            self._hand_over()
            due_s = min(self._up.due_s(), self._down.due_s())
            wait_s = min(max(due_s - time.monotonic(), 0.0), LONGEST_WAIT_S)
            ready, _, _ = select.select([self._inner, self._outer, orders.handle], [], [], wait_s)
            if self._inner in ready:
                _take_in(self._inner, self._up)
            if self._outer in ready:
                _take_in(self._outer, self._down)
            if orders.handle in ready:
                for line in orders.lines():
                    self._obey(line, tell)
                if orders.ended:
                    return

    def _obey(self, line: str, tell: socket.socket) -> None:
        what, _, argument = line.partition(" ")
        if what == "begin":
            self.begin(float(argument))
        elif what == "report":
            say(tell, self.report())

    def _hand_over(self) -> None:
        now_s = time.monotonic()
        for packet in self._up.take(now_s):
            if self._services is not None:
                self._services.open_for(packet)
            _write(self._outer, packet)
        for packet in self._down.take(now_s):
            _write(self._inner, packet)


def _take_in(end: int, queue: CellQueue) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(MOST_READ):
            packet = os.read(end, READ_BYTES)
            if packet[0] >> 4 == 4:  # of IPv6 there is nothing but what the kernel says by itself
                queue.offer(time.monotonic(), packet)


def _write(end: int, packet: bytes) -> None:
    with contextlib.suppress(OSError):  # an interface that is full loses packets, as any link
        os.write(end, packet)


def say(tell: socket.socket, what: Said) -> None:
    """One message to whoever started this process."""
    tell.send(msgspec.json.encode(what))


def _make_ends(resolvers: Sequence[str]) -> tuple[tuple[int, int], Ready]:
    """Both namespaces with their interfaces; this process stays in the outer one."""
    in_user_namespace = kernel.unshare_network()
    inner = kernel.open_tun(LINK_INTERFACE)
    kernel.bring_up("lo")
    kernel.bring_up(LINK_INTERFACE)
    kernel.give_address(LINK_INTERFACE, LINK_INSIDE, LINK_HOST)
    kernel.route_everything(LINK_INTERFACE)
    for address in resolvers:
        kernel.route_loopback(LINK_INTERFACE, address)
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kernel.unshare_network()
    outer = kernel.open_tun(LINK_INTERFACE)
    kernel.bring_up("lo")
    kernel.bring_up(LINK_INTERFACE)
    kernel.give_address(LINK_INTERFACE, LINK_HOST, LINK_INSIDE)
    if resolvers:
        kernel.take_loopback(LINK_INTERFACE)
    own = f"/proc/{os.getpid()}"
    return (inner, outer), Ready(
        f"{own}/ns/user" if in_user_namespace else "",
        f"{own}/fd/{namespace}",
        f"{own}/ns/net",
        Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    )


def _queue(order: DirectionOrder, whole: CarrierOrder, seed: int) -> CellQueue:
    # numpy starts threads, and a process that has any may not enter a user namespace
    import numpy as np

    from experiments.replay.cell.opportunities import Opportunities
    from experiments.replay.cell.queueing import CellQueue
    from traces.trace import BandwidthTrace

    trace = BandwidthTrace(
        order.trace.name, np.frombuffer(order.trace.times_s, "<f8"),
        np.frombuffer(order.trace.rates_bps, "<f8"), order.trace.duration_s,
    )  # fmt: skip
    opportunities = Opportunities(trace, whole.past_end)
    before_bps = trace.mean_bps or math.inf
    return CellQueue(
        opportunities, order.queue_bytes, whole.delay_s, whole.loss, seed, before_bps
    )  # fmt: skip


def main() -> None:
    """Make the link and carry."""
    orders = Orders(sys.stdin.fileno())
    tell = socket.socket(fileno=os.dup(sys.stdout.fileno()))
    try:
        order = msgspec.json.decode(orders.first(), type=CarrierOrder)
        ends, ready = _make_ends(order.resolvers)
        services = None
        if order.outside != "nothing":
            kernel.answer_to_everything()
            services = Services(tell, os.getppid() if order.outside == "machine" else None)
        queues = (
            _queue(order.up, order, 2 * order.seed),
            _queue(order.down or order.up, order, 2 * order.seed + 1),
        )
    except (CoinferError, OSError, msgspec.MsgspecError) as error:
        say(tell, Failed(str(error)))
        return
    kernel.be_punctual()
    say(tell, ready)
    with contextlib.suppress(OSError):  # who asked has ended, or has removed an interface
        Carrier(ends, queues, services).run(orders, tell)


if __name__ == "__main__":
    with orderly():
        main()
