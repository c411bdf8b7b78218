"""Two network namespaces joined by a veth pair, made and removed by us. Needs root and iproute2."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType

from artefacts import CoinferError

PREFIX = "coinfer-"


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
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        detail = (done.stderr or done.stdout).strip().splitlines()
        raise TestbedError(f"'{' '.join(argv)}': {detail[-1] if detail else 'failed'}")
    return done.stdout


class NamespacePair:
    """A context: namespaces `device` and `edge`, 10.200.N.1 and 10.200.N.2, one veth between."""

    def __init__(self, number: int | None = None) -> None:
        number = os.getpid() if number is None else number
        tag = f"{number}"  # the owner's process id: seven digits at most, so interfaces' names fit
        self.device, self.edge = f"{PREFIX}{tag}d", f"{PREFIX}{tag}e"
        self.device_interface, self.edge_interface = f"cd{tag}", f"ce{tag}"
        subnet = f"10.200.{number % 250 + 1}"
        self.device_address, self.edge_address = f"{subnet}.1", f"{subnet}.2"

    def __enter__(self) -> NamespacePair:
        """Make both ends and bring them up."""
        try:
            for name in (self.device, self.edge):
                run(["ip", "netns", "add", name])
                run(["ip", "-n", name, "link", "set", "lo", "up"])
            ends = (
                (self.device, self.device_interface, self.device_address),
                (self.edge, self.edge_interface, self.edge_address),
            )
            run(["ip", "link", "add", ends[0][1], "type", "veth", "peer", "name", ends[1][1]])
            for name, interface, address in ends:
                run(["ip", "link", "set", interface, "netns", name])
                run(["ip", "-n", name, "addr", "add", f"{address}/30", "dev", interface])
                # one packet at a time, or the shaper lets the first tens of kilobytes through
                run(["ip", "-n", name, "link", "set", interface, "gso_max_segs", "1",
                     "gso_max_size", "1514"])  # fmt: skip
                run(["ip", "-n", name, "link", "set", interface, "up"])
        except BaseException:
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
        self.remove()

    def remove(self) -> None:
        """Remove what exists of the pair."""
        for name in (self.device, self.edge):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(
            ["ip", "link", "del", self.device_interface], capture_output=True, check=False
        )


def remove_stale() -> list[str]:
    """Remove namespaces of runs that were killed (their process is gone); gives their names."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    removed = []
    for line in listed.stdout.splitlines():
        name = line.split()[0] if line.split() else ""
        owner = name.removeprefix(PREFIX)[:-1]
        if name.startswith(PREFIX) and owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            run(["ip", "netns", "del", name])
            removed.append(name)
    return removed
