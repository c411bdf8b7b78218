"""How good a plan's answers are by recorded outcomes: of its exit, codec, cut and gates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Floats, Ints
from controller.plans import Plan
from models.codecs import codec_named
from models.facts.outcomes import Outcomes


def plan_accuracy(
    outcomes: Outcomes, plan: Plan, half: str, temperatures: Sequence[float] = ()
) -> float:
    """Accuracy of a plan's own answer (its exit, its codec at its cut, its gates) on one half.

    `outcomes` are the network's recorded answers, `plan` one that they have a row for, `half` which
    samples count (`policy` or `report`). `temperatures`: one an exit (none: 1 each), for the
    confidences that the gates of `plan` look at. The result lies in 0..1.
    """
    codec, cut = outcome_key(plan)
    if not plan.gates:
        return outcomes.accuracy(plan.exit, codec, cut, half)
    quality = outcomes.quality_of(plan.exit, codec, cut)
    at = answering_gate(outcomes, plan, temperatures)
    for number, gate in enumerate(plan.gates):
        quality = np.where(at == number, outcomes.quality_of(gate), quality)
    return float(quality[outcomes.half(half)].mean(dtype=np.float64))


def answering_gate(outcomes: Outcomes, plan: Plan, temperatures: Sequence[float]) -> Ints:
    """Which of a plan's gates answers each sample, (S,): its place in `gates`, or their number.

    Gates are asked on the device, in float32, so no codec enters.
    """
    at = np.full(outcomes.samples, len(plan.gates), dtype=np.int64)
    for number in reversed(range(len(plan.gates))):
        gate = plan.gates[number]
        sure = outcomes.calibrated(gate, temperatures[gate] if temperatures else 1.0)
        at[sure >= plan.threshold] = number
    return at


def gate_shares(outcomes: Outcomes, plan: Plan, half: str, temperatures: Sequence[float]) -> Floats:
    """Share of one half's samples that each of a plan's gates answers, (G,).

    `outcomes` are the network's recorded answers, `plan` has G gates, `half` says which samples
    count (`policy` or `report`), `temperatures` divide the logits, one an exit. Shares lie in 0..1;
    what is missing to 1 is answered by the plan's own exit.
    """
    at = answering_gate(outcomes, plan, temperatures)[outcomes.half(half)]
    gates = len(plan.gates)
    return np.asarray(np.bincount(at, minlength=gates + 1)[:gates] / len(at))


def outcome_key(plan: Plan) -> tuple[str, int]:
    """The codec and cut under which a plan's outcomes are recorded."""
    if plan.is_local:
        return "float32", 0
    named = [(codec_named(hop.codec), hop.start) for hop in plan.hops]
    changing = [one for one in named if not one[0].exact] or named[:1]
    if len(changing) > 1:
        raise UsageError(
            f"outcomes: found a plan of two codecs that change what crosses ('{plan}'), expected "
            "one at most: no more are recorded together"
        )
    codec, cut = changing[0]
    return codec.answers_as, cut
