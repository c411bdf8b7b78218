"""Makes a controller by its entry; what others wrote is checked before it decides anything."""

from __future__ import annotations

from typing import Any

from artefacts import CoinferError, UsageError
from controller.interface import Controller, FrameResult, Measurement, Overruled, Situation
from controller.registry.entry import ControllerEntry, ControllerInputs, Future

METHODS = ("reset", "observe", "record", "decide")


def make_controller(
    entry: ControllerEntry, inputs: ControllerInputs, future: Future | None = None
) -> Controller:
    """The controller of an entry for the scenario of `inputs`.

    `future`: the traces that it will run on, which only simulations have. Raises `UsageError` where
    the entry needs the future and there is none, and in one line for whatever is wrong with a
    factory of another package.
    """
    more: tuple[Future, ...] = ()
    if not entry.deployable:
        if future is None:
            raise UsageError(
                f"controller: found '{entry.name}', expected one that needs no hindsight"
            )
        more = (future,)
    factory = entry.load()
    if entry.package == "coinfer":
        return factory(inputs, *more)
    try:
        made: Any = factory(inputs, *more)
    except CoinferError:
        raise
    except (Exception, SystemExit) as error:  # whatever the package's factory raises
        raise UsageError(
            f"{entry.origin}: making it failed: {type(error).__name__}: {error}"
        ) from None
    return GuardedController(made, entry, len(inputs.setting.table))


class GuardedController:
    """A controller of another package; refuses what is none, and plans that do not exist."""

    def __init__(self, made: Any, entry: ControllerEntry, plans: int) -> None:
        lacks = [m for m in METHODS if not callable(getattr(made, m, None))]
        probe = getattr(made, "initial_probe_bytes", None)
        if lacks or isinstance(made, type):
            raise UsageError(
                f"{entry.origin}: found {_what(made)} without {', '.join(lacks or METHODS)}, "
                "expected a controller"
            )
        if not isinstance(probe, int) or probe < 0:
            raise UsageError(
                f"{entry.origin}: found initial_probe_bytes {probe!r}, expected a whole number of "
                "0 or more"
            )
        self.name, self.initial_probe_bytes = entry.name, probe
        self._made: Controller = made
        self._entry, self._plans = entry, plans

    @property
    def fallbacks(self) -> int:
        """Frames that it left to another rule, where it counts them."""
        return int(getattr(self._made, "fallbacks", 0))

    def reset(self) -> None:
        """A new stream begins."""
        self._made.reset()

    def observe(self, measurement: Measurement) -> None:
        """A transfer ended."""
        self._made.observe(measurement)

    def record(self, result: FrameResult) -> None:
        """A frame ended."""
        self._made.record(result)

    def overruled(self, frame: int, plan: int) -> None:
        """The engine took another plan."""
        if isinstance(self._made, Overruled):
            self._made.overruled(frame, plan)

    def decide(self, situation: Situation) -> int:
        """Its plan; `UsageError` where there is no such plan."""
        plan: Any = self._made.decide(situation)
        try:
            index = plan.__index__()
        except AttributeError:
            index = -1
        if isinstance(plan, bool) or not 0 <= index < self._plans:
            raise UsageError(
                f"{self._entry.origin}: decided for plan {plan!r}, expected a whole number of 0 to "
                f"{self._plans - 1}"
            )
        return int(index)


def _what(made: Any) -> str:
    return f"the class {made.__name__}" if isinstance(made, type) else f"a {type(made).__name__}"
