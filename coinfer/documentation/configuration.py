"""docs/reference/configuration.md: every key of `device.toml` and `edge.toml`."""

from __future__ import annotations

import msgspec

from coinfer.documentation.markdown import page
from coinfer.documentation.structures import nested, section

INTRODUCTION = """\
Both files are TOML, UTF-8. Every key is checked, and one that is not known is refused. A section
such as `[limits]` may be left out: its keys then have their defaults. Relative paths are seen from
the file's folder. [Installation](installation.md) has both files as examples."""


def configuration_page() -> str:
    """The page."""
    from controller.daemon.configuration.settings import (
        EDGE_RELOADED,
        RELOADED,
        DeviceSettings,
        EdgeSettings,
    )

    reloaded, taken = (", ".join(f"`{k}`" for k in keys) for keys in (RELOADED, EDGE_RELOADED))
    shared: list[type[msgspec.Struct]] = []
    for root in (DeviceSettings, EdgeSettings):
        shared += [kind for kind in nested(root) if kind not in shared]
    return page(
        "Configuration",
        INTRODUCTION,
        section(DeviceSettings, "device.toml", 2, defaults=True),
        f"Read by `coinfer device --config device.toml`. {reloaded} are taken over while frames "
        "run, on SIGHUP or when the file changes. Everything else needs a restart.",
        section(EdgeSettings, "edge.toml", 2, defaults=True),
        f"Read by `coinfer edge --config edge.toml`. {taken} are taken over while requests are "
        "served, on SIGHUP or when the file changes. `limits.intervals`, "
        "`limits.intervals_bytes`, and whether TLS is spoken at all, need a restart, as everything "
        "else does.",
        "## Sections",
        *(section(kind, kind.__name__, 3, defaults=True) for kind in shared),
    )
