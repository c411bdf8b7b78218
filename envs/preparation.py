"""A scenario made ready to be stepped: its encoder, its traces, and what both are made of.

A policy's observation is made of a belief about the bandwidth and of planning's advantages
(`controller.policies.observation`). They come from a policy's folder: the one that is named, else
the one that is shipped for the scenario. Where there is none they are counted and planned from the
scenario's training traces, as the training does (seconds to a minute).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from artefacts import UsageError, data_directory, digest_bytes
from controller.physics import TraceBank
from controller.planners.queue_values import PricedAdvantages, Solving, solve_prices
from controller.policies import SHIPPED_POLICIES
from controller.policies.network import as_written, encoder_of, load_policy, read_card
from controller.policies.observation import ObservationEncoder
from controller.policies.probing import BLIND_S
from controller.scenarios import NO_PRICES, Prices, Scenario, Setting, read_scenario
from controller.sensing.belief import BandwidthBelief
from envs.observed import ObservedLanes

PARTS = ("train", "validation", "test")
HALVES = ("policy", "report")
PLANNING = Solving(backlogs=12, sweeps=150)
"""As of `coinfer train`."""
KEPT = 8
"""Scenarios made ready that a process keeps: environments of one scenario share them."""


@dataclass(frozen=True)
class Prepared:
    """What lanes of a scenario need; `blind_s` as in `controller.policies.probing`."""

    setting: Setting
    belief: BandwidthBelief
    advantages: PricedAdvantages
    blind_s: float
    part: str
    """Of the split: where the traces are from."""
    bank: TraceBank

    @cached_property
    def encoder(self) -> ObservationEncoder:
        """What makes observations, at the scenario's prices."""
        return encoder_of(self.setting, self.belief, self.advantages)

    @cached_property
    def origin(self) -> str:
        """The scenario's name, and 12 digits for everything that observations depend on.

        Models that were trained on observations of another origin decide on other numbers.
        """
        prices, belief = self.setting.prices, self.belief
        parts = (
            self.setting.scenario.digest, self.setting.inputs_digest,
            f"{prices.device_second!r} {prices.megabyte!r} {self.blind_s!r}",
            digest_bytes(belief.kernels.tobytes() + belief.rates_bps.tobytes()),
            digest_bytes(np.ascontiguousarray(self.advantages.table).tobytes()),
        )  # fmt: skip
        digest = digest_bytes(" ".join(parts).encode())
        return f"{self.setting.scenario.name} {digest[:12]}"

    def lanes(self, count: int, half: str, rng: np.random.Generator) -> ObservedLanes:
        """`count` lanes, with samples of one half of the outcomes."""
        return ObservedLanes(self.setting, self.bank, count, self.encoder, half, rng, self.blind_s)


def prepare(
    scenario: str | Path,
    part: str = "train",
    policy: str | Path | None = None,
    kind: str | None = None,
    prices: Prices = NO_PRICES,
) -> Prepared:
    """Make a scenario ready; what a process has made ready is used again.

    Args:
        scenario: a shipped scenario's name, or the path of a `.toml` file.
        part: traces of `train`, `validation` or `test`.
        policy: the folder of a policy of this scenario whose observations are wanted.
        kind: refuse a scenario of another kind (`frame-stream`, `closed-loop`).
        prices: what a device second and a megabyte cost, where it is not what the scenario says.

    """
    if part not in PARTS:
        raise UsageError(f"part: found {part!r}, expected {', '.join(PARTS)}")
    read = read_scenario(scenario)
    if kind is not None and read.kind != kind:
        raise UsageError(f"scenario '{scenario}': found kind '{read.kind}', expected '{kind}'")
    named = None if policy is None else Path(policy)
    marks = "" if named is None else read_card(named).weights_digest
    return _kept(_Wanted(read.name, read.digest, part, str(policy), marks,
                             str(data_directory()), prices, read, named))  # fmt: skip


@dataclass(frozen=True)
class _Wanted:
    """What decides whether two environments may share what was made ready."""

    name: str
    digest: str
    part: str
    folder: str
    weights_digest: str
    data: str
    prices: Prices
    scenario: Scenario = field(compare=False)
    policy: Path | None = field(compare=False)


@lru_cache(maxsize=KEPT)
def _kept(wanted: _Wanted) -> Prepared:
    return prepared(wanted.prices.applied(wanted.scenario), wanted.part, wanted.policy)


def prepared(setting: Setting, part: str = "train", policy: Path | None = None) -> Prepared:
    """A setting made ready; `part` and `policy` as of `prepare`."""
    bank = TraceBank(setting.traces(part).traces)
    folder = policy or _shipped(setting)
    if folder is not None:
        found = load_policy(folder, setting)
        return Prepared(setting, found.belief, found.advantages, found.card.blind_s, part, bank)
    belief = BandwidthBelief.from_traces(setting.traces("train").traces)
    own = setting.prices
    grids = np.array([own.device_second]), np.array([own.megabyte])
    solved = solve_prices(setting, belief, *grids, PLANNING)
    return Prepared(setting, *as_written(belief, solved), BLIND_S, part, bank)


def _shipped(setting: Setting) -> Path | None:
    """The shipped policy's folder, where there is one of this very scenario."""
    folder = SHIPPED_POLICIES / setting.scenario.name
    if not (folder / "policy.json").exists():
        return None
    card = read_card(folder)
    mine = (card.scenario_digest, card.model_digest, card.inputs_digest)
    own = (setting.scenario.digest, setting.model.digest, setting.inputs_digest)
    return folder if mine == own else None
