"""The front door of coinfer: the command line and the few public names.

`coinfer --help` is the documented entrance; everything else is imported from its room
(`traces`, `models`, `controller`, `envs`, `experiments`).
"""

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
