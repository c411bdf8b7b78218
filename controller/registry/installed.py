"""Controllers of other installed packages: the entry-point group `coinfer.controllers`.

An entry point's name is the controller's; it names a factory, or a `ControllerEntry` that says
more. Metadata alone are read to know the names: a package is imported when its controller is asked
for, so that one that is broken breaks nothing else.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from artefacts import UsageError
from controller.registry.entry import ControllerEntry
from controller.registry.importing import imported
from controller.registry.shipped import SHIPPED

GROUP = "coinfer.controllers"
log = logging.getLogger("coinfer")


@dataclass(frozen=True, slots=True)
class InstalledController:
    """One entry point of another package: where it lies, and why it cannot be used ('': it can)."""

    name: str
    value: str
    package: str
    fault: str = ""

    @property
    def origin(self) -> str:
        """How messages name it."""
        return f"controller '{self.name}' of package '{self.package}' ({self.value})"

    def entry(self) -> ControllerEntry:
        """What the registry says of it; imports the package. `UsageError` where that fails."""
        if self.fault:
            raise UsageError(f"{self.origin}: {self.fault}")
        found = imported(self.value, self.origin)
        if isinstance(found, ControllerEntry):
            return replace(found, name=self.name, package=self.package, on_demand=True)
        if not callable(found):
            raise UsageError(
                f"{self.origin}: found a {type(found).__name__}, expected a factory or a "
                "ControllerEntry"
            )
        described = (found.__doc__ or "").strip().partition("\n")[0]
        return ControllerEntry(self.name, found, described, package=self.package, on_demand=True)


@cache
def installed_controllers() -> dict[str, InstalledController]:
    """Every usable or refused entry point, by name; a line in the log for each refused one.

    The names of coinfer's own controllers stay theirs; what two packages claim is neither's.
    """
    own = {entry.name for entry in SHIPPED}
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        points.setdefault(point.name, []).append(point)
    found: dict[str, InstalledController] = {}
    for name, claimed in points.items():
        fault = _fault(name, claimed, own)
        for point in claimed:
            one = InstalledController(name, point.value, _package(point), fault)
            if fault:
                log.warning("%s: %s", one.origin, fault)
            found.setdefault(name, one)
    return found


def _fault(name: str, claimed: list[EntryPoint], own: set[str]) -> str:
    if name in own:
        return f"found the name of a controller of coinfer's own, '{name}', expected another name"
    if len(claimed) > 1:
        others = ", ".join(sorted(f"'{_package(point)}'" for point in claimed))
        return f"found the name '{name}' in several packages ({others}), expected it in one"
    if not name or set(name) & set(",: "):
        return f"found the name '{name}', expected one without comma, colon and space"
    return ""


def _package(point: EntryPoint) -> str:
    return "unknown" if point.dist is None else point.dist.name
