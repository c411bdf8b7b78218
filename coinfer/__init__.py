"""What coinfer offers: the command line and the few public names.

`coinfer --help` is the documented entrance; everything else is imported from its room
(`traces`, `models`, `controller`, `envs`, `experiments`). The names are imported when they are
first asked for: the command line must handle signals before anything that takes time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artefacts import ArtefactError, CoinferError, DependencyError, UsageError
    from controller.daemon.client import AsyncClient, Client, DeviceError, Inference
    from envs.export import export_policy

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
    "export_policy",
]

_MODULES = {
    "AsyncClient": "controller.daemon.client",
    "Client": "controller.daemon.client",
    "DeviceError": "controller.daemon.client",
    "Inference": "controller.daemon.client",
    "export_policy": "envs.export",
}
"""Where the public names are; the others are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'coinfer' has no attribute '{name}'")
    from coinfer.rooms import room_module

    try:
        return getattr(room_module(_MODULES.get(name, "artefacts.errors")), name)
    except ModuleNotFoundError as error:
        if error.name not in ("gymnasium", "stable_baselines3", "torch"):
            raise
        # it needs what a training needs, and no device has
        raise room_module("artefacts.errors").without_package(name, error.name, "train") from None


def __dir__() -> list[str]:
    return sorted(__all__)
