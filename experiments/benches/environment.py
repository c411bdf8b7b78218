"""How many frames a second the batched environment steps: on one core, with plans drawn at random.

Plain numpy by measurement: a numba loop over the same frames ran 8.8 million/s where `run_frames`
ran 1.6 to 2.3 (lte-mobilenet, 1,024 lanes), which a whole step would feel as less than twice, for
208 MB of packages on a device and a second copy of the physics.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from artefacts import UsageError
from artefacts.arrays import Ints
from controller.physics import TraceBank
from controller.policies.observation import CANDIDATES
from controller.scenarios import Setting
from envs.episodes import EPISODE_FRAMES, Episodes
from envs.preparation import prepared
from envs.simulator import Simulator

REPEATS = 7
PLANS = 64
"""Sets of plans drawn beforehand and used in turn."""


class EnvironmentRow(msgspec.Struct, frozen=True):
    """One way to step L lanes: million frames a second of one core's time, medians of `repeats`.

    `ratio`: to the baseline of the same run, which draws a frame's random numbers (its sample and
    two compute times) and does nothing else: what no batched environment can be faster than.
    """

    path: str
    lanes: int
    frames: int
    repeats: int
    million_per_s: float
    ratio: float


def environment_rows(
    setting: Setting,
    lanes: int,
    frames: int,
    seed: int = 0,
    repeats: int = REPEATS,
    clock: Callable[[], float] = time.process_time,
    note: Callable[[str], None] = lambda text: None,
) -> list[EnvironmentRow]:
    """Rows of `draws` (the baseline), `step`, `policy` and `observed`, about `frames` frames each.

    `step` is the simulator alone; `policy` also asks it for all that a policy sees (measured
    transfers, ended frames, backlogs); `observed` is `envs.episodes.Episodes` with
    observations and episodes, under candidates in the place of plans.
    The clock is the process's own, so that neighbours on the machine count for little; the paths
    take turns, each from the same seed.

    `lanes` streams of `setting` are stepped at once, from `seed`, `repeats` times; `clock` gives
    seconds, `note` hears of the progress.
    """
    if lanes < 1 or frames < lanes:
        raise UsageError(
            f"lanes and frames: found {lanes} and {frames}, expected 1 or more lanes and at least "
            "a frame for each"
        )
    steps = frames // lanes
    bench = _Bench(setting, lanes, steps, seed)
    paths = {
        "draws": bench.draws,
        "step": bench.step,
        "policy": bench.policy,
        "observed": bench.observed,
    }
    times: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(repeats + 1):
        for name, path in paths.items():
            run = path()
            next(run)
            begun = clock()
            for _ in run:
                pass
            times[name].append(clock() - begun)
        note(f"turn {turn} of {repeats}" if turn else "warmed up")
    # the first turn warms up
    median = {name: float(np.median(seen[1:])) for name, seen in times.items()}
    return [
        EnvironmentRow(
            name, lanes, steps * lanes, repeats, 1e-6 * steps * lanes / m, median["draws"] / m
        )
        for name, m in median.items()
    ]


@dataclass(frozen=True, slots=True)
class _Bench:
    """The paths, each a generator: all made ready at the first `next`, then a step at each."""

    setting: Setting
    lanes: int
    steps: int
    seed: int

    def draws(self) -> Iterator[None]:
        rng = np.random.default_rng(self.seed)
        samples = self.setting.rows("policy").samples
        yield
        for _ in range(self.steps):
            rng.integers(0, samples, self.lanes)
            rng.standard_normal((2, self.lanes))
            yield

    def step(self) -> Iterator[None]:
        simulator, plans = self._simulator(), self._plans()
        yield
        for k in range(self.steps):
            simulator.step(plans[k % PLANS])
            yield

    def policy(self) -> Iterator[None]:
        simulator, plans = self._simulator(), self._plans()
        yield
        for k in range(self.steps):
            simulator.deliver()
            simulator.ends()
            simulator.backlogs()
            simulator.step(plans[k % PLANS])
            yield

    def observed(self) -> Iterator[None]:
        lanes = prepared(self.setting).lanes(self.lanes, "policy", np.random.default_rng(self.seed))
        episodes, candidates = Episodes((lanes,), EPISODE_FRAMES), self._plans() % CANDIDATES
        episodes.reset()
        yield
        for k in range(self.steps):
            over = episodes.step(candidates[k % PLANS]).over
            if over.any():
                episodes.reset(over)
            yield

    def _simulator(self) -> Simulator:
        bank = TraceBank(self.setting.traces("train").traces)
        rng = np.random.default_rng(self.seed)
        simulator = Simulator(self.setting, bank, self.lanes, "policy", rng)
        simulator.place_randomly(np.ones(self.lanes, dtype=np.bool_), self.steps)
        return simulator

    def _plans(self) -> Ints:
        rng = np.random.default_rng(self.seed + 1)
        return rng.integers(0, len(self.setting.table), (PLANS, self.lanes))
