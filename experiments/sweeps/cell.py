"""What one cell does: train, keep the policy, judge it. Runs in a process or machine of its own.

A cell arrives as JSON and leaves as plain bytes, so that where it runs needs no disk in common with
who asked. It trusts nothing it finds there: its id is computed anew from what was loaded.
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import msgspec

from artefacts import CoinferError, UsageError
from artefacts.owners import temporary_folder
from experiments.evaluation.comparison import ControllerFigures
from experiments.sweeps.grid import Cell

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ERROR_LENGTH = 500

Answer = dict[str, Any]
"""`{"measured": JSON of Measured, "files": {name: bytes}}`, or `{"error": one line}`."""


class PartResult(msgspec.Struct, frozen=True):
    """The policy on one split; `half` of the outcomes is 'report' for the test split alone."""

    source: str
    half: str
    bound: float
    figures: ControllerFigures


class Measured(msgspec.Struct, frozen=True):
    """What a cell found out, and what it took."""

    parts: dict[str, PartResult]
    train_s: float
    evaluate_s: float
    host: str


def run_cell(encoded: bytes) -> Answer:
    """Train and judge the cell given as JSON; any exception becomes its one-line error."""
    try:
        return _run(msgspec.json.decode(encoded, type=Cell))
    except CoinferError as error:
        return {"error": one_line(str(error))}
    except Exception as error:  # the other cells go on, whatever this one met
        return {"error": one_line(f"{type(error).__name__}: {error}")}


def one_line(text: str) -> str:
    """A message without line breaks, of bearable length."""
    return " ".join(text.split())[:ERROR_LENGTH]


def use_one_thread() -> None:
    """Let numpy and torch compute on one thread; to be called before they are first used."""
    for name in THREAD_VARIABLES:
        os.environ[name] = "1"
    import torch

    torch.set_num_threads(1)


def _run(cell: Cell) -> Answer:
    use_one_thread()
    from controller.policies.network import save_policy
    from experiments.learning.training import train_policy
    from experiments.learning.training_args import TrainArgs
    from experiments.sweeps.grid import at_prices, basis, cell_id

    setting = at_prices(cell.scenario, cell.prices)
    found = cell_id(cell, basis(setting, cell.evaluation))
    if found != cell.id:
        raise UsageError(
            f"cell {cell.id} of scenario '{cell.scenario.name}' on {platform.node()}: found other "
            "profiles, outcomes, weights or traces, expected those the sweep began with"
        )
    began_s = time.monotonic()
    policy = train_policy(setting, msgspec.convert(cell.args, TrainArgs))
    trained_s = time.monotonic()
    with temporary_folder("cell") as folder:
        save_policy(folder, policy)
        parts = {part: _judged(cell, setting, part, folder) for part in cell.evaluation.parts}
        files = {p.name: p.read_bytes() for p in sorted(folder.iterdir())}
    measured = Measured(parts, trained_s - began_s, time.monotonic() - trained_s, platform.node())
    encoded = msgspec.json.encode(measured)
    # what cannot be read back (a figure that is no number) is this cell's failure, not the sweep's
    msgspec.json.decode(encoded, type=Measured)
    return {"measured": encoded, "files": files}


def _judged(cell: Cell, setting: Any, part: str, folder: Path) -> PartResult:
    """The policy as read back from its files, on the traces of one split."""
    from experiments.evaluation.comparison import compare
    from experiments.evaluation.controllers import ControllerFactory

    # what is no test is for choices, and these must not see what figures are reported on
    half = "report" if part == "test" else "policy"
    found = compare(
        setting,
        setting.traces(part),
        ["learned"],
        ControllerFactory(setting, policy_folder=folder),
        seed=cell.evaluation.seed,
        max_frames=cell.evaluation.max_frames,
        half=half,
    )
    return PartResult(found.source, half, found.bound, found.controllers["learned"])
