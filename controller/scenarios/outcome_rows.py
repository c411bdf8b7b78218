"""Outcomes of samples by every way a plan may end: what rewards read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from controller.physics.gates import GateRows


@dataclass(frozen=True)
class OutcomeRows:
    """How good each sample's answer is, and where gated plans end for it.

    `quality`, 0 to 1, is (E + R, S) over the samples of one half; row `exit` serves local answers,
    row E + r the own answer of row r of `gate_rows`. `at` (P, S): the row that a plan becomes for a
    sample; None where no plan has gates.
    """

    quality: npt.NDArray[np.float32]
    exits: int
    gate_rows: GateRows
    at: npt.NDArray[np.int32] | None
    weights: npt.NDArray[np.float32] | None = None
    """(K, S): bytes of each sample over their mean, one row for each way of sending that differs;
    None: every sample takes the mean."""
    weight_row: npt.NDArray[np.int64] | None = None
    """Which of them each row of `gate_rows` has, (R,)."""
    confidences: npt.NDArray[np.float32] | None = None
    """How sure each exit's own answer is of each sample, (E, S); None in a tidy world."""

    @property
    def samples(self) -> int:
        """Samples in this half."""
        return int(self.quality.shape[1])

    def of(
        self, row: npt.NDArray[np.int64], sample: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Quality of each sample's answer of a row of `quality`, arrays of one shape."""
        return self._flat.take(row * self.samples + sample).astype(np.float64)

    @cached_property
    def _flat(self) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(self.quality).ravel()

    @cached_property
    def means(self) -> npt.NDArray[np.float64]:
        """Mean quality of each row of `quality`, (E + R,)."""
        # in double precision: of right and wrong the sum is a count then
        return np.asarray(self.quality.mean(axis=1, dtype=np.float64))

    def ending(
        self, plan: npt.NDArray[np.int64], sample: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The row of `gate_rows` that each plan becomes for its sample."""
        if self.at is None:
            return plan
        return self.at.take(plan * self.samples + sample).astype(np.int64)

    def weight(
        self, ending: npt.NDArray[np.int64], sample: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64] | float:
        """What each sample's bytes are of their mean where it is sent as row `ending` says."""
        if self.weights is None or self.weight_row is None:
            return 1.0
        return self.weights[self.weight_row[ending], sample].astype(np.float64)

    def sure(
        self, exit_: npt.NDArray[np.int64], sample: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """How sure the exits' own answers are of the samples; NaN where that is not kept."""
        if self.confidences is None:
            return np.full(exit_.shape, np.nan, dtype=np.float32)
        return np.asarray(self.confidences[exit_, sample])

    def row(
        self,
        ending: npt.NDArray[np.int64],
        exit_: npt.NDArray[np.int64],
        by_plan: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.int64]:
        """Row of `quality` of an answer given by exit `exit_`, by the plan itself or on the way."""
        return np.where(by_plan, self.exits + ending, exit_)

    @cached_property
    def share(self) -> npt.NDArray[np.float64]:
        """Share of its plan's samples that each row of `gate_rows` is of, (R,)."""
        return self._by_row[0]

    def accuracy(
        self,
        ending: npt.NDArray[np.int64],
        exit_: npt.NDArray[np.int64],
        by_plan: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.float64]:
        """Mean quality of answers among the samples that end in that row (harder ones go on)."""
        _, own, local = self._by_row
        return np.where(by_plan, own[ending], local[ending, exit_])

    @cached_property
    def _by_row(
        self,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Share (R,), accuracy of the own answer (R,) and of every local one (R, E)."""
        mean = self.means
        rows = len(self.gate_rows.owner)
        share, own = np.ones(rows), mean[self.exits :].copy()
        local = np.tile(mean[: self.exits], (rows, 1))
        gated = () if self.at is None else np.flatnonzero((self.gate_rows.row >= 0).any(axis=1))
        for plan in gated:
            for row in np.flatnonzero(self.gate_rows.owner == plan):
                mine = self.at[plan] == row if self.at is not None else np.array([])
                share[row] = mine.mean()
                if mine.any():
                    own[row] = self.quality[self.exits + row, mine].mean(dtype=np.float64)
                    local[row] = self.quality[: self.exits, mine].mean(axis=1, dtype=np.float64)
        return share, own, local
