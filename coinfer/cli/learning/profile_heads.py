"""What `coinfer profile` says of the exits of a model that is brought: their heads and limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coinfer.cli.console import console
from coinfer.cli.quantities import LATENCY_UNITS, MEMORY_UNITS, quantity

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from models.networks.brought.brought_module import Listener

DISTILLATION = 0.5
DEFAULT_EXITS = 5
"""Exits that a model gets where nothing is said of them, if it has so many places."""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """What the command says of the heads, and of the limits that exits keep."""

    kind: str = "auto"
    distillation: float = DISTILLATION
    own_blocks: int = 0
    max_latency: str = ""
    max_device_memory: str = ""
    train_data: Path | None = None
    """Labelled pictures that train the heads, too."""

    @property
    def given(self) -> dict[str, bool]:
        """Options that only a model that is brought has, and whether they were given."""
        return {
            "--own-blocks": self.own_blocks > 0, "--train-data": self.train_data is not None,
            "--max-latency": bool(self.max_latency),
            "--max-device-memory": bool(self.max_device_memory),
        }  # fmt: skip

    @property
    def max_latency_s(self) -> float | None:
        """Seconds that an exit may take on the device."""
        return quantity("--max-latency", self.max_latency, LATENCY_UNITS)

    def arguments(self, slowdown: float) -> dict[str, Any]:
        """The same, checked, as fields of `ProfileArgs`; the device is `slowdown` times slower."""
        latency_s = self.max_latency_s
        return {
            "head_kind": self.kind,
            "distillation": self.distillation,
            "own_blocks": self.own_blocks,
            "most_seconds": None if latency_s is None else latency_s / slowdown,
            "most_bytes": quantity("--max-device-memory", self.max_device_memory, MEMORY_UNITS),
        }

    @property
    def for_plan(self) -> str:
        """The limits as options of `coinfer plan`, whose split point keeps them, too."""
        given = {
            "--max-latency": self.max_latency, "--max-device-memory": self.max_device_memory,
        }  # fmt: skip
        return "".join(f" {option} '{value}'" for option, value in given.items() if value)


def exits_wanted(exits: int | None, named: bool) -> tuple[int, bool]:
    """How many exits are put in, and whether fewer will do.

    `exits` is what was asked for (None: nothing was said), `named` whether their places or
    accuracies are given.
    """
    if exits is not None:
        return exits, False
    return (0, False) if named else (DEFAULT_EXITS, True)


def reasons(places: Sequence[str], why: Sequence[str]) -> list[str]:
    """A line for each exit: why it stands where it does, and why it has its head.

    `places` are the names of their places, `why` the reasons as they were kept.
    """
    return [
        f"exit {i + 1} stands after {place}: {reason}"
        for i, (place, reason) in enumerate(zip(places, why, strict=False))
    ]


def beyond_limit(limit_s: float | None, device_s: Sequence[float]) -> list[str]:
    """A line for each exit that the profile found slower than the limit that places were held to.

    `device_s` are seconds of the exits on the device, the network's own last; `limit_s` may be
    None. Places are compared by times of torch's operations, the profile is of ONNX Runtime.
    """
    return [
        f"exit {i + 1} takes {1e3 * found:.1f} ms on the device, more than --max-latency"
        for i, found in enumerate(device_s[:-1])
        if limit_s is not None and found > limit_s
    ]


def epochs_on(bar: Progress, task: TaskID) -> Listener:
    """Shows on the `task` of a `bar` how far the taking in is, and every epoch on a line."""
    from models.networks.brought.brought_module import Listener
    from models.networks.training import EpochReport

    def epoch(now: EpochReport) -> None:
        shares = " ".join(f"{100 * a:.1f}" for a in now.accuracies)
        console.print(f"epoch {now.epoch}/{now.epochs}: held-back accuracy by exit {shares} %")

    return Listener(
        lambda stage: bar.update(task, description=stage),
        lambda done, total: bar.update(task, completed=done, total=total),
        epoch,
    )


def exit_accuracies(text: str) -> tuple[float, ...]:
    """The accuracies of `--exit-accuracy`, shares of the pictures."""
    from artefacts import UsageError

    try:
        found = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        found = (math.nan,)
    if not all(0.0 < share <= 1.0 for share in found):
        raise UsageError(
            f"--exit-accuracy: found '{text}', expected numbers from 0 to 1 by commas (0.9,0.95)"
        )
    return found
