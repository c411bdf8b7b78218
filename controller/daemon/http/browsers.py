"""Pages in a browser on the same machine: what they may ask of the local interface.

A page of anybody's can send requests to loopback, and a name that its owner points there lets it
read the answers (DNS rebinding). It can fake neither `Host`, nor `Origin`, nor `Sec-Fetch-Site`
(Fetch Standard; Fetch Metadata Request Headers). Programs that are no browser send none of the last
two. A socket in the file system cannot be reached by a page, and any `Host` will do there.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Sequence

from multidict import MultiMapping

from artefacts import UsageError
from controller.daemon.inference.refusals import ForeignError, UnsupportedError

HOST, ORIGIN, SITE = "Host", "Origin", "Sec-Fetch-Site"
OWN_SITES = ("same-origin", "none")
"""From a page of the daemon's own, or from a person who typed the address."""
JPEG, JSON, RAW = "image/jpeg", "application/json", "application/octet-stream"
UNNAMED = ""
"""The body's first bytes say what it is."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\s]+)(?::[0-9]{1,5})?", re.A)


def check_sender(headers: MultiMapping[str], hosts: Sequence[str], *, on_network: bool) -> None:
    """Refuse what a foreign page may have sent, by `ForeignError`.

    `hosts`: names and addresses, beside loopback's, that the daemon may be asked for.
    `on_network`: whether the request came over TCP.
    """
    asked = headers.getall(HOST, ())
    if on_network:
        for host in asked:
            if not is_own(host_of(host), hosts):
                raise ForeignError(
                    f"{HOST}: found {host[:60]!r}, expected loopback's, or a name in http.hosts"
                )
    for site in headers.getall(SITE, ()):
        if site.lower() not in OWN_SITES:
            raise ForeignError(
                f"{SITE}: found {site[:60]!r}, expected {' or '.join(OWN_SITES)}: pages of other "
                "sites are not served"
            )
    for origin in headers.getall(ORIGIN, ()):
        if not _same_origin(origin, asked):
            raise ForeignError(
                f"{ORIGIN}: found {origin[:60]!r}, expected none, or the daemon's own"
            )


def from_browser(headers: MultiMapping[str]) -> bool:
    """Whether a browser sent it."""
    return bool(headers.getall(ORIGIN, ()) or headers.getall(SITE, ()))


def media_type(headers: MultiMapping[str]) -> str:
    """The media type of a body: `JPEG`, `JSON`, `RAW`, or `UNNAMED`. Raises `UnsupportedError`.

    A page of another site can send none of them unasked. Programs may leave the type out: theirs is
    JSON, which raw bytes may follow (Triton's client), or a JPEG file.
    """
    found = ",".join(headers.getall("Content-Type", ())).partition(";")[0].strip().lower()
    if not found and not from_browser(headers):
        return UNNAMED
    if found in (JPEG, JSON, RAW):
        return found
    raise UnsupportedError(f"Content-Type: found {found[:60]!r}, expected {JPEG}, {JSON} or {RAW}")


def host_of(found: str) -> str:
    """The host of a `Host` header, in lower case, without its port ('': it names none)."""
    match = _HOST.fullmatch(found.strip())
    return match[1].strip("[]").lower().removesuffix(".") if match else ""


def is_own(host: str, hosts: Sequence[str]) -> bool:
    """Whether a host is loopback's or one of `hosts`."""
    if host == "localhost" or host in (name.lower().removesuffix(".") for name in hosts):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_hosts(hosts: Sequence[str]) -> None:
    """Refuse what is no host's name or address by `UsageError`; ports have no place in it."""
    for host in hosts:
        named = f"[{host}]" if ":" in host else host
        match = _HOST.fullmatch(named)
        if match is None or match[0] != match[1] or "*" in host:
            raise UsageError(f"found '{host}', expected a host's name or address without a port")


def _same_origin(origin: str, asked: Sequence[str]) -> bool:
    """Whether a page came from where its request goes: from the same host and port."""
    try:
        parts = urllib.parse.urlsplit(origin)
    except ValueError:
        return False
    named = parts.netloc.lower()
    return parts.scheme in ("http", "https") and named in (host.lower() for host in asked)
