"""What simulated frames show of the world, as a device would have noticed it."""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Floats, Ints
from controller.scenarios import OutcomeRows
from envs.records import StepResult


def noticed(
    rows: OutcomeRows,
    result: StepResult,
    weight: Floats | float,
    sample: Ints,
) -> Floats:
    """`controller.interface.Noticed` of a frame in each of L lanes, (3, L): NaN for None.

    `rows` are the outcomes that the frames are of, `result` is what became of them. `weight` (L,)
    is what crossed over its mean; `sample` (L,) are indices of `rows`.
    """
    outcome, exit_ = result.outcome, np.maximum(result.outcome.answer_exit, 0)
    local = rows.gate_rows.table.local.take(result.ending)
    by_device = result.in_time & (local | ~outcome.by_plan)
    heard = outcome.measured_complete & np.isfinite(outcome.served_s)
    waited_s = np.subtract(
        outcome.served_s, outcome.reached_s, out=np.zeros(heard.shape), where=heard
    )
    return np.stack(
        [
            np.where(np.isfinite(outcome.handed_s), weight, np.nan),
            np.where(heard, waited_s, np.nan),
            np.where(by_device, rows.sure(exit_, sample), np.nan),
        ]
    )
