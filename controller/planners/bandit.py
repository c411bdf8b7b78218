"""A discounted linear UCB bandit over plans, which knows no model of link or device.

Features of a decision: 1, the log of the last measured rate, and how old it is; each plan has its
own ridge regression of the reward, forgotten at `discount` per decision (after Zhang et al.,
"Autodidactic Neurosurgeon", WWW 2021, and Russac et al., NeurIPS 2019, for the discount).
"""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Floats
from controller.interface import FrameResult, Measurement, Situation
from controller.scenarios import Setting
from controller.scenarios.rewards import edgent_reward
from controller.sensing.log_rates import BLIND_RATE_BPS, log_rate

FEATURES = 3


class BanditController:
    """LinUCB with discount; learns from answers in time, weighed by the exit's known accuracy.

    The device never learns whether an answer was right, so the reward it learns from is the
    answering exit's recorded accuracy (frame stream) or the paper's reward (closed loop), less the
    plan's expected prices. `discount` and `width` are those of 0.99 to 0.9997 and 0.03 to 0.3 that
    earned most on the training logs of `lte-mobilenet` and `3g-mobilenet`.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        discount: float = 0.9997,
        width: float = 0.3,
        ridge: float = 0.1,
        name: str = "bandit",
    ) -> None:
        self.name = name
        self.initial_probe_bytes = 0
        self._setting = setting
        self._discount, self._width, self._ridge = discount, width, ridge
        self._scale = self._reward_scale()
        self.reset()

    def reset(self) -> None:
        """Everything unlearned."""
        plans = len(self._setting.table)
        self._gram = np.zeros((plans, FEATURES, FEATURES))
        self._target = np.zeros((plans, FEATURES))
        self._rate_bps, self._seen_s = BLIND_RATE_BPS, 0.0
        self._asked: dict[int, Floats] = {}

    def observe(self, measurement: Measurement) -> None:
        """The newest measurement becomes the context."""
        self._rate_bps, self._seen_s = measurement.rate_bps, measurement.known_s

    def record(self, result: FrameResult) -> None:
        """Learn from a frame that ended."""
        context = self._asked.pop(result.frame, None)
        if context is None:
            return
        reward = self._reward(result) / self._scale
        self._gram[result.plan] += np.outer(context, context)
        self._target[result.plan] += reward * context

    def decide(self, situation: Situation) -> int:
        """The plan of greatest upper confidence bound; ties go to the first."""
        age = min(max(situation.now_s - self._seen_s, 0.0), 60.0)
        context = np.array([1.0, float(log_rate(np.array(self._rate_bps))), age / 60.0])
        self._gram *= self._discount
        self._target *= self._discount
        inverse = np.linalg.inv(self._gram + self._ridge * np.eye(FEATURES))
        mean = np.einsum("pij,pj,i->p", inverse, self._target, context)
        wide = np.sqrt(np.einsum("i,pij,j->p", context, inverse, context))
        plan = int(np.argmax(mean + self._width * wide))
        self._asked[situation.frame] = context
        if len(self._asked) > 64:
            self._asked.pop(next(iter(self._asked)))
        return plan

    def _reward(self, result: FrameResult) -> float:
        table, prices = self._setting.table, self._setting.prices
        if result.latency_s is None or result.exit is None:
            return self._paid_in_vain(result.plan)
        rows = self._setting.rows("policy")
        stopped = np.flatnonzero(table.early_exit[result.plan] == result.exit)
        # a gate ended the frame: nothing was sent, and nothing computed beyond it
        early = result.by_plan and len(stopped) > 0
        ending = int(rows.gate_rows.row[result.plan, stopped[0]]) if early else result.plan
        accuracy = float(
            rows.accuracy(np.array(ending), np.array(result.exit), np.array(result.by_plan))
        )
        if self._setting.closed_loop:
            latency = np.array(result.latency_s)
            deadline_s = self._setting.scenario.frames.deadline_s
            return float(edgent_reward(np.array(accuracy), latency, deadline_s))
        costs = rows.gate_rows.table
        price = prices.device_second * (costs.prefix_s[ending] + costs.suffix_s[ending])
        return float(accuracy - price - prices.megabyte * costs.up_bytes[ending] / 1e6)

    def _paid_in_vain(self, plan: int) -> float:
        """A frame that came to nothing may have cost all that its plan costs."""
        table, prices = self._setting.table, self._setting.prices
        if self._setting.closed_loop:
            return 0.0
        price = prices.device_second * (table.mean_prefix_s[plan] + table.suffix_s[plan])
        return float(-price - prices.megabyte * table.send_share[plan] * table.up_bytes[plan] / 1e6)

    def _reward_scale(self) -> float:
        if not self._setting.closed_loop:
            return 1.0
        return float(1.0 / self._setting.table.latency_s(np.array(1e7)).min())
