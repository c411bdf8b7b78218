"""What the driver and whatever runs cells agree on."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.sweeps.cell import Answer
from experiments.sweeps.grid import Cell

MAX_ATTEMPTS = 4
"""A cell whose worker died so often is given up: most likely it is what kills them."""


@dataclass(frozen=True, slots=True)
class Done:
    """A cell that is over, and how often it was begun."""

    cell: Cell
    answer: Answer
    attempts: int
