"""The co-inference plan: which exit, which layers run on the edge, how tensors cross the wire."""

from __future__ import annotations

from dataclasses import dataclass

from artefacts import UsageError
from models.codecs import codec_named
from models.facts.branchy import BranchySpec


@dataclass(frozen=True, slots=True, order=True)
class Plan:
    """Exit `exit` (0-based); the edge runs layers [start, stop) of its branch, the device the rest.

    Device-only is start == stop (normalised to the branch's length by `device_only`), edge-only is
    (0, N), device-first (a, N) as in Neurosurgeon (Kang et al. 2017), edge-first (0, b) as in
    Edgent's Algorithm 1. `codec` names how the tensor at `start` goes up; a tensor that comes back
    at `stop` < N is float32. `hedge`: while the upload is under way the device goes on with its
    own deeper exits. `rescue`: a plan that offloads before any exit keeps time to answer by exit 1
    locally; without it the device is left free for the next frame, and a late edge is a miss.
    `gates`: earlier exits that the device asks on its way, in their order; the first that is at
    least `threshold` sure (calibrated greatest probability, see `models.facts.confidence`) answers
    at once, and nothing deeper is computed or sent: "exit i unless confident before".
    """

    exit: int
    start: int
    stop: int
    codec: str = "float32"
    hedge: bool = False
    rescue: bool = True
    gates: tuple[int, ...] = ()
    threshold: float = 1.0

    @property
    def is_local(self) -> bool:
        """Whether nothing crosses the wire."""
        return self.start == self.stop

    def __str__(self) -> str:
        asked = ""
        if self.gates:
            exits = " or ".join(str(g + 1) for g in self.gates)
            asked = f" unless {self.threshold:g} sure at exit {exits}"
        if self.is_local:
            return f"exit {self.exit + 1} on the device{asked}"
        hedged = ", hedged" if self.hedge else ""
        bare = "" if self.rescue else ", no rescue"
        where = f"edge [{self.start}, {self.stop}), {self.codec}{hedged}{bare}"
        return f"exit {self.exit + 1}, {where}{asked}"


def passed_exits(spec: BranchySpec, plan: Plan) -> tuple[int, ...]:
    """Exits whose points the plan's first part on the device reaches, up to the plan's own."""
    reached = min(plan.start, spec.exits[plan.exit].after)
    return tuple(j for j, e in enumerate(spec.exits) if e.after <= reached and j <= plan.exit)


def device_only(spec: BranchySpec, exit_: int) -> Plan:
    """The whole branch of an exit on the device."""
    length = len(spec.branches[exit_])
    return Plan(exit_, length, length)


def edge_only(spec: BranchySpec, exit_: int, codec: str = "float32") -> Plan:
    """The whole branch of an exit on the edge."""
    return Plan(exit_, 0, len(spec.branches[exit_]), codec)


def check_plan(plan: Plan, spec: BranchySpec) -> Plan:
    """The plan itself, or a `UsageError` where it does not fit the network."""
    spec.interval(plan.exit, plan.start, plan.stop)
    codec = codec_named(plan.codec)
    if codec.carries == "latent":
        reachable = plan.start <= spec.exits[plan.exit].after
        if spec.bottleneck(plan.start) is None or not reachable:
            raise UsageError(
                f"plan codec '{codec.name}': found a cut before layer {plan.start} of exit "
                f"{plan.exit + 1}, expected one that '{spec.name}' has a learned codec for"
            )
    if codec.carries == "picture" and plan.start != 0:
        raise UsageError(
            f"plan codec '{plan.codec}' carries the raw picture: found a cut before layer "
            f"{plan.start}, expected 0"
        )
    _check_gates(plan, spec)
    return plan


def _check_gates(plan: Plan, spec: BranchySpec) -> None:
    if not plan.gates:
        return
    if not 0.0 < plan.threshold < 1.0:
        raise UsageError(
            f"plan threshold: found {plan.threshold:g}, expected a probability between 0 and 1"
        )
    before = [j for j in passed_exits(spec, plan) if j < plan.exit]
    if list(plan.gates) != sorted(set(plan.gates)) or not set(plan.gates) <= set(before):
        found = ", ".join(str(g + 1) for g in plan.gates)
        expected = ", ".join(str(j + 1) for j in before) or "none: the device passes no earlier one"
        raise UsageError(f"plan gates: found exits {found}, expected some of {expected}")
