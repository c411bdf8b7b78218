"""Algorithm 1 exactly as Edgent prints it: exit and partition for a known bandwidth and deadline.

(Li et al., IEEE TWC 2020, section V-B, algorithm 1.) From the deepest exit on, the partition of
least latency; the first exit that meets the requirement is taken, and where none does the answer
is NULL. Owns that search over one network's layer times and sizes. Knows nothing of queues,
moving bandwidth, wire codecs or controllers: `deadline_rule` is the same rule over a plan table.

p counts from 1, as in the paper. Edge-first: the edge computes layers 1 ... p-1 and the device the
rest, so p = 1 is device-only and p = N+1 edge-only. Device-first mirrors it: the device computes
layers 1 ... p-1, so p = 1 is edge-only and p = N+1 device-only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from artefacts import UsageError
from artefacts.arrays import Bools, Floats
from controller.plans import Plan, one_hop
from models.facts.branchy import BranchySpec
from models.facts.profiles import Profile, check_profile

Order = Literal["edge-first", "device-first"]
ORDERS: tuple[Order, ...] = ("edge-first", "device-first")

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class BranchInputs:
    """One exit's branch of N layers: seconds on either side, bytes after each layer, accuracy.

    `edge_s`, `device_s` and `output_bytes` (D_1 ... D_N) are each of shape (N,).
    """

    edge_s: Floats
    device_s: Floats
    output_bytes: Floats
    accuracy: float

    def __post_init__(self) -> None:
        """Refuse arrays of unequal length, and values that are negative or not finite."""
        for name in ("edge_s", "device_s", "output_bytes"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.ndim != 1 or not len(array) or len(array) != len(self.edge_s):
                raise UsageError(
                    f"planning inputs, '{name}': found shape {array.shape}, expected one value "
                    f"for each of the {len(self.edge_s)} layers of the branch"
                )
            if not np.all(np.isfinite(array) & (array >= 0)):
                raise UsageError(
                    f"planning inputs, '{name}': found a negative or infinite value, expected "
                    "finite numbers of at least 0"
                )
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if not 0 <= self.accuracy <= 1:
            raise UsageError(
                f"planning inputs, 'accuracy': found {self.accuracy}, expected a fraction 0 to 1"
            )


@dataclass(frozen=True, slots=True)
class PlanningInputs:
    """What Algorithm 1 is given of a network: every exit's branch, and the input's bytes (D_0)."""

    branches: tuple[BranchInputs, ...]
    input_bytes: float

    def __post_init__(self) -> None:
        """Refuse a network without exits, and an input of no size."""
        if not self.branches:
            raise UsageError("planning inputs: found no branch, expected at least one exit")
        if not (math.isfinite(self.input_bytes) and self.input_bytes > 0):
            raise UsageError(
                f"planning inputs, 'input_bytes': found {self.input_bytes}, expected bytes above 0"
            )


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan, its predicted latency, what that is made of, and the exit's accuracy.

    `latency_s` = `edge_s` + `device_s` + `uplink_s` + `downlink_s` (+ the round trip of a plan
    that uses the link). `partition` is the paper's p.
    """

    plan: Plan
    partition: int
    latency_s: float
    edge_s: float
    device_s: float
    uplink_s: float
    downlink_s: float
    accuracy: float


def planning_inputs(
    spec: BranchySpec, device: Profile, edge: Profile, accuracies: Sequence[float]
) -> PlanningInputs:
    """Algorithm 1's inputs for a network: median layer times of two profiles, float32 tensors.

    `accuracies`: one fraction per exit. Raises `ArtefactError` for a profile of another network
    and `UsageError` for another number of accuracies.

    `spec` is the network, `device` and `edge` are its profiles on either machine.
    """
    check_profile(device, spec, device.name)
    check_profile(edge, spec, edge.name)
    if len(accuracies) != len(spec.exits):
        raise UsageError(
            f"planning inputs for '{spec.name}': found {len(accuracies)} accuracies, expected "
            f"{len(spec.exits)}, one per exit"
        )
    branches = tuple(
        BranchInputs(
            edge_s=edge.layer_s(i),
            device_s=device.layer_s(i),
            output_bytes=np.array([FLOAT32_BYTES * math.prod(s) for s in shapes[1:]], dtype=float),
            accuracy=float(accuracies[i]),
        )
        for i, shapes in enumerate(spec.shapes)
    )
    return PlanningInputs(branches, float(FLOAT32_BYTES * math.prod(spec.input_shape)))


def algorithm1(
    inputs: PlanningInputs,
    bandwidth_bps: float,
    deadline_s: float,
    order: Order = "edge-first",
    full_range: bool = True,
    rtt_s: float = 0.0,
) -> Choice | None:
    """The plan Edgent's Algorithm 1 chooses, or None (the paper's NULL) where no exit is in time.

    `full_range` lets p run over 1 ... N+1; False is the range as printed, 1 ... N, which in the
    paper's edge-first order never lets the edge compute the last layer (and in device-first
    order never leaves everything to the device). `rtt_s` is added to every plan that uses the
    link (the paper has none). At 0 bit/s only device-only is ever in time. Of partitions with
    equal latency the smallest p wins. Raises `UsageError` for values that cannot be meant.

    `inputs` are the network's layer times and sizes, `bandwidth_bps` the link's rate in bit/s,
    `deadline_s` the latency requirement in seconds. `order` says which machine computes first.
    """
    _check(bandwidth_bps, deadline_s, order, rtt_s)
    for exit_ in reversed(range(len(inputs.branches))):
        choice = _best_partition(inputs, exit_, bandwidth_bps, order, full_range, rtt_s)
        if choice.latency_s <= deadline_s:
            return choice
    return None


def fastest(
    inputs: PlanningInputs,
    bandwidth_bps: float,
    order: Order = "edge-first",
    full_range: bool = True,
    rtt_s: float = 0.0,
) -> Choice:
    """The plan of least latency over all exits: what runs where Algorithm 1 returns None.

    Of equally fast exits the deepest wins, of equally fast partitions the smallest p.

    `inputs`, `bandwidth_bps` (bit/s), `order`, `full_range` and `rtt_s` (seconds) as in
    `algorithm1`.
    """
    _check(bandwidth_bps, 0.0, order, rtt_s)
    choices = [
        _best_partition(inputs, exit_, bandwidth_bps, order, full_range, rtt_s)
        for exit_ in reversed(range(len(inputs.branches)))
    ]
    return min(choices, key=lambda choice: choice.latency_s)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The four terms of A_{i,p} for every p = 1 ... N+1, each of shape (N+1,)."""

    edge_s: Floats
    device_s: Floats
    uplink_s: Floats
    downlink_s: Floats
    offloads: Bools

    def latency_s(self, rtt_s: float) -> Floats:
        total = self.edge_s + self.device_s + self.uplink_s + self.downlink_s
        return np.asarray(total + np.where(self.offloads, rtt_s, 0.0))


def partition_latencies(
    inputs: PlanningInputs,
    exit_: int,
    bandwidth_bps: float,
    order: Order = "edge-first",
    rtt_s: float = 0.0,
) -> Floats:
    """A_{i,p} for every p = 1 ... N+1 of exit `exit_` (0-based), seconds, shape (N+1,).

    `inputs`, `bandwidth_bps` (bit/s), `order` and `rtt_s` (seconds) as in `algorithm1`.
    """
    _check(bandwidth_bps, 0.0, order, rtt_s)
    return _parts(inputs, exit_, bandwidth_bps, order).latency_s(rtt_s)


def _parts(inputs: PlanningInputs, exit_: int, bandwidth_bps: float, order: Order) -> _Parts:
    branch = inputs.branches[exit_]
    before_p = {"edge-first": branch.edge_s, "device-first": branch.device_s}[order]
    from_p = {"edge-first": branch.device_s, "device-first": branch.edge_s}[order]
    first = np.concatenate([[0.0], np.cumsum(before_p)])
    # summed from the end, so that p = N+1 is exactly 0 and no difference of sums loses digits
    second = np.concatenate([np.cumsum(from_p[::-1])[::-1], [0.0]])
    cut_bytes = np.concatenate([[inputs.input_bytes], branch.output_bytes])
    local = np.zeros(len(cut_bytes), dtype=np.bool_)
    if order == "edge-first":
        local[0] = True
        up, down = np.full(len(cut_bytes), inputs.input_bytes), cut_bytes
        edge, device = first, second
    else:
        local[-1] = True
        up, down = cut_bytes, np.full(len(cut_bytes), branch.output_bytes[-1])
        edge, device = second, first
    return _Parts(
        edge, device, _moved(up, local, bandwidth_bps), _moved(down, local, bandwidth_bps), ~local
    )


def _moved(n_bytes: Floats, local: Bools, bandwidth_bps: float) -> Floats:
    """Transfer seconds; none for a local plan, endless at 0 bit/s for all others."""
    if bandwidth_bps == 0:
        return np.where(local, 0.0, np.inf)
    with np.errstate(over="ignore"):
        return np.where(local, 0.0, 8.0 * n_bytes / bandwidth_bps)


def _best_partition(
    inputs: PlanningInputs,
    exit_: int,
    bandwidth_bps: float,
    order: Order,
    full_range: bool,
    rtt_s: float,
) -> Choice:
    parts = _parts(inputs, exit_, bandwidth_bps, order)
    latency = parts.latency_s(rtt_s)
    length = len(latency) - 1
    k = int(np.argmin(latency if full_range else latency[:-1]))
    if not parts.offloads[k]:
        plan = Plan(exit_)
    elif order == "edge-first":
        plan = one_hop(exit_, 0, k)
    else:
        plan = one_hop(exit_, k, length)
    return Choice(
        plan=plan,
        partition=k + 1,
        latency_s=float(latency[k]),
        edge_s=float(parts.edge_s[k]),
        device_s=float(parts.device_s[k]),
        uplink_s=float(parts.uplink_s[k]),
        downlink_s=float(parts.downlink_s[k]),
        accuracy=inputs.branches[exit_].accuracy,
    )


def _check(bandwidth_bps: float, deadline_s: float, order: str, rtt_s: float) -> None:
    if order not in ORDERS:
        raise UsageError(f"algorithm 1, order: found '{order}', expected {' or '.join(ORDERS)}")
    for name, value in (
        ("bandwidth_bps", bandwidth_bps),
        ("deadline_s", deadline_s),
        ("rtt_s", rtt_s),
    ):
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"algorithm 1, {name}: found {value}, expected a number of at least 0")
