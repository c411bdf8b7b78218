"""Time that a device keeps for fallbacks which may become necessary.

A fallback is due long after its frame came: what comes between, and is short enough, goes first.
A job that would run into kept time lets the fallback be computed at once, and follows it. Where the
frame is over by its begin, a fallback is not computed; where it is over before `pause_s` of its
seconds, the device gives it up there. As the device's own queue does it (`controller.device.cpu`).

What a frame cost is settled when it arrives: by a fallback that begins when it is due. A later job
that makes it begin sooner changes when the device is free, no more. One that cannot wait for it
takes the answer away from its frame (`lost`), which then has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Bools, Floats, Ints


@dataclass(slots=True)
class KeptTimes:
    """The newest K fallbacks of every lane, oldest first; all (K, *lanes), absolute or seconds.

    `begin_s` inf: nothing is kept. A fallback begins at `begin_s` unless its frame is over
    (`over_s`), at `latest_s` at the latest, and takes `seconds`. `exit`: of the answer that its
    frame gets from it alone (-1: none). `lost`: of the answer that the newest frame's jobs have
    taken from it (-1: none).
    """

    begin_s: Floats
    latest_s: Floats
    over_s: Floats
    seconds: Floats
    pause_s: Floats
    exit: Ints
    lost: Ints

    @classmethod
    def none(cls, lanes: tuple[int, ...], most: int) -> KeptTimes:
        """Room for `most` of each of the lanes, empty. With room for none every fallback counts
        as the device's next job from when its frame came.
        """
        shape = (most, *lanes)
        latest, over, seconds, pause = (np.zeros(shape) for _ in range(4))
        exit_, lost = (np.full(shape, -1, dtype=np.int64) for _ in range(2))
        return cls(np.full(shape, np.inf), latest, over, seconds, pause, exit_, lost)

    def __len__(self) -> int:
        return len(self.begin_s)

    def copy(self) -> KeptTimes:
        """The same, to be changed by another frame's jobs: nothing is lost yet."""
        begin, latest, over, seconds, pause = (part.copy() for part in self._parts)
        none = np.full(self.lost.shape, -1, dtype=np.int64)
        return KeptTimes(begin, latest, over, seconds, pause, self.exit.copy(), none)

    def take(self, lanes: Ints) -> KeptTimes:
        """Those of some of the lanes (L,)."""
        begin, latest, over, seconds, pause = (part[:, lanes] for part in self._parts)
        exit_, lost = self.exit[:, lanes], self.lost[:, lanes]
        return KeptTimes(begin, latest, over, seconds, pause, exit_, lost)

    def forget(self, lanes: Bools) -> None:
        """Keep nothing in the masked lanes."""
        self.begin_s[:, lanes] = np.inf

    @property
    def _parts(self) -> tuple[Floats, ...]:
        return self.begin_s, self.latest_s, self.over_s, self.seconds, self.pause_s

    def running_until_s(self, now_s: Floats) -> Floats:
        """When the fallback that is under way is expected to end, -inf for none (*lanes)."""
        until = np.full(np.shape(now_s), -np.inf)
        for k in range(len(self)):
            begin = self.begin_s[k]
            under_way = (begin <= now_s) & (begin < self.over_s[k]) & (now_s < self._end(k, begin))
            np.copyto(until, begin + self.seconds[k], where=under_way)
        return until

    def through_s(self, free_s: Floats) -> Floats:
        """When a device that is free at `free_s` has computed what it keeps time for (*lanes)."""
        for k in range(len(self)):
            start = np.maximum(free_s, self.begin_s[k])
            due = (start < np.inf) & (start < self.over_s[k])
            free_s = np.where(due, self._end(k, start), free_s)
        return free_s

    def begin(self, jobs: Bools, at_s: Floats, expected_s: Floats, limit: Floats | float) -> Floats:
        """When jobs begin that could at `at_s`; the fallbacks before them are over then.

        `jobs` says which lanes have one, of `expected_s`, useless if it ends behind `limit`.
        """
        for k in range(len(self)):
            begin = self.begin_s[k]
            came = jobs & (begin <= at_s) & (begin < self.over_s[k])
            at_s = np.where(came, np.maximum(at_s, self._end(k, begin)), at_s)
            coming = jobs & (begin > at_s) & (begin < np.inf) & (at_s < self.over_s[k])
            early = self._end(k, at_s)
            # a job for which it would then be too late does not wait
            first = coming & (at_s + expected_s > self.latest_s[k]) & (early + expected_s <= limit)
            at_s = np.where(first, early, at_s)
            done = came | first | (jobs & (self.over_s[k] <= at_s))
            self.begin_s[k] = np.where(done, np.inf, begin)
        return at_s

    def ended(self, jobs: Bools, end_s: Floats) -> None:
        """The jobs of the lanes `jobs` have ended: what is kept comes behind them, or never."""
        for k in range(len(self)):
            begin = self.begin_s[k]
            pushed = jobs & (begin < end_s)
            begin = np.where(pushed, end_s, begin)
            never = begin > self.latest_s[k]
            late = never | (begin + self.seconds[k] > self.over_s[k])
            np.copyto(self.lost[k], self.exit[k], where=pushed & late)
            self.begin_s[k] = np.where(never, np.inf, begin)

    def behind(self, at_s: Floats) -> Floats:
        """`at_s`, or when the fallback that comes before it ends."""
        for k in range(len(self)):
            begin = self.begin_s[k]
            before = (begin <= at_s) & (begin < self.over_s[k])
            at_s = np.where(before, np.maximum(at_s, self._end(k, begin)), at_s)
        return at_s

    def keep(
        self, kept: Bools, begin_s: Floats, latest_s: Floats, over_s: Floats, *cost_s: Floats
    ) -> None:
        """Keep time in the lanes `kept`, from `begin_s` or at the latest `latest_s` on.

        The frame is over at `over_s`; `cost_s` are the fallback's seconds and pause.

        The oldest of each lane makes room: its frame is over by now.
        """
        new = np.where(kept, begin_s, np.inf), latest_s, over_s, *cost_s
        for part, value in zip(self._parts, new, strict=True):
            part[:-1] = part[1:]
            part[-1] = value
        for exits in (self.exit, self.lost):
            exits[:-1] = exits[1:]
            exits[-1] = -1

    def _end(self, k: int, begin_s: Floats) -> Floats:
        """When the k-th fallback ends if it begins at `begin_s`."""
        given_up = self.over_s[k] < begin_s + self.pause_s[k]
        return np.asarray(begin_s + np.where(given_up, self.pause_s[k], self.seconds[k]))
