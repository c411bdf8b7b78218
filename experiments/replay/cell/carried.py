"""A link as those who use it see it: a carrier started, begun, asked and ended."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec
import numpy as np

from artefacts import processes
from controller.link.addresses import in_link_namespace
from experiments.replay.cell.kernel import TUN, CellError
from experiments.replay.cell.opportunities import on_grid
from experiments.replay.cell.orders import (
    CarrierOrder,
    DirectionOrder,
    Failed,
    Ready,
    Report,
    Said,
    TraceOrder,
    read_said,
)
from experiments.replay.cell.queueing import queue_bytes
from traces.trace import BandwidthTrace

RESOLVERS = Path("/etc/resolv.conf")
LOOPBACK = re.compile(r"127(\.[0-9]{1,3}){3}", re.ASCII)
ENTER = Path(__file__).resolve().with_name("enter.py")
READY_WITHIN_S, ANSWERED_WITHIN_S = 60.0, 10.0
MESSAGE_BYTES = 65536
DEFAULT_QUEUE_S = 0.3


@dataclass(frozen=True, slots=True)
class CellLink:
    """What a link is like. Without `down` both directions follow `up`.

    `queue_s` or `queue_bytes` bounds each direction's queue; time is turned into bytes by the mean
    rate. `loss` is a share of the packets of each direction.
    """

    up: BandwidthTrace
    down: BandwidthTrace | None = None
    rtt_s: float = 0.0
    queue_s: float = DEFAULT_QUEUE_S
    queue_bytes: int | None = None
    loss: float = 0.0
    seed: int = 0
    past_end: Literal["wrap", "stop"] = "wrap"

    def queue_of(self, trace: BandwidthTrace) -> int:
        """Bytes that the queue of a direction holds."""
        if self.queue_bytes is not None:
            return self.queue_bytes
        return queue_bytes(trace.mean_bps, self.queue_s)

    def order(self, outside: Literal["nothing", "machine", "link"]) -> CarrierOrder:
        """What the carrier is asked for."""
        up, down = (
            None if trace is None else DirectionOrder(_trace_order(trace), self.queue_of(trace))
            for trace in (self.up, self.down)
        )
        assert up is not None
        return CarrierOrder(
            up, down, self.past_end, self.rtt_s / 2.0, self.loss, self.seed, outside,
            () if outside == "nothing" else loopback_resolvers(),
        )  # fmt: skip


def _trace_order(trace: BandwidthTrace) -> TraceOrder:
    """A trace, pieces of equal rate joined: one of packets has a piece for every millisecond."""
    carried = on_grid(trace)
    kept = np.append(True, np.diff(carried.rates_bps) != 0)
    times_s, rates_bps = (
        row[kept].astype("<f8").tobytes() for row in (carried.times_s, carried.rates_bps)
    )
    return TraceOrder(trace.name, times_s, rates_bps, trace.duration_s)


def loopback_resolvers() -> tuple[str, ...]:
    """Name servers of this machine that only itself can reach: as systemd-resolved has them."""
    try:
        lines = [line.split() for line in RESOLVERS.read_text(errors="replace").splitlines()]
    except OSError:
        return ()
    named = {words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"}
    return tuple(sorted(name for name in named if LOOPBACK.fullmatch(name)))


def can_make_links() -> bool:
    """Whether this user may open TUN interfaces."""
    return os.access(TUN, os.R_OK | os.W_OK)


class Carried:
    """A context: the carrier of a link. Everything of it goes with its process."""

    def __init__(self, link: CellLink, *, host: bool = False) -> None:
        """`host`: this process's network lies outside, and is reached by the sockets of
        `Service` messages on `said`; else the outer namespace is the other end.
        """
        if not can_make_links():
            lacking = "no such device" if not os.path.exists(TUN) else "no right to open it"
            raise CellError(f"{TUN}: found {lacking}, expected one that this user may open")
        self.link, self._host = link, host
        self.said, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[Any] | None = None
        self.ready: Ready

    def __enter__(self) -> Carried:
        """Make the link."""
        try:
            self._process = processes.start(
                processes.module_command("experiments.replay.cell.carrier"),
                stdin=subprocess.PIPE, stdout=self._theirs,
            )  # fmt: skip
            self._theirs.close()
            around: Literal["machine", "link"] = "link" if in_link_namespace() else "machine"
            order = self.link.order(around if self._host else "nothing")
            self._ask(msgspec.json.encode(order).decode())
            ready = self._answer(READY_WITHIN_S)
            if isinstance(ready, Failed):
                raise CellError(ready.why)
            assert isinstance(ready, Ready)
            self.ready = ready
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End the carrier; its interfaces and namespaces go with it."""
        if self._process is not None:
            processes.end([self._process], grace_s=0.0)
        self.said.close()
        self._theirs.close()

    @property
    def process(self) -> subprocess.Popen[Any]:
        """The carrier."""
        assert self._process is not None
        return self._process

    def inside(self, *, keep: bool = False) -> list[str]:
        """What stands before a command that runs behind the link (`enter.py`)."""
        kept = ["--keep", str(os.getpid())] if keep else []
        return self._enter(kept, self.ready.inner)

    def outside(self) -> list[str]:
        """What stands before a command that runs at the link's other end."""
        return self._enter([], self.ready.outer)

    def _enter(self, kept: Sequence[str], network: str) -> list[str]:
        return [sys.executable, "-I", "-S", str(ENTER), *kept, self.ready.user, network]

    def begin(self, at_s: float) -> None:
        """Let the traces begin at a moment of the monotonic clock.

        Until then the link is a steady one of each trace's mean rate.
        """
        self._ask(f"begin {at_s!r}")

    def report(self) -> Report:
        """What was carried so far."""
        self._ask("report")
        while not isinstance(found := self._answer(ANSWERED_WITHIN_S), Report):
            pass  # services that nobody answers any more
        return found

    def _ask(self, line: str) -> None:
        stdin = self.process.stdin
        assert stdin is not None
        try:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _answer(self, timeout_s: float) -> Said:
        self.said.settimeout(timeout_s)
        try:
            message = self.said.recv(MESSAGE_BYTES)
        except TimeoutError:
            raise CellError(
                f"link: found no answer within {timeout_s:g} s, expected one of its carrier"
            ) from None
        except ConnectionError:
            message = b""
        if not message:
            raise self._ended()
        return read_said(message)

    def _ended(self) -> CellError:
        return CellError("link: the process that carries its packets has ended")
