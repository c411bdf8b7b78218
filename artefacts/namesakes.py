"""A user's modules that bear our rooms' names: Python finds the first of a name, and it is theirs.

`refuse_namesakes` says so where otherwise some import within coinfer would fail in words that say
nothing. `coinfer.rooms` is how what `coinfer` exports works beside them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOMS = ("artefacts", "traces", "models", "controller", "envs", "experiments")
ROOT = Path(__file__).resolve().parent.parent


def namesakes() -> dict[str, str]:
    """By the name of a room, which module is imported by that name here and is not ours."""
    found = {}
    for room in ROOMS:
        try:
            spec = importlib.util.find_spec(room)
        except (ImportError, ValueError):  # a module that says nothing of itself
            found[room] = f"module '{room}' in memory"
            continue
        if spec is None or not is_ours(room, spec.origin):
            places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
            found[room] = next((place for place in places if place), f"no module '{room}'")
    return found


def is_ours(room: str, origin: str | None) -> bool:
    """Whether the file `origin` of a module named `room` is our room's, by whatever link to it.

    An installation is reached through links: `/opt/coinfer` names the version that serves.
    """
    return origin is not None and Path(origin).resolve() == ROOT / room / "__init__.py"


def clash(name: str) -> str | None:
    """One line of a module that is not found since a room of its name is a user's, else None."""
    room = name.partition(".")[0]
    theirs = namesakes().get(room) if room in ROOMS else None
    if theirs is None:
        return None
    return (
        f"the name '{room}': found {theirs} first, expected coinfer's package of that name in "
        f"{ROOT} (rename yours, or start elsewhere; 'import coinfer' and 'coinfer.gym' work beside "
        "it)"
    )


def refuse_namesakes(room: str) -> None:
    """Raise a `ModuleNotFoundError` in one line where a user's module hides what `room` needs.

    `room` is the `__name__` of the room that is being imported; one within `coinfer.rooms` finds
    ours under names of its own.
    """
    if room not in ROOMS:
        return
    for name in ROOMS[: ROOMS.index(room)]:
        said = clash(name)
        if said is not None:
            raise ModuleNotFoundError(said, name=name)
