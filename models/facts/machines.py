"""Common machines as published benchmarks know them: how many times slower a core is than another.

Nothing here was measured by us. ncnn's table (Tencent/ncnn, benchmark/README.md, commit a4d2ea1)
gives milliseconds of the same networks on one core of each machine, of 8 runs or so, of which the
fastest is taken. The table's networks and machines are facts; what is made of them here is a factor
against one core of an AMD EPYC 7742: the geometric mean over the networks.

Cores that compute in half precision (ARMv8.2) are timed in it there, and coinfer computes in
float32: vectors then hold half as many numbers, so such a machine counts twice its published time.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from artefacts import UsageError
from models.facts.profiles import Profile

NETWORKS = (
    "squeezenet", "mobilenet", "mobilenet_v2", "efficientnet_b0", "googlenet", "resnet18",
    "resnet50",
)  # fmt: skip
TABLE = "ncnn, benchmark/README.md at commit a4d2ea1 (github.com/Tencent/ncnn)"
REFERENCE = "one core of an AMD EPYC 7742"
REFERENCE_MS = (9.26, 16.20, 10.69, 19.58, 35.38, 34.73, 85.47)
"""Of `NETWORKS`, on the reference's core."""
ANCHOR = "mobilenet_v2"
"""The network that a machine is held against the reference by (1.0, 224 x 224)."""
HALF = 2.0
"""How much longer float32 takes at most than half precision."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine: how it is called, one core's published milliseconds of `NETWORKS`."""

    name: str
    title: str
    core_ms: tuple[float, ...]
    half: bool = False
    """Whether those are in half precision."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times slower than the reference's core, by network."""
        scale = HALF if self.half else 1.0
        pairs = zip(self.core_ms, REFERENCE_MS, strict=True)
        return tuple(scale * here / there for here, there in pairs)

    @property
    def factor(self) -> float:
        """Geometric mean of `ratios`."""
        return float(np.exp(np.mean(np.log(self.ratios))))

    @property
    def source(self) -> str:
        """Where the figures are from, and what was made of them."""
        half = f", half precision counted {HALF:g} times" if self.half else ""
        return f"published, not measured: {TABLE}, '{self.title}', one core{half}"


MACHINES = (
    Machine(
        "pi3", "Raspberry Pi 3 Model B+ (Cortex-A53, 1.4 GHz)",
        (125.34, 204.62, 158.69, 240.94, 450.64, 379.21, 977.51),
    ),
    Machine(
        "pi4", "Raspberry Pi 4 Model B (Cortex-A72, 1.8 GHz)",
        (73.35, 123.76, 92.98, 129.45, 235.38, 190.80, 533.15),
    ),
    Machine(
        "pi5", "Raspberry Pi 5 (Cortex-A76, 2.4 GHz)",
        (11.77, 20.24, 16.21, 24.12, 48.62, 29.54, 89.04), half=True,
    ),
    Machine(
        "jetson-nano", "NVIDIA Jetson Nano, its CPU (Cortex-A57)",
        (85.91, 137.43, 93.81, 225.64, 286.85, 221.27, 624.43),
    ),
    Machine(
        "phone", "a phone with a Snapdragon 855+ (its fast cores)",
        (8.24, 14.38, 9.82, 17.67, 32.10, 22.02, 65.85), half=True,
    ),
)  # fmt: skip
NAMES = tuple(machine.name for machine in MACHINES)


def machine_named(name: str) -> Machine:
    """The machine of that name; a `UsageError` lists them."""
    for machine in MACHINES:
        if machine.name == name:
            return machine
    raise UsageError(f"device: found '{name}', expected one of {', '.join(NAMES)}")


def published_profile(measured: Profile, machine: Machine, anchor_s: float) -> Profile:
    """The profile that `machine` should have, from one that was measured on another.

    `anchor_s` are the seconds that `ANCHOR` takes there, which say how that machine compares with
    the reference: layers take `factor` times the reference's pace. Codecs are byte-wise code, which
    gains nothing by wide vectors: they take `factor` times what was measured.
    """
    if not anchor_s > 0.0:
        raise UsageError(f"anchor_s: found {anchor_s:g}, expected more than 0 s")
    reference_s = REFERENCE_MS[NETWORKS.index(ANCHOR)] / 1e3
    slower = machine.factor * reference_s / anchor_s
    made = measured.slowed(slower)
    replace = msgspec.structs.replace
    codecs = tuple(
        replace(
            c, encode_s=machine.factor * c.encode_s, decode_s=machine.factor * c.decode_s
        )
        for c in measured.codecs
    )  # fmt: skip
    return replace(
        made,
        name=machine.name,
        host=None,
        codecs=codecs,
        process_peak_bytes=None,
        emulation=(
            f"{measured.name}, layers {slower:.3g} times slower and codecs {machine.factor:.3g}: "
            f"{machine.title} takes {machine.factor:.3g} times as long as {REFERENCE}"
        ),
        transcribed=machine.source,
    )
