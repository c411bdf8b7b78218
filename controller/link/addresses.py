"""Addresses: read, written, resolved; and which of them may be used without encryption."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import re
import socket
import struct
from pathlib import Path

from artefacts import UsageError
from artefacts.owners import owner_of

TEST_NETWORK = ipaddress.ip_network("10.200.0.0/16")
"""Of the testbed, inside its namespaces; elsewhere it is a network like others."""
LINK_HOST, LINK_INSIDE = "100.64.0.1", "100.64.0.2"
"""The ends of a link whose packets a process of this machine carries (`coinfer link`)."""
LINK_INTERFACE = "cell0"
"""Of either end, in a namespace that has no other way out."""
NAMESPACES = Path("/run/netns")
"""Where iproute2 keeps the names of network namespaces; only root may give one."""
SIOCGIFFLAGS, IFF_UP = 0x8913, 0x1
ADDRESS_FORM = "HOST:PORT or [IPV6]:PORT"
Address = tuple[str, int]
"""(host, port); an IPv6 host without brackets."""
Resolved = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]
"""A socket's family and what it connects to or binds."""

_WRITTEN = re.compile(r"(?:\[(?P<six>[^\[\]]*)\]|(?P<host>[^:\[\]\s]+)):(?P<port>[0-9]{1,5})", re.A)


def split_address(text: str, *, least_port: int = 1) -> Address:
    """(host, port) of 'HOST:PORT' or '[IPv6]:PORT'; a `UsageError` for anything else."""
    match = _WRITTEN.fullmatch(text)
    fits = match is not None and least_port <= int(match["port"]) <= 65535
    if match is not None and match["six"] is not None:
        fits = fits and _version(match["six"]) == 6
    if match is None or not fits:
        raise UsageError(f"found '{text}', expected {ADDRESS_FORM}")
    return match["six"] or match["host"], int(match["port"])


def join_address(host: str, port: int | str) -> str:
    """HOST:PORT, an IPv6 host in brackets (RFC 3986)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_host(host: str) -> str:
    """A host as people write it: an IPv4 address that an IPv6 socket shows is one of IPv4."""
    try:
        mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None)
    except ValueError:
        return host
    return host if mapped is None else str(mapped)


def network_of(host: str) -> str:
    """What one subscriber has: an IPv4 address, or the /64 of an IPv6 one (RFC 6177)."""
    plain = plain_host(host)
    try:
        address = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return plain
    if address.version == 4 or address.is_link_local or address.is_loopback:
        return plain
    return str(ipaddress.ip_network((address, 64), strict=False))


def server_name(host: str) -> str:
    """What a certificate is held against: the host, less the zone that only this machine knows."""
    return host.partition("%")[0]


def resolve(host: str, port: int, *, listens: bool = False) -> list[Resolved]:
    """Every address of a host, as the system orders them; an `OSError` where there is none."""
    flags = socket.AI_PASSIVE if listens else 0
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError:  # what can be no name at all
        raise OSError(errno.EINVAL, f"'{host}' is no host's name") from None
    kept = [(family, where) for family, _, _, _, where in found if isinstance(where[0], str)]
    return list(dict.fromkeys(kept))


def check_address(host: str, *, secure: bool = False) -> None:
    """Refuse addresses that plain TCP may not use: all but loopback, inside a namespace that the
    testbed has made that one's, and behind a link of ours its ends.

    With TLS (`secure`) any address or name will do.
    """
    if secure:
        if not host:
            raise UsageError("address: found none, expected an IP address or a name")
        return
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else plain_host(host))
    except ValueError:
        raise UsageError(
            f"address: found '{host}', expected an IP address (names are for TLS)"
        ) from None
    tested = address.version == 4 and address in TEST_NETWORK and in_test_namespace()
    linked = str(address) in (LINK_HOST, LINK_INSIDE) and in_link_namespace()
    if not (address.is_loopback or tested or linked):
        raise UsageError(
            f"address: found {host}, expected loopback: without TLS nothing else is served or "
            "asked ([tls] in the file, or insecure = true for an edge that anybody may ask)"
        )


def in_test_namespace() -> bool:
    """Whether this thread is in a network namespace that has a name of the testbed's."""
    try:
        own = os.stat("/proc/thread-self/ns/net")
        named = [path for path in NAMESPACES.iterdir() if owner_of(path.name) is not None]
        return any(os.path.samestat(own, path.stat()) for path in named)
    except OSError:
        return False


def in_link_namespace() -> bool:
    """Whether nothing leaves this thread's network namespace but through a link of ours."""
    names = [name for _, name in socket.if_nameindex()]
    return LINK_INTERFACE in names and {n for n in names if _is_up(n)} <= {"lo", LINK_INTERFACE}


def _is_up(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            flags = fcntl.ioctl(asked, SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
        except OSError:
            return False  # it has gone meanwhile
    return bool(struct.unpack_from("H", flags, 16)[0] & IFF_UP)


def _version(host: str) -> int | None:
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None
