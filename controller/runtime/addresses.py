"""Which addresses may be used without encryption."""

from __future__ import annotations

import ipaddress

from artefacts import UsageError

TEST_NETWORK = ipaddress.ip_network("10.200.0.0/16")


def check_address(host: str, *, secure: bool = False) -> None:
    """Refuse addresses that plain TCP may not use: all but loopback and the test namespaces.

    With TLS (`secure`) any address or name will do.
    """
    if secure:
        if not host:
            raise UsageError("address: found none, expected an IP address or a name")
        return
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise UsageError(
            f"address: found '{host}', expected an IP address (names are for TLS)"
        ) from None
    inside = address.version == 4 and address in TEST_NETWORK
    if not (address.is_loopback or inside):
        raise UsageError(
            f"address: found {host}, expected loopback or {TEST_NETWORK} (a test namespace): "
            "without TLS nothing else is served or asked ([tls] in the file, or insecure = true "
            "for an edge that anybody may ask)"
        )
