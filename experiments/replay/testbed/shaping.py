"""tc on one interface: set up by tcset where it can, read back always, changed at every rate step.

`tcset` exits 0 also where the kernel lacks netem and the delay was not applied; so what it left is
read back from tc itself, and what is missing is named.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artefacts import processes
from experiments.replay.testbed.namespaces import COMMAND_LIMIT_S, TestbedError, run
from traces.trace import BandwidthTrace

PACKET_BYTES = 1514
CLOSING_S = 5.0
LEAST_BPS = 16_000.0
"""HTB knows no rate of 0, and charges a packet at the rate of its moment, for good: at 1 kbit/s one
of 1,500 bytes would hold the link for 12 s, whatever rate comes next; so it is 0.75 s."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What tc says is in force: whether rate and delay are, who set it, and remarks."""

    rate: bool
    delay: bool
    by: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TcClass:
    """One HTB class: its id, its parent, its rate in bit/s."""

    handle: str
    parent: str
    rate_bps: float


_CLASS = re.compile(
    r"class htb (?P<handle>\S+) (?:root|parent (?P<parent>\S+)).*?"
    r" rate (?P<rate>[\d.]+)(?P<unit>\w+)"
)
_UNITS = {"bit": 1.0, "Kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}


def parse_classes(text: str) -> list[TcClass]:
    """HTB classes from `tc class show`."""
    found = []
    for match in _CLASS.finditer(text):
        handle = match["handle"]
        parent = match["parent"] or handle.split(":")[0] + ":"
        rate = float(match["rate"]) * _UNITS.get(match["unit"], 0.0)
        found.append(TcClass(handle, parent, rate))
    return found


def tcset_path() -> str | None:
    """Tcset beside this interpreter or on the path."""
    beside = Path(sys.executable).with_name("tcset")
    return str(beside) if beside.exists() else shutil.which("tcset")


class TcShaper:
    """Shapes what leaves `interface` of `namespace`."""

    def __init__(self, namespace: str, interface: str) -> None:
        self._inside = ["ip", "netns", "exec", namespace]
        self._interface = interface
        self._batch: subprocess.Popen[Any] | None = None
        self._parent, self._class = "1:", "1:10"
        self.changes = 0
        self.worst_lateness_s = 0.0
        self.failure: str | None = None

    def set_up(self, rate_bps: float, rtt_s: float) -> Applied:
        """Shape to a rate, and delay by half the round trip where the kernel can."""
        notes: list[str] = []
        delay_s = rtt_s / 2.0
        if self._by_tcset(rate_bps, delay_s, notes):
            return Applied(True, delay_s > 0, "tcset", tuple(notes))
        self._by_tc(rate_bps)
        if delay_s > 0:
            notes.append(f"tc delays nothing here: {1000 * delay_s:g} ms each way are left to us")
        return Applied(True, False, "tc", tuple(notes))

    def _by_tcset(self, rate_bps: float, delay_s: float, notes: list[str]) -> bool:
        """Try tcset and read back; False where it did not do all that was asked."""
        tcset = tcset_path()
        if tcset is None:
            notes.append("tcset is not installed (extra 'replay'): tc is used directly")
            return False
        command = [*self._inside, tcset, self._interface, "--rate", f"{rate_bps / 1000:.0f}kbps"]
        if delay_s > 0:
            command += ["--delay", f"{1000 * delay_s:.3f}ms"]
        done = processes.run(command, timeout_s=COMMAND_LIMIT_S)
        classes, kinds = self.classes(), self.qdisc_kinds()
        wanted = [c for c in classes if abs(c.rate_bps - rate_bps) < 0.02 * rate_bps]
        has_delay = "netem" in kinds
        if done.returncode == 0 and wanted and (has_delay or delay_s == 0):
            self._class, self._parent = wanted[-1].handle, wanted[-1].parent
            return True
        left_out = [
            n for n, there in (("rate", wanted), ("delay", has_delay or not delay_s)) if not there
        ]
        notes.append(
            f"tcset exited {done.returncode} but tc shows no {' and no '.join(left_out) or 'error'}"
            f" (qdiscs: {', '.join(kinds) or 'none'}): tc is used directly"
        )
        return False

    def _by_tc(self, rate_bps: float) -> None:
        device = ["dev", self._interface]
        with contextlib.suppress(TestbedError):  # there may be none
            run([*self._inside, "tc", "qdisc", "del", *device, "root"])
        run([*self._inside, "tc", "qdisc", "add", *device, "root", "handle", "1:", "htb",
             "default", "10"])  # fmt: skip
        self._parent, self._class = "1:", "1:10"
        run([*self._inside, "tc", *self._change("add", rate_bps).split()])
        if not self.classes():
            raise TestbedError(
                f"tc on {self._interface}: found no HTB class after setting one, expected 1:10"
            )

    def classes(self) -> list[TcClass]:
        """HTB classes in force, as tc reports them (in text: not every tc knows JSON here)."""
        text = run([*self._inside, "tc", "class", "show", "dev", self._interface])
        return parse_classes(text)

    def qdisc_kinds(self) -> list[str]:
        """Kinds of queueing in force."""
        text = run([*self._inside, "tc", "-j", "qdisc", "show", "dev", self._interface])
        return [str(q.get("kind")) for q in (json.loads(text) if text.strip() else [])]

    def change(self, rate_bps: float) -> None:
        """Set another rate through one tc that is kept open."""
        if self._batch is None:
            self._batch = processes.start(
                [*self._inside, "tc", "-force", "-batch", "-"],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        assert self._batch.stdin is not None
        self._batch.stdin.write(self._change("change", rate_bps) + "\n")
        self._batch.stdin.flush()
        self.changes += 1

    def _change(self, verb: str, rate_bps: float) -> str:
        rate = max(rate_bps, LEAST_BPS)
        burst = max(PACKET_BYTES, round(rate / 8 * 0.001))
        return (
            f"class {verb} dev {self._interface} parent {self._parent} classid {self._class} "
            f"htb rate {rate:.0f}bit ceil {rate:.0f}bit burst {burst} cburst {burst}"
        )

    def follow(
        self,
        trace: BandwidthTrace,
        begin_s: float,
        stopped: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Apply every rate of the trace at its time; returns at its end or when `stopped`.

        `trace` begins at `begin_s` of the `clock`, in seconds.
        """
        for at_s, rate in zip(trace.times_s, trace.rates_bps, strict=True):
            if stopped.wait(max(begin_s + float(at_s) - clock(), 0.0)):
                return
            try:
                self.change(float(rate))
            except OSError as error:
                # the link would keep its last rate: the run must not be trusted
                self.failure = f"tc ended at {float(at_s):.1f} s of the trace ({error})"
                return
            self.worst_lateness_s = max(self.worst_lateness_s, clock() - begin_s - float(at_s))

    def close(self) -> str:
        """End the tc that was kept open; gives what it complained of."""
        if self._batch is None:
            return ""
        batch, self._batch = self._batch, None
        try:
            _, errors = batch.communicate(timeout=CLOSING_S)
        except subprocess.TimeoutExpired:
            errors = "it did not end with its input"
        finally:
            processes.end([batch], grace_s=0.0)
        return str(errors).strip()
