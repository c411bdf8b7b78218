"""The observation of one stream: what a device decides on, worked out as cheaply as numpy can.

`controller.policies.observation` encodes many lanes at once and is the reference; its arrays of one
lane cost a device some hundred calls of numpy. Here stand the same numbers for one lane. What hangs
on the setting alone lies in tables that are made once. What is looked up at several levels is
one gather and one product. Results are written where the network takes them.
`tests/policies/test_single_stream.py` holds the two to each other.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from artefacts.arrays import Float32s, Floats, Ints
from controller.interface import Situation
from controller.planners.due_fallbacks import ALONE, SPARE
from controller.planners.queue_values import HARDLY, QueueAdvantages
from controller.planners.slowed import USUAL_PACE, PacedValues, single_place
from controller.policies.in_flight import UNLIKELY
from controller.policies.observation import (
    CANDIDATES,
    CONTEXT,
    DESCRIBED,
    MOST_OBSERVED,
    SHARPNESS,
    FrameModel,
    Observation,
    ObservationEncoder,
    single_candidates,
)
from controller.policies.single_stream import AtLevels, SingleInFlight, SingleObserver

ABREAST = 16
"""Tables have a multiple of so many columns, of which those behind the plans mean nothing. Products
then sum every column in the same order: plans that are alike stay alike to the last bit.
"""
RATES = 4
"""Rates of the observer at which plans are described, beside the belief."""
LEAST_LIKELY = 1e-30
# arrays of no dimension: numpy takes them quicker than plain numbers
_MOST, _LEAST = np.array(MOST_OBSERVED, np.float32), np.array(-MOST_OBSERVED, np.float32)
_HARDLY, _ONE = np.array(HARDLY, np.float32), np.array(1.0, np.float32)


def padded(table: Float32s) -> Float32s:
    """A copy whose last axis is filled up with zeros to a multiple of `ABREAST`."""
    more = -table.shape[-1] % ABREAST
    return np.pad(table, [(0, 0)] * (table.ndim - 1) + [(0, more)])


class _Weights:
    """The weights (1 + RATES, rows) of `corners` times every level and `RATES` more, in parts.

    `of_belief` (corners, levels) are those of the first mean; `of_levels` (corners, RATES) has the
    others', each of its own level alone.
    """

    def __init__(self, corners: int, levels: int) -> None:
        self.whole = np.zeros((1 + RATES, corners * (levels + RATES)), dtype=np.float32)
        self.of_belief = self.whole[0].reshape(corners, -1)[:, :levels]
        by_corner = self.whole[1:].reshape(RATES, corners, -1)[:, :, levels:]
        self.of_levels = np.einsum("ici->ci", by_corner)


class SingleAdvantages:
    """`QueueAdvantages` of one state: the belief's mean and those at `RATES` levels.

    Between grid points a state's advantages are a mean of up to four rows of the table, its
    corners: both neighbours of the device's backlog, and of the uplink's. Where there is no backlog
    it is one. All rows are gathered at once, and all means are one product with their shares.
    """

    def __init__(self, advantages: QueueAdvantages) -> None:
        devices, uplinks, flags, levels, plans = advantages.table.shape
        self._rows = padded(np.float32(SHARPNESS) * advantages.table.reshape(-1, plans))
        self._device_s: list[float] = advantages.device_s.tolist()
        grid = advantages.uplink_s.astype(np.float32)
        self._inner_s, self._low_s = grid[1:-1].copy(), grid[:-1].copy()
        self._per_s, self._last_s = 1.0 / np.diff(grid), grid[-1:].copy()
        self._levels = levels
        step = flags * levels
        self._steps, self._step = step * np.arange(uplinks), np.array(step)
        self._far = np.array(uplinks * step)
        # rows without a backlog of the uplink: by the device's, and by how many levels are `ALONE`
        self._of_device = list(np.arange(devices)[:, None] * uplinks * step + np.zeros(levels, int))
        self._none = np.arange(levels)
        alone = np.arange(levels + 1)[:, None] > np.arange(levels)
        states = np.minimum(np.where(alone, ALONE, SPARE), flags - 1)
        self._kept = list(self._none + states * levels)
        # every level for the belief, then those asked for
        self._level = np.zeros(levels + RATES, dtype=np.int64)
        self._level[:levels] = np.arange(levels)
        # corners: of the uplink's backlog first, then of the device's
        self._index = np.empty((4, levels + RATES), dtype=np.int64)
        self._shares = np.empty((4, levels + RATES), dtype=np.float32)
        self._gathered = np.empty((4 * (levels + RATES), self._rows.shape[1]), dtype=np.float32)
        self._weights = {corners: _Weights(corners, levels) for corners in (1, 2, 4)}

    def of(
        self, believed: Float32s, device_s: float, way: AtLevels, levels: list[int], out: Float32s
    ) -> None:
        """Written to `out` (1 + RATES, P), `SHARPNESS`-fold: `believed` (levels,), then `levels`.

        `device_s` is the device's backlog, `way` says of the uplink's and of fallbacks.
        """
        low, far = self._device_place(device_s)
        count, shares, index, uplink_s = 1, self._shares, self._index, way.uplink_s
        self._level[self._levels :] = levels
        state = self._kept[way.alone] if way.kept else self._none
        at = (state + self._of_device[low]).take(self._level)
        if uplink_s is not None and len(self._low_s):
            count = 2
            self._uplink_places(uplink_s.take(self._level), at, index, shares)
        else:
            index[0], shares[0] = at, 1.0
        if far:
            np.add(index[:count], self._far, out=index[count : 2 * count])
            np.multiply(shares[:count], far, out=shares[count : 2 * count])
            shares[:count] *= 1.0 - far
            count *= 2
        weights, rows = self._weights[count], self._gathered[: count * len(self._level)]
        self._rows.take(index[:count].reshape(-1), axis=0, out=rows, mode="clip")
        np.multiply(shares[:count, : self._levels], believed, out=weights.of_belief)
        weights.of_levels[...] = shares[:count, self._levels :]
        weights.whole.dot(rows, out=out)

    def _device_place(self, device_s: float) -> tuple[int, float]:
        """The grid's point before a backlog of the device, and the weight of the one behind it."""
        grid = self._device_s
        if device_s <= 0 or len(grid) == 1:
            return 0, 0.0
        low = min(max(bisect_left(grid, device_s), 1), len(grid) - 1) - 1
        return low, min((device_s - grid[low]) / (grid[low + 1] - grid[low]), 1.0)

    def _uplink_places(self, uplink_s: Float32s, at: Ints, index: Ints, shares: Float32s) -> None:
        """The rows of both neighbours of every level's backlog, and their shares; `at` are the rows
        without one.
        """
        inside = np.minimum(uplink_s, self._last_s)
        low = self._inner_s.searchsorted(inside)
        np.subtract(inside, self._low_s.take(low), out=inside)
        np.multiply(inside, self._per_s.take(low), out=shares[1])
        np.subtract(_ONE, shares[1], out=shares[0])
        np.add(at, self._steps.take(low), out=index[0])
        np.add(index[0], self._step, out=index[1])


class SingleModel:
    """`FrameModel` of one state, a row a part and a column a plan."""

    def __init__(self, model: FrameModel) -> None:
        self._device_s: list[float] = model.device_s.tolist()
        self._bytes: list[float] = model.backlog_bytes.tolist()
        cells, levels, _ = model.tables.shape
        by_plan = model.tables.reshape(cells, levels, model.plans, model.PARTS)
        parts = padded(by_plan.transpose(0, 1, 3, 2))
        self._tables: list[Float32s] = list(parts.reshape(cells, levels, -1))

    def of(self, believed: Float32s, device_s: float, uplink_bytes: float, out: Float32s) -> None:
        """Written to `out` (PARTS x P,) under `believed` (levels,).

        The backlogs `device_s` in seconds and `uplink_bytes` are rounded up.
        """
        d = min(bisect_left(self._device_s, device_s - 1e-9), len(self._device_s) - 1)
        u = min(bisect_left(self._bytes, uplink_bytes - 1e-9), len(self._bytes) - 1)
        believed.dot(self._tables[d * len(self._bytes) + u], out=out)


class SinglePace:
    """`PacedValues.lost` of one state, `SHARPNESS`-fold."""

    def __init__(self, paced: PacedValues) -> None:
        lost = SHARPNESS * (paced.values - paced.values[0])
        self._paced, self._lost = paced, padded(lost.astype(np.float32))

    def of(self, believed: Float32s, device_s: float, pace: float) -> Float32s:
        """What plans lose under `believed` (levels,) at a pace, `device_s` behind; (P,) and more.

        `pace` is what jobs take over the profile.
        """
        slot, (low, share) = self._paced.single_slot(device_s), single_place(pace)
        near, far = (believed.dot(self._lost[k, slot]) for k in (low, low + 1))
        return np.asarray((1.0 - share) * near + share * far)


class SingleEncoder:
    """Encodes one stream as an `ObservationEncoder` encodes many; holds the newest observation."""

    def __init__(self, encoder: ObservationEncoder) -> None:
        self._belief, self._senders = encoder.belief, encoder.senders
        self._pace = SinglePace(encoder.paced)
        self._advantages = SingleAdvantages(encoder.advantages)
        self._model = SingleModel(encoder.model)
        logs, levels = encoder.log_rates, len(encoder.log_rates)
        self._moments = np.stack([np.ones(levels), logs, logs * logs], axis=1)
        self._ones = np.ones(levels, dtype=np.float32)
        self._constants: list[float] = encoder.constants.tolist()
        plans = len(encoder.kind)
        # of every plan what is described, a row a number
        described, parts = len(DESCRIBED), FrameModel.PARTS
        self._of_plans = padded(np.zeros((described, plans), dtype=np.float32))
        self._of_plans[1 + RATES + parts :, :plans] = encoder.kind.T
        self.advantage: Float32s = self._of_plans[0, :plans]
        """Of every plan (P,), `SHARPNESS`-fold."""
        self._at_levels = self._of_plans[: 1 + RATES]
        self._of_model = self._of_plans[1 + RATES : 1 + RATES + parts].reshape(-1)
        self._inputs = np.ones(len(CONTEXT) + 1 + (described + 1) * CANDIDATES, dtype=np.float32)
        self._seen = self._inputs[: len(CONTEXT)]
        self.context: Float32s = self._inputs[: len(CONTEXT) + 1]
        """The context, and a 1."""
        self.described: Float32s = self._inputs[len(CONTEXT) + 1 :].reshape(described + 1, -1)
        """Of every candidate in its column what is described, and a 1, (F + 1, K)."""
        self._descriptions = self.described[:-1]
        self._of_frame = self.described[1 + RATES]
        self.plans: Ints = np.zeros(CANDIDATES, dtype=np.int64)
        """The candidates (K,); of fewer plans the first stands in the place of those missing."""
        self.present = min(plans, CANDIDATES)
        """How many candidates there are."""

    def encode(
        self, observer: SingleObserver, in_flight: SingleInFlight, situation: Situation
    ) -> None:
        """The observation at `situation`: `context`, `described`, `plans` and `advantage`."""
        now_s, device_s = situation.now_s, situation.device_backlog_s
        uplink_bytes, pace = float(situation.uplink_backlog_bytes), situation.device_pace
        way = in_flight.at_levels(now_s, uplink_bytes)
        probability = self._believed(observer, now_s, way.silent)
        total, first, second = probability.dot(self._moments).tolist()
        believed = (probability / total).astype(np.float32)
        clearly = believed * (believed >= _HARDLY)
        clearly /= clearly.dot(self._ones)
        levels = [
            self._belief.single_level(10.0 ** (6.0 + 0.75 * value))
            for value in (observer.rates[0], observer.fast, observer.slow, min(observer.rates))
        ]
        self._advantages.of(clearly, device_s, way, levels, self._at_levels)
        if pace > USUAL_PACE:
            self._at_levels[0] += self._pace.of(believed, device_s, pace)
            self.advantage -= self.advantage.max()
        self._model.of(believed, device_s, uplink_bytes, self._of_model)
        self._take_candidates()
        mean = first / total
        self._seen[:] = [
            *observer.seen(now_s, device_s, uplink_bytes),
            (mean - 6.0) / 0.75,
            math.sqrt(max(second / total - mean * mean, 0.0)),
            *self._constants,
            self._of_frame.item(self._of_frame.argmax()),
            *observer.world(pace),
        ]
        np.minimum(self._inputs, _MOST, out=self._inputs)
        np.maximum(self._inputs, _LEAST, out=self._inputs)

    def _believed(self, observer: SingleObserver, now_s: float, silent: list[int]) -> Floats:
        """`ObservationEncoder.believed`, but that probabilities need not sum to 1.

        `silent` are the first levels that answers which are overdue speak against.
        """
        heard_s = observer.known_s[0]
        if heard_s == -math.inf:
            probability = self._belief.blind
        else:
            probability = self._belief.single_near(observer.newest_bps, max(now_s - heard_s, 0.0))
        if silent:
            likelihood = np.ones(len(probability))
            for first in silent:
                likelihood[first:] *= UNLIKELY
            probability = probability * np.maximum(likelihood, LEAST_LIKELY)
        return probability

    def _take_candidates(self) -> None:
        """The candidates, and what describes them."""
        plans = single_candidates(np.negative(self.advantage), self._senders)
        if self.present < CANDIDATES:
            plans = np.append(plans, plans[:1].repeat(CANDIDATES - self.present))
        self.plans = plans
        self._of_plans.take(plans, axis=1, out=self._descriptions, mode="clip")
        self.described[0] -= self.described[0, 0]

    def observation(self) -> Observation:
        """The newest observation as one lane of many."""
        present = np.zeros((1, CANDIDATES), dtype=np.bool_)
        present[:, : self.present] = True
        return Observation(
            self._seen[None].copy(), self._descriptions.T[None].copy(), self.plans[None].copy(),
            present, self.advantage[None] / np.float32(SHARPNESS),
        )  # fmt: skip
