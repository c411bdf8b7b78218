"""`coinfer health`: whether the daemon of a configuration file answers, asked as others ask it.

A device is asked over HTTP whether it is ready. An edge is greeted as a device greets it, over TLS
where it speaks that, and has to answer a ping. What is asked is this machine's own daemon only.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from artefacts import ArtefactError, CoinferError, read_text
from controller.daemon.client import UnixConnection
from controller.daemon.configuration.settings import (
    EdgeSettings,
    naming,
    read_edge_settings,
    read_settings,
)
from controller.link.addresses import join_address
from controller.link.secure import PEM_BYTES, TlsFiles, check_pem, read_token
from controller.wire import Connection, Message, MessageType, RemoteProtocolError, Role
from models.facts.cards import Card, read_card
from models.facts.meaning import meaning_digest

HEALTH = "health"
"""Name of the device's certificate that a health check shows: `health.pem`, `health.key`."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
READ_BYTES = 65536
READY_BYTES = 1000
Stream = socket.socket | ssl.SSLSocket
T = TypeVar("T")


class NotHealthy(CoinferError):
    """The daemon does not answer as it should."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A device's certificate and its key."""

    certificate: Path
    key: Path


def check_device(config: Path, wait_s: float) -> str:
    """Ask the daemon of a `device.toml` whether it is ready; what it said.

    Raises `NotHealthy` where it is not, or does not answer within `wait_s`.
    """
    settings = read_settings(config)
    host, port = settings.http.host, settings.http.port
    connection: http.client.HTTPConnection
    if settings.http.socket:
        where = settings.http.socket
        connection = UnixConnection(where, wait_s)
    elif port:
        where = f"http://{join_address(host, port)}"
        connection = http.client.HTTPConnection(host, port, timeout=wait_s)
    else:
        raise ArtefactError(
            config, field="http.port", found="0 (any free one)",
            expected="a port that can be asked, or http.socket",
        )  # fmt: skip

    def asked() -> tuple[int, bytes]:
        connection.request("GET", "/v2/health/ready")
        response = connection.getresponse()
        return response.status, response.read(READY_BYTES)

    try:
        status, body = _within(wait_s, asked)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotHealthy(f"device: {where}: {_why(error)}") from None
    finally:
        connection.close()
    if status != http.client.OK:
        raise NotHealthy(f"device: {where}: found status {status}, expected 200 (ready)")
    if not _says_ready(body):
        raise NotHealthy(f'device: {where}: found {body[:60]!r}, expected {{"ready": true}}')
    return f"device: {where} is ready"


def _says_ready(body: bytes) -> bool:
    """Whether it is our daemon that answers: others have other words, or none."""
    try:
        return bool(json.loads(body) == {"ready": True})
    except (ValueError, RecursionError):
        return False


def check_edge(config: Path, credential: Credential | None, wait_s: float) -> str:
    """Greet the edge of an `edge.toml`, as a device does, and ping it; what it said.

    Where it asks devices for certificates, `credential` is shown: the default is `health.pem`
    beside the edge's own. Without one the handshake alone is checked, and that is said. Raises
    `NotHealthy` where it does not answer within `wait_s`.
    """
    settings = read_edge_settings(config)
    if not settings.port:
        raise ArtefactError(
            config, field="port", found="0 (any free one)", expected="a port that can be asked"
        )
    host = EVERYWHERE.get(settings.host, settings.host)
    where = join_address(host, settings.port)
    with naming(config):
        card = read_card(settings.models[0])
        security, shown = _client_side(settings, credential)
    token = read_token(settings.tls.token).decode() if settings.tls.token else ""
    greets = security is None or not settings.tls.authority or shown

    def asked() -> None:
        with _connected(host, settings.port, security, settings.tls, wait_s) as stream:
            if greets:
                _greet(stream, card, token, time.monotonic() + wait_s)

    try:
        _within(wait_s, asked)
    except (OSError, RemoteProtocolError) as error:
        raise NotHealthy(f"edge: {where}: {_why(error)}") from None
    if not greets:
        return f"edge: {where} speaks TLS; not greeted: no {HEALTH}.pem to show"
    spoken = "TLS" if security is not None else "no encryption"
    return f"edge: {where} answers ({spoken})"


def _within(wait_s: float, work: Callable[[], T]) -> T:
    """What `work` gives or raises; `TimeoutError` where it takes longer than `wait_s` in all.

    Sockets' times count anew with every byte. A thread that is still at it ends with the process.
    """
    given: list[T] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            given.append(work())
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="health", daemon=True)
    thread.start()
    thread.join(wait_s)
    if raised:
        raise raised[0]
    if not given:
        raise TimeoutError
    return given[0]


def _client_side(
    settings: EdgeSettings, credential: Credential | None
) -> tuple[ssl.SSLContext | None, bool]:
    """TLS that believes exactly the edge's own certificate, and whether it shows one itself."""
    files = settings.tls
    if not files.given:
        return None, False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # it is called by this machine's own address
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    check_pem(files.certificate, "a PEM file")
    try:
        context.load_verify_locations(files.certificate)
    except (OSError, ssl.SSLError) as error:
        raise ArtefactError(files.certificate, found=_why(error), expected="a PEM file") from None
    beside = Path(files.certificate).parent
    usual = Credential(beside / f"{HEALTH}.pem", beside / f"{HEALTH}.key")
    shown = usual if credential is None else credential
    if credential is None and not usual.certificate.exists():
        return context, False
    for path in (shown.certificate, shown.key):
        check_pem(path, "a PEM file")
    try:
        context.load_cert_chain(shown.certificate, shown.key, lambda: _no_passphrase(shown.key))
    except (OSError, ssl.SSLError) as error:
        raise ArtefactError(
            shown.certificate, found=_why(error), expected=f"a certificate for '{shown.key}'"
        ) from None
    return context, True


def _no_passphrase(path: Path) -> NoReturn:
    raise ArtefactError(path, found="an encrypted key", expected="one without a passphrase")


@contextmanager
def _connected(
    host: str, port: int, context: ssl.SSLContext | None, files: TlsFiles, wait_s: float
) -> Iterator[Stream]:
    with socket.create_connection((host, port), wait_s) as plain:
        if context is None:
            yield plain
            return
        with context.wrap_socket(plain) as secure:
            text = read_text(files.certificate, PEM_BYTES)
            own = ssl.PEM_cert_to_DER_cert(_first_certificate(text))
            if secure.getpeercert(binary_form=True) != own:
                raise ssl.SSLError(f"it shows another certificate than '{files.certificate}'")
            yield secure


def _first_certificate(text: str) -> str:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return begin + text.partition(begin)[2].partition(end)[0] + end


def _greet(stream: Stream, card: Card, token: str, until_s: float) -> None:
    """HELLO and WELCOME, PING and PONG."""
    connection = Connection(Role.DEVICE)
    meta = {"model": card.digest, "meaning": meaning_digest(card)}
    meta |= {"token": token} if token else {}
    stream.sendall(connection.send(Message(MessageType.HELLO, meta=meta)))
    _expect(stream, connection, MessageType.WELCOME, until_s)
    stream.sendall(connection.send(Message(MessageType.PING, 1)))
    _expect(stream, connection, MessageType.PONG, until_s)


def _expect(stream: Stream, connection: Connection, kind: MessageType, until_s: float) -> None:
    while (left_s := until_s - time.monotonic()) > 0:
        stream.settimeout(left_s)
        data = stream.recv(READ_BYTES)
        if not data:
            raise ConnectionError("it closed the connection")
        for message in connection.receive(data):
            if message.type is kind:
                return
            if message.type is MessageType.REFUSE:
                raise ConnectionError(str(message.meta.get("reason", "it refused"))[:200])
    raise TimeoutError


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said or type(error).__name__
