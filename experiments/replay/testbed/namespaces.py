"""Two network namespaces and a link between them, made and removed by us: a veth pair, or one that
delays packets where the kernel has no netem. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from artefacts import CoinferError, processes
from artefacts.endings import orderly, shielded
from artefacts.owners import is_orphan, this_process

NAMED = Path("/run/netns")
"""Where iproute2 keeps the names of namespaces."""
CLONE_NEWNET = 0x40000000
COMMAND_LIMIT_S = 30.0
_numbers = itertools.count()


class TestbedError(CoinferError):
    """The testbed could not be set up as asked."""

    __test__ = False


def missing_tools() -> tuple[str, ...]:
    """What namespaces with tc need and this machine or user lacks; empty where all is there."""
    lacking = [tool for tool in ("ip", "tc") if shutil.which(tool) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    return tuple(lacking)


def run(argv: Sequence[str]) -> str:
    """Run a command; its output, or a `TestbedError` with what it printed."""
    try:
        done = processes.run(argv, timeout_s=COMMAND_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TestbedError(f"'{' '.join(argv)}': {error}") from None
    if done.returncode != 0:
        detail = (done.stderr or done.stdout).strip().splitlines()
        raise TestbedError(f"'{' '.join(argv)}': {detail[-1] if detail else 'failed'}")
    return done.stdout


def has_netem() -> bool:
    """Whether the kernel can delay packets by itself (tried in a namespace of its own)."""
    name = this_process().name(f"netem{next(_numbers)}")
    try:
        run(["ip", "netns", "add", name])
        run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "lo", "root", "netem",
             "delay", "1ms"])  # fmt: skip
    except TestbedError:
        return False
    finally:
        _remove(name)
    return True


def _remove(namespace: str) -> None:
    """Remove a namespace that may not be there."""
    with shielded(), contextlib.suppress(TestbedError):
        run(["ip", "netns", "del", namespace])


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let the sockets, interfaces and children of this thread belong to a namespace meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path: str) -> None:
        with open(path, "rb") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                raise TestbedError(f"namespace '{path}': {os.strerror(code)}")

    own = f"/proc/self/task/{threading.get_native_id()}/ns/net"
    with open(own, "rb") as before:
        enter(f"/run/netns/{namespace}")
        try:
            yield
        finally:
            libc.setns(before.fileno(), CLONE_NEWNET)


def can_carry() -> bool:
    """Whether packets can be carried, and delayed, by a process of ours."""
    return os.access("/dev/net/tun", os.R_OK | os.W_OK)


class NamespacePair:
    """A context: namespaces `device` and `edge`, 10.200.N.1 and 10.200.N.2, one link between.

    With `rtt_s` above 0 a process of ours carries the packets, each half of it late. SIGTERM and
    SIGHUP unwind the context (`orderly`).
    """

    def __init__(self, rtt_s: float = 0.0) -> None:
        self.rtt_s = rtt_s
        self._signals = contextlib.ExitStack()
        self._carrier: subprocess.Popen[Any] | None = None
        number = next(_numbers)
        self.device = this_process().name(f"device{number}")
        self.edge = this_process().name(f"edge{number}")
        self.device_interface, self.edge_interface = "device0", "edge0"
        subnet = f"10.200.{(os.getpid() + number) % 250 + 1}"
        self.device_address, self.edge_address = f"{subnet}.1", f"{subnet}.2"

    def __enter__(self) -> NamespacePair:
        """Make both ends and bring them up."""
        self._signals.enter_context(orderly())
        try:
            for name in (self.device, self.edge):
                run(["ip", "netns", "add", name])
                run(["ip", "-n", name, "link", "set", "lo", "up"])
            ends = (
                (self.device, self.device_interface, self.device_address),
                (self.edge, self.edge_interface, self.edge_address),
            )
            if self.rtt_s > 0:
                self._carry()
            else:
                # each end is made where it belongs: outside, one could be left behind
                run(["ip", "link", "add", self.device_interface, "netns", self.device, "type",
                     "veth", "peer", "name", self.edge_interface, "netns", self.edge])  # fmt: skip
            for (name, interface, address), (_, _, peer) in zip(ends, ends[::-1], strict=True):
                # one packet at a time, or the shaper lets the first tens of kilobytes through
                run(["ip", "-n", name, "link", "set", interface, "gso_max_segs", "1",
                     "gso_max_size", "1514"])  # fmt: skip
                run(["ip", "-n", name, "addr", "add", address, "peer", f"{peer}/32", "dev",
                     interface])  # fmt: skip
                run(["ip", "-n", name, "link", "set", interface, "up"])
        except BaseException:
            with self._signals:
                self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove both; their ends of the veth go with them."""
        with self._signals:
            self.remove()

    def _carry(self) -> None:
        """Begin the process that carries packets, and wait for its interfaces."""
        command = processes.module_command(
            "experiments.replay.testbed.packets", self.device, self.device_interface, self.edge,
            self.edge_interface, str(self.rtt_s),
        )  # fmt: skip
        self._carrier = processes.start(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._carrier.stdout is not None
        ready = False
        with contextlib.suppress(json.JSONDecodeError):
            ready = json.loads(self._carrier.stdout.readline() or "{}").get("ready", False)
        if not ready:
            _, errors = self._carrier.communicate(timeout=5)
            last = errors.strip().splitlines()[-1:] or ["no word of why"]
            raise TestbedError(f"delayed link: found {last[0]}, expected two TUN interfaces")

    def remove(self) -> None:
        """Remove what exists of the pair."""
        with shielded():
            if self._carrier is not None:
                processes.end([self._carrier], grace_s=0.0)
            for name in (self.device, self.edge):
                _remove(name)


def remove_orphans() -> list[str]:
    """Remove namespaces whose process has ended, with whatever runs in them; gives their names."""
    removed = []
    for name in sorted(os.listdir(NAMED)) if NAMED.is_dir() else []:
        if is_orphan(name):
            with contextlib.suppress(TestbedError):  # another run may be at the same
                _kill_inside(name)
                run(["ip", "netns", "del", name])
                removed.append(name)
    return removed


def _kill_inside(namespace: str) -> None:
    for pid in run(["ip", "netns", "pids", namespace]).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
