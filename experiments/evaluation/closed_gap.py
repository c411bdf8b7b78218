"""How much of what could be had beyond rules and planners the learned policy gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from controller.registry import find_controller


class ClosedGap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Share of the gap between the best rule or planner and a limit that 'learned' closes.

    Of rewards pooled over traces. The gap to the bound holds what nobody could earn: its frames
    meet no queue and no slower device.
    """

    rival: str
    of_bound: float
    of_optimum: float | None = None
    """None where the optimum was not run."""


class Rewarded(Protocol):
    """What is known of a controller's run."""

    @property
    def reward(self) -> float:
        """Per frame."""


def closed_gap(
    figures: Mapping[str, Rewarded], bound: float, optimum: float | None
) -> ClosedGap | None:
    """Of the figures of every controller that ran, by its name; None where there is no gap.

    Rivals are the controllers that run on a device and need no policy. `bound` and `optimum` are
    rewards per frame.
    """
    rewards = {name: own.reward for name, own in figures.items()}
    entries = {name: find_controller(name) for name in rewards}
    rivals = [n for n, e in entries.items() if e.deployable and "policy" not in e.needs]
    if "learned" not in rewards or not rivals:
        return None
    rival = max(rivals, key=lambda name: rewards[name])
    own = rewards["learned"] - rewards[rival]

    def share(limit: float | None) -> float | None:
        return None if limit is None or limit <= rewards[rival] else own / (limit - rewards[rival])

    of_bound = share(bound)
    return None if of_bound is None else ClosedGap(rival, of_bound, share(optimum))
