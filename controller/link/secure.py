"""TLS 1.3 for the link between device and edge, and the token that may stand for a certificate.

OpenSSL's object must not be read and written by two threads at once; the device's link does both.
So records are made and taken apart in memory under a lock, and the socket itself stays plain.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import math
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, overload

import msgspec

from artefacts import ArtefactError, UsageError, read_bytes

RECORD_BYTES = 16384
READ_BYTES = 65536
PEM_BYTES = 2**20
"""Of a file of certificates or of a key."""
TOKEN_BYTES = (16, 1024)
"""A token file's bytes, at least and at most: in a greeting there is room for no more."""


class TlsFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one end's credentials are ('': none).

    Both ends name the `authority` they believe. The edge has a certificate; a device has one of
    its own, or the `token` (a file) that the edge knows too.
    """

    authority: str = ""
    """Certificate of the authority that is believed (ca.pem)."""
    certificate: str = ""
    """This end's own certificate."""
    key: str = ""
    """Its key: a path, or 'credential:NAME' of systemd."""
    token: str = ""
    """File of the shared token, or 'credential:NAME'."""

    @property
    def given(self) -> bool:
        """Whether TLS is spoken at all."""
        return bool(self.authority or self.certificate or self.key or self.token)


@dataclass(frozen=True)
class Security:
    """One end's side of TLS, and the token's digest where one is used."""

    context: ssl.SSLContext
    token: bytes | None = None

    def knows(self, token: object) -> bool:
        """Whether a device's token is the edge's, in a time that does not depend on it."""
        if self.token is None:
            return True
        given = hashlib.sha256(token.encode() if isinstance(token, str) else b"").digest()
        return hmac.compare_digest(given, hashlib.sha256(self.token).digest())


def server_security(files: TlsFiles) -> Security:
    """The edge's: devices show a certificate of the authority, or where a token is set, that."""
    _need(files.certificate, "tls.certificate")
    _need(files.key, "tls.key")
    if bool(files.authority) == bool(files.token):
        found = "both" if files.token else "neither"
        raise UsageError(
            f"tls: found {found} of 'authority' and 'token', expected one: it says who is believed"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # a session that is taken up again would outlive the certificate that it began with
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    _load_chain(context, files)
    token = read_token(files.token) if files.token else None
    if token is None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authority(context, files.authority)
    return Security(context, token)


def client_security(files: TlsFiles) -> Security:
    """A device's: the edge shows a certificate of the authority for the name it is called by."""
    _need(files.authority, "tls.authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False  # RFC 9525: names are alternative names
    _load_authority(context, files.authority)
    if files.certificate:
        _need(files.key, "tls.key")
        _load_chain(context, files)
    return Security(context, read_token(files.token) if files.token else None)


def why_not_believed(edge: Security, files: TlsFiles) -> str | None:
    """Why devices with the edge's own authority would not believe its certificate.

    None where they would, or where the edge names no authority. Shakes hands in memory.
    """
    if not files.authority:
        return None
    device = client_security(TlsFiles(authority=files.authority)).context
    device.check_hostname = False  # by which name it is called, only a device knows
    to_edge, to_device = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        device.wrap_bio(to_device, to_edge),
        edge.context.wrap_bio(to_edge, to_device, server_side=True),
    )
    try:
        for end in (*ends, ends[0]):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    except ssl.SSLError as error:
        return _said(error)
    return None


def read_token(path: str | Path) -> bytes:
    """A shared token from its file, white space around it removed."""
    found = read_bytes(path, PEM_BYTES).strip()
    least, most = TOKEN_BYTES
    if not least <= len(found) <= most or not all(32 <= byte < 127 for byte in found):
        raise ArtefactError(
            path,
            found=f"{len(found)} bytes",
            expected=f"a token of {least} to {most} ASCII bytes that can be printed",
        )
    return found


def believed_until_s(certificate: Mapping[str, Any] | None, context: ssl.SSLContext) -> float:
    """When the other end's certificate ends, or that of the authority which signed it, in seconds
    of the wall clock; inf where it showed none.
    """
    if not certificate:
        return math.inf
    ends_s = ssl.cert_time_to_seconds(certificate["notAfter"])
    signers = [
        ssl.cert_time_to_seconds(str(one["notAfter"]))
        for one in context.get_ca_certs()
        if one["subject"] == certificate["issuer"]
    ]
    return min(ends_s, max(signers, default=ends_s))


def _need(value: str, name: str) -> None:
    if not value:
        raise UsageError(f"{name}: found none, expected a file")


def _load_chain(context: ssl.SSLContext, files: TlsFiles) -> None:
    for path in (files.certificate, files.key):
        check_pem(path, "a PEM file")
    try:
        # without an answer OpenSSL would ask for it at a terminal
        context.load_cert_chain(files.certificate, files.key, lambda: _no_passphrase(files.key))
    except (OSError, ssl.SSLError) as error:
        raise ArtefactError(
            files.certificate, found=_said(error), expected=f"a certificate for '{files.key}'"
        ) from None


def _no_passphrase(path: str) -> NoReturn:
    raise ArtefactError(path, found="an encrypted key", expected="one without a passphrase")


def _load_authority(context: ssl.SSLContext, path: str) -> None:
    check_pem(path, "an authority's PEM")
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        raise ArtefactError(path, found=_said(error), expected="an authority's PEM") from None


def check_pem(path: str | Path, expected: str) -> None:
    """Refuse what OpenSSL would wait for, or read without end: it is given a path alone."""
    read_bytes(path, PEM_BYTES, expected)


def _said(error: OSError) -> str:
    return str(error.strerror or getattr(error, "reason", None) or error)


class SecureSocket:
    """A connected socket behind TLS, for one thread that sends and one that receives."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        """Shake hands (the socket's timeout holds for every step)."""
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        self._lock, self._writing = threading.Lock(), threading.Lock()
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._receive_more()
        self._flush()
        self.believed_until_s = believed_until_s(self._tls.getpeercert(), context)
        """When the other end's certificate ends (the wall clock)."""

    def fileno(self) -> int:
        """Of the socket underneath (-1: closed)."""
        return self._sock.fileno()

    def settimeout(self, seconds: float | None) -> None:
        """Of the socket underneath."""
        self._sock.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Of the socket underneath."""
        self._sock.setsockopt(level, option, value)

    @overload
    def getsockopt(self, level: int, option: int) -> int: ...

    @overload
    def getsockopt(self, level: int, option: int, size: int) -> bytes: ...

    def getsockopt(self, level: int, option: int, size: int | None = None) -> int | bytes:
        """Of the socket underneath."""
        if size is None:
            return self._sock.getsockopt(level, option)
        return self._sock.getsockopt(level, option, size)

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def send(self, data: bytes | memoryview) -> int:
        """Send one record's worth; bytes of `data` that are on their way.

        A record is whole or the connection is lost: a part of one cannot be taken back.
        """
        with self._writing:
            with self._lock:
                written = self._tls.write(data[:RECORD_BYTES])
                record = memoryview(self._out.read())
            while record:
                try:
                    record = record[self._sock.send(record) :]
                except TimeoutError:
                    if self._sock.fileno() < 0:
                        raise
        return written

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; b'' at the end of the stream."""
        while True:
            with self._lock:
                try:
                    return self._tls.read(size)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return b""
            if not self._receive_more():
                return b""

    def shutdown(self, how: int) -> None:
        """Of the socket underneath: whoever blocks on it is woken."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _receive_more(self) -> bool:
        data = self._sock.recv(READ_BYTES)
        with self._lock:
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()
        return bool(data)

    def _flush(self) -> None:
        with self._writing:
            with self._lock:
                waiting = self._out.read()
            if waiting:
                self._sock.sendall(waiting)
