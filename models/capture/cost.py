"""What a captured model costs, operation by operation: multiply-adds, time, memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from artefacts.arrays import Floats
from models.capture.graph import CapturedModel


@dataclass(frozen=True, eq=False)
class Costs:
    """Per operation of one sample: multiply-adds, median seconds, and bytes alive while it runs.

    `parameter_bytes`: weights an operation reads, each counted at its first use.
    """

    multiply_adds: Floats
    seconds: Floats
    alive_bytes: Floats
    parameter_bytes: Floats

    def share_before(self, at: int) -> float:
        """Share of the multiply-adds that stand before operation `at`."""
        return float(self.multiply_adds[:at].sum() / max(self.multiply_adds.sum(), 1.0))

    def learnt_before(self, at: int) -> bool:
        """Whether anything with parameters stands before operation `at`: else it is padding."""
        return bool(self.parameter_bytes[:at].sum() > 0)

    def peak_bytes(self, start: int, stop: int) -> float:
        """Activation bytes alive at most while [start, stop) runs."""
        return float(self.alive_bytes[start:stop].max(initial=0.0))


def measure_costs(
    model: CapturedModel,
    example: Tensor,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Costs:
    """Run `example` (1, ...) `repeats` times, one operation after the other, on torch as it is set.

    The first run counts multiply-adds and memory and warms up; the others are timed.

    `model` is the captured module, `clock` gives seconds.
    """
    count = len(model)
    adds, alive, seconds = np.zeros(count), np.zeros(count), np.zeros((repeats, count))
    with torch.inference_mode():
        values = model.begin(example)
        for at in range(count):
            with FlopCounterMode(display=False) as counter:
                # what it gives and what that is made of are alive at once
                before = list(values.values())
                alive[at] = _alive_bytes([*before, model.step(at, values, len(example))])
            adds[at] = counter.get_total_flops() / 2.0
        for turn in range(repeats):
            values = model.begin(example)
            for at in range(count):
                begun = clock()
                model.step(at, values, len(example))
                seconds[turn, at] = clock() - begun
    samples = float(len(example))
    return Costs(
        adds / samples, np.median(seconds, axis=0), alive / samples, _parameter_bytes(model)
    )


def _alive_bytes(values: Any) -> int:
    """Of the memory that tensors lie in, each piece once (a view has none of its own)."""
    found: dict[int, int] = {}

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            held = value.untyped_storage()
            found[held.data_ptr()] = held.nbytes()
        elif isinstance(value, tuple | list):
            for part in value:
                add(part)

    add(values)
    return sum(found.values())


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(_bytes(v) for v in value) if isinstance(value, tuple | list) else 0


def _parameter_bytes(model: CapturedModel) -> Floats:
    seen: set[str] = set()
    found = np.zeros(len(model))
    for at in range(len(model)):
        for name in model.reads(at):
            if name not in seen:
                seen.add(name)
                found[at] += _bytes(model.constants[name])
    return found
