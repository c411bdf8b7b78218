"""A policy for scenarios it never saw: one scorer and one belief, planned anew for each of them.

What is learnt is a belief of how bandwidth moves, and how to judge plans by their descriptions,
over many devices, links, deadlines, frame rates and prices at once (of the shipped one no learnt
judgement was kept: planning's own did as well everywhere). What belongs to a scenario, its plans
and what they do to its queues, is planned when the generalist is adapted to it: that takes seconds
and no training traces of the scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artefacts import atomic_write, read_json, write_json
from artefacts.arrays import Float32s, Floats
from controller.planners.queue_values import Solving, solve_prices
from controller.policies.arrays import MOST_CARD_BYTES, packed
from controller.policies.learnt import (
    LearntCard,
    as_packed,
    learnt_arrays,
    learnt_taker,
    taken_belief,
    taken_range,
)
from controller.policies.network import Policy, make_policy
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED
from controller.policies.weights import ScorerWeights, taken_scorer
from controller.scenarios import Setting
from controller.sensing.belief import BandwidthBelief

FORMAT_VERSION = 1
PASSED_ON = ("seed", "traces")
"""What of its training every policy made of it says too."""


class GeneralistCard(LearntCard, frozen=True, forbid_unknown_fields=True):
    """`generalist.json`."""


@dataclass(frozen=True)
class Generalist:
    """Weights and belief, and the contexts' range in training (C,) each."""

    card: GeneralistCard
    weights: ScorerWeights
    belief: BandwidthBelief
    lowest: Float32s
    highest: Float32s

    def adapted(
        self,
        setting: Setting,
        device_second: Floats | None = None,
        megabyte: Floats | None = None,
        how: Solving | None = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> Policy:
        """A policy of the setting, planned at its prices, or on a grid of prices.

        `setting` is the scenario loaded. `device_second` and `megabyte` are rising grids of prices
        in correct answers (None: the setting's own price). `how` sets grid and sweeps of planning,
        `progress` is given the share done.
        """
        now = setting.prices
        grids = (
            np.array([now.device_second]) if device_second is None else device_second,
            np.array([now.megabyte]) if megabyte is None else megabyte,
        )
        solved = solve_prices(setting, self.belief, *grids, how, progress)
        passed_on = {
            name: self.card.training[name] for name in PASSED_ON if name in self.card.training
        }
        training = {"generalist": self.card.weights_digest} | passed_on
        return make_policy(
            setting, self.weights, self.belief, solved, (self.lowest, self.highest), training,
            self.card.blind_s,
        )  # fmt: skip

    def outside(self, policy: Policy, setting: Setting) -> tuple[str, ...]:
        """What of the setting itself leaves the range of training: then the guard always decides.

        A line each: the context's name, what was found and what was trained.
        """
        about = policy.encoder(setting).about
        found = []
        for name, value in about.items():
            k = CONTEXT.index(name)
            row = self.lowest.copy()
            row[k] = value
            if policy.outside(row[None])[0]:
                found.append(
                    f"{name}, found {value:.3f}, trained {self.lowest[k]:.3f} to "
                    f"{self.highest[k]:.3f} (normalised)"
                )
        return tuple(found)

    def beyond(self, setting: Setting) -> tuple[str, ...]:
        """Where the setting leaves what scenarios of its kind were drawn from in training.

        A line each. The guard sees of this only what is in the context; a device's speed is not.
        """
        scenario = setting.scenario
        drawn = [s for s in self.card.training.get("settings", ()) if s["kind"] == scenario.kind]
        found = []
        for name, value in {
            "device_slowdown": scenario.device_slowdown,
            "frames.deadline_s": scenario.frames.deadline_s,
            "frames.rate_fps": scenario.frames.rate_fps,
            "link.rtt_s": scenario.link.rtt_s,
        }.items():
            values = [s[name.split(".")[-1]] for s in drawn]
            if values and not min(values) <= value <= max(values):
                found.append(
                    f"{name}, found {value:g}, drawn from {min(values):g} to {max(values):g}"
                )
        return tuple(found)


def make_generalist(
    weights: ScorerWeights,
    belief: BandwidthBelief,
    contexts: tuple[Float32s, Float32s],
    training: dict[str, Any],
    blind_s: float,
) -> Generalist:
    """What was learnt over many settings; `contexts` are the least and greatest values met.

    `weights` are the scorer's, `belief` how bandwidth moves in general, `training` what the card
    says of how they were made. `blind_s`: seconds without a measurement after which a probe is
    sent.
    """
    card = GeneralistCard(
        format_version=FORMAT_VERSION,
        context=CONTEXT,
        described=DESCRIBED,
        candidates=CANDIDATES,
        hidden=len(weights.out),
        blind_s=blind_s,
        weights_digest="",
        training=training,
    )
    made = Generalist(card, weights, belief, *contexts)
    return replace(made, card=as_packed(card, packed(_arrays(made))))


def save_generalist(folder: str | Path, made: Generalist) -> None:
    """Write the artefact; the weights first, so that a card never names absent ones."""
    folder = Path(folder)
    raw = packed(_arrays(made))
    with atomic_write(folder / "generalist.npz", "wb") as stream:
        stream.write(raw)
    write_json(folder / "generalist.json", as_packed(made.card, raw))


def load_generalist(folder: str | Path) -> Generalist:
    """Read a generalist; refused where it takes other inputs than observations have."""
    folder = Path(folder)
    path = folder / "generalist.json"
    card = read_json(path, GeneralistCard, version=FORMAT_VERSION, most_bytes=MOST_CARD_BYTES)
    take = learnt_taker(path, card, folder / "generalist.npz")
    weights, belief = taken_scorer(take, card.hidden), taken_belief(take)
    return Generalist(card, weights, belief, *taken_range(take))


def _arrays(made: Generalist) -> dict[str, npt.NDArray[Any]]:
    return learnt_arrays(made.weights, made.belief, made.lowest, made.highest)
