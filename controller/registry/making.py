"""Makes a controller by its entry; what others wrote is checked before it decides anything."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeVar

from artefacts import CoinferError, UsageError
from artefacts.endings import is_ending
from controller.interface import Controller, FrameResult, Measurement, Overruled, Situation
from controller.registry.entry import ControllerEntry, ControllerInputs, Future

METHODS = ("reset", "observe", "record", "decide")
SHOWN = 200
"""Characters of another package's values and errors that a message shows."""
MOST_FALLBACKS = 2**53
"""Frames that another package may count: so many are still exact in a metric."""
Found = TypeVar("Found")


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
        return GuardedController(factory(inputs, *more), entry, len(inputs.setting.table))
    except CoinferError:
        raise
    except BaseException as error:  # whatever the package's factory raises
        if is_ending(error):
            raise
        failure = UsageError(f"{entry.origin}: making it failed: {_raised(error)}")
    # here, where nothing is handled: a signal is looked for in what an error was made of
    raise failure


class GuardedController:
    """A controller of another package; refuses what is none, and plans that do not exist.

    Every call raises `UsageError` in one line for whatever the package's own method raises.
    """

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
                f"{entry.origin}: found initial_probe_bytes {_shown(repr, probe)}, expected a "
                "whole number of 0 or more"
            )
        self.name, self.initial_probe_bytes = entry.name, probe
        self._made: Controller = made
        self._entry, self._plans = entry, plans

    @property
    def origin(self) -> str:
        """How messages name it: the controller, and whose it is."""
        return self._entry.origin

    @property
    def fallbacks(self) -> int:
        """Frames that it left to another rule, where it counts them."""
        found = self._called("fallbacks", lambda: int(getattr(self._made, "fallbacks", 0)))
        return min(max(found, 0), MOST_FALLBACKS)

    def reset(self) -> None:
        """A new stream begins."""
        self._called("reset", self._made.reset)

    def observe(self, measurement: Measurement) -> None:
        """A transfer ended."""
        self._called("observe", lambda: self._made.observe(measurement))

    def record(self, result: FrameResult) -> None:
        """A frame ended."""
        self._called("record", lambda: self._made.record(result))

    def overruled(self, frame: int, plan: int) -> None:
        """The engine took another plan."""
        made = self._made
        if isinstance(made, Overruled):
            self._called("overruled", lambda: made.overruled(frame, plan))

    def decide(self, situation: Situation) -> int:
        """Its plan; `UsageError` where there is no such plan."""
        plan: Any = self._called("decide", lambda: self._made.decide(situation))
        try:
            index = -1 if isinstance(plan, bool) else operator.index(plan)
        except BaseException as error:  # what it gave is of a type that the package wrote
            if is_ending(error):
                raise
            index = -1
        if not 0 <= index < self._plans:
            raise UsageError(
                f"{self._entry.origin}: decided for plan {_shown(repr, plan)}, expected a whole "
                f"number of 0 to {self._plans - 1}"
            )
        return index

    def _called(self, method: str, call: Callable[[], Found]) -> Found:
        try:
            return call()
        except BaseException as error:  # SystemExit would end the thread that answers frames
            if is_ending(error):
                raise
            failure = UsageError(f"{self._entry.origin}: {method} raised {_raised(error)}")
        raise failure


def _raised(error: BaseException) -> str:
    said = _text(str, error)
    return f"{_kind(error)}: {said}" if said else _kind(error)


def _shown(how: Callable[[Any], str], value: Any) -> str:
    return _text(how, value) or f"a {_kind(value)}"


def _text(how: Callable[[Any], str], value: Any) -> str:
    """It on one line, cut; nothing where not even that works."""
    try:
        return " ".join(how(value).split())[:SHOWN]
    except BaseException as error:  # what shows it is the package's too
        if is_ending(error):
            raise
        return ""


def _kind(value: Any) -> str:
    """The name of its type, which the package chose."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return " ".join(name.split())[:SHOWN]


def _what(made: Any) -> str:
    return f"the class {made.__name__}" if isinstance(made, type) else f"a {_kind(made)}"
