"""What an answer is worth: the paper's closed-loop reward, and the frame stream's.

Planners call `expected_rewards` with a believed bandwidth; the environments call the same reward
functions on what happened. No time or link arithmetic here: that is `controller.physics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from controller.physics import ConstantLink, Resources, run_frames

if TYPE_CHECKING:
    from controller.scenario import Setting

Floats = npt.NDArray[np.float64]


def edgent_reward(accuracy: Floats, latency_s: Floats, requirement_s: float) -> Floats:
    """Edgent's reward: exp(accuracy) + 1/latency if the step met the requirement, else 0.

    (Li et al., IEEE TWC 2020, section V-C; accuracy a fraction, latency in seconds.)
    """
    met = latency_s <= requirement_s
    safe = np.where(met & (latency_s > 0), latency_s, 1.0)
    return np.where(met, np.exp(accuracy) + 1.0 / safe, 0.0)


def priced(
    setting: Setting, correct: Floats, device_s: Floats, bytes_sent: Floats
) -> tuple[Floats, Floats, Floats]:
    """The frame stream's reward and its two costs: answers minus device seconds and megabytes."""
    prices = setting.scenario.reward
    device_cost = prices.device_second * device_s
    byte_cost = prices.megabyte * bytes_sent / 1e6
    return correct - device_cost - byte_cost, device_cost, byte_cost


def expected_rewards(
    setting: Setting, bandwidth_bps: Floats, device_backlog_s: float = 0.0
) -> Floats:
    """Expected reward of every plan at constant bandwidths (S,): an array (S, P).

    Medians of the compute times, accuracies of the outcomes' policy half, resources idle but for
    the device's backlog.
    """
    table = setting.table
    shape = (len(bandwidth_bps), len(table))
    plan = np.broadcast_to(np.arange(len(table)), shape)
    resources = Resources.idle(shape)
    resources.device_s = np.full(shape, device_backlog_s)
    link = ConstantLink(np.broadcast_to(np.asarray(bandwidth_bps)[:, None], shape))
    outcome, _ = run_frames(
        table, plan, np.zeros(shape), resources, link, setting.link_model, setting.timing
    )
    own = np.where(
        outcome.by_plan, table.accuracy[plan], table.exit_accuracy[np.maximum(outcome.answer_exit, 0)]
    )
    if setting.closed_loop:
        return edgent_reward(own, outcome.latency_s, setting.scenario.frames.deadline_s)
    answered = np.where(outcome.answer_exit >= 0, own, 0.0)
    return priced(setting, answered, outcome.device_s, outcome.bytes_sent)[0]
