"""What `coinfer init` asks, and what its answers must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import typer

from artefacts import UsageError
from coinfer.cli.console import console
from coinfer.cli.learning.begun import FORMAT_VERSION, Begun, ModelAnswers, WorldAnswers
from coinfer.cli.quantities import LATENCY_UNITS, quantity

T = TypeVar("T")
THIS = "this"
"""The device that is the machine which profiles."""


def seconds(what: str, text: str) -> float:
    """Seconds of a text as 200ms or 0.2s; `what` it is begins a refusal's line."""
    found = quantity(what, text, LATENCY_UNITS)
    if found is None or not 0.0 < found <= 60.0:
        raise UsageError(f"{what}: found '{text}', expected more than 0 and at most 60s")
    return found


class Questions:
    """Asks on a terminal, again where an answer cannot be meant; gives the default elsewhere."""

    def __init__(self, there: bool, prompt: Callable[..., str] = typer.prompt) -> None:
        self.there, self._prompt = there, prompt

    def __call__(self, text: str, default: str, read: Callable[[str], T]) -> T:
        """What `read` makes of the answer to `text` (of `default`, where Enter is pressed)."""
        while self.there:
            try:
                shown = default or "none"
                answer = self._prompt(text, default=shown, err=True).strip()
                return read("" if answer == "none" else answer)
            except UsageError as error:
                console.print(str(error))
        return read(default)


def answered(
    model: str, of_model: dict[str, Any], of_world: dict[str, Any], found: Begun | None,
    ask: Questions,
) -> Begun:  # fmt: skip
    """All answers to what makes `model` a folder.

    Options come first (`of_model`, `of_world`, by name), then answers of an earlier call (`found`),
    then what `ask` gets.
    """
    replace = msgspec.structs.replace
    if found is not None:
        network = replace(found.network, model=model, **of_model)
        world = _checked(replace(found.world, **of_world))
        return replace(found, network=network, world=world)
    if "data" not in of_model and "input" not in of_model:
        of_model = of_model | _ask_data(ask)
    network = ModelAnswers(model, **of_model)
    _check_data(network)
    world = _checked(WorldAnswers(**(_ask_world(ask, of_world) | of_world)))
    return Begun(FORMAT_VERSION, network, world)


def _ask_data(ask: Questions) -> dict[str, str]:
    data = ask("Labelled samples: npz, CSV, folder by class, MODULE:FUNCTION", "", str)
    side = ask(
        "Height x width of pictures that the model takes (of an npz: none), or what else", "", str
    )
    return {"data": data, "input": side}


def _check_data(network: ModelAnswers) -> None:
    from artefacts.imported import is_named
    from coinfer.cli.learning.profile_module import _side
    from coinfer.cli.learning.signature import parse_answers, parse_input
    from models.data.own_pictures import has_own_size

    if not network.of_pictures:
        parse_input(network.input)
    elif not network.data or network.input:
        _side(network.input)
    network.signature.picture()
    parse_answers(network.answers)
    if not network.data:
        return
    if not Path(network.data).exists() and not is_named(network.data):
        raise UsageError(
            f"--data: found no '{network.data}', expected a file, a folder or MODULE:FUNCTION"
        )
    if network.of_pictures and network.input and has_own_size(Path(network.data)):
        raise UsageError(
            f"--input: found '{network.input}' beside '{network.data}', expected none: an npz's "
            "pictures have their size"
        )


def _ask_world(ask: Questions, given: dict[str, Any]) -> dict[str, Any]:
    from coinfer.cli.learning.scenario_file import LINKS
    from models.facts.machines import NAMES

    usual = WorldAnswers()
    asked: dict[str, Any] = {}

    def later(name: str, text: str, default: str, read: Callable[[str], Any]) -> None:
        if name not in given:
            asked[name] = ask(text, default, read)

    names, links = ", ".join((*NAMES, THIS)), ", ".join(LINKS)
    later("device", f"Which device ({names})", usual.device, _device)
    later("link", f"Which link ({links}, or a trace's file)", usual.link, _link)
    later("rate_fps", "How many frames a second (none: what suits the device)", "", _rate)
    later(
        "deadline_s", "How late is too late, as 200ms (none: what suits the device)", "",
        lambda text: seconds("deadline", text) if text else None,
    )  # fmt: skip
    return asked


def _checked(world: WorldAnswers) -> WorldAnswers:
    _device(world.device)
    _link(world.link)
    return world


def _device(text: str) -> str:
    from models.facts.machines import NAMES

    if text not in (*NAMES, THIS):
        raise UsageError(f"--device: found '{text}', expected {', '.join(NAMES)} or {THIS}")
    return text


def _link(text: str) -> str:
    from coinfer.cli.learning.first_scenario import link_of
    from coinfer.cli.learning.scenario_file import LINKS
    from traces.library import read_set

    link_of(text)
    if text not in LINKS:
        read_set([Path(text)])  # what cannot be read is said before hours of training
    return text


def _rate(text: str) -> float | None:
    try:
        found = float(text) if text else None
    except ValueError:
        found = 0.0
    if found is not None and not 0.01 <= found <= 1000.0:
        raise UsageError(f"frames a second: found '{text}', expected a number from 0.01 to 1000")
    return found
