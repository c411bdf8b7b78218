"""What an attack did to the camera and the daemons, held to its bound.

One share in a hundred of ten frames is chance: an attack of a few frames that did not hold is made
once more for longer.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from artefacts import ArtefactError, processes, read_text
from experiments.robustness.attacks import camera
from experiments.robustness.attacks.case import Case

UNITS = processes.ROOT / "deploy"
CONFIRMED_S = 6.0
"""How long an attack goes on that did not hold in less."""
SPARE_FRAMES = 2
"""Lost by chance, beside the share: one share in a hundred of a few frames is none."""
_SIZE = re.compile(r"^MemoryMax=(\d+)([KMG])$", re.MULTILINE)
_FACTORS = {"K": 2**10, "M": 2**20, "G": 2**30}


class Outcome(msgspec.Struct, frozen=True):
    """What an attack did to the camera and the daemons, and whether its bound held."""

    name: str
    frames: int
    lost: int
    allowed: int
    lies: int
    device_mib: float
    edge_mib: float
    broken: tuple[str, ...]
    """What did not hold, in words."""
    why: tuple[str, ...] = ()
    """Why frames were lost, a few of them."""

    @property
    def held(self) -> bool:
        """Whether everything did."""
        return not self.broken


class AttackReport(msgspec.Struct, frozen=True):
    """Every attack, and what the camera lost alone."""

    alone_frames: int
    alone_lost: int
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def held(self) -> bool:
        """Whether every bound did."""
        return all(outcome.held for outcome in self.outcomes)


def memory_max(unit: str) -> int:
    """`MemoryMax` of a unit in `deploy/`, in bytes."""
    path = UNITS / unit
    found = _SIZE.search(read_text(path))
    if found is None:
        raise ArtefactError(path, field="MemoryMax", found="none", expected="a size such as 400M")
    return int(found[1]) * _FACTORS[found[2]]


def allowed_losses(frames: int, alone: camera.Footage, share: float) -> int:
    """How many of so many frames may be lost beside an attack."""
    usual = alone.lost / max(len(alone.frames), 1)
    return SPARE_FRAMES + int((usual + share) * frames)


def with_more_losses(one: camera.Footage, other: camera.Footage) -> camera.Footage:
    """Of two times of the camera alone the one with the larger share of losses."""
    return max(one, other, key=lambda seen: seen.lost / max(len(seen.frames), 1))


def judged(
    case: Case, seen: camera.Footage, alone: camera.Footage, peaks: tuple[int, int], ended: str
) -> Outcome:
    """Hold what was seen beside an attack to its bound; `ended`: what is wrong besides, or ''.

    `case` has the bound. `seen` is what the camera met beside it, `alone` without it; `peaks` are
    bytes of memory of device and edge.
    """
    bound = case.bound
    limits = (
        bound.device_bytes or memory_max("coinfer-device.service"),
        bound.edge_bytes or memory_max("coinfer-edge.service"),
    )
    allowed = allowed_losses(len(seen.frames), alone, bound.lost_share)
    broken = [ended] if ended else []
    if seen.lost > allowed:
        broken.append(f"{seen.lost} of {len(seen.frames)} frames lost, expected {allowed} at most")
    if bound.truthful and seen.lies:
        broken.append(f"'ready' was wrong {seen.lies} times")
    for who, peak, most in zip(("device", "edge"), peaks, limits, strict=True):
        if peak > most:
            broken.append(f"the {who} took {peak >> 20} MiB, expected {most >> 20} at most")
    why = tuple(dict.fromkeys(f.why or "late" for f in seen.frames if not f.kept))[:3]
    return Outcome(
        case.name, len(seen.frames), seen.lost, allowed, seen.lies,
        peaks[0] / 2**20, peaks[1] / 2**20, tuple(broken), why,
    )  # fmt: skip


def confirmed(
    make: Callable[[float], Outcome], seconds: float, said: Callable[[Outcome], None]
) -> Outcome:
    """`make` an attack of so many seconds; once more for longer where a short one did not hold."""
    outcome = make(seconds)
    if outcome.held or seconds >= CONFIRMED_S:
        return outcome
    said(outcome)
    return make(CONFIRMED_S)
