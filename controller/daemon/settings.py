"""`device.toml`: everything the device daemon is told, with its defaults and bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from artefacts import ArtefactError, read_toml

FORMAT_VERSION = 1
RELOADED = ("controller", "policy", "map", "limits", "log")
"""What SIGHUP, or a change of the file, takes over while frames are under way."""


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the local interface listens. It has no authentication: loopback or a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 8700
    """0 takes any free port; it is said in the log."""
    socket: str = ""
    """Path of a Unix socket beside it ('': none)."""


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds, checked before anything is allocated."""

    live_frames: int = 16
    """Frames under way at once; one more is refused with 503."""
    body_bytes: int = 8_388_608
    """Of one HTTP request."""
    pixels: int = 25_000_000
    """Of one JPEG before it is scaled to the network's input."""
    longest_deadline_s: float = 60.0
    """That a request may ask for."""


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard error, which systemd hands to the journal."""

    form: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class DeviceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`device.toml`. Relative paths are seen from its folder."""

    format_version: int
    scenario: str
    """A shipped scenario's name or a .toml file: network, device profile, plans, deadline."""
    edges: tuple[str, ...] = ()
    """HOST:PORT of edges; of those that answer the one of least round trip serves. None: the device
    answers alone."""
    controller: str = "learned"
    """learned, map, algorithm1-online or device-only."""
    policy: str = ""
    """Folder of the learned policy ('': the shipped one of the scenario)."""
    map: str = ""
    """File of the configuration map, for the controller 'map'."""
    executor: Literal["onnx", "onnx-int8"] = "onnx"
    state: str = ""
    """File of counters that outlive a restart ('': none)."""
    http: HttpSettings = HttpSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()


def read_settings(path: Path) -> DeviceSettings:
    """Read and check `device.toml`; paths in it become absolute."""
    found = read_toml(path, DeviceSettings, version=FORMAT_VERSION)
    limits = found.limits
    for field, value, least, most in (
        ("http.port", found.http.port, 0, 65535),
        ("limits.live_frames", limits.live_frames, 1, 10_000),
        ("limits.body_bytes", limits.body_bytes, 1024, 2**30),
        ("limits.pixels", limits.pixels, 64, 10**9),
        ("limits.longest_deadline_s", limits.longest_deadline_s, 0.001, 3600.0),
    ):
        if not least <= value <= most:
            raise ArtefactError(
                path, field=field, found=f"{value:g}", expected=f"{least:g} to {most:g}"
            )
    for number, edge in enumerate(found.edges):
        parse_edge(edge, path, f"edges[{number}]")
    changed: dict[str, Any] = {
        name: str(_from(path, getattr(found, name)))
        for name in ("policy", "map", "state")
        if getattr(found, name)
    }
    if found.scenario.endswith(".toml"):
        changed["scenario"] = str(_from(path, found.scenario))
    return msgspec.structs.replace(found, **changed)


def parse_edge(text: str, path: Path, field: str) -> tuple[str, int]:
    """(host, port) of 'HOST:PORT'."""
    host, separator, port = text.rpartition(":")
    if not (separator and host and port.isdigit() and 0 < int(port) < 65536):
        raise ArtefactError(path, field=field, found=f"'{text}'", expected="HOST:PORT")
    return host.strip("[]"), int(port)


def _from(path: Path, named: str) -> Path:
    return (path.parent / named).resolve()
