"""Every controller by name: what it is called, needs and looks like, and how it is made.

The command line, the daemon, the evaluation, the studies, the reports and the tests take
controllers from here. coinfer's own stand in `shipped`; other installed packages add theirs by the
entry-point group `coinfer.controllers` (`installed`); `package.module:factory` names one that is in
no table.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from artefacts import CoinferError, UsageError
from controller.registry.entry import (
    ControllerEntry,
    ControllerInputs,
    Factory,
    Future,
    Need,
)
from controller.registry.installed import GROUP, InstalledController, installed_controllers
from controller.registry.making import make_controller
from controller.registry.shipped import SHIPPED
from controller.scenarios import Setting

__all__ = [
    "GROUP",
    "SHIPPED",
    "ControllerEntry",
    "ControllerInputs",
    "Factory",
    "Future",
    "InstalledController",
    "Need",
    "colour_of",
    "controller_names",
    "default_names",
    "find_controller",
    "installed_controllers",
    "is_drawn",
    "make_controller",
    "unknown_controller",
]

SPARE_COLOURS = ("#66c2a5", "#a6761d", "#7570b3", "#e7298a", "#1b9e77", "#666666")
"""Of controllers that name no colour."""


def controller_names(*, deployable: bool = False) -> tuple[str, ...]:
    """Names of coinfer's controllers, then of installed packages' usable ones.

    With `deployable` without those of coinfer's that need the future; packages are not imported, so
    all of theirs are named.
    """
    own = [e.name for e in SHIPPED if e.deployable or not deployable]
    return (*own, *(n for n, one in installed_controllers().items() if not one.fault))


def default_names(setting: Setting | None = None) -> tuple[str, ...]:
    """What a comparison runs where nothing is named; of `setting`, only what can serve it."""
    return tuple(
        e.name for e in SHIPPED if not e.on_demand and (setting is None or _serves(e, setting))
    )


def _serves(entry: ControllerEntry, setting: Setting) -> bool:
    try:
        entry.checked(setting)
    except CoinferError:
        return False
    return True


def find_controller(name: str, *, deployable: bool = False) -> ControllerEntry:
    """The entry of a name, or of `package.module:factory`; `UsageError` where there is none.

    With `deployable` one that needs the future is none, and the error names only what can serve.
    """
    found = _found(name)
    if found is None or (deployable and not found.deployable):
        raise unknown_controller(name, controller_names(deployable=deployable))
    return found


def _found(name: str) -> ControllerEntry | None:
    installed = installed_controllers()  # says what claims a name of ours, whatever is asked for
    for entry in SHIPPED:
        if entry.name == name:
            return entry
    if ":" in name:
        package = name.partition(":")[0]
        return ControllerEntry(name, name, package=package, on_demand=True)
    if name in installed:
        return installed[name].entry()
    return None


def unknown_controller(name: str, names: Iterable[str] = ()) -> UsageError:
    """That there is no controller of a name among `names` (all there are)."""
    expected = ", ".join(names or controller_names())
    return UsageError(f"controller: found '{name}', expected one of {expected}")


def is_drawn(name: str) -> bool:
    """Whether plots of a comparison show a controller; one that nobody knows here is shown."""
    return all(e.drawn for e in SHIPPED if e.name == name)


def colour_of(name: str) -> str:
    """A controller's colour in every plot; one of its own for a name that nobody knows here.

    A report may be drawn where the package of a controller is not installed.
    """
    known = [e.colour for e in SHIPPED if e.name == name]
    if not known and name in installed_controllers():
        try:
            known = [find_controller(name).colour]
        except CoinferError:
            known = []
    spare = SPARE_COLOURS[zlib.crc32(name.encode()) % len(SPARE_COLOURS)]
    return (known[0] if known else "") or spare
