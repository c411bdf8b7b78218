"""The policy artefact: a directory of JSON + npz that decides without torch and without pickles.

`policy.json` says what the policy is, what it was trained for and how; `policy.npz` holds its
weights, the belief about the bandwidth and planning's advantages that its inputs are made of, and
the range of the contexts it was trained on. A policy made for another scenario, or for other plans,
is refused.

Two format versions are written and read. 4: the weights are those of a scorer (`hidden` units). 5:
they are those of a plain network (`network` says its layers).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from artefacts import ArtefactError, atomic_write, read_json, write_json
from artefacts.arrays import Float32s
from controller.planners.due_fallbacks import fallback_states
from controller.planners.queue_values import PricedAdvantages
from controller.plans import Plan
from controller.policies import SHIPPED_POLICIES, beside_scenario
from controller.policies.arrays import MOST_CARD_BYTES, Taker, packed
from controller.policies.learnt import (
    LearntCard,
    as_packed,
    learnt_arrays,
    learnt_taker,
    taken_belief,
    taken_range,
)
from controller.policies.observation import CANDIDATES, CONTEXT, DESCRIBED, ObservationEncoder
from controller.policies.weights import (
    Activation,
    MlpWeights,
    ScorerWeights,
    Weights,
    planning_weights,
    taken_mlp,
    taken_scorer,
)
from controller.scenarios import Setting, at_pace
from controller.sensing.belief import BandwidthBelief

SCORER_VERSION, NETWORK_VERSION = 4, 5
LEAST_PACE, MOST_PACE = 0.05, 20.0
LAYERS, UNITS = 8, 4096
"""Hidden layers of a plain network at most, and units of each."""


class NetworkCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The layers of a plain network; its arrays are `layer_K_matrix` and `layer_K_bias`."""

    widths: tuple[Annotated[int, msgspec.Meta(ge=1, le=UNITS)], ...]
    """Units of every hidden layer."""
    activation: Activation
    """What stands between layers."""


class PolicyCard(LearntCard, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`policy.json`: its scenario and plans too."""

    scenario: str
    """Name of the scenario."""
    scenario_digest: str
    """Of its file."""
    model_digest: str
    """Of the network's weights."""
    inputs_digest: str
    """Of profiles and outcomes: planning is made of them."""
    plans: tuple[str, ...]
    """Every plan of the scenario, in order."""
    network: NetworkCard | None = None
    """The layers of version 5."""
    device_pace: Annotated[float, msgspec.Meta(ge=LEAST_PACE, le=MOST_PACE)] = 1.0
    """What computing takes on its device all the time, over the profile: as records have it."""


@dataclass(frozen=True)
class Policy:
    """Weights, what their inputs are made of, and the contexts' range in training (C,) each."""

    card: PolicyCard
    weights: Weights
    belief: BandwidthBelief
    advantages: PricedAdvantages
    lowest: Float32s
    highest: Float32s

    def __repr__(self) -> str:
        """Its scenario and network: the arrays would fill screens."""
        kind = type(self.weights).__name__
        return (
            f"Policy(scenario={self.card.scenario!r}, weights={kind}, plans={len(self.card.plans)})"
        )

    def on_device(self, setting: Setting) -> Setting:
        """The setting at the pace of the policy's own device."""
        return at_pace(setting, self.card.device_pace)

    def encoder(self, setting: Setting) -> ObservationEncoder:
        """What encodes streams of `setting`, at its prices, for this policy (`on_device`)."""
        belief, advantages = self.belief, self.advantages
        return setting.once(
            "encoder", lambda: encoder_of(setting, belief, advantages), belief, advantages
        )

    def scores(self, flat: Float32s) -> Float32s:
        """Scores (L, K) of the candidates; the greatest is the policy's choice."""
        return self.weights.scores(flat)

    def decide(self, flat: Float32s) -> npt.NDArray[np.int64]:
        """Which candidate (L,) of each row."""
        return self.weights.decide(flat)

    def planned(self) -> Policy:
        """The same with nothing added to planning: what a training begins with."""
        if isinstance(self.weights, ScorerWeights):
            nothing = replace(self.weights, out=np.zeros_like(self.weights.out))
            return replace(self, weights=nothing)
        return replace(self, weights=planning_weights())

    def outside(self, context: Float32s) -> npt.NDArray[np.bool_]:
        """Which contexts (L, C) leave the range of training by more than `MARGIN` of its width."""
        lowest, highest = self.limits
        return np.asarray(((context < lowest) | (context > highest)).any(axis=-1))

    @cached_property
    def limits(self) -> tuple[Float32s, Float32s]:
        """Between what the policy decides, (C,) each: the range of training, and its margin."""
        slack = MARGIN * (self.highest - self.lowest) + 1e-3
        return self.lowest - slack, self.highest + slack


MARGIN = 0.1


def encoder_of(
    setting: Setting, belief: BandwidthBelief, advantages: PricedAdvantages
) -> ObservationEncoder:
    """The encoder of a stream at the setting's prices."""
    prices = setting.prices
    return ObservationEncoder(setting, belief, advantages.at(prices.device_second, prices.megabyte))


def plan_names(plans: tuple[Plan, ...]) -> tuple[str, ...]:
    """The plans as text, by which a policy recognises its plan list."""
    return tuple(str(plan) for plan in plans)


def make_policy(
    setting: Setting,
    weights: ScorerWeights | MlpWeights,
    belief: BandwidthBelief,
    advantages: PricedAdvantages,
    contexts: tuple[Float32s, Float32s],
    training: dict[str, Any],
    blind_s: float,
    device_pace: float = 1.0,
) -> Policy:
    """A policy for a setting; `contexts` are the least and greatest values met in training.

    Tables are kept as they will be written, so that what is saved decides as what was trained.

    `setting` is the scenario loaded, `weights` are the network's, `belief` is how the bandwidth
    moves, `advantages` are planning's table. `training` is what the card says of how they were
    made. `blind_s`: seconds without a measurement after which a probe is sent. `device_pace`: what
    computing takes on the policy's device over the profile, which `advantages` are reckoned with.
    """
    belief, advantages = as_written(belief, advantages)
    hidden, network, version = 0, None, NETWORK_VERSION
    if isinstance(weights, ScorerWeights):
        hidden, version = len(weights.out), SCORER_VERSION
    else:
        network = NetworkCard(weights.widths, weights.activation)
    card = PolicyCard(
        format_version=version,
        scenario=setting.scenario.name,
        scenario_digest=setting.scenario.digest,
        model_digest=setting.model.digest,
        inputs_digest=setting.inputs_digest,
        context=CONTEXT,
        described=DESCRIBED,
        candidates=CANDIDATES,
        plans=plan_names(setting.table.plans),
        hidden=hidden,
        blind_s=blind_s,
        weights_digest="",
        training=training,
        network=network,
        device_pace=device_pace,
    )
    policy = Policy(card, weights, belief, advantages, *contexts)
    return replace(policy, card=as_packed(card, packed(_arrays(policy))))


def as_written(
    belief: BandwidthBelief, advantages: PricedAdvantages
) -> tuple[BandwidthBelief, PricedAdvantages]:
    """Both at the precision of the artefact: half of it for advantages, single for kernels."""
    table = advantages.table.astype(np.float16).astype(np.float32)
    return written_belief(belief), replace(advantages, table=table)


def written_belief(belief: BandwidthBelief) -> BandwidthBelief:
    """A belief at the precision of the artefact."""
    kernels = belief.kernels.astype(np.float32).astype(np.float64)
    return replace(belief, kernels=kernels)


def save_policy(folder: str | Path, policy: Policy) -> None:
    """Write the artefact; the weights first, so that a card never names absent ones."""
    folder = Path(folder)
    raw = packed(_arrays(policy))
    with atomic_write(folder / "policy.npz", "wb") as stream:
        stream.write(raw)
    write_json(folder / "policy.json", as_packed(policy.card, raw))


def read_card(folder: str | Path) -> PolicyCard:
    """What a policy says of itself."""
    path = Path(folder) / "policy.json"
    versions = (SCORER_VERSION, NETWORK_VERSION)
    card = read_json(path, PolicyCard, version=versions, most_bytes=MOST_CARD_BYTES)
    if (card.network is not None) != (card.format_version == NETWORK_VERSION):
        raise ArtefactError(
            path, field="network", found="nothing" if card.network is None else "layers",
            expected=f"layers in format {NETWORK_VERSION}, and nothing in {SCORER_VERSION}",
        )  # fmt: skip
    if card.network is not None and len(card.network.widths) > LAYERS:
        raise ArtefactError(
            path, field="network.widths", found=f"{len(card.network.widths)} layers",
            expected=f"at most {LAYERS}",
        )  # fmt: skip
    return card


def policy_folder(scenario: str | Path, name: str) -> Path | None:
    """Where the policy of a scenario, a shipped name or a file, lies; None: it has none.

    `name` is the scenario's. Beside its file the folder `policy` is looked into, then what is
    shipped of that name. A policy of another scenario beside it is none of its.
    """
    beside, shipped = beside_scenario(scenario), SHIPPED_POLICIES / name
    if beside is not None and has_policy(beside) and read_card(beside).scenario == name:
        return beside
    return shipped if has_policy(shipped) else None


def has_policy(folder: Path) -> bool:
    """Whether there is a policy in `folder`."""
    return (folder / "policy.json").exists()


def load_policy(folder: str | Path, setting: Setting, *, any_prices: bool = False) -> Policy:
    """Read a policy and hold it against the setting it shall decide for.

    With `any_prices` it need not serve the setting's: for who wants its belief alone.
    """
    folder, card = Path(folder), read_card(folder)
    path = folder / "policy.json"
    if card.scenario != setting.scenario.name:
        raise ArtefactError(
            path,
            field="scenario",
            found=f"a policy of '{card.scenario}'",
            expected=f"one of '{setting.scenario.name}'",
        )
    expected = {
        "scenario_digest": (card.scenario_digest, setting.scenario.digest),
        "model_digest": (card.model_digest, setting.model.digest),
    }
    for field, (found, wanted) in expected.items():
        if found != wanted:
            raise ArtefactError(
                path, field=field, found=found,
                expected=f"{wanted}, of the scenario and network as they are: train again, or "
                "coinfer adapt",
            )  # fmt: skip
    own = plan_names(setting.table.plans)
    if card.plans != own:
        raise ArtefactError(
            path, field="plans", found=_lacking(card.plans, own), expected=_lacking(own, card.plans)
        )
    if card.inputs_digest != setting.inputs_digest:
        raise ArtefactError(
            path,
            field="inputs_digest",
            found="a policy planned with other profiles or outcomes",
            expected=f"one of '{setting.scenario.device_profile}', "
            f"'{setting.scenario.edge_profile}' and the outcomes as they are now: train again, or "
            "coinfer adapt",
        )
    policy = _unpacked(
        learnt_taker(path, card, folder / "policy.npz", plain=card.network is not None),
        card,
        setting,
    )
    prices = setting.prices
    covered = policy.advantages.covers(prices.device_second, prices.megabyte)
    if not (any_prices or covered):
        raise ArtefactError(
            path,
            field="prices",
            found=f"those of {policy.advantages.range_text} (a device second, a megabyte)",
            expected=f"{prices.device_second:g} and {prices.megabyte:g} among them",
        )
    return policy


def _lacking(own: tuple[str, ...], other: tuple[str, ...]) -> str:
    """How many plans there are, and the first that the other side has not."""
    first = next((name for name in own if name not in other), None)
    return f"{len(own)} plans" + (f", among them '{first}'" if first else " in that order")


def _arrays(policy: Policy) -> dict[str, npt.NDArray[Any]]:
    advantages = policy.advantages
    learnt = learnt_arrays(policy.weights, policy.belief, policy.lowest, policy.highest)
    return learnt | {
        "advantages_device_second": advantages.device_second,
        "advantages_megabyte": advantages.megabyte,
        "advantages_device_s": advantages.device_s,
        "advantages_uplink_s": advantages.uplink_s,
        "advantages_table": advantages.table.astype(np.float16),
    }


def _unpacked(take: Taker, card: PolicyCard, setting: Setting) -> Policy:
    weights, belief = _taken_weights(take, card), taken_belief(take)
    device = take.rising("advantages_device_s", 1)
    uplink = take.rising("advantages_uplink_s", 1)
    take.check("advantages_uplink_s", (len(device) > 1) == (len(uplink) > 1), "two grids or none")
    priced = [take.rising(f"advantages_{n}", 1, None) for n in ("device_second", "megabyte")]
    levels = len(belief.rates_bps)
    shape = (*map(len, priced), len(device), len(uplink), levels, len(setting.table))
    found = take.arrays.get("advantages_table", np.zeros(0)).shape
    if len(found) == len(shape):
        # a policy that was planned without an eye to fallbacks says the same of every state of them
        table = take("advantages_table", shape, np.float16)[:, :, :, :, None]
    else:
        # or with an eye to fewer states
        most = fallback_states(at_pace(setting, card.device_pace))
        states = found[4] if len(found) == len(shape) + 1 and 1 <= found[4] <= most else most
        table = take("advantages_table", (*shape[:4], states, *shape[4:]), np.float16)
    grids = priced[0], priced[1], device, uplink
    advantages = PricedAdvantages(*grids, table.astype(np.float32))
    return Policy(card, weights, belief, advantages, *taken_range(take))


def _taken_weights(take: Taker, card: PolicyCard) -> ScorerWeights | MlpWeights:
    if card.network is None:
        return taken_scorer(take, card.hidden)
    return taken_mlp(take, card.network.widths, card.network.activation)
