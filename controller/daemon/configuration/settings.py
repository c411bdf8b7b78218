"""`device.toml` and `edge.toml`: every setting of the daemons, with defaults and bounds."""

from __future__ import annotations

import contextlib
import os
import stat
import urllib.parse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from artefacts import ArtefactError, UsageError, check_name, read_toml
from controller.daemon.configuration.next_nodes import NextSettings, check_next
from controller.daemon.http.browsers import check_hosts
from controller.daemon.monitoring.tracing import TracingSettings
from controller.daemon.records.entries import RecordSettings, record_bounds
from controller.device.link_monitor import ProbeSettings
from controller.edge.limits import EdgeLimits
from controller.edge.scheduler import SchedulerArgs
from controller.link.addresses import ADDRESS_FORM, split_address
from controller.link.secure import TlsFiles

FORMAT_VERSION = 1
RELOADED = ("controller", "policy", "map", "prices", "probes", "limits", "records", "log")
"""What SIGHUP, or a change of the file, takes over while frames are under way."""
EDGE_RELOADED = ("limits", "schedule", "tls", "log")
"""The same of an edge: new connections begin with it."""
MOST_THREADS = 1024
CREDENTIAL, CREDENTIALS_FOLDER = "credential:", "CREDENTIALS_DIRECTORY"
"""`key = "credential:NAME"` is what `LoadCredential=NAME:...` of the unit has loaded."""
MOST_SECONDS, MOST_COUNT = 86_400, 2**40
"""What a duration, and anything that is counted, may be: waiting functions take no more."""
NO_PORT = -1
"""Nothing listens over TCP: the socket's mode alone decides who may ask."""


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the local interface listens. It has no authentication: loopback or a Unix socket."""

    host: str = "127.0.0.1"
    """Address it listens on."""
    port: int = 8700
    """0 takes any free port; it is said in the log. -1: none, with `socket`."""
    socket: str = ""
    """Path of a Unix socket beside it ('': none)."""
    hosts: tuple[str, ...] = ()
    """Names, without a port, under which it may be asked for beside loopback's and `host`."""


class GrpcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the same is served over gRPC (extra `grpc`). No authentication either: loopback."""

    port: int
    """0 takes any free port; it is said in the log."""
    host: str = "127.0.0.1"
    """Address it listens on."""


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds, checked before anything is allocated."""

    live_frames: int = 16
    """Frames under way at once; one more is refused with 503."""
    body_bytes: int = 8_388_608
    """Of one HTTP request."""
    bodies_bytes: int = 33_554_432
    """Of all HTTP requests that are being read or decoded; one more byte is refused with 503."""
    body_s: float = 10.0
    """That reading one may take."""
    connections: int = 128
    """Open at once over HTTP; of more one that has no request under way gives way. A quarter as
    many beside them over gRPC."""
    head_s: float = 10.0
    """From a connection, or a request's first byte, to its whole head."""
    idle_s: float = 300.0
    """Between two requests on one connection."""
    stalled_s: float = 10.0
    """How long a client may take nothing of its answer."""
    pixels: int = 12_500_000
    """Of one JPEG before it is scaled to the network's input: a camera of 4056 x 3040 fits."""
    decoding_pixels: int = 16_000_000
    """Of all JPEG files that are decoded at once; others wait. One alone is always decoded."""
    decode_s: float = 2.0
    """That decoding one may take."""
    longest_deadline_s: float = 60.0
    """That a request may ask for."""


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard error, which systemd hands to the journal."""

    form: Literal["text", "json"] = "text"
    """'text': lines for people; 'json': one object a line."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written."""


DEFAULT_CONTROLLER = "robust"
"""On real links it keeps more frames in time than the policy (docs/results/real-links.md)."""


class PriceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device second and a megabyte cost now, in correct answers (null: the scenario's)."""

    device_second: float | None = None
    """Of a second of the device's processor."""
    megabyte: float | None = None
    """Of a megabyte that crosses the link."""


class DeviceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`device.toml`. Relative paths are seen from its folder."""

    format_version: int
    scenario: str
    """A shipped scenario's name or a .toml file: network, device profile, plans, deadline."""
    edges: tuple[str, ...] = ()
    """HOST:PORT of edges; of those that answer the one of least round trip serves. None: the device
    answers alone."""
    controller: str = DEFAULT_CONTROLLER
    """Name of a controller that a device can run (`coinfer controllers`)."""
    policy: str = ""
    """Folder of the learned policy ('': `policy` beside the scenario's file, or the shipped one).
    The controller 'robust' takes its belief from there; without a policy the belief is counted on
    the scenario's traces."""
    map: str = ""
    """File of the configuration map, for the controller 'map'."""
    prices: PriceSettings = PriceSettings()
    """In the place of the scenario's. Where the scenario's file names no prices and this one does
    at the start, hedged plans are among those decided on, and policies are those of such prices."""
    executor: Literal["onnx", "onnx-int8"] = "onnx"
    """What computes layers: float32, or int8."""
    state: str = ""
    """File of counters that outlive a restart ('': none)."""
    tls: TlsFiles = TlsFiles()
    """How the edges are spoken to; without it they must be on loopback."""
    probes: ProbeSettings = ProbeSettings()
    """When the link is asked although no frame needs it."""
    http: HttpSettings = HttpSettings()
    """Where programs ask."""
    grpc: GrpcSettings | None = None
    """None: not served."""
    limits: LimitSettings = LimitSettings()
    """What programs may ask for."""
    tracing: TracingSettings = TracingSettings()
    """Where spans of frames go."""
    records: RecordSettings | None = None
    """None: nothing is kept."""
    log: LogSettings = LogSettings()
    """How it is written."""


def read_settings(path: Path) -> DeviceSettings:
    """Read and check `device.toml`; paths in it become absolute."""
    found = read_toml(path, DeviceSettings, version=FORMAT_VERSION)
    limits = found.limits
    for field, value, least, most in (
        ("http.port", found.http.port, NO_PORT, 65535),
        ("grpc.port", found.grpc.port if found.grpc else 0, 0, 65535),
        ("limits.live_frames", limits.live_frames, 1, 10_000),
        ("limits.body_bytes", limits.body_bytes, 1024, 2**30),
        ("limits.bodies_bytes", limits.bodies_bytes, 1024, 2**32),
        ("limits.body_s", limits.body_s, 0.1, 3600.0),
        ("limits.connections", limits.connections, 4, 10_000),
        ("limits.head_s", limits.head_s, 0.1, 3600.0),
        ("limits.idle_s", limits.idle_s, 0.1, 3600.0),
        ("limits.stalled_s", limits.stalled_s, 0.1, 3600.0),
        ("limits.pixels", limits.pixels, 64, 10**9),
        ("limits.decoding_pixels", limits.decoding_pixels, 64, 10**9),
        ("limits.decode_s", limits.decode_s, 0.01, 3600.0),
        ("limits.longest_deadline_s", limits.longest_deadline_s, 0.001, 3600.0),
        ("probes.bytes_per_minute", found.probes.bytes_per_minute, 0, 10**9),
        ("probes.bytes_each", found.probes.bytes_each, 1, 65536),
        ("probes.blind_s", found.probes.blind_s, 0.1, 3600.0),
        *record_bounds(found.records),
    ):
        if not least <= value <= most:
            raise ArtefactError(
                path, field=field, found=shown(value), expected=f"{least:g} to {most:g}"
            )
    if found.http.port == NO_PORT and not found.http.socket:
        raise ArtefactError(
            path, field="http.port", found=f"{NO_PORT} (none) and no http.socket",
            expected="a port, or a socket",
        )  # fmt: skip
    check_tracing(path, found.tracing)
    try:
        check_hosts(found.http.hosts)
    except UsageError as error:
        raise ArtefactError(
            path,
            field="http.hosts",
            found=f"{error}"[6:].partition(",")[0],
            expected="names or addresses without a port",
        ) from None
    for number, edge in enumerate(found.edges):
        parse_edge(edge, path, f"edges[{number}]")
    changed: dict[str, Any] = {
        name: str(_from(path, getattr(found, name)))
        for name in ("policy", "map", "state")
        if getattr(found, name)
    }
    if found.http.socket:
        there = str(_from(path, found.http.socket))
        changed["http"] = msgspec.structs.replace(found.http, socket=there)
    if found.records is not None:
        folder = str(_from(path, found.records.folder))
        changed["records"] = msgspec.structs.replace(found.records, folder=folder)
    changed["tls"] = absolute_tls(path, found.tls)
    if found.scenario.endswith(".toml"):
        changed["scenario"] = str(_from(path, found.scenario))
    return msgspec.structs.replace(found, **changed)


def changed(old: msgspec.Struct, new: msgspec.Struct, names: Iterable[str]) -> list[str]:
    """Of these fields those that differ."""
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def shown(value: float) -> str:
    """A number in a message, however long it is."""
    try:
        return f"{value:g}"
    except OverflowError:  # a whole number that no float can be
        return f"a number of {len(str(abs(value)))} digits"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a mistake in what a file asks for name that file too."""
    try:
        yield
    except ArtefactError:
        raise  # of another file, which it names
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def check_tracing(path: Path, found: TracingSettings) -> None:
    """Refuse an address that spans cannot be sent to, and a share that is none."""
    if not 0.0 <= found.share <= 1.0:
        raise ArtefactError(
            path, field="tracing.share", found=f"{found.share:g}", expected="0 to 1"
        )
    if not found.endpoint:
        return
    try:
        parts = urllib.parse.urlsplit(found.endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ArtefactError(
            path, field="tracing.endpoint", found=f"'{found.endpoint}'",
            expected="http(s)://HOST[:PORT]/PATH",
        )  # fmt: skip


def absolute_tls(path: Path, files: TlsFiles) -> TlsFiles:
    """Paths seen from the configuration's folder; a credential's where systemd has laid it."""
    named = {name: getattr(files, name) for name in TlsFiles.__struct_fields__}
    return TlsFiles(**{n: _tls_file(path, n, v) if v else "" for n, v in named.items()})


def _tls_file(path: Path, field: str, named: str) -> str:
    if not named.startswith(CREDENTIAL):
        return str(_from(path, named))
    folder, name = os.environ.get(CREDENTIALS_FOLDER, ""), named.removeprefix(CREDENTIAL)
    check_name(path, f"tls.{field}", name)
    if not folder:
        raise ArtefactError(
            path, field=f"tls.{field}", found=f"'{named}' and no {CREDENTIALS_FOLDER}",
            expected="a start by systemd with LoadCredential, or a path",
        )  # fmt: skip
    return str(Path(folder) / name)


def readable_secrets(files: TlsFiles) -> list[str]:
    """A line for the key and the token that others than their owner may read.

    Credentials are systemd's to guard: their folder lets nobody else in.
    """
    found, guarded = [], os.environ.get(CREDENTIALS_FOLDER, "")
    for field, named in (("tls.key", files.key), ("tls.token", files.token)):
        if not named or (guarded and Path(named).parent == Path(guarded)):
            continue
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.stat(named).st_mode)
            who = "everybody" if mode & 0o007 else "its group" if mode & 0o070 else ""
            if who:
                found.append(
                    f"{field}: '{named}' is open to {who} (mode {mode:04o}), expected 0600"
                )
    return found


class EdgeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`edge.toml`. Relative paths are seen from its folder."""

    format_version: int
    models: tuple[str, ...]
    """Shipped names or folders; devices name them by their digests."""
    host: str = "127.0.0.1"
    """Address it listens on; '::' is IPv6 and IPv4."""
    port: int = 7700
    """Port it listens on; 0 takes any free one, which the log names."""
    executor: Literal["onnx", "onnx-int8"] = "onnx"
    """What computes layers: float32, or int8."""
    threads: int = 0
    """Of one computation (0: half of the processors that the process may use)."""
    metrics: str = ""
    """HOST:PORT of Prometheus metrics ('': none). It has no authentication: loopback."""
    insecure: bool = False
    """Listen beyond loopback with neither TLS nor credentials."""
    tls: TlsFiles = TlsFiles()
    """Its certificate, and whose devices it believes."""
    limits: EdgeLimits = EdgeLimits()
    """What devices may take of it."""
    schedule: SchedulerArgs = SchedulerArgs()
    """How requests are put together."""
    next: tuple[NextSettings, ...] = ()
    """The nodes that it may hand work to."""
    tracing: TracingSettings = TracingSettings()
    """Where spans of requests go."""
    log: LogSettings = LogSettings()
    """How it is written."""


def read_edge_settings(path: Path) -> EdgeSettings:
    """Read and check `edge.toml`; paths in it become absolute."""
    found = read_toml(path, EdgeSettings, version=FORMAT_VERSION)
    if not found.models:
        raise ArtefactError(path, field="models", found="none", expected="at least one model")
    if not 0 <= found.port <= 65535:
        raise ArtefactError(path, field="port", found=shown(found.port), expected="0 to 65535")
    check_tracing(path, found.tracing)
    if not 0 <= found.threads <= MOST_THREADS:
        raise ArtefactError(
            path, field="threads", found=shown(found.threads), expected=f"0 to {MOST_THREADS}"
        )
    if found.metrics:
        parse_edge(found.metrics, path, "metrics")
    _check_bounds(path, found)
    check_next(path, found.next)
    further = (msgspec.structs.replace(n, tls=absolute_tls(path, n.tls)) for n in found.next)
    folders = tuple(
        str(_from(path, m)) if "/" in m or _from(path, m).is_dir() else m for m in found.models
    )
    return msgspec.structs.replace(
        found, tls=absolute_tls(path, found.tls), models=folders, next=tuple(further),
        limits=_named(path, found.limits),
    )  # fmt: skip


def _check_bounds(path: Path, found: EdgeSettings) -> None:
    """Refuse limits that are none."""
    for where, part in (("limits", found.limits), ("schedule", found.schedule)):
        for name, value in msgspec.structs.asdict(part).items():
            if value is None:
                continue
            most = MOST_SECONDS if name.endswith("_s") else MOST_COUNT
            if not 0 < value <= most:
                raise ArtefactError(
                    path, field=f"{where}.{name}", found=shown(value),
                    expected=f"more than 0, and at most {most:,}",
                )  # fmt: skip


def _named(path: Path, limits: EdgeLimits) -> EdgeLimits:
    """The limits without earlier names of theirs."""
    if limits.strangers is None:
        return limits
    if limits.newcomers not in (EdgeLimits().newcomers, limits.strangers):
        raise ArtefactError(
            path, field="limits.strangers",
            found=f"{limits.strangers} beside newcomers = {limits.newcomers}",
            expected="newcomers alone: both are names of one bound",
        )  # fmt: skip
    return msgspec.structs.replace(limits, newcomers=limits.strangers, strangers=None)


def parse_edge(text: str, path: Path, field: str) -> tuple[str, int]:
    """(host, port) of 'HOST:PORT' or '[IPV6]:PORT'."""
    try:
        return split_address(text)
    except UsageError:
        raise ArtefactError(path, field=field, found=f"'{text}'", expected=ADDRESS_FORM) from None


def _from(path: Path, named: str) -> Path:
    return (path.parent / named).absolute()
