"""The front door of coinfer: the command line and the few public names.

`coinfer --help` is the documented entrance; everything else is imported from its room
(`traces`, `models`, `controller`, `envs`, `experiments`). The names are imported when they are
first asked for: the command line must handle signals before anything that takes time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artefacts import ArtefactError, CoinferError, DependencyError, UsageError
    from controller.daemon.client import AsyncClient, Client, DeviceError, Inference

__version__ = "0.1.0"

__all__ = [
    "ArtefactError",
    "AsyncClient",
    "Client",
    "CoinferError",
    "DependencyError",
    "DeviceError",
    "Inference",
    "UsageError",
    "__version__",
]

_CLIENT = ("AsyncClient", "Client", "DeviceError", "Inference")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'coinfer' has no attribute '{name}'")
    home = "controller.daemon.client" if name in _CLIENT else "artefacts"
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
