"""What a step of the simulator gives, and what the device comes to know later, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from artefacts.arrays import Bools, Floats, Ints
from controller.interface import Noticed
from controller.physics import FrameOutcome

GOOD_QUALITY = 0.5
"""An answer of so much is drawn as a right one; of a class it is 0 or 1."""


def drawn_words(quality: Floats) -> tuple[str, str, str]:
    """What pictures call answers from `GOOD_QUALITY` on, those below it, and their mean in time.

    `quality` (F,) is of the frames drawn: where all are 0 or 1 answers are right or wrong.
    """
    if np.isin(quality, (0.0, 1.0)).all():
        return "right", "wrong", "right and in time"
    return f"quality {GOOD_QUALITY:g} or more", "less", "mean quality in time"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One frame a lane: the outcome, how good it was in time, the reward's parts."""

    outcome: FrameOutcome
    arrival_s: Floats
    quality: Floats
    """Of the sample's answer, 0 to 1: of a class right or wrong. 0 where none is in time."""
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
    taken: Taken
    """From frames before; `reward` is less by its quality."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Answers of earlier frames that a frame's jobs took the time of (`FrameOutcome.lost`).

    `frames` (K, L): which of the K frames before have none any more, the last before at the end. Of
    them all, (L,): the sum of their answers' `quality`, and of its means over samples, `accuracy`.
    """

    frames: Bools
    quality: Floats
    accuracy: Floats

    @classmethod
    def none(cls, lanes: int) -> Taken:
        """Nothing."""
        return cls(np.zeros((0, lanes), dtype=np.bool_), np.zeros(lanes), np.zeros(lanes))


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
    quality: Floats
    accuracy: Floats
    """Of the answer: how good it is, and the mean of that over the samples."""

    @classmethod
    def of(cls, slots: int, lanes: int) -> PendingEnds:
        """None in any slot."""
        shape = (slots, lanes)
        none, numbers = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int64)
        never = np.full(shape, np.inf)
        return cls(
            numbers, numbers.copy(), never, never.copy(), numbers.copy(), none, none.copy(),
            np.full((len(fields(Noticed)), *shape), np.nan), np.full(shape, np.nan),
            np.zeros(shape), np.zeros(shape),
        )  # fmt: skip

    def take_back(self, lost: Ints, slot: int) -> Taken:
        """Take answers back that were expected, `lost` (K, L) of the frames before that in `slot`.

        Those frames will be known to have none at their deadlines.
        """
        frames = lost >= 0
        quality, accuracy = np.zeros(frames.shape[1:]), np.zeros(frames.shape[1:])
        for before, gone in enumerate(frames[::-1], 1):
            if gone.any():
                at = (slot - before) % len(self.frame)
                quality += np.where(gone, self.quality[at], 0.0)
                accuracy += np.where(gone, self.accuracy[at], 0.0)
                self.in_time[at, gone] = False
                self.exit[at, gone] = -1
                self.latency_s[at, gone] = np.inf
                self.noticed[-1, at, gone] = np.nan  # nobody hears how sure it was
        return Taken(frames, quality, accuracy)

    def expect(
        self, slot: int, frame: Ints, plan: Ints, known_s: Floats, result: StepResult,
        accuracy: Floats,
    ) -> None:  # fmt: skip
        """Frames numbered `frame` (L,) ran by the plans `plan`; their ends are known at `known_s`.

        `slot` is theirs. `accuracy` (L,) is the mean one of their answers, `result` what becomes
        of them.
        """
        self.frame[slot], self.plan[slot] = frame, plan
        self.known_s[slot], self.latency_s[slot] = known_s, result.outcome.latency_s
        self.exit[slot], self.in_time[slot] = result.outcome.answer_exit, result.in_time
        self.by_plan[slot], self.quality[slot] = result.outcome.by_plan, result.quality
        self.accuracy[slot] = accuracy
