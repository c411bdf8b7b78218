"""What a plan makes each machine do, in order: the one place where that is written.

A plan becomes a chain of stages, each on one resource of the topology. A frame goes through them
one after the other: the prefix on the device (in as many stages as gates are asked, plus one), for
every hop the uplinks that lead to its node and that node's CPU, the downlinks back, and the suffix
on the device. Beside the chain stands what the device does on its own once the first tensor is
handed over: `meanwhile`, the answers it works out while it waits, and `fallback`, the answer it
makes where none would come in time.

The functions here are pure and know neither seconds nor bytes: `costs` prices a stage from
profiles and outcomes, `table` lays the prices of many plans side by side, `frames` runs them
through queues in time, and the device's engine runs the stages themselves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from artefacts import UsageError
from controller.physics.topology import DEVICE_AND_EDGE, NodeLink, Topology, cpu
from controller.plans import Hop, Plan, passed_exits, prefix_stop, suffix_start
from models.facts.branchy import BranchySpec


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers [start, stop) of a branch."""

    branch: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Encode:
    """Making the bytes that cross before layer `cut` of a branch."""

    codec: str
    branch: int
    cut: int


@dataclass(frozen=True, slots=True)
class Decode:
    """Making the tensor before layer `cut` of a branch from the bytes that crossed."""

    codec: str
    branch: int
    cut: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """What crosses away from the device: the tensor before layer `cut`, or the picture."""

    codec: str
    branch: int
    cut: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes back: the float32 tensor before layer `cut`, or the answer at the branch's end."""

    branch: int
    cut: int


Work = Layers | Encode | Decode | Tensor | Reply


@dataclass(frozen=True, slots=True)
class Stage:
    """Work on one resource, begun when the stage before has ended and the resource is free.

    `answers`: the exit whose answer is there when the stage ends (None: none is). In the prefix it
    is a gate's, and ends the frame where it is sure enough.
    """

    resource: str
    work: tuple[Work, ...]
    answers: int | None = None

    @property
    def layers(self) -> tuple[Layers, ...]:
        """What the stage computes of the network, in order."""
        return tuple(w for w in self.work if isinstance(w, Layers))


@dataclass(frozen=True, slots=True)
class PlanStages:
    """A plan's stages.

    `chain`: one after the other. `meanwhile`: the device's own answers while the first tensor
    is under way, in order; each goes on from what the prefix or the one before it has computed.
    `fallback`: the answer made on the device where nothing else would answer; None where
    `meanwhile` or a gate has one. Only a plan's `rescue` keeps time for it.
    """

    plan: Plan
    chain: tuple[Stage, ...]
    meanwhile: tuple[Stage, ...]
    fallback: Stage | None

    @property
    def prefix(self) -> tuple[Stage, ...]:
        """What the device does before anything crosses; nothing where a tensor crosses at once."""
        device = self.chain[0].resource
        if self.plan.is_local:
            return self.chain
        own = itertools.takewhile(lambda stage: stage.resource == device, self.chain)
        return tuple(own)

    @property
    def suffix(self) -> Stage | None:
        """What the device does with the tensor that comes back; None where the answer does."""
        last = self.chain[-1]
        return None if self.plan.is_local or not last.layers else last

    def on(self, resource: str) -> Iterator[Stage]:
        """Stages of a resource, what the device does on its own included."""
        beside = () if self.fallback is None else (self.fallback,)
        for stage in (*self.chain, *self.meanwhile, *beside):
            if stage.resource == resource:
                yield stage


def plan_stages(
    spec: BranchySpec, plan: Plan, topology: Topology = DEVICE_AND_EDGE, *, anytime: bool = True
) -> PlanStages:
    """The stages of a plan of a network on a topology's resources.

    `anytime` False (the paper's closed loop): the device waits for the plan's own answer; where it
    does not come, the device finishes the plan's own exit.

    `spec` is the network, `plan` one that fits it, `topology` has the nodes that the plan's hops
    name.
    """
    device = cpu(topology.device)
    if plan.is_local:
        return PlanStages(plan, tuple(_prefix(spec, plan, device, kept=None)), (), None)
    meanwhile = tuple(_meanwhile(spec, plan, device)) if anytime else ()
    # the tensor that the first own answer begins with must be kept: the prefix pauses there
    kept = meanwhile[0].layers[0].start if meanwhile else None
    prefix = tuple(_prefix(spec, plan, device, kept))
    chain = (*prefix, *_hops(plan, topology), *_suffix(spec, plan, device))
    fallback = None
    if not meanwhile and not (anytime and plan.gates):
        fallback = _completing(spec, device, 0 if anytime else plan.exit, prefix_stop(spec, plan))
    return PlanStages(plan, chain, meanwhile, fallback)


def _prefix(spec: BranchySpec, plan: Plan, device: str, kept: int | None) -> Iterator[Stage]:
    """The device's first part: a stage up to every gate, and one for the rest."""
    at, stop = 0, prefix_stop(spec, plan)
    for gate in plan.gates:
        after = spec.exits[gate].after
        own = _pieces(plan.exit, at, after, kept)
        yield Stage(device, (*own, Layers(gate, after, len(spec.branches[gate]))), gate)
        at = after
    rest: tuple[Work, ...] = _pieces(plan.exit, at, stop, kept)
    if plan.hops:
        rest = (*rest, Encode(plan.hops[0].codec, plan.exit, stop))
    yield Stage(device, rest, plan.exit if plan.is_local else None)


def _pieces(branch: int, start: int, stop: int, pause: int | None) -> tuple[Layers, ...]:
    """Layers [start, stop), in two where they pass `pause`; none where there are none."""
    inside = pause is not None and start < pause < stop
    points = (start, pause, stop) if inside and pause is not None else (start, stop)
    return tuple(Layers(branch, a, b) for a, b in itertools.pairwise(points) if a < b)


def _hops(plan: Plan, topology: Topology) -> Iterator[Stage]:
    """Up to every hop's node, its work there, and all the way back."""
    at, gone = topology.device, list[NodeLink]()
    for number, hop in enumerate(plan.hops):
        way = topology.way(at, hop.node)
        if not way:
            raise UsageError(
                f"plan '{plan}': found a hop from '{at}' to '{hop.node}', expected a node beyond "
                f"'{at}' (the topology has {', '.join(topology.nodes)})"
            )
        for link in way:
            yield Stage(link.uplink, (Tensor(hop.codec, plan.exit, hop.start),))
        yield Stage(cpu(hop.node), tuple(_at_node(plan, hop, plan.hops[number + 1 :])))
        gone += way
        at = hop.node
    for link in reversed(gone):
        yield Stage(link.downlink, (Reply(plan.exit, plan.hops[-1].stop),))


def _at_node(plan: Plan, hop: Hop, later: tuple[Hop, ...]) -> Iterator[Work]:
    yield Decode(hop.codec, plan.exit, hop.start)
    yield Layers(plan.exit, hop.start, hop.stop)
    if later:
        yield Encode(later[0].codec, plan.exit, later[0].start)


def _suffix(spec: BranchySpec, plan: Plan, device: str) -> Iterator[Stage]:
    begin, length = suffix_start(spec, plan), len(spec.branches[plan.exit])
    if begin < length:
        yield Stage(device, (Layers(plan.exit, begin, length),), plan.exit)


def _meanwhile(spec: BranchySpec, plan: Plan, device: str) -> Iterator[Stage]:
    """The deepest exit that the prefix has passed, then with `hedge` every deeper one.

    The passed exit costs what its branch still lacks, and nothing where a gate asked it: then it
    is left out. A hedge goes on from the cut, each exit from the point of the one before.
    """
    cut, passed = prefix_stop(spec, plan), passed_exits(spec, plan)
    if passed and passed[-1] not in plan.gates:
        j = passed[-1]
        yield _completing(spec, device, j, cut if j == plan.exit else spec.exits[j].after)
    if plan.hedge:
        at = min(cut, spec.exits[plan.exit].after)
        for j in range(passed[-1] + 1 if passed else 0, plan.exit + 1):
            yield _completing(spec, device, j, at)
            at = spec.exits[j].after


def last_resort(spec: BranchySpec, topology: Topology = DEVICE_AND_EDGE) -> Stage:
    """The first exit from the input: what may still be done where a plan's own way is closed."""
    return _completing(spec, cpu(topology.device), 0, 0)


def _completing(spec: BranchySpec, device: str, exit_: int, start: int) -> Stage:
    """An exit's answer from the tensor before layer `start`, the exit's point passed by itself."""
    after, length = spec.exits[exit_].after, len(spec.branches[exit_])
    # an exit without layers of its own has its answer where it is passed
    pieces = _pieces(exit_, start, length, after) or (Layers(exit_, start, start),)
    return Stage(device, pieces, exit_)


def on_node(
    spec: BranchySpec,
    plans: tuple[Plan, ...],
    node: str,
    topology: Topology = DEVICE_AND_EDGE,
    *,
    anytime: bool = True,
) -> tuple[Work, ...]:
    """All that a node may have to do for any of the plans, each piece once, in order of first use.

    What is to be made ready before the first frame, and what both ends agree on as they greet.

    `spec` is the network, `plans` may be asked for, `node` is a name of `topology`. `anytime` as in
    `plan_stages`.
    """
    found: dict[Work, None] = {}
    for plan in dict.fromkeys(replace(p, threshold=1.0) for p in plans):
        for stage in plan_stages(spec, plan, topology, anytime=anytime).on(cpu(node)):
            found.update(dict.fromkeys(stage.work))
    return tuple(found)
