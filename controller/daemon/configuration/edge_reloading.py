"""What an edge's reload prepares, and what of it may be taken over while requests are served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from artefacts import ArtefactError, digest_bytes, digest_file
from controller.daemon.configuration.settings import (
    EDGE_RELOADED,
    EdgeSettings,
    changed,
    naming,
    read_edge_settings,
)
from controller.link.secure import Security, TlsFiles, server_security, why_not_believed

FIXED_LIMITS = ("intervals", "intervals_bytes")
"""Of the limits those that executors are made with."""


@dataclass(frozen=True, slots=True)
class PreparedEdge:
    """What `edge.toml` asks for; its certificates and its token are read."""

    settings: EdgeSettings
    security: Security | None
    credentials: str = ""
    """Of what the files of `[tls]` hold (`credentials_of`)."""


def prepare_edge(path: Path, *, own_authority: bool = True) -> PreparedEdge:
    """Read the file and those that `[tls]` names. Raises `CoinferError`.

    `own_authority`: the certificate must be an edge's, of the authority that the edge itself names.
    """
    found = read_edge_settings(path)
    with naming(path):
        # read before they are loaded: what is written meanwhile counts at the next reload
        credentials = credentials_of(found.tls)
        security = edge_security(found)
        why = None if security is None else why_not_believed(security, found.tls)
        if why is not None and own_authority:
            raise ArtefactError(
                found.tls.certificate, found=why,
                expected=f"an edge's certificate by '{found.tls.authority}' (coinfer certs edge)",
            )  # fmt: skip
        return PreparedEdge(found, security, credentials)


def credentials_of(files: TlsFiles) -> str:
    """SHA-256 of what the files hold; '' for none, or where one is not there."""
    named = [name for name in (files.authority, files.certificate, files.key, files.token) if name]
    if not named or not all(Path(name).is_file() for name in named):
        return ""
    return digest_bytes(" ".join(digest_file(name) for name in named).encode())


def edge_security(settings: EdgeSettings) -> Security | None:
    """What `[tls]` names; None where it names nothing."""
    return server_security(settings.tls) if settings.tls.given else None


def has_own_authority(settings: EdgeSettings, security: Security | None) -> bool:
    """Whether the authority that the edge names has made its certificate.

    Where it has not from the start, the next one need not be of that authority either.
    """
    return security is None or why_not_believed(security, settings.tls) is None


@dataclass(frozen=True, slots=True)
class EdgeChanges:
    """What comes of a reload: the settings that hold then, what they take, what needs a restart."""

    settings: EdgeSettings
    taken: tuple[str, ...]
    fixed: tuple[str, ...]


def edge_changes(old: EdgeSettings, new: EdgeSettings, *, renewed: bool = False) -> EdgeChanges:
    """What may be taken over of `new` in the place of `old`.

    Where TLS is spoken its files may say something else under the same names: `renewed`. Whether
    it is spoken at all counts at the start alone.
    """
    fixed = changed(old, new, (n for n in EdgeSettings.__struct_fields__ if n not in EDGE_RELOADED))
    holding = {name: getattr(new, name) for name in EDGE_RELOADED}
    kept = {name: getattr(old.limits, name) for name in FIXED_LIMITS}
    fixed += [f"limits.{n}" for n, value in kept.items() if getattr(new.limits, n) != value]
    holding["limits"] = msgspec.structs.replace(new.limits, **kept)
    if new.tls.given != old.tls.given:
        fixed.append("tls")
        holding["tls"] = old.tls
    settings = msgspec.structs.replace(old, **holding)
    taken = changed(old, settings, (name for name in EDGE_RELOADED if name != "tls"))
    if new.tls.given and old.tls.given and (renewed or new.tls != old.tls):
        taken.append("tls")
    return EdgeChanges(settings, tuple(taken), tuple(fixed))
