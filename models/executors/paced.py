"""Another executor at the pace of a profile: this machine stands in for the profile's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from artefacts.arrays import Float32s
from models.codecs import Encoded
from models.executors.interface import Executor
from models.facts.profiles import Profile


class PacedExecutor:
    """Another executor, padded so that every interval takes what a profile says.

    It lets this machine stand in for the profile's (a Raspberry Pi 3, say). An interval that takes
    longer here than there is not shortened; `overruns` counts those.
    """

    SPIN_S = 0.0005

    def __init__(
        self,
        inner: Executor,
        profile: Profile,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner, self._profile = inner, profile
        self._clock, self._sleep = clock, sleep
        self.overruns = 0

    def run(self, branch: int, start: int, stop: int, x: Float32s) -> Float32s:
        """Compute, then wait until the profile's median for this interval has passed.

        See `Executor.run`.
        """
        began = self._clock()
        result = self._inner.run(branch, start, stop, x)
        self._wait(began + self._profile.interval_s(branch, start, stop), counts=start != stop)
        return result

    def encode(self, codec: str, branch: int, cut: int, x: npt.NDArray[Any]) -> Encoded:
        """Encode, then wait until the profile's median for it has passed. See `Executor.encode`."""
        began = self._clock()
        result = self._inner.encode(codec, branch, cut, x)
        seconds = self._profile.encode_s(codec, self._profile.crossing(branch, cut))
        self._wait(began + seconds, counts=seconds > 0)
        return result

    def decode(
        self, codec: str, branch: int, cut: int, meta: Mapping[str, Any], data: bytes
    ) -> Float32s:
        """Decode, then wait until the profile's median for it has passed. See `Executor.decode`."""
        began = self._clock()
        result = self._inner.decode(codec, branch, cut, meta, data)
        seconds = self._profile.decode_s(codec, self._profile.crossing(branch, cut))
        self._wait(began + seconds, counts=seconds > 0)
        return result

    def _wait(self, until: float, *, counts: bool) -> None:
        if self._clock() > until:
            self.overruns += counts
            return
        # sleep overshoots by what the scheduler likes; the last half millisecond is spun
        while (left := until - self._clock()) > 0:
            if left > self.SPIN_S:
                self._sleep(left - self.SPIN_S)
