"""Attacks from the machine itself: files that hang or take long, logs that nobody reads."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

from experiments.robustness.attacks.case import Case, Target
from experiments.robustness.attacks.runner import READER

PAUSE_S = 0.3
DOTTED_BYTES, LINE_BYTES = 40_000, 8_000


def _rewritten(target: Target, line: str, *, more: str = "") -> None:
    """Reload `device.toml` with another `controller` line again and again; then as it was."""
    path = target.folder / "device.toml"
    usual = path.read_text()
    changed = usual.replace('controller = "edge-only"', line) + more
    until = time.monotonic() + target.seconds
    try:
        while time.monotonic() < until:
            _put(path, changed)
            os.kill(target.device_pid, signal.SIGHUP)
            time.sleep(PAUSE_S)
    finally:
        _put(path, usual)
        os.kill(target.device_pid, signal.SIGHUP)


def _put(path: Path, text: str) -> None:
    fresh = path.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.rename(path)


def pipe_for_a_policy(target: Target) -> None:
    """A reload whose policy is a pipe into which nobody writes."""
    folder = target.folder / "piped"
    folder.mkdir(exist_ok=True)
    if not (folder / "policy.json").exists():
        os.mkfifo(folder / "policy.json")
    _rewritten(target, 'controller = "learned"\npolicy = "piped"')


def pipe_for_a_map(target: Target) -> None:
    """A reload whose map is a pipe into which nobody writes."""
    path = target.folder / "piped-map.json"
    if not path.exists():
        os.mkfifo(path)
    _rewritten(target, f'controller = "map"\nmap = "{path.name}"')


def deep_key(target: Target) -> None:
    """A reload of a file with one key of 40 KB, every second byte of it a dot."""
    _rewritten(
        target, 'controller = "edge-only"', more="\n" + "a." * (DOTTED_BYTES // 2) + "b = 1\n"
    )


def reloads(target: Target) -> None:
    """One reload behind another, each of which reads a policy."""
    _rewritten(target, 'controller = "learned"')


def deaf_log(target: Target) -> None:
    """Whoever reads the daemon's log stands still, and long lines are to be written."""
    reader = int((target.folder / READER).read_text())
    os.kill(reader, signal.SIGSTOP)
    try:
        _rewritten(target, f'controller = "{"x" * LINE_BYTES}"')
    finally:
        os.kill(reader, signal.SIGCONT)


def bad_requests(target: Target) -> None:
    """What is no HTTP, and what no request may ask, on a connection each."""
    until = time.monotonic() + target.seconds
    asked = (b"\x16\x03\x01" * 50, b"GET /" + b"x" * 9000, b"POST /infer HTTP/1.1\r\n\r\n")
    while time.monotonic() < until:
        for text in asked:
            with contextlib.suppress(OSError), socket.create_connection(target.device_http, 1) as s:
                s.sendall(text)
        time.sleep(0.01)


CASES = (
    Case(
        "pipe-for-a-policy", "a reload whose policy is a pipe that nobody writes", pipe_for_a_policy
    ),
    Case("pipe-for-a-map", "a reload whose map is a pipe that nobody writes", pipe_for_a_map),
    Case("deep-key", "a reload of a file with one dotted key of 40 KB", deep_key),
    Case("deaf-log", "whoever reads the daemon's log stands still", deaf_log),
    Case("bad-requests", "requests that are none, on a connection each", bad_requests),
    Case("reloads", "reloads that read a policy, without end", reloads),
)
