"""What coinfer offers: the command line and the few public names.

`coinfer --help` is the documented entrance; everything else is imported from its room
(`traces`, `models`, `controller`, `envs`, `experiments`). The names are imported when they are
first asked for: the command line must handle signals before anything that takes time.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
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

_CLIENT = ("AsyncClient", "Client", "DeviceError", "Inference")
_LOCK = threading.RLock()
_ROOT = Path(__file__).resolve().parent.parent
_FILES = {
    "_errors": ("artefacts.errors", _ROOT / "artefacts" / "errors.py"),
    "_client": ("controller.daemon.client", _ROOT / "controller" / "daemon" / "client.py"),
}
"""Where the public names are: by their module's name, and by its file."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'coinfer' has no attribute '{name}'")
    if name == "export_policy":
        return _export_policy()
    return getattr(_module("_client" if name in _CLIENT else "_errors"), name)


def _export_policy() -> Any:
    """`envs.export.export_policy`; it needs what a training needs, and no device has."""
    try:
        return importlib.import_module("envs.export").export_policy
    except ModuleNotFoundError as error:
        if error.name not in ("gymnasium", "stable_baselines3", "torch"):
            raise
        raise _module("_errors").DependencyError(
            f"export_policy: found no '{error.name}', expected pip install -e '.[train]' "
            "in coinfer's folder"
        ) from None


def _module(name: str) -> ModuleType:
    """The module of public names; by its file where our rooms' names are somebody else's here.

    Beside a script there may be a `controller.py` or `models.py` of its owner's.
    """
    usual, path = _FILES[name]
    if all(_is_ours(room) for room in ("artefacts", "controller")):
        return importlib.import_module(usual)
    own = f"{__name__}.{name}"
    with _LOCK:
        if own in sys.modules:
            return sys.modules[own]
        if name == "_client":
            _module("_errors")
        spec = importlib.util.spec_from_file_location(own, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"'{path}' cannot be loaded")
        made = sys.modules[own] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(made)
        except BaseException:
            del sys.modules[own]
            raise
        return made


def _is_ours(room: str) -> bool:
    """Whether a name that is imported from here on would be our room's."""
    try:
        spec = importlib.util.find_spec(room)
    except (ImportError, ValueError):  # somebody has put a module there that says nothing of itself
        return False
    return spec is not None and spec.origin == str(_ROOT / room / "__init__.py")


def __dir__() -> list[str]:
    return sorted(__all__)
