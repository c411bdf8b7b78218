"""Telling systemd how we are (sd_notify(3)): ready, alive, reloading, stopping."""

from __future__ import annotations

import os
import socket
import time

PATIENCE_S = 0.05
"""A manager that reads nothing must not hold up frames."""


def notify(state: str) -> bool:
    """Send one message, as `READY=1`; False where nobody listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE_S)
            sock.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def notify_reloading() -> bool:
    """A reload has begun (READY=1 ends it); systemd wants the moment with it."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval_s() -> float | None:
    """How often systemd wants to hear WATCHDOG=1 (half of its limit); None where it does not."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(limit) / 2e6 if mine and limit.isdecimal() and int(limit) > 0 else None
