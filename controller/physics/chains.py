"""Plans over two further nodes: device, edge and cloud. There are very many, and few are worth it.

Of a network of N layers there are about N²/2 pairs of cuts, for every exit and every two codecs. So
plans are priced as arrays, and only those are made that no other plan of the same exit and the same
first cut beats. That is exact: such plans have the same prefix and the same answers of the device's
own on their way. They differ in what is encoded, in what crosses, in what the two nodes compute and
in how good the answers are, and a plan that is no better in any of these is never the better one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from artefacts.arrays import Floats
from controller.physics.accuracy import composed_accuracies
from controller.physics.costs import payload_bytes
from controller.physics.dominance import unbeaten
from controller.physics.stages import Tensor
from controller.physics.topology import Topology
from controller.plans import Hop, Plan
from models.codecs import Codec, codec_named
from models.facts.branchy import BranchySpec
from models.facts.outcomes import Outcomes
from models.facts.profiles import Profile

Crossing = tuple[Codec, int]
"""What crosses by a codec before a layer."""


@dataclass(frozen=True, slots=True)
class _Prices:
    """What pieces of one exit's branch cost on the nodes of a chain."""

    profiles: tuple[Profile, Profile, Profile]
    """Of the device and the two nodes."""
    sums_s: tuple[Floats, Floats]
    """Of the two nodes: seconds of the branch before every layer, (N + 1,)."""
    bytes_by: Mapping[Crossing, float]
    """Payload of all that may cross."""
    branch: int

    def after(self, crossing: Crossing) -> str:
        """The layer whose output crosses."""
        return self.profiles[0].crossing(self.branch, crossing[1])

    def costs(self, one: Crossing, two: Sequence[Crossing]) -> Floats:
        """(K, 5): encoding of the first, its bytes, the first node, further bytes, the second."""
        codec, after = one[0].name, self.after(one)
        device, near, far = self.profiles
        cuts = np.array([cut for _, cut in two], dtype=np.int64)
        encoded_s = np.array([near.encode_s(c.name, self.after((c, cut))) for c, cut in two])
        decoded_s = np.array([far.decode_s(c.name, self.after((c, cut))) for c, cut in two])
        near_s, far_s = self.sums_s
        found = np.empty((len(two), 5))
        found[:, 0] = device.encode_s(codec, after)
        found[:, 1] = self.bytes_by[one]
        found[:, 2] = near.decode_s(codec, after) + near_s[cuts] - near_s[one[1]] + encoded_s
        found[:, 3] = [self.bytes_by[crossing] for crossing in two]
        found[:, 4] = decoded_s + far_s[-1] - far_s[cuts]
        return found


def chain_plans(
    spec: BranchySpec,
    profiles: Mapping[str, Profile],
    outcomes: Outcomes,
    topology: Topology,
    codecs: Sequence[str],
    *,
    half: str = "policy",
) -> tuple[Plan, ...]:
    """Plans whose first layers the device has, the next ones a node, and the last ones another.

    `spec` is the network; `profiles` (by node) and `outcomes`, of one `half`, price what it does on
    a `topology`; `codecs` are the names of those that may cross. Every pair of nodes of which one
    lies beyond the other is a chain, and the further node gives the answer. Left out are plans that
    another of the same exit and first cut beats or equals in everything.
    """
    named = [codec_named(codec) for codec in codecs]
    device = topology.device
    chains = [
        (near, far)
        for near in topology.nodes
        for far in topology.nodes
        if near != device and topology.way(device, near) and topology.way(near, far)
    ]
    plans: list[Plan] = []
    for exit_ in range(len(spec.branches)):
        firsts, seconds = _crossings(spec, named, exit_)
        every = list(dict.fromkeys([*firsts, *seconds]))
        accuracy = composed_accuracies(outcomes, exit_, every, half)
        row = {crossing: k for k, crossing in enumerate(every)}
        bytes_by = {
            (c, cut): payload_bytes(spec, outcomes, Tensor(c.name, exit_, cut)) for c, cut in every
        }
        for near, far in chains:
            prices = _Prices(
                (profiles[device], profiles[near], profiles[far]),
                (_sums(profiles[near], exit_), _sums(profiles[far], exit_)),
                bytes_by, exit_,
            )  # fmt: skip
            plans += _of_chain((near, far), spec, exit_, firsts, seconds, prices, accuracy, row)
    return tuple(plans)


def _crossings(
    spec: BranchySpec, codecs: Sequence[Codec], exit_: int
) -> tuple[list[Crossing], list[Crossing]]:
    """What may cross to a chain's first node, and what to its second."""
    length = len(spec.branches[exit_])
    learned = {b.cut for b in spec.bottlenecks if b.cut <= spec.exits[exit_].after}
    raw = any(codec.raw for codec in codecs)
    firsts: list[Crossing] = []
    seconds: list[Crossing] = []
    for codec in codecs:
        inside = [cut for cut in range(1, length) if codec.carries != "latent" or cut in learned]
        if codec.carries != "latent" and codec.serves_at_input(raw):
            firsts.append((codec, 0))
        if not codec.raw:
            firsts += [(codec, cut) for cut in inside if cut < length - 1]
            seconds += [(codec, cut) for cut in inside]
    return firsts, seconds


def _sums(profile: Profile, branch: int) -> Floats:
    """Seconds of a branch before each of its layers, (N + 1,)."""
    return np.cumsum([0.0, *(layer.median_s for layer in profile.branches[branch])])


def _of_chain(
    nodes: tuple[str, str],
    spec: BranchySpec,
    exit_: int,
    firsts: Sequence[Crossing],
    seconds: Sequence[Crossing],
    prices: _Prices,
    accuracy: Floats,
    row: Mapping[Crossing, int],
) -> list[Plan]:
    length, made = len(spec.branches[exit_]), list[Plan]()
    for begin in sorted({cut for _, cut in firsts}):
        further = [two for two in seconds if two[1] > begin]
        columns = [row[two] for two in further]
        if not further:
            continue
        kept: list[tuple[Crossing, Crossing]] = []
        costs: list[Floats] = []
        for one in (one for one in firsts if one[1] == begin):
            own = np.column_stack([prices.costs(one, further), -accuracy[row[one], columns]])
            best = unbeaten(own)
            kept += [(one, further[k]) for k in best]
            costs.append(own[best])
        for k in unbeaten(np.concatenate(costs)):
            (first, start), (second, stop) = kept[k]
            hops = (
                Hop(nodes[0], start, stop, first.name), Hop(nodes[1], stop, length, second.name),
            )  # fmt: skip
            made.append(Plan(exit_, hops))
    return made
