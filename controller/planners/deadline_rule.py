"""Algorithm 1 as a controller: decided once (Edgent's static mode), or at every frame.

The rule is the paper's (`algorithm1`): from the deepest exit, the cheapest plan of each; the first
that meets the requirement; where none does (NULL), the fastest plan of all. Here it runs over the
scenario's plan table, so that the wire codecs and orders the scenario offers are open to the
baseline too; on a float32 table it chooses exactly what `algorithm1` chooses (tested).
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Floats
from controller.interface import FrameResult, Measurement, Situation
from controller.physics import PlanTable

STATIC_PROBE_BYTES = 100_000
"""Edgent's static mode measures the link once; one charged 100 KB transfer, in every comparison."""


def choose_plan(
    table: PlanTable,
    bandwidth_bps: float,
    deadline_s: float,
    rtt_s: float,
    interval_s: float = np.inf,
    device_backlog_s: float = 0.0,
) -> tuple[int, bool]:
    """Algorithm 1's plan over the table, and whether it meets the deadline (False: NULL).

    A device that is still busy for `device_backlog_s` delays the plans that begin on it.

    In a stream of one frame every `interval_s` a plan that keeps the device or the uplink busy for
    longer would pile frames up; such plans are not considered (the paper, whose next inference
    waits for the last, has no such case; without this the baseline would be a straw man). Nor are
    codecs that cost an exit its accuracy, unless no exit meets the deadline without them: the paper
    ranks exits, and knows no codec. It knows no confidence either: gated plans are not considered.
    Ties go to the plan that stands first in the table.

    `table` has the plans' costs, `bandwidth_bps` is the rate believed in bit/s, `deadline_s` the
    latency requirement and `rtt_s` the round trip, both in seconds. The plan is an index of
    `table`.
    """
    latency = table.latency_s(bandwidth_bps, rtt_s)
    latency = latency + np.where(table.prefix_s > 0, device_backlog_s, 0.0)
    alone = np.where(table.gated, np.inf, latency)
    busy_s = occupied_s(table, bandwidth_bps)
    latency = np.where(busy_s <= interval_s, latency, np.inf)
    latency = np.where(table.gated, np.inf, latency)
    for allowed in (table.faithful, np.ones(len(table), dtype=np.bool_)):
        for exit_ in np.unique(table.exit)[::-1]:
            mine = np.flatnonzero((table.exit == exit_) & allowed)
            best = mine[np.argmin(latency[mine])] if len(mine) else None
            if best is not None and latency[best] <= deadline_s:
                return int(best), True
    # where none keeps up with the frames, the fastest for the one at hand
    return int(np.argmin(latency if np.isfinite(latency).any() else alone)), False


def occupied_s(table: PlanTable, bandwidth_bps: float) -> Floats:
    """Seconds for which a frame keeps the device or the uplink busy, whichever is longer (P,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sending = np.where(table.local, 0.0, 8.0 * table.up_bytes / bandwidth_bps)
    computing = table.prefix_s + table.suffix_s + table.wait_s.sum(axis=1)
    return np.asarray(np.maximum(sending, computing))


class StaticAlgorithm1:
    """Decides once, from one charged transfer at the start; until it ends, the device answers."""

    def __init__(
        self, table: PlanTable, interval_s: float = np.inf, name: str = "algorithm1"
    ) -> None:
        self.name = name
        self.initial_probe_bytes = STATIC_PROBE_BYTES
        self._table, self._interval_s = table, interval_s
        self.reset()

    def reset(self) -> None:
        """Undecided again."""
        self._rate_bps: float | None = None
        self._plan: int | None = None

    def observe(self, measurement: Measurement) -> None:
        """The first measurement is the one the decision rests on."""
        if self._rate_bps is None:
            self._rate_bps = measurement.rate_bps

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """The plan decided once; device-only while the first transfer is under way."""
        if self._rate_bps is None:
            return self._chosen(0.0, situation)
        if self._plan is None:
            self._plan = self._chosen(self._rate_bps, situation)
        return self._plan

    def _chosen(self, rate_bps: float, situation: Situation) -> int:
        return choose_plan(
            self._table, rate_bps, situation.deadline_s, situation.rtt_s, self._interval_s
        )[0]


class OnlineAlgorithm1:
    """Algorithm 1 at every frame, on the bandwidth measured last.

    After `patience_s` on the device alone it forgets what it measured and takes the first
    transfer as a probe: without that, one slow transfer would keep it local for ever. With
    `initial_probe` its first measurement is a transfer of its own; without, it is such a probe.
    """

    def __init__(
        self,
        table: PlanTable,
        interval_s: float = np.inf,
        name: str = "algorithm1-online",
        *,
        patience_s: float = 5.0,
        initial_probe: bool = True,
    ) -> None:
        self.name = name
        self.initial_probe_bytes = STATIC_PROBE_BYTES if initial_probe else 0
        self._patience_s = patience_s
        self._table, self._interval_s = table, interval_s
        self._remote = table.senders
        self.reset()

    def reset(self) -> None:
        """Nothing measured."""
        self._rate_bps: float | None = None
        self._seen_s = 0.0 if self.initial_probe_bytes else -np.inf

    def observe(self, measurement: Measurement) -> None:
        """The newest measurement counts."""
        self._rate_bps, self._seen_s = measurement.rate_bps, measurement.known_s

    def record(self, result: FrameResult) -> None:
        """Results change nothing."""

    def decide(self, situation: Situation) -> int:
        """Algorithm 1 with the device's backlog on the plans that begin there."""
        rate = self._rate_bps or 0.0
        plan, _ = choose_plan(
            self._table, rate, situation.deadline_s, situation.rtt_s, self._interval_s,
            situation.device_backlog_s,
        )  # fmt: skip
        blind = situation.now_s - self._seen_s > self._patience_s
        heard = self._rate_bps is not None or not self.initial_probe_bytes
        if self._table.local[plan] and heard and blind and len(self._remote):
            self._seen_s = situation.now_s
            return int(self._remote[np.argmin(self._table.up_bytes[self._remote])])
        return plan
