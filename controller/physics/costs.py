"""What a stage costs: seconds by a node's profile, payload bytes by the network and outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from controller.physics.stages import Decode, Encode, Layers, PlanStages, Reply, Work
from controller.physics.topology import Slot, Topology
from models.codecs import codec_named
from models.facts.branchy import BranchySpec
from models.facts.outcomes import Outcomes
from models.facts.profiles import Profile
from models.graphs.coding import crossing_bytes, networks_of

ANSWER_BYTES = 64.0
"""What an answer weighs on a downlink: class, confidence and the other nodes' own times."""


def compute_s(profile: Profile, work: Iterable[Work]) -> float:
    """Median seconds of work on a node: of the first branch its layers, of others theirs, codecs.

    Pieces of a branch that follow one another count as one interval, however they are cut: what
    the device computes is the same, and so are the last digits.
    """
    intervals: dict[int, tuple[int, int]] = {}
    coded_s = 0.0
    for piece in work:
        if isinstance(piece, Layers):
            begin, end = intervals.get(piece.branch, (piece.start, piece.start))
            if end != piece.start:
                raise ValueError(f"layers of branch {piece.branch}: found a gap before {piece}")
            intervals[piece.branch] = (begin, piece.stop)
        elif isinstance(piece, Encode):
            coded_s += profile.encode_s(piece.codec, profile.crossing(piece.branch, piece.cut))
        elif isinstance(piece, Decode):
            coded_s += profile.decode_s(piece.codec, profile.crossing(piece.branch, piece.cut))
    computed = [profile.interval_s(branch, a, b) for branch, (a, b) in intervals.items()]
    own_s, asked_s = computed[0] if computed else 0.0, 0.0
    for seconds in computed[1:]:
        asked_s += seconds
    return own_s + asked_s + coded_s


def payload_bytes(spec: BranchySpec, outcomes: Outcomes, work: Work) -> float:
    """Payload of what crosses a link: a tensor or picture by its codec, a reply."""
    if isinstance(work, Reply):
        return ANSWER_BYTES + float(reply_tensor_bytes(spec, work))
    if isinstance(work, Layers | Encode | Decode):
        raise TypeError(f"payload: found {work}, expected what crosses a link")
    known = crossing_bytes(codec_named(work.codec), spec, work.branch, work.cut)
    # what a picture or a learned codec weighs differs from sample to sample
    return outcomes.mean_bytes(work.branch, work.codec, work.cut) if known is None else known


def reply_tensor_bytes(spec: BranchySpec, reply: Reply) -> int:
    """Of the float32 tensor that comes back; 0 where the answer does, and it is a class."""
    shapes = spec.shapes[reply.branch]
    comes_back = reply.cut + 1 < len(shapes) or spec.returns_row
    return 4 * math.prod(shapes[reply.cut]) if comes_back else 0


def device_bytes(
    spec: BranchySpec, profile: Profile, stages: PlanStages, *, anytime: bool = True
) -> int:
    """Memory that a plan takes of the device with this profile.

    The picture, the parameters of all that runs there, and the greatest activations. With `anytime`
    what answers on the device meanwhile counts, and the fallback where time is kept for it.

    `spec` is the network, `profile` the device's, `stages` those of the plan. The result is in
    bytes.
    """
    resource = stages.prefix[0].resource
    own = [stage for stage in stages.chain if stage.resource == resource] + [*stages.meanwhile]
    if anytime and stages.fallback is not None and stages.plan.rescue:
        own.append(stages.fallback)
    parts = {(w.branch, w.start, w.stop) for stage in own for w in stage.layers}
    needed = profile.device_bytes(*parts)
    for encode in (w for stage in own for w in stage.work if isinstance(w, Encode)):
        learned = networks_of(spec, encode.codec, encode.cut)
        if learned is not None:
            # an encoder runs once the layers before it are done, and before those behind
            held = learned.encoder.parameter_bytes(())
            needed = held + max(needed, learned.encoder.peak_bytes(()))
    return math.prod(spec.input_shape) + needed


class StageCosts:
    """What stages cost on the slots of a topology; what many plans share is worked out once."""

    def __init__(
        self,
        topology: Topology,
        spec: BranchySpec,
        profiles: Mapping[str, Profile],
        outcomes: Outcomes,
    ) -> None:
        """`profiles` by node name give median seconds, `outcomes` the mean bytes of codecs whose
        size depends on what they carry; `topology` names the slots, `spec` is the network.
        """
        self._topology, self._spec, self._profiles = topology, spec, profiles
        self._outcomes = outcomes
        self._known: dict[tuple[str, tuple[Work, ...]], float] = {}

    def of(self, stages: PlanStages) -> list[float]:
        """What a plan of such `stages` asks of each slot: seconds or payload bytes, 0 for nothing.

        One number a slot of the topology, in their order.
        """
        prefix = tuple(piece for stage in stages.prefix for piece in stage.work)
        suffix = () if stages.suffix is None else stages.suffix.work
        between = {stage.resource: stage for stage in stages.chain[len(stages.prefix) :]}
        first, *slots, last = self._topology.slots
        found = [self._cost(first, prefix)]
        for slot in slots:
            stage = between.get(slot.resource)
            found.append(0.0 if stage is None else self._cost(slot, stage.work))
        return [*found, self._cost(last, suffix)]

    def _cost(self, slot: Slot, work: tuple[Work, ...]) -> float:
        known = self._known.get((slot.resource, work))
        if known is None:
            if slot.kind == "compute":
                known = compute_s(self._profiles[self._topology.nodes[slot.index]], work)
            else:
                known = payload_bytes(self._spec, self._outcomes, work[0])
            self._known[slot.resource, work] = known
        return known
