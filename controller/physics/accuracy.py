"""How good a plan's answers are by recorded outcomes: of its exit, codec, cut and gates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Float32s, Floats, Ints
from controller.plans import Plan
from models.codecs import Codec, codec_named
from models.facts.outcomes import Outcomes


def plan_accuracy(
    outcomes: Outcomes, plan: Plan, half: str, temperatures: Sequence[float] = ()
) -> float:
    """Accuracy of a plan's own answer (its exit, its codec at its cut, its gates) on one half.

    `outcomes` are the network's recorded answers, `plan` one that they have a row for, `half` which
    samples count (`policy` or `report`). `temperatures`: one an exit (none: 1 each), for the
    confidences that the gates of `plan` look at. The result lies in 0..1.
    """
    quality = plan_quality(outcomes, plan)
    if not plan.gates:
        return float(quality[outcomes.half(half)].mean(dtype=np.float64))
    at = answering_gate(outcomes, plan, temperatures)
    for number, gate in enumerate(plan.gates):
        quality = np.where(at == number, outcomes.quality_of(gate), quality)
    return float(quality[outcomes.half(half)].mean(dtype=np.float64))


def plan_quality(outcomes: Outcomes, plan: Plan) -> Float32s:
    """How good a plan's own answer to each sample is, (S,), whatever its gates say.

    What one codec changes was recorded. Of two that change what crosses, what each of them takes
    from an answer, or gives it, is added up: what one of them spoils is spoilt, and what each
    leaves alone both leave alone. How far that is from the truth is measured by
    `experiments.analyses.two_codecs`.
    """
    whole, changed = outcomes.quality_of(plan.exit), _changing(plan)
    if len(changed) < 2:
        return outcomes.quality_of(plan.exit, *(changed or [("float32", 0)])[0])
    return _composed(whole, [outcomes.quality_of(plan.exit, *key) for key in changed])


def _composed(whole: Float32s, changed: Sequence[Float32s]) -> Float32s:
    """Quality (..., S) where each of several codecs changes the quality of `whole`."""
    found = whole + sum(one - whole for one in changed)
    return np.asarray(np.clip(found, 0.0, 1.0), dtype=np.float32)


def composed_accuracies(
    outcomes: Outcomes, exit_: int, crossings: Sequence[tuple[Codec, int]], half: str
) -> Floats:
    """Accuracy of exit `exit_` behind any two of K crossings, (K, K), as `plan_quality` has it.

    `outcomes` are the network's, `half` says of which samples; `crossings` are codecs before
    layers.
    """
    index, whole = outcomes.half(half), outcomes.quality_of(exit_)
    rows: dict[tuple[str, int], int] = {("float32", 0): 0}
    quality = [whole[index]]
    at = []
    for codec, cut in crossings:
        key = ("float32", 0) if codec.exact else (codec.answers_as, cut)
        if key not in rows:
            rows[key] = len(quality)
            quality.append(outcomes.quality_of(exit_, *key)[index])
        at.append(rows[key])
    every = np.stack(quality)
    if outcomes.quality.dtype == np.bool_:
        both = _composed_right(every)
    else:
        both = np.stack([_composed(every[0], [one, every]).mean(axis=1) for one in every])
    return np.asarray(both[np.ix_(at, at)], dtype=np.float64)


def _composed_right(every: Float32s) -> Floats:
    """`_composed` of right and wrong answers (R, S), the first row's unchanged: means (R, R)."""
    whole = every[0]
    kept = (every * whole) @ every.T  # right at first, and both leave it so
    spoilt = ((1 - every) * (1 - whole)) @ (1 - every).T  # wrong at first, and neither mends it
    return np.asarray((kept + (1 - whole).sum() - spoilt) / len(whole), dtype=np.float64)


def _changing(plan: Plan) -> list[tuple[str, int]]:
    """The codecs of a plan that change what crosses, as they are recorded, and their cuts."""
    named = [(codec_named(hop.codec), hop.start) for hop in plan.hops]
    return [(codec.answers_as, cut) for codec, cut in named if not codec.exact]


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
    """The codec and cut under which a plan's outcomes are recorded; refuses one of two codecs."""
    changed = _changing(plan)
    if len(changed) > 1:
        raise UsageError(
            f"outcomes: found a plan of two codecs that change what crosses ('{plan}'), expected "
            "one at most: no more are recorded together"
        )
    if not changed and plan.hops:
        return codec_named(plan.hops[0].codec).answers_as, plan.hops[0].start
    return changed[0] if changed else ("float32", 0)
