"""Lanes that meet one known world side by side: what nobody knows of it is drawn for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from artefacts.arrays import Floats, Ints
from controller.device.cpu import PACED_S
from controller.physics import FrameOutcome
from controller.scenarios import Setting
from controller.sensing.pace import DevicePace
from envs.world import World
from experiments.evaluation.known_world import KnownWorld


class MetWorld:
    """Draws spreads and jitters of L lanes, and knows what their devices notice of their pace.

    At each frame first `draw`, then `ended`. In a tidy world it adds nothing.
    """

    def __init__(
        self, setting: Setting, known: KnownWorld, half: str, lanes: int, rng: np.random.Generator
    ) -> None:
        """Frames of `setting` meet what is `known`; its samples are of `half`."""
        self._known, self._rows, self._lanes = known, setting.rows(half), lanes
        self._deadline_s = setting.scenario.frames.deadline_s
        self._sigmas = self._rows.gate_rows.table.sigmas
        self._pace, self._under_way = DevicePace(lanes), list[tuple[Floats, Floats]]()
        tidy = setting.scenario.world.tidy
        # a generator of its own: what is drawn without a world stays what it is
        rng = rng if tidy else rng.spawn(1)[0]
        self._world = None if tidy else World(setting, self._rows, half, lanes, rng)
        self._ratio = np.ones(lanes)

    def draw(
        self, frame: int, at_s: float, noise: Floats, ways: Ints
    ) -> tuple[list[Floats], dict[str, Any]]:
        """Factors on medians and what comes beyond (`run_frames`) of every lane's `ways`, flat.

        `noise` (N, L) is standard normal, of N nodes; `ways` (L, R) are rows of plans; frame number
        `frame` arrives at `at_s`.
        """
        each = ways.shape[1]
        factors = [np.exp(s * n) for s, n in zip(self._sigmas, noise, strict=True)]
        if self._world is None:
            return [np.repeat(factor, each) for factor in factors], {}
        self._hear(at_s)
        known = self._known.take(frame)
        drawn = self._world.draw(np.full(self._lanes, at_s))
        overheads_s = []
        for node, slower in enumerate((known.pace, known.edge)):
            own = drawn.factors[node]
            factors[node] = (factors[node] if own is None else own) * slower
            overheads_s.append(drawn.overheads_s[node] / drawn.slower[node] * slower)
        self._ratio = factors[0]
        sized = self._rows.weights is not None and known.sample >= 0
        return [np.repeat(factor, each) for factor in factors], {
            "overheads_s": [np.repeat(seconds, each) for seconds in overheads_s],
            "others_s": float(known.queued_s),
            "weight": self._rows.weight(ways.ravel(), known.sample) if sized else 1.0,
            "pace": np.repeat(self._pace.at(at_s), each),
        }

    def ended(self, outcome: FrameOutcome, at_s: float, chosen: Ints) -> None:
        """The frames that arrived at `at_s` go as `outcome` has them at the flat places `chosen`
        (L,).
        """
        known_s = np.minimum(outcome.answered_s.take(chosen), at_s + self._deadline_s)
        computed = outcome.device_s.take(chosen) > PACED_S
        self._under_way.append((known_s, np.where(computed, self._ratio, np.nan)))

    def _hear(self, now_s: float) -> None:
        """What ended frames took of their devices, oldest first."""
        for known_s, ratio in self._under_way:
            came = (known_s <= now_s) & np.isfinite(ratio)
            self._pace.took(came, ratio, known_s)
            ratio[came] = np.nan
        self._under_way = [one for one in self._under_way if (one[0] > now_s).any()]
