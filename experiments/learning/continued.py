"""A policy goes on learning from what its own device has measured, and is judged on the rest.

The belief is counted, and the policy trained, on the device's records and on some of the
scenario's own traces: a few hours of one place do not hold everything that a link can do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from artefacts import UsageError
from controller.policies.network import Policy, make_policy
from controller.policies.weights import ScorerWeights
from controller.scenarios import Setting, at_pace
from controller.scenarios.world import WorldSection
from experiments.learning.calibration import recorded_pace, recorded_world
from experiments.learning.records import (
    TRAIN,
    VALIDATION,
    RecordedLink,
    Stream,
    between,
    frames_between,
)
from experiments.learning.tasks import Data
from experiments.learning.training import train_policy
from experiments.learning.training_args import TrainArgs, TrainReport
from experiments.learning.validation import Judging, unheard
from traces.library import TraceSet
from traces.trace import BandwidthTrace

OWN_S, PIECE_S = 600.0, 60.0
"""So much of the scenario's own traces stands beside the records, in pieces from all over them."""
LEARNING_RATE = 3e-4
"""Small steps: what was learnt before is worth keeping."""


@dataclass(frozen=True)
class Mixed:
    """What is learnt from: records, and the scenario's own traces beside them.

    `world` and `judged_world` are what the earlier and the held-back frames say of the device and
    its edge; `pace` is what the earlier ones say that the device takes all the time, over its
    profile.
    """

    data: Data
    records_s: float
    scenario_s: float
    world: WorldSection
    judged_world: WorldSection
    pace: float = 1.0

    @property
    def weight(self) -> float:
        """Of the records, in the belief and in training."""
        return self.records_s / (self.records_s + self.scenario_s)


def mixed(setting: Setting, link: RecordedLink, streams: Sequence[Stream] = ()) -> Mixed:
    """The records to learn from with `OWN_S` of the scenario's training traces.

    `setting` is the scenario loaded, `link` and `streams` are what its device has kept.
    """
    own = own_pieces(setting.traces("train").traces)
    records = link.train.traces
    source = f"{link.train.source} and pieces of {setting.traces('train').source}"
    train = TraceSet((*records, *own), link.train.generated, source)
    # a policy of a scenario without a world is shown nothing of one when it decides
    shown = () if setting.scenario.world.tidy else streams
    earlier, held_back = (
        frames_between(shown, *shares) for shares in ((0.0, TRAIN), (TRAIN + VALIDATION, 1.0))
    )
    world = recorded_world(setting, earlier)
    # what too few held-back frames tell is as it was before
    judged = recorded_world(setting.in_world(world), held_back)
    return Mixed(
        Data(train, link.validation), _seconds(records), _seconds(own), world, judged,
        recorded_pace(setting, earlier),
    )  # fmt: skip


def own_pieces(traces: Sequence[BandwidthTrace]) -> list[BandwidthTrace]:
    """Pieces of `PIECE_S`, evenly spaced over all traces laid end to end."""
    total, count = _seconds(traces), round(OWN_S / PIECE_S)
    begins = [k * total / count for k in range(count)]
    return [piece for at in begins for piece in between(traces, at, at + min(PIECE_S, total))]


def _seconds(traces: Sequence[BandwidthTrace]) -> float:
    return sum(trace.duration_s for trace in traces)


def continued(
    setting: Setting,
    start: Policy,
    material: Mixed,
    args: TrainArgs,
    report: Callable[[TrainReport], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    planning: Callable[[float], None] = lambda share: None,
    judging: Judging = unheard,
) -> Policy:
    """Belief and planning anew from `material`, then training goes on from the weights of `start`.

    Frames are simulated in the material's world, on a device of the material's pace, of which the
    policy's card tells; the policy stays one of the scenario. It serves
    the prices of `start` and asks the link as that does. What either training has met counts as
    met. `setting` is the scenario loaded, `args` say how is learnt; `report`, `stopped`,
    `planning` and `judging` are those of `train_policy`.
    """
    if not isinstance(start.weights, ScorerWeights):
        raise UsageError(
            f"training from records: found a plain network as the policy of '{start.card.scenario}'"
            ", expected a policy of coinfer train"
        )
    grids = start.advantages.device_second, start.advantages.megabyte
    most = [float(grid[-1]) if len(grid) > 1 else 0.0 for grid in grids]
    args = replace(
        args, hidden=start.card.hidden, blind_s=start.card.blind_s,
        most_device_second=most[0], most_megabyte=most[1],
    )  # fmt: skip
    there = at_pace(setting, material.pace).in_world(over_pace(material.world, material.pace))
    made = train_policy(
        there, args, report, stopped, planning, material.data, start=start.weights,
        judging=judging,
    )  # fmt: skip
    assert isinstance(made.weights, ScorerWeights)
    met = np.minimum(made.lowest, start.lowest), np.maximum(made.highest, start.highest)
    training = made.card.training | {
        "went_on_from": start.card.weights_digest, "records_s": material.records_s,
        "scenario_s": material.scenario_s,
    }  # fmt: skip
    return make_policy(
        setting, made.weights, made.belief, made.advantages, met, training, made.card.blind_s,
        material.pace,
    )  # fmt: skip


def over_pace(world: WorldSection, pace: float) -> WorldSection:
    """A world whose device spreads about its profile, on one that takes `pace` times as long."""
    spread = tuple(round(quantile / pace, 4) for quantile in world.device.spread)
    device = msgspec.structs.replace(world.device, spread=spread)
    return msgspec.structs.replace(world, device=device)
