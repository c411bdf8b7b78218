"""Which addresses may be used without encryption."""

from __future__ import annotations

import ipaddress

from artefacts import UsageError

TEST_NETWORK = ipaddress.ip_network("10.200.0.0/16")


def check_address(host: str) -> None:
    """Refuse addresses that plain TCP may not use: all but loopback and the test namespaces."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise UsageError(f"address: found '{host}', expected an IP address") from None
    inside = address.version == 4 and address in TEST_NETWORK
    if not (address.is_loopback or inside):
        raise UsageError(
            f"address: found {host}, expected loopback or {TEST_NETWORK} (a test namespace): "
            "there is no encryption yet, so nothing else may be served"
        )
