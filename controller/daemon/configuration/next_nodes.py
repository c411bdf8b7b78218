"""`[[next]]` of `edge.toml`: nodes that an edge may hand work to, and what it trusts them by."""

from __future__ import annotations

from pathlib import Path

import msgspec

from artefacts import ArtefactError, UsageError, check_name
from controller.link.addresses import ADDRESS_FORM, split_address
from controller.link.secure import TlsFiles

MOST_NODES = 16
"""That one edge hands work to: each has a connection for every model."""


class NextSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[next]]`: a node that the edge may hand work to."""

    name: str
    """What plans call it: the node of the scenario's topology."""
    address: str
    """HOST:PORT of its edge."""
    tls: TlsFiles = TlsFiles()
    """Whom this edge believes there, and what it shows: a device's credentials."""


def check_next(path: Path, nodes: tuple[NextSettings, ...]) -> None:
    """Refuse nodes of one name, addresses that are none, and more nodes than are meant."""
    if len(nodes) > MOST_NODES:
        raise ArtefactError(
            path, field="next", found=f"{len(nodes)} nodes", expected=f"at most {MOST_NODES}"
        )
    seen: set[str] = set()
    for number, node in enumerate(nodes):
        check_name(path, f"next[{number}].name", node.name)
        if node.name in seen:
            raise ArtefactError(
                path, field=f"next[{number}].name", found=f"'{node.name}' again",
                expected="a name of its own",
            )  # fmt: skip
        seen.add(node.name)
        try:
            split_address(node.address)
        except UsageError:
            raise ArtefactError(
                path, field=f"next[{number}].address", found=f"'{node.address}'",
                expected=ADDRESS_FORM,
            ) from None  # fmt: skip
