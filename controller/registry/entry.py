"""What the registry says of a controller, and what a controller may be made of.

Factories are named by text and imported when they are first used: the table of names stays cheap,
and a controller that needs a room above this one (the simulator, say) can stand in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from artefacts import CoinferError, UsageError
from controller.registry.importing import imported

if TYPE_CHECKING:
    from controller.interface import Controller
    from controller.planners.configuration_map import ConfigurationMap
    from controller.policies.network import Policy
    from controller.scenarios import Setting
    from controller.sensing.belief import BandwidthBelief
    from controller.sensing.interface import ChangeDetector
    from traces.library import TraceSet
    from traces.trace import BandwidthTrace

Need = Literal["policy", "training", "future"]
"""`policy`: a learned policy, or a part of one. `training`: the training traces, or what was chosen
on them. `future`: the very traces that it is judged on (in simulation only)."""


class ControllerInputs(Protocol):
    """What a controller may be made of, for one scenario; each is made when it is first asked for.

    The evaluation makes them from training traces, the daemon from the files that `device.toml`
    names. What is missing is a `UsageError`.
    """

    @property
    def setting(self) -> Setting:
        """The scenario, loaded: its plan table, prices, link and outcomes."""

    @property
    def live(self) -> bool:
        """Whether frames come for ever: there is no beginning at which a probe could be charged."""

    @property
    def training(self) -> TraceSet:
        """The training traces, scaled as the scenario says."""

    @property
    def belief(self) -> BandwidthBelief:
        """How the bandwidth moves, as counted on training traces."""

    @property
    def device_pace(self) -> float:
        """What computing takes on the device all the time, over its profile."""

    @property
    def configuration_map(self) -> ConfigurationMap:
        """Algorithm 2's map from bandwidth states to plans."""

    @property
    def learned(self) -> Policy:
        """The learned policy of the scenario."""

    @property
    def planned(self) -> Policy:
        """The learned policy's planning alone."""

    @property
    def adapted(self) -> Policy:
        """The generalist, planned for the scenario."""

    @property
    def fixed_plan(self) -> int:
        """Of the plans without hedging, the one that did best on the training traces alone."""

    @property
    def hedged_plan(self) -> int:
        """Of the plans with hedging, the one that did best on the training traces alone."""

    @property
    def margin(self) -> float:
        """The rate rule's margin that did best on the training traces."""

    def change_detector(self) -> ChangeDetector:
        """A new change-point detector."""


@dataclass(frozen=True, slots=True)
class Future:
    """What hindsight sees: the traces that are run, and which of them the controller is for."""

    traces: tuple[BandwidthTrace, ...]
    index: int

    @property
    def trace(self) -> BandwidthTrace:
        """The controller's own trace."""
        return self.traces[self.index]


Factory = Callable[..., "Controller"]
"""A function of `ControllerInputs` that makes a controller; of (`ControllerInputs`, `Future`) where
the entry needs the future."""


@dataclass(frozen=True, slots=True)
class ControllerEntry:
    """One controller: how it is called, made, drawn and described, and what it needs.

    `factory` is a `Factory` or, as text, `package.module:name`. `check`, where given, names a
    function of a `Setting` that raises `UsageError` for a scenario that the controller cannot
    serve. `package` is the distribution that it comes from.
    """

    name: str
    factory: str | Factory
    description: str = ""
    colour: str = ""
    """As `#rrggbb`, the same in every plot ('': one is found by its name)."""
    needs: frozenset[Need] = frozenset()
    check: str = ""
    on_demand: bool = False
    """Run only where it is named: not among all controllers of a comparison."""
    any_deadline: bool = False
    """Serves frames of every deadline alike; others leave other deadlines than the scenario's to
    Algorithm 1, where frames bring their own."""
    drawn: bool = True
    """Whether plots of a comparison show it; tables always do."""
    knows_prices: bool = False
    """Whether its decisions follow the prices of device seconds and bytes."""
    package: str = "coinfer"

    @property
    def deployable(self) -> bool:
        """Whether a device can run it: nothing on a device knows the future."""
        return "future" not in self.needs

    @property
    def origin(self) -> str:
        """How messages name it: the controller, and whose it is."""
        where = self.factory if isinstance(self.factory, str) else self.factory.__module__
        return f"controller '{self.name}'" + (
            "" if self.package == "coinfer" else f" of package '{self.package}' ({where})"
        )

    def checked(self, setting: Setting) -> None:
        """Raise `UsageError` where the controller cannot serve this scenario, or checking fails."""
        if not self.check:
            return
        check = imported(self.check, self.origin)
        try:
            check(setting)
        except CoinferError:
            raise
        except (Exception, SystemExit) as error:
            if self.package == "coinfer":
                raise
            raise UsageError(
                f"{self.origin}: its check failed: {type(error).__name__}: {error}"
            ) from None

    def load(self) -> Factory:
        """The factory, imported; `UsageError` in one line where that fails."""
        found: Any = self.factory
        if isinstance(found, str):
            found = imported(found, self.origin)
        return found  # type: ignore[no-any-return]
