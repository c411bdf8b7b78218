"""The sweep's definition: a TOML file, every key checked before anything is trained.

Hyper-parameters are whatever fields the training's arguments have (`TrainArgs`): a value is
converted by its field's type, a name that is no field is refused with the list of those that are.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from artefacts import ArtefactError, UsageError, read_toml
from controller.scenarios import Scenario, read_scenario
from experiments.learning.training_args import TrainArgs

FORMAT_VERSION = 1
PARTS = ("validation", "test")
OWN_KEYS = {"seed": "seeds", "algorithm": "algorithms"}
"""Fields of the training's arguments that have a key of their own in the file."""


class EvaluationSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[evaluation]`: the splits judged on; frames of every trace at most; its seed."""

    parts: tuple[str, ...] = ("validation",)
    """Splits that are judged on."""
    max_frames: int | None = None
    """At most, of every trace (all)."""
    seed: int | None = None
    """Of phases, samples and compute times (the scenario's)."""


class SweepFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sweep file; `frames` are of experience a cell (0: planning alone).

    Whatever is left out is as training itself has it.
    """

    format_version: int
    scenarios: tuple[str, ...]
    """Shipped names, or files seen from this one's folder."""
    seeds: tuple[int, ...]
    """Of training."""
    algorithms: tuple[str, ...] = (TrainArgs().algorithm,)
    """'ppo' and 'dqn'."""
    frames: int | None = None
    """Of experience a cell (training's own); 0: planning alone."""
    grid: dict[str, Any] = {}
    """Lists of values, by the name of an argument of training."""
    evaluation: EvaluationSection = EvaluationSection()
    """How a cell is judged."""
    prices: tuple[float, float] | None = None
    """Of a device second and of a megabyte, in the place of the scenarios'."""


class Sweep(msgspec.Struct, frozen=True):
    """A definition that holds: scenarios read, every value of its field's type."""

    scenarios: tuple[Scenario, ...]
    seeds: tuple[int, ...]
    algorithms: tuple[str, ...]
    grid: dict[str, tuple[Any, ...]]
    """Values by field, `frames` among them where the file fixes it."""
    evaluation: EvaluationSection
    prices: tuple[float, float] | None = None

    @property
    def swept(self) -> tuple[str, ...]:
        """The fields of which more than one value is tried."""
        return tuple(name for name, values in self.grid.items() if len(values) > 1)


def read_sweep(path: str | Path, kind: type[Any] = TrainArgs) -> Sweep:
    """Read and check a sweep file; `kind` is the dataclass of the training's arguments.

    Scenarios are shipped names, or .toml files seen from the sweep file's folder. Raises
    ArtefactError naming file and field.
    """
    path = Path(path)
    found = read_toml(path, SweepFile, version=FORMAT_VERSION)
    for field in ("scenarios", "seeds", "algorithms"):
        _check_list(path, field, getattr(found, field))
    for number, seed in enumerate(found.seeds):
        _at_least(path, f"seeds[{number}]", seed, 0)
    _check_evaluation(path, found.evaluation)
    for number, price in enumerate(found.prices or ()):
        if not 0 <= price < math.inf:
            _refuse(path, f"prices[{number}]", f"{price:g}", "a number of 0 or more")
    return Sweep(
        scenarios=tuple(_scenario(path, name) for name in found.scenarios),
        seeds=found.seeds,
        algorithms=_algorithms(path, found.algorithms, kind),
        grid=_grid(path, found, kind),
        evaluation=found.evaluation,
        prices=found.prices,
    )


def _scenario(path: Path, name: str) -> Scenario:
    beside = path.parent / name
    return read_scenario(beside if name.endswith(".toml") and beside.exists() else name)


def _grid(path: Path, found: SweepFile, kind: type[Any]) -> dict[str, tuple[Any, ...]]:
    types = argument_types(kind)
    grid: dict[str, tuple[Any, ...]] = {}
    if found.frames is not None:
        _at_least(path, "frames", found.frames, 0)
        grid["frames"] = (found.frames,)
    for name, values in found.grid.items():
        field = f"grid.{name}"
        if name in OWN_KEYS:
            _refuse(path, field, f"'{name}' in the grid", f"'{OWN_KEYS[name]}' at the top")
        if name not in types:
            known = ", ".join(n for n in types if n not in OWN_KEYS)
            _refuse(path, field, f"no hyper-parameter '{name}'", f"one of {known}")
        if name in grid:
            _refuse(path, field, f"'{name}' at the top too", "it in one place")
        if not isinstance(values, list):
            _refuse(path, field, repr(values), "a list of values")
        converted = tuple(
            _converted(path, f"{field}[{k}]", value, types[name]) for k, value in enumerate(values)
        )
        _check_list(path, field, converted)
        for number, value in enumerate(converted):
            _check_range(path, f"{field}[{number}]", kind, {name: value})
        grid[name] = converted
    return grid


def _check_range(path: Path, field: str, kind: type[Any], argument: dict[str, Any]) -> None:
    """What the arguments themselves refuse, they refuse here, before anything is run."""
    try:
        kind(**argument)
    except UsageError as error:
        found, _, expected = str(error).partition(": found ")[2].partition(", expected ")
        raise ArtefactError(path, field=field, found=found, expected=expected) from None


def argument_types(kind: type[Any]) -> dict[str, Any]:
    """The type of every field of a dataclass of arguments, in the order of its fields."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _algorithms(path: Path, names: tuple[str, ...], kind: type[Any]) -> tuple[str, ...]:
    hint = argument_types(kind)["algorithm"]
    for number, name in enumerate(names):
        _converted(path, f"algorithms[{number}]", name, hint)
    return names


def _converted(path: Path, field: str, value: Any, hint: Any) -> Any:
    try:
        converted = msgspec.convert(value, hint)
    except msgspec.ValidationError:
        _refuse(path, field, repr(value), _said(hint))
    if isinstance(converted, float) and not math.isfinite(converted):
        _refuse(path, field, repr(value), "a finite number")
    return converted


def _said(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"a list, each {_said(typing.get_args(hint)[0])}"
    return names.get(hint, str(hint))


def _check_evaluation(path: Path, evaluation: EvaluationSection) -> None:
    _check_list(path, "evaluation.parts", evaluation.parts)
    for number, part in enumerate(evaluation.parts):
        if part not in PARTS:
            _refuse(path, f"evaluation.parts[{number}]", f"'{part}'", " or ".join(PARTS))
    if evaluation.max_frames is not None:
        _at_least(path, "evaluation.max_frames", evaluation.max_frames, 1)
    if evaluation.seed is not None:
        _at_least(path, "evaluation.seed", evaluation.seed, 0)


def _check_list(path: Path, field: str, values: Sequence[Any]) -> None:
    if not values:
        _refuse(path, field, "an empty list", "one value or more")
    for number, value in enumerate(values):
        if value in values[:number]:
            _refuse(path, f"{field}[{number}]", f"{value!r} again", "each value once")


def _at_least(path: Path, field: str, value: int, least: int) -> None:
    if value < least:
        _refuse(path, field, str(value), f"{least} or more")


def _refuse(path: Path, field: str, found: str, expected: str) -> typing.NoReturn:
    raise ArtefactError(path, field=field, found=found, expected=expected)
