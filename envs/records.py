"""What a step of the simulator gives, and what the device comes to know later, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.interface import Noticed
from controller.physics import FrameOutcome


@dataclass(frozen=True, slots=True)
class StepResult:
    """One frame a lane: the outcome, whether it was right and in time, the reward's parts."""

    outcome: FrameOutcome
    arrival_s: Floats
    correct: Bools
    in_time: Bools
    reward: Floats
    device_cost: Floats
    byte_cost: Floats
    energy_j: Floats
    """The device's beyond idling; 0 where its profile has no power model."""
    ended: Bools
    """The lane's trace is over: no further frame fits into it."""
    ending: Ints
    """The row of `OutcomeRows.gate_rows` that each plan became for its sample."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Frames whose end the device has come to know in `lanes` (mask); arrays of length L."""

    lanes: Bools
    frame: Ints
    plan: Ints
    known_s: Floats
    latency_s: Floats
    exit: Ints
    in_time: Bools
    by_plan: Bools
    noticed: Floats
    """(3, L): `controller.interface.Noticed`, NaN for None."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Measurements that became known in `lanes` (mask); the other arrays are of length L."""

    lanes: Bools
    known_s: Floats
    payload_bytes: Floats
    duration_s: Floats
    complete: Bools

    @property
    def rate_bps(self) -> Floats:
        """Measured bandwidth in bit/s, of the payload alone."""
        return 8.0 * self.payload_bytes / np.maximum(self.duration_s, 1e-6)


@dataclass(frozen=True, slots=True)
class PendingEnds:
    """Frames whose end is not reported yet, (slots, L); `known_s` is inf where there is none."""

    frame: Ints
    plan: Ints
    known_s: Floats
    latency_s: Floats
    exit: Ints
    in_time: Bools
    by_plan: Bools
    noticed: Floats
    """(3, slots, L): as of `Ended`."""
    pace: Floats
    """What the device took over its profile; NaN where it computed nothing of note."""

    @classmethod
    def of(cls, slots: int, lanes: int) -> PendingEnds:
        """None in any slot."""
        shape = (slots, lanes)
        none, numbers = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int64)
        never = np.full(shape, np.inf)
        return cls(
            numbers, numbers.copy(), never, never.copy(), numbers.copy(), none, none.copy(),
            np.full((len(fields(Noticed)), *shape), np.nan), np.full(shape, np.nan),
        )  # fmt: skip
